package crashtest

import (
	"io/fs"
	"math/rand/v2"

	"pillarbox/ese/vfs"
)

// disk is a memory disk that notes what a power cut at its n-th write or sync would leave.
type disk struct {
	*vfs.Mem
	rng   *rand.Rand
	left  int // events until the cut; 0: never
	clone *vfs.Mem
}

func (d *disk) event() {
	if d.left == 0 {
		return
	}
	if d.left--; d.left == 0 {
		d.clone = d.Mem.CrashClone(d.rng)
	}
}

func (d *disk) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := d.Mem.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &file{f, d}, nil
}

func (d *disk) Rename(from, to string) error {
	d.event()
	return d.Mem.Rename(from, to)
}

func (d *disk) SyncDir(dir string) error {
	d.event()
	return d.Mem.SyncDir(dir)
}

type file struct {
	vfs.File
	d *disk
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	f.d.event()
	return f.File.WriteAt(p, off)
}

func (f *file) SyncData() error {
	f.d.event()
	return f.File.SyncData()
}
