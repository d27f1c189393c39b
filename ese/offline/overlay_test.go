package offline

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"pillarbox/ese/vfs"
)

// TestOverlay does the same to an overlay and to a disk of its own: both show the same, and the
// disk below the overlay stays as it was.
func TestOverlay(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 6))
		below, model := vfs.NewMem(), vfs.NewMem()
		for _, m := range []*vfs.Mem{below, model} {
			if err := m.MkdirAll("/d", 0o700); err != nil {
				t.Fatal(err)
			}
		}
		names := []string{"/d/a", "/d/b", "/d/c", "/d/e"}
		for _, n := range names[:2] {
			b := make([]byte, rng.IntN(30000))
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
			put(t, below, n, b)
			put(t, model, n, b)
		}
		was := look(t, below, names)
		lay, err := newOverlay(below, "/scratch")
		if err != nil {
			t.Fatal(err)
		}
		for range 200 {
			change(t, rng, lay, model, names)
		}
		if got, want := look(t, lay, names), look(t, model, names); !equal(got, want) {
			t.Fatalf("seed %d: the overlay shows something else", seed)
		}
		got, err1 := lay.ReadDir("/d")
		want, err2 := model.ReadDir("/d")
		if err := errors.Join(err1, err2); err != nil || !slices.Equal(got, want) {
			t.Fatalf("seed %d: %q, want %q (%v)", seed, got, want, err)
		}
		if err := lay.end(); err != nil {
			t.Fatal(err)
		}
		if !equal(was, look(t, below, names)) {
			t.Fatalf("seed %d: the disk below has changed", seed)
		}
		if _, err := below.Stat("/scratch"); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("the scratch file: %v", err)
		}
	}
}

func put(t *testing.T, to vfs.FS, name string, b []byte) {
	t.Helper()
	f, err := to.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		_, err = f.WriteAt(b, 0)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// change does one random thing to both.
func change(t *testing.T, rng *rand.Rand, a, b vfs.FS, names []string) {
	t.Helper()
	name, other := names[rng.IntN(len(names))], names[rng.IntN(len(names))]
	off, size := rng.Int64N(30000), rng.Int64N(30000)
	data := bytes.Repeat([]byte{byte(rng.Uint32())}, 1+rng.IntN(9000))
	flag := os.O_RDWR
	if rng.IntN(8) == 0 {
		flag |= os.O_TRUNC
	}
	if rng.IntN(4) == 0 {
		flag |= os.O_CREATE
	}
	kind := rng.IntN(10)
	do := func(f vfs.FS) error {
		switch {
		case kind == 0:
			return f.Remove(name)
		case kind == 1 && name != other:
			return f.Rename(name, other)
		}
		file, err := f.OpenFile(name, flag, 0o600)
		if err != nil {
			return err
		}
		switch {
		case kind < 4:
			err = file.Truncate(size)
		case kind < 6:
			err = file.Allocate(size)
		default:
			_, err = file.WriteAt(data, off)
		}
		return errors.Join(err, file.Close())
	}
	if x, y := do(a), do(b); (x == nil) != (y == nil) {
		t.Fatalf("%s: %v and %v", name, x, y)
	}
}

func look(t *testing.T, f vfs.FS, names []string) map[string][]byte {
	t.Helper()
	all := make(map[string][]byte)
	for _, n := range names {
		file, err := f.OpenFile(n, os.O_RDONLY, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		size, err := file.Size()
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, size)
		if _, err := file.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if n, err := f.Stat(n); err != nil || n != size {
			t.Fatalf("%d bytes, want %d (%v)", n, size, err)
		}
		all[n] = b
		_ = file.Close()
	}
	return all
}

func equal(a, b map[string][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for n, x := range a {
		if y, ok := b[n]; !ok || !bytes.Equal(x, y) {
			return false
		}
	}
	return true
}

// opened counts the files that are open.
type opened struct {
	vfs.FS
	n int
}

type openedFile struct {
	vfs.File
	by *opened
}

func (o *opened) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := o.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	o.n++
	return &openedFile{f, o}, nil
}

func (f *openedFile) Close() error {
	f.by.n--
	return f.File.Close()
}

// A file that is removed, or whose name another one gets, can be read by who has it open. Nothing
// stays open in the end.
func TestOverlayOpenFiles(t *testing.T) {
	below := &opened{FS: vfs.NewMem()}
	if err := below.MkdirAll("/d", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"/d/a", "/d/b", "/d/c"} {
		put(t, below, n, []byte("text of "+n))
	}
	lay, err := newOverlay(below, "/scratch")
	if err != nil {
		t.Fatal(err)
	}
	read := func(f vfs.File, want string) {
		t.Helper()
		b := make([]byte, len(want))
		if _, err := f.ReadAt(b, 0); err != nil || string(b) != want {
			t.Errorf("read %q, %v, want %q", b, err, want)
		}
	}
	a, err1 := lay.OpenFile("/d/a", os.O_RDONLY, 0)
	b, err2 := lay.OpenFile("/d/b", os.O_RDONLY, 0)
	if err := errors.Join(err1, err2, lay.Remove("/d/a"), lay.Rename("/d/c", "/d/b")); err != nil {
		t.Fatal(err)
	}
	put(t, lay, "/d/a", []byte("new"))
	read(a, "text of /d/a")
	read(b, "text of /d/b")
	for name, want := range map[string]string{"/d/a": "new", "/d/b": "text of /d/c"} {
		f, err := lay.OpenFile(name, os.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		read(f, want)
	}
	if err := lay.end(); err != nil || below.n != 0 {
		t.Errorf("%d files are open: %v", below.n, err)
	}
}
