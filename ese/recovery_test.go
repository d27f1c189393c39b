package ese_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
	"pillarbox/ese/vfs"
)

// crashed makes a group, commits n rows one by one, lazily, and returns the disk as a kill left
// it, with the ends of the commits.
func crashed(t *testing.T, o ese.Options, n, size int) (disk *vfs.Mem, ends []ese.LogPos) {
	t.Helper()
	disk = vfs.NewMem()
	o.FS, o.Manual = disk, true
	in, tb := groupWithRows(t, o, "a.edb", 0)
	for i := range n {
		tx := in.Begin()
		must(t, tx.Insert(tb.NewRow().Set(col(t, tb, "ID"), ese.Int(i)).Set(col(t, tb, "Photo"), ese.Bytes(make([]byte, size)))))
		pos, err := tx.CommitLazy()
		must(t, err)
		ends = append(ends, pos)
		if i%16 == 0 {
			must(t, in.Step(2))
		}
	}
	must(t, in.WaitDurable(ends[n-1]))
	must(t, in.Kill())
	return disk, ends
}

// rowIDs returns how many of the rows 0, 1, 2, ... are there, which must be without a gap.
func rowIDs(t *testing.T, in *ese.Instance) int {
	t.Helper()
	db, err := in.OpenDatabase("a.edb")
	must(t, err)
	tb, err := db.Table("People")
	must(t, err)
	n := 0
	must(t, in.View(func(tx *ese.Tx) error {
		c := tx.Cursor(tb.Primary())
		ok, err := c.First()
		for ; ok && err == nil; ok, err = c.Next() {
			if id := c.Row().Int(col(t, tb, "ID")); id != int64(n) {
				return fmt.Errorf("row %d after %d rows", id, n)
			}
			n++
		}
		return err
	}))
	return n
}

// TestLogTailCut loses the log from every byte of its tail on: every commit before that byte
// is there, and none behind it.
func TestLogTailCut(t *testing.T) {
	o := ese.Options{Dir: "/d", GenerationBytes: 64 << 10, CacheBytes: 1 << 20}
	disk, ends := crashed(t, o, 40, 10)
	last := ends[len(ends)-1]
	from := last.Offset() - 900
	for cut := from; cut <= last.Offset(); cut++ {
		d := disk.CrashClone(rand.New(rand.NewPCG(1, 1)))
		f := dbFile(t, d, "/d/E00.log")
		size, err := f.Size()
		must(t, err)
		_, err = f.WriteAt(make([]byte, size-cut), cut)
		must(t, err)
		o := o
		o.FS, o.Manual = d, true
		in, err := ese.Open(o)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		want := 0
		for _, end := range ends {
			if end.Generation() < last.Generation() || end.Offset() <= cut {
				want++
			}
		}
		got := rowIDs(t, in)
		if got != want {
			t.Fatalf("cut at %d: %d commits, want %d", cut, got, want)
		}
		must(t, in.Kill())
	}
}

// TestLogErrors shows that each kind of harm to the log has its error, and that nothing is
// opened.
func TestLogErrors(t *testing.T) {
	o := ese.Options{Dir: "/d", GenerationBytes: 64 << 10, CacheBytes: 1 << 20, CheckpointDepth: 1 << 30}
	disk, ends := crashed(t, o, 400, 700)
	other, _ := crashed(t, o, 400, 700)
	top := ends[len(ends)-1].Generation()
	if top < 5 {
		t.Fatalf("only %d generations", top)
	}
	name := func(g uint32) string { return fmt.Sprintf("/d/E00%08X.log", g) }
	whole := func(d *vfs.Mem, name string) []byte {
		f := dbFile(t, d, name)
		size, err := f.Size()
		must(t, err)
		b := make([]byte, size)
		_, err = f.ReadAt(b, 0)
		must(t, err)
		return b
	}
	flip := func(at int64) func(d *vfs.Mem) {
		return func(d *vfs.Mem) {
			b := whole(d, name(2))[at : at+1]
			b[0] ^= 1
			_, err := dbFile(t, d, name(2)).WriteAt(b, at)
			must(t, err)
		}
	}
	for _, c := range []struct {
		name string
		harm func(d *vfs.Mem)
		want error
	}{
		{"a generation in the middle is missing", func(d *vfs.Mem) { must(t, d.Remove(name(3))) }, ese.ErrMissingLog},
		{"the first is missing", func(d *vfs.Mem) { must(t, d.Remove(name(1))) }, ese.ErrMissingLog},
		{"a foreign one", func(d *vfs.Mem) {
			_, err := dbFile(t, d, name(3)).WriteAt(whole(other, name(3)), 0)
			must(t, err)
		}, ese.ErrLogSignature},
		{"two in the wrong order", func(d *vfs.Mem) {
			must(t, d.Rename(name(2), "/d/x"))
			must(t, d.Rename(name(3), name(2)))
			must(t, d.Rename("/d/x", name(3)))
		}, ese.ErrLogCorrupt},
		{"one twice", func(d *vfs.Mem) {
			_, err := dbFile(t, d, "/d/E00.log").WriteAt(whole(d, name(top-2)), 0)
			must(t, err)
		}, ese.ErrLogSequence},
		{"cut short", func(d *vfs.Mem) { must(t, dbFile(t, d, name(2)).Truncate(30_000)) }, ese.ErrLogCorrupt},
		{"empty", func(d *vfs.Mem) { must(t, dbFile(t, d, name(2)).Truncate(0)) }, ese.ErrLogCorrupt},
		{"a bit of a header", flip(50), ese.ErrLogCorrupt},
		{"a bit of a record", flip(9000), ese.ErrLogCorrupt},
		{"the current log is missing", func(d *vfs.Mem) { must(t, d.Remove("/d/E00.log")) }, ese.ErrMissingLog},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := disk.CrashClone(rand.New(rand.NewPCG(1, 1)))
			c.harm(d)
			o := o
			o.FS, o.Manual = d, true
			in, err := ese.Open(o)
			if err == nil {
				got := rowIDs(t, in)
				_ = in.Kill()
				t.Fatalf("it opens, with %d commits of %d", got, len(ends))
			}
			if !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			t.Log(err)
		})
	}
}

// TestParallelRedo recovers one disk in order and with several goroutines: the rows are the
// same, and so are the counts.
func TestParallelRedo(t *testing.T) {
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 9))
		o := ese.Options{
			Dir: "/d", GenerationBytes: 256 << 10, CheckpointDepth: 1 << 30,
			CacheBytes: []int64{16 * 8192, 2 << 20, 200 << 20}[seed%3],
		}
		disk, _ := crashed(t, o, 1500, rng.IntN(900))
		base := disk.CrashClone(rng)
		var stats [2]ese.RecoveryStats
		for i, manual := range []bool{true, false} {
			d := base.CrashClone(rng)
			o := o
			o.FS, o.Manual = d, manual
			in, err := ese.Open(o)
			if err != nil {
				t.Fatalf("seed %d, manual %v: %v", seed, manual, err)
			}
			stats[i] = in.Recovery()
			if n := rowIDs(t, in); n != 1500 {
				t.Errorf("seed %d, manual %v: %d rows", seed, manual, n)
			}
			must(t, in.Update(context.Background(), func(*ese.Tx) error { return nil }))
			must(t, in.Close())
			esetest.Check(t, d, "/d/a.edb")
		}
		if stats[0].Applied != stats[1].Applied || stats[0].Skipped != stats[1].Skipped {
			t.Errorf("seed %d: %+v and %+v", seed, stats[0], stats[1])
		}
	}
}
