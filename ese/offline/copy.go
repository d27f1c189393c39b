package offline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"pillarbox/ese/vfs"
)

// Copy copies a file in large pieces, durably. A destination that is there is refused.
func Copy(ctx context.Context, fsys vfs.FS, from, to string, progress func(done, total int64)) error {
	if exists(fsys, to) {
		return fmt.Errorf("copy %s: %s is there already: remove it first", from, to)
	}
	if err := copyFile(ctx, fsys, from, to, progress); err != nil {
		// What is there of it must not pass for the whole, nor refuse the next try.
		return fmt.Errorf("copy %s: %w", from, errors.Join(err, removeIf(fsys, to)))
	}
	return fsys.SyncDir(filepath.Dir(to))
}

// removeIf removes a file that may be there.
func removeIf(fsys vfs.FS, path string) error {
	if err := fsys.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
