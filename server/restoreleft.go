package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"pillarbox/ese/vfs"
	"pillarbox/storage"
)

// A restore of one database works in a folder restoring-TIME beside it, whose lock it holds. One that
// is killed leaves the folder, which the next one removes, unless groups.json names what lies in it.

const (
	restoringPrefix = "restoring-"
	restoringTime   = "20060102T150405.000Z"
	// beginTime is how long a restore may take from making its folder to having its lock.
	beginTime = time.Minute
)

// begin makes the work folder, and removes those that others have left.
func (x *oneRestore) begin() error {
	if err := os.MkdirAll(x.replacement().From, 0o700); err != nil {
		return err
	}
	var err error
	if x.working, err = vfs.OS().Lock(filepath.Join(x.work, restoreLock)); err != nil {
		return err
	}
	named, err := storage.Replacements(x.cfg.Dir)
	if err != nil {
		return err
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(x.work), restoringPrefix+"*"))
	if err != nil {
		return err
	}
	for _, at := range left {
		if at == x.work || slices.ContainsFunc(named, func(r storage.Replacement) bool {
			return filepath.Dir(r.From) == at
		}) {
			continue
		}
		gone, err := removeLeft(at)
		if err != nil {
			return fmt.Errorf("remove what a killed restore has left: %w", err)
		}
		if gone {
			x.o.Say("Removed %s: a restore that was killed had left it.", at)
		}
	}
	return nil
}

// removeLeft removes a work folder that nobody works in.
func removeLeft(at string) (gone bool, err error) {
	begun, err := time.Parse(restoringTime, strings.TrimPrefix(filepath.Base(at), restoringPrefix))
	if err != nil {
		return false, nil //nolint:nilerr // it is something else
	}
	lock := filepath.Join(at, restoreLock)
	if _, err := os.Stat(lock); err != nil && time.Since(begun) < beginTime {
		return false, nil //nolint:nilerr // it is just being made
	}
	held, err := vfs.OS().Lock(lock)
	if errors.Is(err, vfs.ErrLocked) {
		return false, nil
	}
	if err == nil {
		err = held.Close()
	}
	if err != nil {
		return false, err
	}
	return true, os.RemoveAll(at)
}
