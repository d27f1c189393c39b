package ese_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
	"pillarbox/ese/vfs"
)

// writeA adds numbers to the first database alone, in transactions of one row.
func (b *twoBooks) writeA(t *testing.T, from, n int64) {
	t.Helper()
	_, ta, ca, err := numbers(b.in, "a.edb")
	must(t, err)
	for i := range n {
		must(t, b.in.Update(t.Context(), func(tx *ese.Tx) error {
			return tx.Insert(ta.NewRow().Set(ca, ese.Int(from+i)))
		}))
		if b.rng.IntN(2) == 0 {
			must(t, b.in.Step(b.rng.IntN(ese.Steps)))
		}
	}
}

// copyDisk copies a file from one memory disk to another.
func copyDisk(t *testing.T, to, from *vfs.Mem, dst, src string) {
	t.Helper()
	f := dbFile(t, from, src)
	size, err := f.Size()
	must(t, err)
	buf := make([]byte, size)
	_, err = f.ReadAt(buf, 0)
	if !errors.Is(err, io.EOF) {
		must(t, err)
	}
	g, err := to.OpenFile(dst, 0x42, 0o600)
	must(t, err)
	_, err = g.WriteAt(buf, 0)
	must(t, errors.Join(err, g.SyncData(), g.Close(), to.SyncDir("/data")))
}

var lostFiles = []string{"/data/b.edb", "/data/b.stm", "/data/b.dw", "/data/b.jfm"}

// restoreWithout makes a backup while a database is lost, and restores it.
func restoreWithout(t *testing.T, b *twoBooks, mem *vfs.Mem, dir string) {
	t.Helper()
	info, err := b.in.Backup(t.Context(), ese.BackupOptions{
		Kind: ese.BackupCopy, Sink: folderSink{mem, dir + "/set"},
	})
	must(t, err)
	o := ese.Options{Dir: dir, FS: mem, CacheBytes: 256 << 10}
	_, err = ese.Restore(t.Context(), ese.RestoreOptions{
		Info: *info, Set: dir + "/set", Options: o,
	})
	must(t, err)
	esetest.Check(t, mem, dir+"/a.edb")
}

// TestLostDatabase loses one database of two in a crash, with a transaction open in both. The other
// goes on, over crashes and clean ends, and a third one comes and goes. Then the file is there again,
// or comes from the backup: it has what was committed in it, and nothing of what was open.
func TestLostDatabase(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { lostDatabase(t, seed) })
	}
}

func lostDatabase(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 78))
	mem := vfs.NewMem()
	b := &twoBooks{rng: rng}
	open := func() {
		t.Helper()
		o := twoOptions(mem, rng)
		o.LogKeep, o.IgnoreMissing = 64<<10, true
		in, err := ese.Open(o)
		must(t, err)
		b.in = in
	}
	crash := func() {
		mem = mem.CrashClone(rng)
		_ = b.in.Kill()
	}
	open()
	must(t, b.write(1+rng.IntN(60)))
	info, err := b.in.Backup(t.Context(), ese.BackupOptions{
		Kind: ese.BackupFull, Sink: folderSink{mem, "/set"},
	})
	must(t, err)
	must(t, b.write(rng.IntN(200)))
	must(t, b.open())
	crash()
	was := mem.CrashClone(rng)
	for _, name := range lostFiles {
		if err := mem.Remove(name); err != nil && name != "/data/b.jfm" {
			t.Fatal(err)
		}
	}
	must(t, mem.SyncDir("/data"))
	o := twoOptions(mem, rng)
	if _, err := ese.Open(o); err == nil {
		t.Fatal("opened without the database, and nobody said that it may")
	}
	more := int64(10_000)
	for range 1 + rng.IntN(3) {
		open()
		if !slices.Equal(b.in.Lost(), []string{"b.edb"}) {
			t.Fatalf("lost: %v", b.in.Lost())
		}
		if _, err := b.in.OpenDatabase("b.edb"); !errors.Is(err, ese.ErrDatabaseLost) {
			t.Fatalf("opened: %v", err)
		}
		n := int64(rng.IntN(300))
		b.writeA(t, more, n)
		more += n
		_, _, _, err := numbers(b.in, "c.edb")
		must(t, err)
		if rng.IntN(3) == 0 {
			restoreWithout(t, b, mem, fmt.Sprint("/w", more))
		}
		if rng.IntN(2) == 0 {
			crash()
		} else {
			must(t, b.in.Close())
		}
	}
	way := rng.IntN(2)
	if way == 0 {
		for _, name := range lostFiles[:3] {
			copyDisk(t, mem, was, name, name)
		}
	} else {
		file, plan, err := ese.RestoreDatabase(t.Context(), ese.RestoreOptions{
			Info: *info, Set: "/set", Logs: []string{"/data"},
			Options: ese.Options{Dir: "/scratch", FS: mem, CacheBytes: 256 << 10},
		}, "b.edb")
		must(t, err)
		if plan.Forks || file != "/scratch/b.edb" {
			t.Fatalf("%s, %+v", file, plan)
		}
		for _, name := range []string{"b.edb", "b.stm"} {
			must(t, mem.Rename("/scratch/"+name, "/data/"+name))
		}
		must(t, mem.SyncDir("/data"))
	}
	for i := range 2 {
		open()
		_, tb, _, err := numbers(b.in, "b.edb")
		must(t, err)
		if n := int64(countNumbers(t, b.in, tb)); n != b.committed {
			t.Fatalf("b.edb has %d rows, not %d", n, b.committed)
		}
		_, ta, _, err := numbers(b.in, "a.edb")
		must(t, err)
		if n := int64(countNumbers(t, b.in, ta)); n != b.committed+more-10_000 {
			t.Fatalf("a.edb has %d rows, not %d", n, b.committed+more-10_000)
		}
		if len(b.in.Lost()) > 0 {
			t.Fatalf("still lost: %v", b.in.Lost())
		}
		if i == 0 {
			crash()
		}
	}
	must(t, b.in.Close())
	for _, name := range []string{"a.edb", "b.edb", "c.edb"} {
		esetest.Check(t, mem, "/data/"+name)
	}
}
