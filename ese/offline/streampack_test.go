package offline

import (
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
	"pillarbox/ese/internal/dbheader"
	"pillarbox/ese/vfs"
)

// streams reads all streams through the engine.
func streams(t *testing.T, disk vfs.FS, size int) map[ese.StreamID]string {
	t.Helper()
	in, db := open(t, disk, size)
	out := make(map[ese.StreamID]string)
	err := in.View(func(tx *ese.Tx) error {
		ids, err := tx.Streams(db, 0, 1<<20)
		for _, id := range ids {
			if err != nil {
				return err
			}
			var r *ese.StreamReader
			if r, err = tx.OpenStream(db, id); err != nil {
				return err
			}
			var b []byte
			b, err = io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
			err = errors.Join(err, r.Close())
			out[id] = string(b)
		}
		return err
	})
	if err := errors.Join(err, in.Close()); err != nil {
		t.Fatal(err)
	}
	return out
}

// gappy is a database whose stream file has gaps: every second stream was deleted.
func gappy(t *testing.T) *vfs.Mem {
	t.Helper()
	disk := fill(t, 4096, 100)
	in, db := open(t, disk, 4096)
	rng := rand.New(rand.NewPCG(5, 5))
	var ids []ese.StreamID
	for i := range 60 {
		err := in.Update(t.Context(), func(tx *ese.Tx) error {
			n := rng.IntN(300_000)
			if i%10 == 0 {
				n = 5 << 20 // more than a region
			}
			b := make([]byte, n)
			for k := range b {
				b[k] = byte(rng.Uint32())
			}
			id, err := tx.WriteStream(db, b)
			ids = append(ids, id)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	err := in.Update(t.Context(), func(tx *ese.Tx) error {
		for i := 0; i < len(ids); i += 2 {
			if i%20 != 0 || i == 0 {
				if err := tx.DeleteStream(db, ids[i]); err != nil {
					return err
				}
			}
		}
		return nil
	})
	for range 50 {
		for n := range ese.Steps {
			if err == nil {
				err = in.Step(n)
			}
		}
	}
	if err := errors.Join(err, in.Close()); err != nil {
		t.Fatal(err)
	}
	return disk
}

// Defragmentation takes the gaps out of the stream file too; every stream is what it was, new ones
// find their place, and a second time there is nothing to gain.
func TestDefragmentStreams(t *testing.T) {
	disk := gappy(t)
	want, before := streams(t, disk, 4096), rows(t, disk)
	res, err := Defragment(t.Context(), RebuildOptions{FS: disk, Path: path})
	if err != nil {
		t.Fatal(err)
	}
	used := int64(0)
	for _, b := range want {
		used += int64(len(b))
	}
	if res.StreamAfter >= res.StreamBefore || res.StreamAfter > used*11/10+1<<20 {
		t.Errorf("%d bytes became %d, for streams of %d", res.StreamBefore, res.StreamAfter, used)
	}
	if exists(disk, stm+dbheader.NewStreamSuffix) {
		t.Error("the new file still waits")
	}
	delete(before, streamTable)
	delete(before, spaceTable)
	compare(t, before, rows(t, disk))
	same := func(have map[ese.StreamID]string) {
		t.Helper()
		for id, b := range want {
			if have[id] != b {
				t.Errorf("stream %d of %d bytes is another", id, len(b))
			}
		}
	}
	same(streams(t, disk, 4096))
	in, db := open(t, disk, 4096)
	err = in.Update(t.Context(), func(tx *ese.Tx) error {
		for i := range 40 {
			if _, err := tx.WriteStream(db, make([]byte, 10_000*i)); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, in.Close()); err != nil {
		t.Fatal(err)
	}
	same(streams(t, disk, 4096))
	sound(t, disk, 4096)
	if res, err = Defragment(t.Context(), RebuildOptions{FS: disk, Path: path}); err != nil {
		t.Fatal(err)
	}
	if res.StreamAfter != res.StreamBefore {
		t.Errorf("again: %d bytes became %d", res.StreamBefore, res.StreamAfter)
	}
	same(streams(t, disk, 4096))
}

// Cut at any write, sync or rename, database and stream file belong together at the next opening,
// also that of a repair or another defragmentation.
func TestDefragmentStreamsCrash(t *testing.T) {
	disk := gappy(t)
	want, before := streams(t, disk, 4096), rows(t, disk)
	delete(before, streamTable)
	delete(before, spaceTable)
	waited := 0
	const many = 1 << 30
	all := &esetest.CrashDisk{Mem: disk.CrashClone(rand.New(rand.NewPCG(1, 1))), Left: many}
	if _, err := Defragment(t.Context(), RebuildOptions{FS: all, Path: path}); err != nil {
		t.Fatal(err)
	}
	events := many - all.Left
	for seed := range *cuts {
		rng := rand.New(rand.NewPCG(seed, 3))
		d := &esetest.CrashDisk{Mem: disk.CrashClone(rng), Rand: rng, Left: 1 + rng.IntN(events)}
		if seed < 14 {
			d.Left = events - int(seed) // the renames are last
		}
		if _, err := Defragment(t.Context(), RebuildOptions{FS: d, Path: path}); err != nil {
			t.Fatal(err)
		}
		cut := d.Cut
		if cut == nil {
			cut = d.CrashClone(rng)
		}
		if exists(cut, stm+dbheader.NewStreamSuffix) {
			waited++
		}
		if seed%3 == 0 {
			if _, err := Defragment(t.Context(), RebuildOptions{FS: cut, Path: path}); err != nil {
				t.Fatal(err)
			}
		}
		have := streams(t, cut, 4096)
		for id, b := range want {
			if have[id] != b {
				t.Fatalf("seed %d: stream %d is another", seed, id)
			}
		}
		compare(t, before, rows(t, cut))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if waited == 0 {
		t.Error("no cut left a new stream file: this proves nothing")
	}
}
