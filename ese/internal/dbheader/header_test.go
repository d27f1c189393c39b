package dbheader

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"pillarbox/ese/internal/page"
	"pillarbox/ese/vfs"
)

// fill sets every field of a struct to something else.
func fill(v reflect.Value, next *uint64) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), next)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), next)
		}
	case reflect.String:
		v.SetString("COMPUTER")
	default:
		*next += 0x01010101
		v.SetUint(*next & (1<<v.Type().Bits() - 1))
	}
}

func TestRoundTrip(t *testing.T) {
	var next uint64
	var h Header
	fill(reflect.ValueOf(&h).Elem(), &next)
	h.Version, h.Attrib, h.PageSize, h.FileType = FormatVersion, 0, 8192, FileTypeDatabase
	p := bytes.Repeat([]byte{0xee}, 8192)
	h.Encode(p)
	got, err := Parse(p)
	if err != nil {
		t.Fatal(err)
	}
	if got != h {
		t.Fatalf("got  %+v\nwant %+v", got, h)
	}
	if i := bytes.IndexFunc(p[fieldsEnd:], func(r rune) bool { return r != 0 }); i >= 0 {
		t.Fatalf("byte %d is not zero", fieldsEnd+i)
	}
}

func TestParseErrors(t *testing.T) {
	h := New(4096)
	tests := []struct {
		name   string
		change func(p []byte) []byte
		want   error
	}{
		{"short", func(p []byte) []byte { return p[:100] }, ErrNotDatabase},
		{"magic", func(p []byte) []byte { p[4]++; return p }, ErrNotDatabase},
		{"sum", func(p []byte) []byte { p[4000]++; return p }, ErrChecksum},
		{"stream file", func(p []byte) []byte { p[12] = 1; return seal(p) }, ErrNotDatabase},
		{"log file", func(p []byte) []byte { p[667] = 3; return seal(p) }, ErrNotDatabase},
		{"version", func(p []byte) []byte { p[8]++; return seal(p) }, ErrVersion},
		{"page size", func(p []byte) []byte { p[236] = 1; return seal(p) }, ErrPageSize},
		{"other size", func(p []byte) []byte { p[237] = 0x20; return seal(p) }, ErrPageSize},
		{"old and large", func(p []byte) []byte {
			p[232], p[237] = 0x10, 0x40
			return seal(append(p, make([]byte, 12288)...))
		}, ErrPageSize},
	}
	for _, test := range tests {
		p := make([]byte, 4096)
		h.Encode(p)
		if _, err := Parse(test.change(p)); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func seal(p []byte) []byte {
	sum := page.XOR32(p)
	p[0], p[1], p[2], p[3] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
	return p
}

// TestCopies damages each copy in turn, for each page size.
func TestCopies(t *testing.T) {
	for size := minPage; size <= maxPage; size *= 2 {
		mem := vfs.NewMem()
		f, err := mem.OpenFile("a.edb", os.O_RDWR|os.O_CREATE, 0)
		if err != nil {
			t.Fatal(err)
		}
		h := New(size)
		h.LastObjID = 77
		if err := Write(f, h); err != nil {
			t.Fatal(err)
		}
		check := func(want Copy) {
			t.Helper()
			got, which, err := Read(f)
			if err != nil || got != h || which != want {
				t.Fatalf("page size %d: %v, %v", size, which, err)
			}
		}
		check(Primary)
		for _, at := range []int64{3, 5, 237, 600} {
			if _, err := f.WriteAt([]byte{0x5b}, at); err != nil {
				t.Fatal(err)
			}
			check(Shadow)
		}
		if _, err := f.WriteAt([]byte{0x5b}, int64(size)+600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Read(f); err == nil {
			t.Fatal("read a header from two bad copies")
		}
	}
}

// TestCrashInWrite wants the old or the new header after a crash at either sync.
func TestCrashInWrite(t *testing.T) {
	for seed := range uint64(100) {
		mem := vfs.NewMem()
		fault := vfs.NewFault(mem)
		f, err := fault.OpenFile("a.edb", os.O_RDWR|os.O_CREATE, 0)
		if err != nil {
			t.Fatal(err)
		}
		old := New(8192)
		if err := Write(f, old); err != nil {
			t.Fatal(err)
		}
		if err := mem.SyncDir("."); err != nil {
			t.Fatal(err)
		}
		fault.Inject(vfs.Rule{Op: vfs.OpSync, After: int(seed % 2), Err: errors.New("power cut")})
		fresh := old
		fresh.State, fresh.LastObjID = DirtyShutdown, 12
		fresh.DBTime = 1 << 40
		if err := Write(f, fresh); err == nil {
			t.Fatal("the sync did not fail")
		}
		g, err := mem.CrashClone(rand.New(rand.NewPCG(seed, 0))).OpenFile("a.edb", os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := Read(g)
		if err != nil || (got != old && got != fresh) {
			t.Fatalf("seed %d: %v, %+v", seed, err, got)
		}
	}
}

func TestSamples(t *testing.T) {
	files, _ := filepath.Glob("../../../../shared/samples/edb/*.gz")
	if len(files) == 0 {
		t.Skip("../shared/samples is not there")
	}
	for _, name := range files {
		z, err := openSample(name)
		if err != nil {
			t.Fatal(err)
		}
		mem := vfs.NewMem()
		f, err := mem.OpenFile("a.edb", os.O_RDWR|os.O_CREATE, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(z, 0); err != nil {
			t.Fatal(err)
		}
		h, which, err := Read(f)
		if err != nil || which != Primary {
			t.Fatalf("%s: %v, %v", name, which, err)
		}
		t.Logf("%s: rev %#x,%d page %d state %v dbtime %#x", filepath.Base(name), h.Revision,
			h.RevisionMinor, h.PageSize, h.State, uint64(h.DBTime))
		// What is encoded again differs only where newer versions have newer fields.
		p := make([]byte, h.PageSize)
		h.Encode(p)
		if !bytes.Equal(p[4:fieldsEnd-4], z[4:fieldsEnd-4]) || p[667] != z[667] {
			t.Errorf("%s: fields lost", name)
		}
	}
}

func openSample(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(z, 1<<20))
}

func FuzzParse(f *testing.F) {
	h := New(4096)
	p := make([]byte, 4096)
	h.Encode(p)
	f.Add(p[:fieldsEnd])
	f.Fuzz(func(t *testing.T, b []byte) {
		p := make([]byte, 4096)
		copy(p, b)
		seal(p)
		h, err := Parse(p)
		if err != nil {
			return
		}
		again := make([]byte, 4096)
		h.Encode(again)
		if got, err := Parse(again); err != nil || got != h {
			t.Fatalf("%v: %+v, %+v", err, got, h)
		}
	})
}

// A header is cut again and again, in either copy: one that was written is always there.
func TestHeaderCutTwice(t *testing.T) {
	for seed := range uint64(1000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		disk := vfs.NewMem()
		write := func(fsys vfs.FS, n uint64) (err error) {
			f, err := fsys.OpenFile("/a.edb", os.O_RDWR|os.O_CREATE, 0o600)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, f.Close()) }()
			var h Header
			next := n
			fill(reflect.ValueOf(&h).Elem(), &next)
			h.Version, h.Attrib, h.PageSize, h.FileType = FormatVersion, 0, 4096, FileTypeDatabase
			h.DBTime = page.DBTime(n)
			return Write(f, h)
		}
		if err := errors.Join(write(disk, 1), disk.SyncDir("/")); err != nil {
			t.Fatal(err)
		}
		for try := uint64(2); try < 8; try++ {
			fault := vfs.NewFault(disk)
			op := []vfs.Op{vfs.OpWrite, vfs.OpSync}[rng.IntN(2)]
			fault.Inject(vfs.Rule{
				Op: op, After: rng.IntN(3), ShortBytes: 512 * (1 + rng.IntN(7)), Err: io.ErrShortWrite,
			})
			err := write(fault, try)
			if rng.IntN(3) > 0 {
				disk = disk.CrashClone(rng)
			} else if f, err := disk.OpenFile("/a.edb", os.O_RDWR, 0); err != nil || f.SyncData() != nil {
				t.Fatal(err) // the next process makes durable what it finds
			}
			f, ferr := disk.OpenFile("/a.edb", os.O_RDONLY, 0)
			if ferr != nil {
				t.Fatal(ferr)
			}
			h, _, rerr := Read(f)
			if rerr = errors.Join(rerr, f.Close()); rerr != nil {
				t.Fatalf("seed %d, try %d: %v", seed, try, rerr)
			}
			if err == nil && h.DBTime != page.DBTime(try) {
				t.Fatalf("seed %d, try %d: header %d is back", seed, try, h.DBTime)
			}
		}
	}
}
