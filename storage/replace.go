package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"pillarbox/ese"
	"pillarbox/ese/vfs"
)

// Replacement names the folder with the restored files of a database, From, and that where those go
// which lie in its place, Aside. Both are on the disk of the database.
type Replacement struct {
	From  string `json:"from"`
	Aside string `json:"aside"`
}

// ErrMounted: the database is mounted.
var ErrMounted = errors.New("the database is mounted")

// ReplaceDatabase puts restored files (ese.RestoreDatabase) in the place of those of a database
// that is not mounted, and mounts it where its group is mounted; what was open in it is taken back
// before. Once groups.json names them there is no way back: what an error or a crash interrupts
// goes on at the next mount.
func (s *Set) ReplaceDatabase(ctx context.Context, p Place, r Replacement) error {
	g, d, err := s.settled(ctx, p, r)
	if err != nil {
		return fmt.Errorf("replace %s: %w", p, err)
	}
	defer g.changeMu.Unlock()
	_, ierr := g.Instance()
	err = s.edit(p, func(x *databaseRecord) { x.Replaced, x.Dismounted = &r, false })
	if err == nil {
		d.Replaced, d.Dismounted = &r, false
		err = g.replace(d)
	}
	if err != nil {
		return fmt.Errorf("replace %s: %w", p, err)
	}
	s.o.Logger.Info("database restored", "database", string(p), "path", g.path(d), "aside", r.Aside)
	if ierr != nil {
		return nil // it is mounted with its group
	}
	if err := g.mountDatabase(ctx, d); err != nil {
		return fmt.Errorf("mount %s: %w", p, err)
	}
	return nil
}

// settleTime is how long a group waits at a time for a backup, and is free then.
const settleTime = time.Second

// settled finds a database with its group, which it locks, once the restored files are as they have
// to be. A backup that is running is waited for as long as ctx lets, while others may use the
// group.
func (s *Set) settled(ctx context.Context, p Place, r Replacement) (*Group, *database, error) {
	for first := true; ; first = false {
		g, d, err := s.database(p)
		if err != nil {
			return nil, nil, err
		}
		err = g.settle(ctx, d, r)
		if err == nil {
			return g, d, nil
		}
		g.changeMu.Unlock()
		if !errors.Is(err, ese.ErrBackupRunning) && !errors.Is(err, ese.ErrInUse) {
			return nil, nil, err
		}
		if first {
			s.o.Logger.Info("a restored database waits for the end of a backup, or of a transaction",
				"database", string(p), "err", err)
		}
		select {
		case <-ctx.Done():
			return nil, nil, err
		case <-s.ctx.Done():
			return nil, nil, err
		case <-time.After(settleTime):
		}
	}
}

// settle makes the restored files of a database clean where its group is mounted. changeMu is held.
func (g *Group) settle(ctx context.Context, d *database, r Replacement) error {
	in, err := g.Instance()
	if err != nil {
		return nil //nolint:nilerr // recovery will do it
	}
	for _, db := range in.Databases() {
		if db.Name() == d.Engine {
			return ErrMounted
		}
	}
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	return in.SettleLost(ctx, d.Engine, filepath.Join(r.From, filepath.Base(g.path(d))))
}

// Replace is ReplaceDatabase while no server runs: the files take their place when the group is
// opened, whose recovery then takes back what was open in them.
func Replace(dir string, p Place, r Replacement) error {
	return replaceOffline(vfs.OS(), dir, p, r)
}

func replaceOffline(fsys vfs.FS, dir string, p Place, r Replacement) error {
	at := filepath.Join(dir, RegistryName)
	reg, err := loadRegistry(fsys, at)
	if err != nil {
		return err
	}
	d := reg.Databases[p]
	if d == nil {
		return fmt.Errorf("%s: %w", p, ErrNoDatabase)
	}
	d.Replaced, d.Dismounted = &r, false
	return reg.save(fsys, at)
}

// endReplacements goes on with what was interrupted. changeMu is held.
func (g *Group) endReplacements() error {
	for _, d := range g.databases() {
		if err := g.replace(&d); err != nil {
			return fmt.Errorf("put the restored files of %s in place: %w", d.place, err)
		}
	}
	return nil
}

// replace puts restored files in place, or goes on with it. While the new .edb is not in place the
// files that are there are those of before.
func (g *Group) replace(d *database) error {
	if d.Replaced == nil {
		return nil
	}
	x := exchange{fs: g.set.o.FS, at: g.path(d), r: *d.Replaced}
	forget := func() error {
		d.Replaced = nil
		return g.set.edit(d.place, func(r *databaseRecord) { r.Replaced = nil })
	}
	if _, err := x.fs.ReadDir(x.r.From); errors.Is(err, fs.ErrNotExist) {
		there, err := x.exists(x.at)
		if err != nil {
			return err
		}
		if there {
			return forget() // it is in place, or nothing will come
		}
		// Perhaps the disk is not mounted. That the database is missing is told by the mount.
		g.set.o.Logger.Warn("the restored files of a database are not there: they take their place when "+
			"they are, or restore it again", "database", string(d.place), "from", x.r.From)
		return nil
	}
	if err := makeFolder(x.fs, x.r.Aside); err != nil {
		return err
	}
	err := x.file(".stm", ".stm")
	if err == nil {
		err = x.file(".edb", ".dw", ".jfm", ".edb")
	}
	for _, dir := range []string{x.r.From, x.r.Aside, filepath.Dir(x.at)} {
		if err == nil {
			err = x.fs.SyncDir(dir)
		}
	}
	if err != nil {
		return err
	}
	return forget()
}

// exchange is one replacement of files.
type exchange struct {
	fs vfs.FS
	at string // of the .edb in place
	r  Replacement
}

func (x *exchange) exists(name string) (bool, error) {
	_, err := x.fs.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// file puts one new file in place, once those that it makes useless are aside.
func (x *exchange) file(ext string, aside ...string) error {
	from := filepath.Join(x.r.From, filepath.Base(beside(x.at, ext)))
	if there, err := x.exists(from); err != nil || !there {
		return err // it is in place
	}
	for _, old := range aside {
		at := beside(x.at, old)
		there, err := x.exists(at)
		if err == nil && there {
			err = x.fs.Rename(at, filepath.Join(x.r.Aside, filepath.Base(at)))
		}
		if err != nil {
			return err
		}
	}
	return x.fs.Rename(from, beside(x.at, ext))
}
