package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// Op is an operation that a fault rule can hit.
type Op uint8

// The operations of FS and File.
const (
	OpRead Op = iota + 1
	OpWrite
	OpSync
	OpSyncDir
	OpOpen
	OpRename // matched by the old name
	OpRemove
	OpTruncate
	OpAllocate
)

// Rule says which operations go wrong, and how.
type Rule struct {
	Op Op
	// Path is a glob of the file's base name (the folder's for OpSyncDir); "" is every file.
	Path string
	// After is the number of matching operations that still go well.
	After int
	// Times is the number of operations that go wrong; 0 is all of them.
	Times int
	// Grow limits the rule to operations that make a file or make it longer: a full disk is
	// {Grow: true, Err: ErrDiskFull} for OpOpen, OpWrite, OpTruncate and OpAllocate.
	Grow bool
	// Err is what the operation returns. It is not passed on to the inner file system.
	Err error
	// ShortBytes makes an OpWrite put that many bytes on the disk before Err
	// (io.ErrShortWrite when Err is nil).
	ShortBytes int
	// DropWrite makes an OpWrite report success and write nothing: a lost write.
	DropWrite bool
	// FlipBit flips that bit of the data read or written (modulo its length). It is looked
	// at only when Err is nil, ShortBytes is 0 and DropWrite is false; negative flips none.
	FlipBit int
}

// Injection is a rule at work.
type Injection struct {
	fault   *Fault
	rule    Rule
	matches int
	hits    int
}

// Hits returns how many operations the rule has spoiled.
func (i *Injection) Hits() int {
	i.fault.mu.Lock()
	defer i.fault.mu.Unlock()
	return i.hits
}

// Remove ends the rule.
func (i *Injection) Remove() {
	i.fault.mu.Lock()
	defer i.fault.mu.Unlock()
	i.fault.rules = slices.DeleteFunc(i.fault.rules, func(r *Injection) bool { return r == i })
}

// Fault is a file system that goes wrong by rule. The first rule that matches decides.
type Fault struct {
	inner FS

	mu    sync.Mutex
	rules []*Injection
}

var _ FS = (*Fault)(nil)

// NewFault wraps inner; without rules it changes nothing.
func NewFault(inner FS) *Fault { return &Fault{inner: inner} }

// Inject adds a rule.
func (f *Fault) Inject(r Rule) *Injection {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := &Injection{fault: f, rule: r}
	f.rules = append(f.rules, i)
	return i
}

// hit returns the rule that spoils this operation; grows tells whether it makes the file
// longer, and is asked only where a rule depends on it.
func (f *Fault) hit(op Op, name string, grows func() bool) (Rule, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	base := filepath.Base(name)
	for _, i := range f.rules {
		if i.rule.Op != op {
			continue
		}
		if ok, err := filepath.Match(i.rule.Path, base); i.rule.Path != "" && (err != nil || !ok) {
			continue
		}
		if i.rule.Grow && (grows == nil || !grows()) {
			continue
		}
		i.matches++
		if i.matches <= i.rule.After || (i.rule.Times > 0 && i.hits >= i.rule.Times) {
			continue
		}
		i.hits++
		return i.rule, true
	}
	return Rule{}, false
}

// spoil returns the error of operations that have no data.
func (f *Fault) spoil(op Op, name string, grows func() bool) error {
	r, ok := f.hit(op, name, grows)
	if !ok {
		return nil
	}
	if r.Err == nil {
		return errors.New("injected fault")
	}
	return r.Err
}

// OpenFile opens a file of the inner file system.
func (f *Fault) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	creates := func() bool {
		_, err := f.inner.Stat(name)
		return flag&os.O_CREATE != 0 && errors.Is(err, fs.ErrNotExist)
	}
	if err := f.spoil(OpOpen, name, creates); err != nil {
		return nil, err
	}
	file, err := f.inner.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &faultFile{File: file, fault: f, name: name}, nil
}

// Remove removes a file of the inner file system.
func (f *Fault) Remove(name string) error {
	if err := f.spoil(OpRemove, name, nil); err != nil {
		return err
	}
	return f.inner.Remove(name)
}

// Rename renames a file of the inner file system.
func (f *Fault) Rename(oldName, newName string) error {
	if err := f.spoil(OpRename, oldName, nil); err != nil {
		return err
	}
	return f.inner.Rename(oldName, newName)
}

// SyncDir syncs a folder of the inner file system.
func (f *Fault) SyncDir(dir string) error {
	if err := f.spoil(OpSyncDir, dir, nil); err != nil {
		return err
	}
	return f.inner.SyncDir(dir)
}

// ReadDir lists a folder of the inner file system.
func (f *Fault) ReadDir(dir string) ([]string, error) { return f.inner.ReadDir(dir) }

// MkdirAll creates folders in the inner file system.
func (f *Fault) MkdirAll(dir string, perm fs.FileMode) error { return f.inner.MkdirAll(dir, perm) }

// Stat asks the inner file system.
func (f *Fault) Stat(name string) (int64, error) { return f.inner.Stat(name) }

// Lock locks in the inner file system.
func (f *Fault) Lock(name string) (io.Closer, error) { return f.inner.Lock(name) }

type faultFile struct {
	File
	fault *Fault
	name  string
}

func (f *faultFile) ReadAt(p []byte, off int64) (int, error) {
	r, ok := f.fault.hit(OpRead, f.name, nil)
	if ok && r.Err != nil {
		return 0, r.Err
	}
	n, err := f.File.ReadAt(p, off)
	if ok {
		r.flip(p[:n])
	}
	return n, err
}

func (f *faultFile) WriteAt(p []byte, off int64) (int, error) {
	r, ok := f.fault.hit(OpWrite, f.name, f.longer(off+int64(len(p))))
	switch {
	case !ok:
		return f.File.WriteAt(p, off)
	case r.DropWrite:
		return len(p), nil
	case r.ShortBytes > 0:
		n, err := f.File.WriteAt(p[:min(r.ShortBytes, len(p))], off)
		switch {
		case err != nil:
			return n, err
		case r.Err != nil:
			return n, r.Err
		}
		return n, io.ErrShortWrite
	case r.Err != nil:
		return 0, r.Err
	}
	p = slices.Clone(p)
	r.flip(p)
	return f.File.WriteAt(p, off)
}

func (f *faultFile) SyncData() error {
	if err := f.fault.spoil(OpSync, f.name, nil); err != nil {
		return err
	}
	return f.File.SyncData()
}

func (f *faultFile) Truncate(size int64) error {
	if err := f.fault.spoil(OpTruncate, f.name, f.longer(size)); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *faultFile) Allocate(size int64) error {
	if err := f.fault.spoil(OpAllocate, f.name, f.longer(size)); err != nil {
		return err
	}
	return f.File.Allocate(size)
}

// longer tells whether size is past the file's end.
func (f *faultFile) longer(size int64) func() bool {
	return func() bool {
		now, err := f.Size()
		return err == nil && size > now
	}
}

func (r Rule) flip(p []byte) {
	if r.FlipBit < 0 || len(p) == 0 {
		return
	}
	bit := r.FlipBit % (8 * len(p))
	p[bit/8] ^= 1 << (bit % 8)
}
