package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"pillarbox/ese/vfs"
)

// The lock of a storage group lies in its folder, where eseutil looks before it changes a database
// there. A database in another folder has a lock of its own beside it, FILE.edb.lock, from before its
// group is opened until it is dismounted.

// errInUse: another program works on the files of a database. It is not ese.ErrLocked, by which a
// second server is told.
var errInUse = errors.New("another program, such as eseutil, works on the database: wait for its end")

// hold locks a database that lies outside of its group's folder. Where its folder is missing there is
// nothing to be locked. changeMu is held, or nobody else knows the group yet.
func (g *Group) hold(d *database) error {
	at := g.path(d)
	if g.held[d.place] != nil || filepath.Dir(at) == filepath.Clean(g.spec.Engine.Dir) {
		return nil
	}
	if _, err := g.set.o.FS.ReadDir(filepath.Dir(at)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	lock, err := g.set.o.FS.Lock(at + ".lock")
	if errors.Is(err, vfs.ErrLocked) {
		return fmt.Errorf("%s: %w", at, errInUse)
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", at, err)
	}
	g.held[d.place] = lock
	return nil
}

// letGo unlocks a database.
func (g *Group) letGo(p Place) error {
	lock := g.held[p]
	delete(g.held, p)
	if lock == nil {
		return nil
	}
	return lock.Close()
}

// holdAll locks all databases: recovery opens also those that are dismounted afterwards.
func (g *Group) holdAll() error {
	for _, d := range g.databases() {
		if err := g.hold(&d); err != nil {
			return err
		}
	}
	return nil
}

// letGoAll unlocks all databases, or those that keep refuses.
func (g *Group) letGoAll(keep func(Place) bool) (err error) {
	for p := range g.held {
		if !keep(p) {
			err = errors.Join(err, g.letGo(p))
		}
	}
	return err
}

func none(Place) bool { return false }
