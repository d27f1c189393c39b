package offline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"pillarbox/ese/vfs"
)

// Copy copies a file in large pieces, durably. A destination that is there is refused. With ignore,
// what cannot be read becomes zeros: lost counts the bytes.
func Copy(
	ctx context.Context, fsys vfs.FS, from, to string, ignore bool, progress func(done, total int64),
) (lost int64, err error) {
	if exists(fsys, to) {
		return 0, fmt.Errorf("copy %s: %s is there already: remove it first", from, to)
	}
	source := &lenient{FS: fsys}
	if ignore {
		err = copyFile(ctx, source, from, to, progress)
	} else {
		err = copyFile(ctx, fsys, from, to, progress)
	}
	if err != nil {
		// What is there of it must not pass for the whole, nor refuse the next try.
		return source.lost, fmt.Errorf("copy %s: %w", from, errors.Join(err, removeIf(fsys, to)))
	}
	return source.lost, fsys.SyncDir(filepath.Dir(to))
}

// lenient reads zeros where the disk gives an error.
type lenient struct {
	vfs.FS
	lost int64 // bytes
}

func (l *lenient) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := l.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &lenientFile{f, l}, nil
}

type lenientFile struct {
	vfs.File
	l *lenient
}

// ReadAt looks at each sector of what cannot be read at once.
func (f *lenientFile) ReadAt(p []byte, off int64) (int, error) {
	const sector = 4096
	n, err := f.File.ReadAt(p, off)
	if err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	for n = 0; n < len(p); n += sector {
		part := p[n:min(n+sector, len(p))]
		if _, err := f.File.ReadAt(part, off+int64(n)); err != nil {
			clear(part)
			f.l.lost += int64(len(part))
		}
	}
	return len(p), nil
}

// removeIf removes a file that may be there.
func removeIf(fsys vfs.FS, path string) error {
	if err := fsys.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
