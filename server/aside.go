package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"pillarbox/ese"
	"pillarbox/ese/vfs"
)

// A restore moves what it replaces aside: in each folder of the storage group its files go into
// a folder replaced-TIME. The note restoring.json says so from before the first file is moved
// until the restored group has been opened; while it is there no server mounts the group.

const (
	restoringName  = "restoring.json"
	replacedPrefix = "replaced-"
	unpackedPrefix = "unpacked-"
	logBase        = "E00"
)

// errHalfRestored: a restore did not come to its end.
var errHalfRestored = errors.New("a restore of this storage group did not come to its end")

// restoreLock is held in the folder of the group while a restore in place runs.
const restoreLock = "restoring.lock"

// errRestoring: another process restores the storage group.
var errRestoring = errors.New("another restore of this storage group is running: wait for its end")

// lockRestore makes sure that nobody else restores a group, and removes what killed ones had unpacked.
func lockRestore(dir string) (io.Closer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := vfs.OS().Lock(filepath.Join(dir, restoreLock))
	if errors.Is(err, vfs.ErrLocked) {
		return nil, errRestoring
	}
	if err != nil {
		return nil, err
	}
	left, err := filepath.Glob(filepath.Join(dir, unpackedPrefix+"*"))
	for _, at := range left {
		err = errors.Join(err, os.RemoveAll(at))
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// restoring is the content of the note.
type restoring struct {
	Begun string `json:"begun"` // TIME of the folders
	// Moved tells that everything is aside: what lies in place is the restore's own.
	Moved bool `json:"moved"`
}

func refuseHalfRestored(_, dir string) error {
	at := filepath.Join(dir, restoringName)
	if _, err := os.Stat(at); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("%w (%s is there)", errHalfRestored, at), err)
	}
	return nil
}

// intoName is the note of a restore into a new folder: it lies beside the config from before that is
// there until the restored groups have been opened.
const intoName = "restoring-into"

// errHalfMade: a restore into a new folder did not come to its end.
var errHalfMade = errors.New("a restore into this folder did not come to its end")

// refuseHalfMade refuses a config whose server was not wholly restored: it may name the data of
// another server, or none.
func refuseHalfMade(config string) error {
	at := filepath.Join(filepath.Dir(config), intoName)
	if _, err := os.Stat(at); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("%w (%s is there)", errHalfMade, at), err)
	}
	return nil
}

// noteInto writes the note.
func noteInto(dir string) error {
	return errors.Join(replaceFile(filepath.Join(dir, intoName), nil, 0o600), vfs.OS().SyncDir(dir))
}

// endInto removes it.
func endInto(dir string) error {
	return errors.Join(os.Remove(filepath.Join(dir, intoName)), vfs.OS().SyncDir(dir))
}

// aside is what a restore has moved.
type aside struct {
	g         *GroupConfig
	databases []string
	note      restoring
}

// moveAside moves the files of the group aside, or goes on where an interrupted restore ended.
// The lock of the storage group is held meanwhile: no server runs.
func moveAside(g *GroupConfig, databases []string, now time.Time) (a *aside, err error) {
	for _, dir := range []string{g.Dir, g.LogDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	lock, err := vfs.OS().Lock(filepath.Join(g.Dir, logBase+".lock"))
	if err != nil {
		return nil, fmt.Errorf("storage group in %s: %w", g.Dir, err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	a = &aside{
		g: g, databases: databases,
		note: restoring{Begun: now.UTC().Format("20060102T150405.000Z")},
	}
	for _, name := range g.Databases {
		if !slices.Contains(a.databases, name) {
			a.databases = append(a.databases, name)
		}
	}
	text, err := os.ReadFile(a.notePath())
	switch {
	case err == nil:
		if err := json.Unmarshal(text, &a.note); err != nil {
			return nil, fmt.Errorf("%s: %w", a.notePath(), err)
		}
		if a.note.Moved {
			return a, a.removePlaced()
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	if err := a.writeNote(); err != nil {
		return nil, err
	}
	files, err := a.files()
	if err != nil {
		return nil, err
	}
	for _, name := range files {
		if err := a.move(name); err != nil {
			return nil, err
		}
	}
	a.note.Moved = true
	return a, a.writeNote()
}

func (a *aside) notePath() string { return filepath.Join(a.g.Dir, restoringName) }

func (a *aside) writeNote() error {
	text, err := json.Marshal(a.note)
	if err == nil {
		err = replaceFile(a.notePath(), text, 0o600)
	}
	if err == nil {
		err = vfs.OS().SyncDir(a.g.Dir)
	}
	return err
}

// files are the group's files that are in place: what the engine made, whatever it is.
func (a *aside) files() (names []string, err error) {
	for _, dir := range slices.Compact([]string{a.g.Dir, a.g.LogDir}) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			n := e.Name()
			if e.Type().IsRegular() && strings.HasPrefix(n, logBase) && n != logBase+".lock" {
				names = append(names, filepath.Join(dir, n))
			}
		}
	}
	for _, db := range a.databases {
		for _, at := range databaseFiles(a.g, db) {
			if _, err := os.Lstat(at); err == nil {
				names = append(names, at)
			}
		}
	}
	return names, nil
}

// folder is where the files of a folder go.
func (a *aside) folder(dir string) string {
	return filepath.Join(dir, replacedPrefix+a.note.Begun)
}

func (a *aside) move(name string) error {
	dir := filepath.Dir(name)
	to := a.folder(dir)
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	if err := os.Rename(name, filepath.Join(to, filepath.Base(name))); err != nil {
		return fmt.Errorf("move aside: %w", err)
	}
	return errors.Join(vfs.OS().SyncDir(to), vfs.OS().SyncDir(dir))
}

// removePlaced removes what a restore that did not end has put in place.
func (a *aside) removePlaced() error {
	files, err := a.files()
	for _, name := range files {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}

// undo puts everything back after a restore that failed.
func (a *aside) undo() error {
	if err := a.removePlaced(); err != nil {
		return err
	}
	dirs := []string{a.g.Dir, a.g.LogDir}
	for _, db := range a.databases {
		dirs = append(dirs, filepath.Dir(a.g.path(db)))
	}
	slices.Sort(dirs)
	for _, dir := range slices.Compact(dirs) {
		from := a.folder(dir)
		entries, err := os.ReadDir(from)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := os.Rename(filepath.Join(from, e.Name()), filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
		if err := errors.Join(os.Remove(from), vfs.OS().SyncDir(dir)); err != nil {
			return err
		}
	}
	return a.done()
}

// done ends the restore: servers may start.
func (a *aside) done() error {
	if err := os.Remove(a.notePath()); err != nil {
		return err
	}
	return vfs.OS().SyncDir(a.g.Dir)
}

// logs are the folders with log that was moved aside, now or by earlier restores.
func (a *aside) logs() ([]string, error) {
	return filepath.Glob(filepath.Join(a.g.LogDir, replacedPrefix+"*"))
}

// stream is the log stream whose current log file was moved aside; empty where there was none
// that can be read, so that there may have been more log than is left.
func (a *aside) stream() string {
	s, err := ese.CurrentLogSignature(vfs.OS(), a.folder(a.g.LogDir), logBase)
	if err != nil {
		return ""
	}
	return s
}
