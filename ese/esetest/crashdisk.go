package esetest

import (
	"fmt"
	"hash"
	"io/fs"
	"math/rand/v2"

	"pillarbox/ese/vfs"
)

// CrashDisk is a memory disk that keeps what a power cut at its n-th write, sync or rename would
// leave. What runs on it goes on: a simulation looks at Cut after each step and begins again
// on that.
type CrashDisk struct {
	*vfs.Mem
	Rand  *rand.Rand
	Left  int      // events until the cut; 0 or below: never
	Cut   *vfs.Mem // what the cut left; nil before
	OnCut func()   // called at the cut; may be nil

	// Trace takes all events with what was written, nil to trace nothing: two runs of one seed
	// come to one sum.
	Trace hash.Hash
}

func (d *CrashDisk) event(what, name string, off int64, p []byte) {
	if d.Trace != nil {
		fmt.Fprintf(d.Trace, "%s %s %d %d\n", what, name, off, len(p))
		_, _ = d.Trace.Write(p) // never fails (hash.Hash)
	}
	if d.Left <= 0 {
		return
	}
	if d.Left--; d.Left > 0 || d.Cut != nil {
		return
	}
	d.Cut = d.CrashClone(d.Rand)
	if d.OnCut != nil {
		d.OnCut()
	}
}

// OpenFile opens a file whose writes and syncs are events.
func (d *CrashDisk) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := d.Mem.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &crashFile{f, d, name}, nil
}

// Rename is an event.
func (d *CrashDisk) Rename(from, to string) error {
	d.event("rename "+from, to, 0, nil)
	return d.Mem.Rename(from, to)
}

// SyncDir is an event.
func (d *CrashDisk) SyncDir(dir string) error {
	d.event("sync", dir, 0, nil)
	return d.Mem.SyncDir(dir)
}

type crashFile struct {
	vfs.File
	d    *CrashDisk
	name string
}

func (f *crashFile) WriteAt(p []byte, off int64) (int, error) {
	f.d.event("write", f.name, off, p)
	return f.File.WriteAt(p, off)
}

func (f *crashFile) SyncData() error {
	f.d.event("sync", f.name, 0, nil)
	return f.File.SyncData()
}
