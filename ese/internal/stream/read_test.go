package stream

import (
	"bytes"
	"errors"
	"math/rand"
	"os"
	"path/filepath"
	"testing"

	"pillarbox/ese/vfs"
)

// openFile is a file of the system's, which fills many buffers by one call, or one in memory, which
// does not.
func openFile(t *testing.T, fsys vfs.FS, dir string) *File {
	t.Helper()
	f, err := fsys.OpenFile(filepath.Join(dir, "s.stm"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	fl := NewFile("s.stm", 1, f, nil, 1<<20)
	t.Cleanup(func() {
		if err := fl.Close(); err != nil {
			t.Error(err)
		}
	})
	return fl
}

// lay seals payload as runs of stream 7 from page 0 on. Each held-th run only waits to be written; the
// others are on the disk. held 0: all are.
func lay(t *testing.T, f *File, payload []byte, held int) {
	t.Helper()
	for page, k := PageNo(0), 1; len(payload) > 0; page, k = page+RunPages, k+1 {
		n := min(len(payload), MaxPayload)
		b := make([]byte, HeaderSize+n)
		copy(b[HeaderSize:], payload[:n])
		payload = payload[n:]
		seal(b, 7)
		if held > 0 && k%held == 0 {
			f.runs[page] = &run{page: page, data: b}
			continue
		}
		if _, err := f.f.WriteAt(b, page.Offset()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReadIntoManyRuns(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	for name, fsys := range map[string]vfs.FS{"disk": vfs.OS(), "memory": vfs.NewMem()} {
		for _, held := range []int{0, 1, 3, MaxRuns} {
			for _, n := range []int{1, MaxPayload, MaxPayload + 1, MaxRuns * MaxPayload, 2*MaxRuns*MaxPayload + 5} {
				dir := t.TempDir()
				if name == "memory" {
					dir = "/"
				}
				f := openFile(t, fsys, dir)
				want, got := make([]byte, n), make([]byte, n)
				rng.Read(want)
				lay(t, f, want, held)
				if err := f.ReadInto(got, 7, 0); err != nil {
					t.Fatalf("%s, %d bytes, held %d: %v", name, n, held, err)
				}
				if !bytes.Equal(got, want) {
					t.Fatalf("%s, %d bytes, held %d: other bytes came", name, n, held)
				}
			}
		}
	}
}

// Damage is told with the page of its run, and so is a file that was cut.
func TestReadIntoNamesTheRun(t *testing.T) {
	const runs = MaxRuns + 3
	want := make([]byte, runs*MaxPayload)
	for bad := range runs {
		page := PageNo(bad * RunPages)
		for _, cut := range []bool{false, true} {
			f := openFile(t, vfs.OS(), t.TempDir())
			lay(t, f, want, 0)
			var err error
			if cut {
				err = f.f.Truncate(page.Offset() + 100)
			} else {
				_, err = f.f.WriteAt([]byte{1}, page.Offset()+HeaderSize+5)
			}
			if err != nil {
				t.Fatal(err)
			}
			got := bytes.Repeat([]byte{9}, len(want))
			err = f.ReadInto(got, 7, 0)
			var br *BadRunError
			if !errors.As(err, &br) || br.Page != page {
				t.Fatalf("run %d, cut %v: error is %v", bad, cut, err)
			}
		}
	}
}
