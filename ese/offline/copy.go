package offline

import (
	"context"
	"fmt"
	"path/filepath"

	"pillarbox/ese/vfs"
)

// Copy copies a file in large pieces, durably. A destination that is there is refused.
func Copy(ctx context.Context, fsys vfs.FS, from, to string, progress func(done, total int64)) error {
	if exists(fsys, to) {
		return fmt.Errorf("copy %s: %s is there already: remove it first", from, to)
	}
	if err := copyFile(ctx, fsys, from, to, progress); err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return fsys.SyncDir(filepath.Dir(to))
}
