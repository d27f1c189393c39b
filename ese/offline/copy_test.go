package offline_test

import (
	"bytes"
	"errors"
	"io/fs"
	"testing"

	"pillarbox/ese/offline"
	"pillarbox/ese/vfs"
)

// scratched is a disk that cannot read some bytes of its files.
type scratched struct {
	*vfs.Mem
	from, to int64
}

type scratchedFile struct {
	vfs.File
	d *scratched
}

func (d *scratched) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := d.Mem.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &scratchedFile{f, d}, nil
}

func (f *scratchedFile) ReadAt(p []byte, off int64) (int, error) {
	if off < f.d.to && off+int64(len(p)) > f.d.from {
		return 0, errors.New("input/output error")
	}
	return f.File.ReadAt(p, off)
}

// TestCopyIgnoring copies from a disk with unreadable sectors: refused, or with zeros for just them.
func TestCopyIgnoring(t *testing.T) {
	d := &scratched{vfs.NewMem(), 1<<20 + 5000, 1<<20 + 9000}
	check(t, d.MkdirAll("/d", 0o700))
	want := bytes.Repeat([]byte{7}, 3<<20+100)
	f, err := d.Mem.OpenFile("/d/a", 0x42, 0o600)
	check(t, err)
	_, err = f.WriteAt(want, 0)
	check(t, errors.Join(err, f.Close()))
	nothing := func(int64, int64) {}
	if _, err := offline.Copy(t.Context(), d, "/d/a", "/d/b", false, nothing); err == nil {
		t.Fatal("copied what cannot be read")
	}
	lost, err := offline.Copy(t.Context(), d, "/d/a", "/d/b", true, nothing)
	check(t, err)
	from, to := 1<<20+4096, 1<<20+3*4096
	clear(want[from:to])
	got := make([]byte, len(want))
	f, err = d.Mem.OpenFile("/d/b", 0, 0)
	check(t, err)
	_, err = f.ReadAt(got, 0)
	check(t, errors.Join(err, f.Close()))
	if lost != int64(to-from) || !bytes.Equal(got, want) {
		t.Errorf("%d bytes lost, want %d", lost, to-from)
	}
}
