package offline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
	"pillarbox/ese/vfs"
)

const stm = "/d/priv1.stm"

func repaired(t *testing.T, disk vfs.FS) *Loss {
	t.Helper()
	res, err := Repair(t.Context(), RebuildOptions{FS: disk, Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if !exists(disk, res.Old) || !exists(disk, path+".repair.txt") {
		t.Error("old file or report is not there")
	}
	return res.Loss
}

func TestRepairWhole(t *testing.T) {
	disk := fill(t, 8192, 300)
	before := rows(t, disk)
	if l := repaired(t, disk); !l.Empty() || len(l.DamagedPages) > 0 {
		t.Errorf("lost %+v", l)
	}
	compare(t, before, rows(t, disk))
	sound(t, disk, 8192)
}

// TestRepairHeader loses both copies of the header.
func TestRepairHeader(t *testing.T) {
	for _, size := range []int{4096, 8192, 16384, 32768} {
		disk := fill(t, size, 200)
		before := rows(t, disk)
		image(t, disk, func(b []byte) []byte { clear(b[:2*size]); return b })
		if l := repaired(t, disk); !l.Empty() || l.Header == "" {
			t.Errorf("pages of %d: %+v", size, l)
		}
		compare(t, before, rows(t, disk))
		sound(t, disk, size)
	}
}

// TestRepairCatalog loses one catalog, then both.
func TestRepairCatalog(t *testing.T) {
	zero := func(first, n int) func(b []byte) []byte {
		return func(b []byte) []byte { clear(b[(first+1)*8192 : (first+1+n)*8192]); return b }
	}
	for _, at := range []struct{ first, n int }{{1, 23}, {24, 4}} {
		disk := fill(t, 8192, 200)
		before := rows(t, disk)
		image(t, disk, zero(at.first, at.n))
		if l := repaired(t, disk); !l.Empty() {
			t.Errorf("pages from %d: lost %+v", at.first, l)
		}
		compare(t, before, rows(t, disk))
		sound(t, disk, 8192)
	}
	disk := fill(t, 8192, 50)
	image(t, disk, zero(1, 30))
	_, err := Repair(t.Context(), RebuildOptions{FS: disk, Path: path})
	if !errors.Is(err, ErrNoCatalog) || exists(disk, path+".new") {
		t.Errorf("without any catalog: %v", err)
	}
}

func TestRepairStreams(t *testing.T) {
	disk := fill(t, 8192, 200)
	f, err := disk.OpenFile(stm, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("damage"), 4096+5000); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	l := repaired(t, disk)
	if len(l.Streams) != 1 || l.Streams[0].Page != 0 || len(l.Tables) > 0 {
		t.Errorf("lost %+v", l)
	}
	sound(t, disk, 8192)
	if err := disk.Remove(stm); err != nil {
		t.Fatal(err)
	}
	if l := repaired(t, disk); len(l.Streams) < 4 {
		t.Errorf("without stream file: %+v", l)
	}
	sound(t, disk, 8192)
}

// TestRepairDirty repairs what was never closed. The log does not fit it afterwards.
func TestRepairDirty(t *testing.T) {
	disk := fill(t, 8192, 100)
	in, _ := open(t, disk, 8192)
	if err := in.Kill(); err != nil {
		t.Fatal(err)
	}
	res, err := Repair(t.Context(), RebuildOptions{FS: disk, Path: path})
	if err != nil || !res.WasDirty {
		t.Fatal(err)
	}
	_, err = ese.Open(ese.Options{Dir: "/d", FS: disk})
	if !errors.Is(err, ese.ErrWrongSignature) {
		t.Errorf("the old log was taken: %v", err)
	}
}

func TestRefusesServer(t *testing.T) {
	disk := fill(t, 8192, 20)
	in, _ := open(t, disk, 8192)
	for _, fn := range []func(context.Context, RebuildOptions) (*Result, error){Repair, Defragment} {
		if _, err := fn(t.Context(), RebuildOptions{FS: disk, Path: path}); !errors.Is(err, ese.ErrLocked) {
			t.Errorf("got %v", err)
		}
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestRebuildCrash cuts the power at a random write, sync or rename: the database is the old one
// or the new one.
func TestRebuildCrash(t *testing.T) {
	disk := fill(t, 8192, 60)
	before := rows(t, disk)
	for seed := range *cuts {
		rng := rand.New(rand.NewPCG(seed, 3))
		d := &esetest.CrashDisk{Mem: disk.CrashClone(rng), Rand: rng, Left: 1 + rng.IntN(200)}
		fn := Defragment
		if seed%2 == 0 {
			fn = Repair
			d.Left = 1 + rng.IntN(220)
		}
		if _, err := fn(t.Context(), RebuildOptions{FS: d, Path: path}); err != nil {
			t.Fatal(err)
		}
		if d.Cut == nil {
			d.Cut = d.CrashClone(rng)
		}
		compare(t, before, rows(t, d.Cut))
		sound(t, d.Cut, 8192)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func TestLossJSON(t *testing.T) {
	disk := fill(t, 8192, 300)
	image(t, disk, func(b []byte) []byte { clear(b[60*8192 : 80*8192]); return b })
	want := repaired(t, disk)
	f, err := disk.OpenFile(path+".repair.json", os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	size, _ := f.Size()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, size))
	if err != nil {
		t.Fatal(err)
	}
	var got Loss
	if err := json.Unmarshal(b, &got); err != nil || len(got.Tables) != len(want.Tables) ||
		len(got.Tables) == 0 {
		t.Errorf("%v: %s", err, b)
	}
	var text bytes.Buffer
	want.writeText(&text)
	if !bytes.Contains(text.Bytes(), []byte("lost: ")) {
		t.Errorf("report without loss:\n%s", text.String())
	}
}

func TestCopy(t *testing.T) {
	disk := fill(t, 8192, 20)
	none := func(int64, int64) {}
	if _, err := Copy(t.Context(), disk, path, "/d/copy.edb", false, none); err != nil {
		t.Fatal(err)
	}
	if _, err := Copy(t.Context(), disk, path, "/d/copy.edb", false, none); err == nil {
		t.Error("a file was overwritten")
	}
	a, _ := disk.Stat(path)
	if b, err := disk.Stat("/d/copy.edb"); err != nil || a != b {
		t.Errorf("%d bytes of %d: %v", b, a, err)
	}
}
