package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"pillarbox/ese/vfs"
)

// What is removed is not deleted: its files go into a folder removed-TIME beside them. groups.json
// says in one change that the database or group is gone and which files are still to go; what a
// crash interrupts goes on when the Set is opened next.

// removedPrefix begins the names of such folders.
const removedPrefix = "removed-"

// clearing are files of one folder that are to go into another on the same disk.
type clearing struct {
	From  string   `json:"from"`
	To    string   `json:"to"`
	Names []string `json:"names"`
}

// removedFolder is where what lies in a folder goes that is removed now.
func removedFolder(dir string, now time.Time) string {
	return filepath.Join(dir, removedPrefix+now.UTC().Format("20060102T150405.000Z"))
}

// run moves the files that are still there. Where the folder is not there its disk may be missing.
func (c *clearing) run(fsys vfs.FS) error {
	if _, err := fsys.ReadDir(c.From); err != nil {
		return err
	}
	if err := makeFolder(fsys, c.To); err != nil {
		return err
	}
	for _, name := range c.Names {
		err := fsys.Rename(filepath.Join(c.From, name), filepath.Join(c.To, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return errors.Join(fsys.SyncDir(c.To), fsys.SyncDir(c.From))
}

// clear moves aside what is still to go, but for what somebody else is moving. What cannot be moved
// is told, and tried at the next opening.
func (s *Set) clear() {
	s.mu.Lock()
	list := slices.Clone(s.reg.Clearing)
	s.mu.Unlock()
	for i := range list {
		c := &list[i]
		if !s.beginClearing(c) {
			continue
		}
		err := c.run(s.o.FS)
		if err == nil {
			err = s.change(func(r *registry) error {
				r.Clearing = slices.DeleteFunc(r.Clearing, c.same)
				return nil
			})
		}
		s.endClearing(c)
		if err != nil {
			s.o.Logger.Warn("files of what was removed are not moved aside: the next start tries again",
				"from", c.From, "to", c.To, "err", err)
		}
	}
}

// same tells whether it is the entry itself.
func (c *clearing) same(x clearing) bool {
	return x.From == c.From && x.To == c.To && slices.Equal(x.Names, c.Names)
}

// beginClearing takes an entry, if it is still there and nobody has it: once it is gone the names
// in its folder may be those of new files.
func (s *Set) beginClearing(c *clearing) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.ContainsFunc(s.clearing, c.same) || !slices.ContainsFunc(s.reg.Clearing, c.same) {
		return false
	}
	s.clearing = append(s.clearing, *c)
	return true
}

func (s *Set) endClearing(c *clearing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clearing = slices.DeleteFunc(s.clearing, c.same)
}

// clearFirst moves aside what is still to go when the Set is opened, before a group is: unless
// another server has the whole, which the mounting will tell.
func (s *Set) clearFirst() error {
	if len(s.reg.Clearing) == 0 {
		return nil
	}
	first := newGroup(s, s.o.Groups[0])
	lock, err := s.o.FS.Lock(filepath.Join(first.spec.Engine.Dir, first.logBase()+".lock"))
	if errors.Is(err, vfs.ErrLocked) {
		return nil
	}
	if err != nil {
		s.o.Logger.Warn("files of what was removed are not moved aside yet", "err", err)
		return nil // the first group's folder is not there
	}
	s.clear()
	return lock.Close()
}

// refuseCleared refuses a folder whose files of before are still to go.
func (s *Set) refuseCleared(dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.reg.Clearing {
		if filepath.Clean(c.From) == filepath.Clean(dir) {
			return fmt.Errorf("%s: files of a database or group that was removed have not been moved to %s "+
				"yet: look at the disk, then start the server again", dir, c.To)
		}
	}
	return nil
}

// leftovers are the files of a group, and of its databases, that lie in its folders.
func (g *Group) leftovers(now time.Time) (list []clearing, err error) {
	byDir := make(map[string][]string)
	add := func(dir string, mine func(name string) bool) error {
		names, err := g.set.o.FS.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, name := range names {
			if mine(name) && !slices.Contains(byDir[dir], name) {
				byDir[dir] = append(byDir[dir], name)
			}
		}
		return nil
	}
	isLog := func(name string) bool {
		return strings.HasPrefix(name, g.logBase()) && !strings.HasSuffix(name, ".edb") ||
			name == "restoring.lock"
	}
	err = errors.Join(add(g.spec.Engine.Dir, isLog), add(g.logDir(), isLog))
	for _, d := range g.databases() {
		names := databaseNames(g.path(&d))
		err = errors.Join(err, add(filepath.Dir(g.path(&d)), func(name string) bool {
			return slices.Contains(names, name)
		}))
	}
	for dir, names := range byDir {
		list = append(list, clearing{dir, removedFolder(dir, now), names})
	}
	slices.SortFunc(list, func(a, b clearing) int { return strings.Compare(a.From, b.From) })
	return list, err
}

// logBase begins the names of log and checkpoint files.
func (g *Group) logBase() string {
	if b := g.spec.Engine.Base; b != "" {
		return b
	}
	return "E00"
}

// databaseNames are the names of the files of a database.
func databaseNames(path string) (names []string) {
	for _, at := range []string{
		path, beside(path, ".stm"), beside(path, ".dw"), beside(path, ".jfm"), path + ".lock",
	} {
		names = append(names, filepath.Base(at))
	}
	return names
}

// undoDatabase removes the files of a database that could not be mounted when it was made, so that
// it can be made again. changeMu is held.
func (g *Group) undoDatabase(ctx context.Context, d *database) error {
	in, err := g.Instance()
	if err != nil {
		return fmt.Errorf("%s: what was made of it stays there: %w", g.path(d), err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dismountTime)
	defer cancel()
	for _, db := range in.Databases() {
		if db.Name() == d.Engine {
			err = errors.Join(err, in.CloseDatabase(ctx, db))
		}
	}
	if err == nil {
		err = g.set.removeFiles(g.path(d))
	}
	if err != nil {
		return fmt.Errorf("remove what was made: %w", err)
	}
	return nil
}

// undoMaking removes what a group has made that could not be mounted, so that it can be made again.
// Its folders were empty, and nobody else's since groups.json has it.
func (g *Group) undoMaking(made []string) error {
	list, err := g.leftovers(time.Time{})
	for _, c := range list {
		for _, name := range c.Names {
			at := filepath.Join(c.From, name)
			if g.set.usedElsewhere(g, at) {
				continue
			}
			if rerr := g.set.o.FS.Remove(at); !errors.Is(rerr, fs.ErrNotExist) {
				err = errors.Join(err, rerr)
			}
		}
	}
	for _, dir := range slices.Backward(made) {
		names, rerr := g.set.o.FS.ReadDir(dir)
		if rerr != nil || len(names) > 0 {
			continue
		}
		if rerr := g.set.o.FS.Remove(dir); !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	if err != nil {
		return fmt.Errorf("remove what was made: %w", err)
	}
	return nil
}

// usedElsewhere tells whether a file is that of a database of another group.
func (s *Set) usedElsewhere(but *Group, at string) bool {
	for _, g := range s.Groups() {
		if g == but {
			continue
		}
		for _, d := range g.databases() {
			if filepath.Dir(g.path(&d)) == filepath.Dir(at) &&
				slices.Contains(databaseNames(g.path(&d)), filepath.Base(at)) {
				return true
			}
		}
	}
	return false
}
