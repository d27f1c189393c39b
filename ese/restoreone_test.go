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

// twoBooks is a storage group of two databases that are written together.
type twoBooks struct {
	in        *ese.Instance
	rng       *rand.Rand
	committed int64
}

func twoOptions(fs vfs.FS, rng *rand.Rand) ese.Options {
	return ese.Options{
		Dir: "/data", FS: fs, Manual: true, GenerationBytes: 64 << 10, CacheBytes: 256 << 10,
		CheckpointDepth: 64 << 10, Rand: rng.Uint32,
	}
}

// write adds the next number to both databases at once, n times, with steps between.
func (b *twoBooks) write(n int) error {
	_, ta, ca, err := numbers(b.in, "a.edb")
	if err != nil {
		return err
	}
	_, tb, cb, err := numbers(b.in, "b.edb")
	if err != nil {
		return err
	}
	for range n {
		err := b.in.Update(context.Background(), func(tx *ese.Tx) error {
			err := tx.Insert(ta.NewRow().Set(ca, ese.Int(b.committed)))
			return errors.Join(err, tx.Insert(tb.NewRow().Set(cb, ese.Int(b.committed))))
		})
		if err != nil {
			return err
		}
		b.committed++
		if b.rng.IntN(3) == 0 {
			if err := b.in.Step(b.rng.IntN(ese.Steps)); err != nil {
				return err
			}
		}
	}
	return nil
}

// open leaves a transaction with changes of both open, in the log on disk.
func (b *twoBooks) open() error {
	_, ta, ca, err := numbers(b.in, "a.edb")
	if err != nil {
		return err
	}
	_, tb, cb, err := numbers(b.in, "b.edb")
	if err != nil {
		return err
	}
	tx := b.in.Begin()
	for i := range int64(5) {
		err := tx.Insert(ta.NewRow().Set(ca, ese.Int(1000+i)))
		err = errors.Join(err, tx.Insert(tb.NewRow().Set(cb, ese.Int(1000+i))))
		if err != nil {
			return err
		}
	}
	return b.write(1)
}

// check compares both databases with what was committed.
func (b *twoBooks) check(t *testing.T) {
	t.Helper()
	for _, name := range []string{"a.edb", "b.edb"} {
		_, tb, _, err := numbers(b.in, name)
		if err != nil {
			t.Fatal(err)
		}
		if n := int64(countNumbers(t, b.in, tb)); n != b.committed {
			t.Fatalf("%s has %d rows, not %d", name, n, b.committed)
		}
	}
}

// A database is lost in a crash, with a transaction open in both. It is brought back from the backup
// to the end of the log; the other one never knew. Another crash at once afterwards, whatever the
// checkpoint was, changes nothing.
func TestRestoreDatabase(t *testing.T) {
	for seed := range uint64(16) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { restoreOne(t, seed) })
	}
}

func restoreOne(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 77))
	mem := vfs.NewMem()
	open := func() *ese.Instance {
		t.Helper()
		in, err := ese.Open(twoOptions(mem, rng))
		if err != nil {
			t.Fatal(err)
		}
		return in
	}
	crash := func(in *ese.Instance) {
		mem = mem.CrashClone(rng)
		_ = in.Kill()
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	b := &twoBooks{in: open(), rng: rng}
	must(b.write(1 + rng.IntN(60)))
	info, err := b.in.Backup(t.Context(), ese.BackupOptions{
		Kind: ese.BackupFull, Sink: folderSink{mem, "/set"},
	})
	must(err)
	if seed%4 != 0 { // else idle since, with the checkpoint at the end of the log
		must(b.write(rng.IntN(200)))
		must(b.open())
	}
	crash(b.in)

	file, plan, err := ese.RestoreDatabase(t.Context(), ese.RestoreOptions{
		Info: *info, Set: "/set", Logs: []string{"/data"},
		Options: ese.Options{Dir: "/scratch", FS: mem, CacheBytes: 256 << 10},
	}, "b.edb")
	must(err)
	if plan.Forks || file != "/scratch/b.edb" {
		t.Fatalf("%s, %+v", file, plan)
	}
	_ = mem.Remove("/data/b.dw")
	_ = mem.Remove("/data/b.jfm")
	must(mem.Rename("/scratch/b.stm", "/data/b.stm"))
	must(mem.Rename(file, "/data/b.edb"))
	must(mem.SyncDir("/data"))

	b.in = open()
	b.check(t)
	must(b.write(rng.IntN(3)))
	crash(b.in)
	b.in = open()
	b.check(t)
	must(b.write(rng.IntN(100)))
	// Incremental ones lead on from the full one of before.
	inc, err := b.in.Backup(t.Context(), ese.BackupOptions{
		Kind: ese.BackupIncremental, Sink: folderSink{mem, "/inc"},
	})
	must(err)
	if inc.Low != info.High+1 {
		t.Fatalf("the incremental backup begins with %d, the full one ends with %d", inc.Low, info.High)
	}
	crash(b.in)
	b.in = open()
	b.check(t)
	must(b.in.Close())
	esetest.Check(t, mem, "/data/a.edb")
	esetest.Check(t, mem, "/data/b.edb")
}
