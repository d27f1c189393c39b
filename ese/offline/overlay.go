package offline

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"pillarbox/ese/vfs"
)

const overlayBlock = 4096

// overlay shows the files of another file system and keeps what is changed of them in a scratch
// file: the other ones stay as they are. Nothing survives it.
type overlay struct {
	vfs.FS
	scratchName string
	locked      string // is locked already by who made the overlay

	mu      sync.Mutex
	scratch vfs.File
	used    int64 // bytes of the scratch file
	files   map[string]*overlaid
	bases   []vfs.File // all that were opened: one that is hidden may still be read
}

// overlaid is a file as it is seen; gone when it was removed.
type overlaid struct {
	lay    *overlay
	base   vfs.File // nil for a new one
	gone   bool
	under  int64 // bytes of the base that are still seen
	size   int64
	blocks map[int64]int64 // where changed blocks stand in the scratch file
}

func newOverlay(under vfs.FS, scratch string) (*overlay, error) {
	f, err := under.OpenFile(scratch, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return &overlay{
		FS: under, scratchName: scratch, scratch: f, files: make(map[string]*overlaid),
	}, nil
}

// end closes everything and removes the scratch file.
func (l *overlay) end() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	errs := []error{l.scratch.Close(), l.FS.Remove(l.scratchName)}
	for _, f := range l.bases {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// find returns the file as it is seen; nil when there is none. mu is held.
func (l *overlay) find(name string) (*overlaid, error) {
	name = filepath.Clean(name)
	if f := l.files[name]; f != nil {
		if f.gone {
			return nil, nil
		}
		return f, nil
	}
	base, err := l.FS.OpenFile(name, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	size, err := base.Size()
	if err != nil {
		return nil, errors.Join(err, base.Close())
	}
	l.bases = append(l.bases, base)
	f := &overlaid{lay: l, base: base, under: size, size: size, blocks: make(map[int64]int64)}
	l.files[name] = f
	return f, nil
}

// OpenFile opens a file, or makes one that is not on the disk.
func (l *overlay) OpenFile(name string, flag int, _ fs.FileMode) (vfs.File, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, err := l.find(name)
	switch {
	case err != nil:
		return nil, err
	case f == nil && flag&os.O_CREATE == 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	case f != nil && flag&os.O_EXCL != 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrExist}
	case f == nil:
		f = &overlaid{lay: l, blocks: make(map[int64]int64)}
		l.files[filepath.Clean(name)] = f
	case flag&os.O_TRUNC != 0:
		err = f.cut(0)
	}
	return f, err
}

// Remove hides a file.
func (l *overlay) Remove(name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, err := l.find(name)
	if err == nil && f == nil {
		err = &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	if err != nil {
		return err
	}
	l.files[filepath.Clean(name)] = &overlaid{gone: true}
	return nil
}

// Rename shows a file under another name.
func (l *overlay) Rename(from, to string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, err := l.find(from)
	if err == nil && f == nil {
		err = &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	if err != nil {
		return err
	}
	l.files[filepath.Clean(from)] = &overlaid{gone: true}
	l.files[filepath.Clean(to)] = f
	return nil
}

// Lock takes a lock of the file system below, but for the one that is held for the overlay.
func (l *overlay) Lock(name string) (io.Closer, error) {
	if l.locked != "" && filepath.Clean(name) == filepath.Clean(l.locked) {
		return io.NopCloser(nil), nil
	}
	return l.FS.Lock(name)
}

// SyncDir has nothing to do: nothing is to last.
func (l *overlay) SyncDir(string) error { return nil }

// MkdirAll has nothing to do: the folders of files are not looked at.
func (l *overlay) MkdirAll(string, fs.FileMode) error { return nil }

// ReadDir lists what is seen.
func (l *overlay) ReadDir(dir string) ([]string, error) {
	names, err := l.FS.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	seen := make(map[string]bool)
	for _, n := range names {
		seen[n] = true
	}
	for path, f := range l.files {
		if filepath.Dir(path) == filepath.Clean(dir) {
			seen[filepath.Base(path)] = !f.gone
		}
	}
	names = names[:0]
	for n, there := range seen {
		if there {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Stat is the size as it is seen.
func (l *overlay) Stat(name string) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.files[filepath.Clean(name)]
	switch {
	case f == nil:
		return l.FS.Stat(name)
	case f.gone:
		return 0, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
	}
	return f.size, nil
}

// cut makes the file shorter or longer; new bytes are zero.
func (f *overlaid) cut(size int64) error {
	f.under = min(f.under, size)
	if size < f.size {
		for b := range f.blocks {
			if b*overlayBlock >= size {
				delete(f.blocks, b)
			}
		}
		if at, ok := f.blocks[size/overlayBlock]; ok {
			rest := make([]byte, overlayBlock-size%overlayBlock)
			if _, err := f.lay.scratch.WriteAt(rest, at+size%overlayBlock); err != nil {
				return err
			}
		}
	}
	f.size = size
	return nil
}

// block reads one block as it is seen. mu is held.
func (f *overlaid) block(b int64, buf []byte) error {
	clear(buf)
	if at, ok := f.blocks[b]; ok {
		_, err := f.lay.scratch.ReadAt(buf, at)
		return err
	}
	n := min(f.under-b*overlayBlock, overlayBlock)
	if n <= 0 {
		return nil
	}
	_, err := f.base.ReadAt(buf[:n], b*overlayBlock)
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// ReadAt reads what is seen.
func (f *overlaid) ReadAt(p []byte, off int64) (n int, err error) {
	f.lay.mu.Lock()
	defer f.lay.mu.Unlock()
	var buf [overlayBlock]byte
	for n < len(p) && off < f.size {
		if err := f.block(off/overlayBlock, buf[:]); err != nil {
			return n, err
		}
		end := min(overlayBlock, f.size-off/overlayBlock*overlayBlock)
		c := copy(p[n:], buf[off%overlayBlock:end])
		n, off = n+c, off+int64(c)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt keeps the bytes in the scratch file.
func (f *overlaid) WriteAt(p []byte, off int64) (n int, err error) {
	f.lay.mu.Lock()
	defer f.lay.mu.Unlock()
	var buf [overlayBlock]byte
	for n < len(p) {
		b := off / overlayBlock
		if err := f.block(b, buf[:]); err != nil {
			return n, err
		}
		c := copy(buf[off%overlayBlock:], p[n:])
		at, ok := f.blocks[b]
		if !ok {
			at = f.lay.used
		}
		if _, err := f.lay.scratch.WriteAt(buf[:], at); err != nil {
			return n, err
		}
		if !ok {
			f.lay.used += overlayBlock
			f.blocks[b] = at
		}
		n, off = n+c, off+int64(c)
		f.size = max(f.size, off)
	}
	return n, nil
}

// SyncData has nothing to do: nothing is to last.
func (f *overlaid) SyncData() error { return nil }

// Truncate sets the size.
func (f *overlaid) Truncate(size int64) error {
	f.lay.mu.Lock()
	defer f.lay.mu.Unlock()
	return f.cut(size)
}

// Allocate makes the file longer; the room is looked for when it is written.
func (f *overlaid) Allocate(size int64) error {
	f.lay.mu.Lock()
	defer f.lay.mu.Unlock()
	if size > f.size {
		return f.cut(size)
	}
	return nil
}

// Size is the size as it is seen.
func (f *overlaid) Size() (int64, error) {
	f.lay.mu.Lock()
	defer f.lay.mu.Unlock()
	return f.size, nil
}

// Close leaves the file to the end of the overlay.
func (f *overlaid) Close() error { return nil }
