package offline_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"pillarbox/ese"
	"pillarbox/ese/offline"
	"pillarbox/ese/vfs"
)

// dirtyGroup is a storage group that was killed, of many small log files, with a transaction open.
func dirtyGroup(t *testing.T, seed uint64) *vfs.Mem {
	t.Helper()
	disk := vfs.NewMem()
	rng := rand.New(rand.NewPCG(seed, 4))
	in, err := ese.Open(ese.Options{
		Dir: "/g", FS: disk, GenerationBytes: 64 << 10, Manual: true, CheckpointDepth: 256 << 10,
		CacheBytes: 1 << 20,
	})
	check(t, err)
	db, err := in.OpenDatabase("a.edb")
	check(t, err)
	var tb *ese.Table
	check(t, in.Update(t.Context(), func(tx *ese.Tx) (err error) {
		tb, err = tx.CreateTable(db, ese.TableDef{
			Name: "T", Columns: []ese.ColumnDef{{Name: "n", Type: ese.LongLong}, {Name: "b", Type: ese.LongBinary}},
			Indexes: []ese.IndexDef{{Name: "pk", Primary: true, Columns: []ese.IndexColumn{{Name: "n"}}}},
		})
		return err
	}))
	n, err := tb.Column("n")
	check(t, err)
	b, err := tb.Column("b")
	check(t, err)
	row := func(tx *ese.Tx, i int) error {
		_, err := tx.WriteStream(db, make([]byte, rng.IntN(3000)))
		r := tb.NewRow().Set(n, ese.Int(i)).Set(b, ese.Bytes(make([]byte, rng.IntN(3000))))
		return errors.Join(err, tx.Insert(r))
	}
	for i := range 120 {
		check(t, in.Update(t.Context(), func(tx *ese.Tx) error { return row(tx, i) }))
		check(t, in.Step(5))
		if rng.IntN(8) == 0 {
			check(t, in.Step(rng.IntN(5)))
		}
	}
	check(t, row(in.Begin(), 1000))
	check(t, in.WaitDurable(in.Durable()))
	check(t, in.Kill())
	return disk
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// content is every file of the group.
func content(t *testing.T, disk *vfs.Mem) map[string]string {
	t.Helper()
	names, err := disk.ReadDir("/g")
	check(t, err)
	all := make(map[string]string)
	for _, n := range names {
		f, err := disk.OpenFile("/g/"+n, os.O_RDONLY, 0)
		check(t, err)
		size, err := f.Size()
		check(t, err)
		b := make([]byte, size)
		if _, err := f.ReadAt(b, 0); !errors.Is(err, io.EOF) {
			check(t, err)
		}
		check(t, f.Close())
		all[n] = string(b)
	}
	return all
}

// TestTry tries recoveries of a group: nothing changes, the end of the log that was asked for is
// reached, and the recovery itself does then what was said.
func TestTry(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			disk := dirtyGroup(t, seed)
			before := content(t, disk)
			o := offline.RecoverOptions{FS: disk, Base: "E00", LogDir: "/g"}
			all, err := offline.Try(o, 0)
			check(t, err)
			last := all.To.Generation()
			reached := 0
			for gen := last; gen > 0; gen-- {
				got, err := offline.Try(o, gen)
				if err != nil {
					if !strings.Contains(err.Error(), "needs the log up to generation") &&
						!errors.Is(err, ese.ErrMissingLog) {
						t.Fatalf("generation %d: %v", gen, err)
					}
					continue
				}
				reached++
				if got.To.Generation() != gen && gen != last || got.To > all.To ||
					got.LastCommit.After(all.LastCommit) {
					t.Errorf("generation %d: %+v, all %+v", gen, got, all)
				}
			}
			if reached == 0 {
				t.Error("no generation could be tried")
			}
			if _, err := offline.Try(o, last+5); !errors.Is(err, ese.ErrMissingLog) {
				t.Errorf("a generation that is not there: %v", err)
			}
			after := content(t, disk)
			for n, b := range before {
				if after[n] != b {
					t.Errorf("%s has changed", n)
				}
			}
			for n := range after {
				if _, ok := before[n]; !ok {
					t.Errorf("%s is new", n)
				}
			}
			stats, _, err := offline.Recover(o)
			check(t, err)
			if stats.Applied != all.Applied || stats.Undone != all.Undone || stats.To != all.To ||
				all.Undone != 1 {
				t.Errorf("recovered %+v, tried %+v", stats, all.RecoveryStats)
			}
		})
	}
}

// Nobody tries a group that another one has, nor touches his scratch file; what a killed one left goes
// with the next.
func TestTryAlone(t *testing.T) {
	disk := dirtyGroup(t, 1)
	o := offline.RecoverOptions{FS: disk, Base: "E00", LogDir: "/g"}
	const scratch = "/g/E00trial.tmp"
	f, err := disk.OpenFile(scratch, os.O_RDWR|os.O_CREATE, 0o600)
	check(t, err)
	_, err = f.WriteAt(make([]byte, 12345), 0)
	check(t, errors.Join(err, f.Close()))
	lock, err := disk.Lock("/g/E00.lock")
	check(t, err)
	if _, err := offline.Try(o, 0); !errors.Is(err, ese.ErrLocked) {
		t.Errorf("tried a group that another one has: %v", err)
	}
	if n, err := disk.Stat(scratch); err != nil || n != 12345 {
		t.Errorf("the other's scratch file: %d bytes, %v", n, err)
	}
	check(t, lock.Close())
	_, err = offline.Try(o, 0)
	check(t, err)
	if _, err := disk.Stat(scratch); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the scratch file: %v", err)
	}
}
