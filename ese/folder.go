package ese

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"pillarbox/ese/vfs"
)

// makeFolder makes a folder with those above it, durably: a file in it is no safer than the
// names that lead to it.
func makeFolder(fsys vfs.FS, dir string) error {
	var made []string
	for d := filepath.Clean(dir); ; d = filepath.Dir(d) {
		_, err := fsys.Stat(d)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("make folder %s: %w", dir, err)
		}
		made = append(made, d)
		if filepath.Dir(d) == d {
			break
		}
	}
	if err := fsys.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	for _, d := range made {
		if err := fsys.SyncDir(filepath.Dir(d)); err != nil {
			return fmt.Errorf("make folder %s: %w", dir, err)
		}
	}
	if len(made) == 0 {
		made = []string{filepath.Clean(dir)}
	}
	// Somebody else may have made the folders above just before, and not synced them. Where
	// that is not ours to do (no permission) it is theirs.
	top := filepath.Dir(made[len(made)-1])
	_ = fsys.SyncDir(top)
	_ = fsys.SyncDir(filepath.Dir(top))
	return nil
}
