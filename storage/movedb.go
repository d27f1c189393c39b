package storage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"pillarbox/ese/vfs"
)

// A database moves while it is dismounted: its files are copied, durably, and proved equal; the
// record gets the new path; the old files go. groups.json says at each moment which files are
// those of the database, and which are to be removed.

// MoveDatabase moves the files of a database to another folder, or to a file ending in .edb, and
// mounts it there. The mailboxes cannot be reached meanwhile, and their mail waits. An error
// leaves it where it was.
func (s *Set) MoveDatabase(
	ctx context.Context, p Place, to string, progress func(done, total int64),
) error {
	g, d, err := s.database(p)
	if err != nil {
		return err
	}
	defer g.changeMu.Unlock()
	if to, err = databasePath(to, d.Engine); err != nil {
		return err
	}
	from := g.path(d)
	if to == from {
		return fmt.Errorf("%s: it lies there", to)
	}
	if d.Moving != "" || d.Leaving != "" || d.Replaced != nil {
		return fmt.Errorf("%s: an earlier move or restore is not finished: mount it first", p)
	}
	if err := s.refuseFiles(to); err != nil {
		return err
	}
	back, err := g.offline(ctx, d)
	if err != nil {
		return fmt.Errorf("move %s: %w", p, err)
	}
	err = g.moveFiles(ctx, d, from, to, progress)
	if berr := back(); berr != nil {
		err = errors.Join(err, fmt.Errorf("mount %s again: %w", p, berr))
	}
	if err == nil {
		err = g.endMoves() // the new place has proved to be good
	}
	if err != nil {
		return fmt.Errorf("move %s: %w", p, err)
	}
	s.o.Logger.Info("database moved", "database", string(p), "from", from, "to", to)
	return nil
}

// offline closes a database, with its group where it holds the queue. back opens it again.
func (g *Group) offline(ctx context.Context, d *database) (back func() error, err error) {
	// What takes the way back must not end with the caller.
	later := context.WithoutCancel(ctx)
	st, _, err := g.parts()
	if err != nil && !g.Down() {
		return nil, err
	}
	if err != nil || st.Mounted(d.Engine) != nil {
		return func() error { return nil }, nil // it is dismounted, and stays so
	}
	if !g.isFirst(d) {
		if err := g.dismountDatabase(ctx, d); err != nil {
			return nil, err
		}
		return func() error {
			now, _ := g.set.record(d.place)
			return g.mountDatabase(later, &database{d.place, now})
		}, nil
	}
	if err := g.close(); err != nil {
		return nil, err
	}
	return func() error {
		err := g.mount(later, false)
		g.set.wake()
		return err
	}, nil
}

// moveFiles copies and switches.
func (g *Group) moveFiles(
	ctx context.Context, d *database, from, to string, progress func(done, total int64),
) error {
	s := g.set
	if err := s.edit(d.place, func(r *databaseRecord) { r.Moving = to }); err != nil {
		return err
	}
	err := g.copyFiles(ctx, from, to, progress)
	if err == nil {
		err = s.edit(d.place, func(r *databaseRecord) {
			r.Path, r.Moving, r.Leaving = to, "", from
		})
	}
	if err != nil {
		return errors.Join(err, g.dropCopy(d.place, to))
	}
	return nil
}

// dropCopy removes what a move that failed has copied.
func (g *Group) dropCopy(p Place, to string) error {
	s := g.set
	if r, ok := s.record(p); !ok || r.Moving != to {
		return nil
	}
	if err := s.removeFiles(to); err != nil {
		return err
	}
	return s.edit(p, func(r *databaseRecord) { r.Moving = "" })
}

// copyFiles copies .edb, .stm and flush map, and reads them again. The double-write file holds
// nothing that a clean database needs.
func (g *Group) copyFiles(
	ctx context.Context, from, to string, progress func(done, total int64),
) error {
	fsys := g.set.o.FS
	if err := makeFolder(fsys, filepath.Dir(to)); err != nil {
		return err
	}
	c := &copying{ctx: ctx, fs: fsys, progress: progress}
	var exts []string
	for _, ext := range []string{".edb", ".stm", ".jfm"} {
		n, err := fsys.Stat(beside(from, ext))
		if errors.Is(err, fs.ErrNotExist) && ext == ".jfm" {
			continue
		}
		if err != nil {
			return err
		}
		c.total += 2 * n
		exts = append(exts, ext)
	}
	for _, ext := range exts {
		src := beside(from, ext)
		if ext == ".edb" {
			src = from
		}
		dst := beside(to, ext)
		if ext == ".edb" {
			dst = to
		}
		if err := c.file(src, dst); err != nil {
			return err
		}
	}
	return fsys.SyncDir(filepath.Dir(to))
}

// copying copies files.
type copying struct {
	ctx         context.Context
	fs          vfs.FS
	progress    func(done, total int64)
	done, total int64
}

// file copies one file and proves that what the disk has is equal.
func (c *copying) file(from, to string) (err error) {
	in, err := c.fs.OpenFile(from, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := c.fs.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	n, err := in.Size()
	if err == nil {
		err = out.Allocate(n)
	}
	if err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	want, err := c.read(in, n, func(p []byte, off int64) error {
		_, err := out.WriteAt(p, off)
		return err
	})
	if err == nil {
		err = out.SyncData()
	}
	if err != nil {
		return fmt.Errorf("copy %s to %s: %w", from, to, err)
	}
	got, err := c.read(out, n, func([]byte, int64) error { return nil })
	if err == nil && !bytes.Equal(got, want) {
		err = errors.New("the copy reads differently from what was written: look at the disk")
	}
	if err != nil {
		return fmt.Errorf("read %s again: %w", to, err)
	}
	return nil
}

// read reads a file of n bytes and hashes it.
func (c *copying) read(f vfs.File, n int64, fn func(p []byte, off int64) error) ([]byte, error) {
	sum := sha256.New()
	buf := make([]byte, 1<<20)
	for off := int64(0); off < n; {
		if err := c.ctx.Err(); err != nil {
			return nil, err
		}
		p := buf[:min(int64(len(buf)), n-off)]
		if k, err := f.ReadAt(p, off); k < len(p) {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		sum.Write(p)
		if err := fn(p, off); err != nil {
			return nil, err
		}
		off += int64(len(p))
		c.done += int64(len(p))
		if c.progress != nil {
			c.progress(c.done, c.total)
		}
	}
	return sum.Sum(nil), nil
}

// removeFiles removes the files of a database that is not used.
func (s *Set) removeFiles(path string) error {
	for _, at := range []string{
		path, beside(path, ".stm"), beside(path, ".dw"), beside(path, ".jfm"), path + ".lock",
	} {
		if err := s.o.FS.Remove(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := s.o.FS.SyncDir(filepath.Dir(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// endMoves removes what moves of databases have left that a crash or an error interrupted: a copy
// that is not the database yet, or the files that it has left. A disk that is not there is left
// alone.
func (g *Group) endMoves() error {
	s := g.set
	for _, d := range g.databases() {
		if d.Moving != "" {
			if err := g.dropCopy(d.place, d.Moving); err != nil {
				s.o.Logger.Warn("copy of a database left behind", "database", string(d.place),
					"path", d.Moving, "err", err)
			}
		}
		if d.Leaving == "" {
			continue
		}
		if _, err := s.o.FS.Stat(g.path(&d)); err != nil {
			s.o.Logger.Warn("database is not where it was moved to: the old files stay",
				"database", string(d.place), "path", g.path(&d), "old", d.Leaving)
			continue
		}
		if err := s.removeFiles(d.Leaving); err != nil {
			s.o.Logger.Warn("files of a moved database left behind", "database", string(d.place),
				"path", d.Leaving, "err", err)
			continue
		}
		if err := s.edit(d.place, func(r *databaseRecord) { r.Leaving = "" }); err != nil {
			return err
		}
	}
	return nil
}
