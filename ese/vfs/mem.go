package vfs

import (
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// Mem is a disk in memory. It keeps, beside what a running program sees, what would
// certainly survive a power cut. Use NewMem.
type Mem struct {
	mu    sync.Mutex
	dirs  map[string]*memDir
	locks map[string]bool
	// capacity bounds what all files may have allocated; 0 is no bound.
	capacity int64
}

// memDir is a folder: its entries now, its entries on the durable disk, and the operations
// that lead from the second to the first.
type memDir struct {
	live    map[string]*memInode
	durable map[string]*memInode
	pending []memDirOp
}

// memDirOp sets and clears names in one step, so that a rename is atomic.
type memDirOp struct {
	set   string
	inode *memInode
	clear string
}

func (op memDirOp) apply(entries map[string]*memInode) {
	if op.clear != "" {
		delete(entries, op.clear)
	}
	if op.set != "" {
		entries[op.set] = op.inode
	}
}

func (d *memDir) do(op memDirOp) {
	op.apply(d.live)
	d.pending = append(d.pending, op)
}

func (d *memDir) sync() {
	for _, op := range d.pending {
		op.apply(d.durable)
	}
	d.pending = nil
}

var _ FS = (*Mem)(nil)

// NewMem returns an empty disk with the folders "." and "/".
func NewMem() *Mem {
	m := &Mem{dirs: map[string]*memDir{}, locks: map[string]bool{}}
	m.mkdir(".")
	m.mkdir(string(filepath.Separator))
	return m
}

func (m *Mem) mkdir(dir string) {
	if m.dirs[dir] == nil {
		m.dirs[dir] = &memDir{live: map[string]*memInode{}, durable: map[string]*memInode{}}
	}
}

// find returns the folder and base name of a path.
func (m *Mem) find(op, name string) (*memDir, string, error) {
	clean := filepath.Clean(name)
	d := m.dirs[filepath.Dir(clean)]
	if d == nil {
		return nil, "", &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return d, filepath.Base(clean), nil
}

// OpenFile opens or creates a file.
func (m *Mem) OpenFile(name string, flag int, _ fs.FileMode) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, base, err := m.find("open", name)
	if err != nil {
		return nil, err
	}
	if m.dirs[filepath.Clean(name)] != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	ino := d.live[base]
	switch {
	case ino == nil && flag&os.O_CREATE == 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	case ino == nil:
		ino = &memInode{}
		d.do(memDirOp{set: base, inode: ino})
	case flag&os.O_CREATE != 0 && flag&os.O_EXCL != 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrExist}
	}
	if flag&os.O_TRUNC != 0 {
		ino.truncate(0)
	}
	writable := flag&(os.O_RDWR|os.O_WRONLY) != 0
	return &memFile{disk: m, ino: ino, name: name, writable: writable}, nil
}

// SetCapacity sets the size of the disk in bytes, 0 for one without end. Files that are there
// stay; a write or Allocate that needs more fails with ErrDiskFull and changes nothing. A
// file made longer by Truncate takes no space until it is written.
func (m *Mem) SetCapacity(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = n
}

// Used is the space that all files have allocated, in bytes.
func (m *Mem) Used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used()
}

func (m *Mem) used() (n int64) {
	for _, d := range m.dirs {
		for _, ino := range d.live {
			n += ino.allocated
		}
	}
	return n
}

// allocate makes sure that the first size bytes of a file are on the disk.
func (m *Mem) allocate(ino *memInode, size int64) error {
	if size <= ino.allocated {
		return nil
	}
	if m.capacity > 0 && m.used()+size-ino.allocated > m.capacity {
		return ErrDiskFull
	}
	ino.allocated = size
	return nil
}

// Remove removes a file's name; open handles go on to work.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, base, err := m.find("remove", name)
	if err != nil {
		return err
	}
	if d.live[base] == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	d.do(memDirOp{clear: base})
	return nil
}

// Rename gives a file another name, replacing a file that has it.
func (m *Mem) Rename(oldName, newName string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, oldBase, err := m.find("rename", oldName)
	if err != nil {
		return err
	}
	to, newBase, err := m.find("rename", newName)
	if err != nil {
		return err
	}
	ino := from.live[oldBase]
	if ino == nil {
		return &fs.PathError{Op: "rename", Path: oldName, Err: fs.ErrNotExist}
	}
	if from == to {
		if oldBase != newBase {
			from.do(memDirOp{clear: oldBase, set: newBase, inode: ino})
		}
		return nil
	}
	from.do(memDirOp{clear: oldBase})
	to.do(memDirOp{set: newBase, inode: ino})
	from.sync()
	to.sync()
	return nil
}

// SyncDir makes the names in dir durable.
func (m *Mem) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.dirs[filepath.Clean(dir)]
	if d == nil {
		return &fs.PathError{Op: "sync", Path: dir, Err: fs.ErrNotExist}
	}
	d.sync()
	return nil
}

// ReadDir lists files and folders.
func (m *Mem) ReadDir(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	clean := filepath.Clean(dir)
	d := m.dirs[clean]
	if d == nil {
		return nil, &fs.PathError{Op: "readdir", Path: dir, Err: fs.ErrNotExist}
	}
	names := slices.Collect(maps.Keys(d.live))
	for sub := range m.dirs {
		if sub != clean && filepath.Dir(sub) == clean && sub != string(filepath.Separator) {
			names = append(names, filepath.Base(sub))
		}
	}
	slices.Sort(names)
	return names, nil
}

// MkdirAll creates a folder and its parents, durably.
func (m *Mem) MkdirAll(dir string, _ fs.FileMode) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for clean := filepath.Clean(dir); m.dirs[clean] == nil; clean = filepath.Dir(clean) {
		if d := m.dirs[filepath.Dir(clean)]; d != nil && d.live[filepath.Base(clean)] != nil {
			return &fs.PathError{Op: "mkdir", Path: clean, Err: fs.ErrExist}
		}
		m.mkdir(clean)
	}
	return nil
}

// Stat returns a file's size.
func (m *Mem) Stat(name string) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dirs[filepath.Clean(name)] != nil {
		return 0, nil
	}
	d, base, err := m.find("stat", name)
	if err != nil {
		return 0, err
	}
	ino := d.live[base]
	if ino == nil {
		return 0, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
	}
	return ino.size, nil
}

// Lock locks a name within this disk.
func (m *Mem) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, base, err := m.find("lock", name)
	if err != nil {
		return nil, err
	}
	clean := filepath.Clean(name)
	if m.locks[clean] {
		return nil, &fs.PathError{Op: "lock", Path: name, Err: ErrLocked}
	}
	if d.live[base] == nil {
		d.do(memDirOp{set: base, inode: &memInode{}})
	}
	m.locks[clean] = true
	return &memLock{disk: m, name: clean}, nil
}

type memLock struct {
	disk *Mem
	name string
	once sync.Once
}

func (l *memLock) Close() error {
	err := fs.ErrClosed
	l.once.Do(func() {
		l.disk.mu.Lock()
		defer l.disk.mu.Unlock()
		delete(l.disk.locks, l.name)
		err = nil
	})
	return err
}

// CrashClone returns a disk as a power cut at this moment might leave it. Every sector
// written since its file's last SyncData has its old or its new content, with one
// probability for the whole clone; some clones have all but a few sectors new, so that a linear
// checksum does not see what is missing. Of the unsynced operations of each folder a prefix is
// kept; of an unsynced change of size everything, nothing, or (growth) a part. The receiver
// and its open files are not disturbed and may be in use.
func (m *Mem) CrashClone(rng *rand.Rand) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	how := tear{keepNew: []float64{0, 0.1, 0.5, 0.9, 1}[rng.IntN(5)]}
	if rng.IntN(5) == 0 {
		how = tear{keepNew: 1, hidden: true}
	}
	clone := NewMem()
	clone.capacity = m.capacity
	// Sorted, so that one seed gives one clone.
	for _, dir := range slices.Sorted(maps.Keys(m.dirs)) {
		d := m.dirs[dir]
		clone.mkdir(dir)
		entries := maps.Clone(d.durable)
		for _, op := range d.pending[:rng.IntN(len(d.pending)+1)] {
			op.apply(entries)
		}
		target := clone.dirs[dir]
		for _, name := range slices.Sorted(maps.Keys(entries)) {
			ino := entries[name].crash(rng, how)
			target.live[name] = ino
			target.durable[name] = ino
		}
	}
	return clone
}
