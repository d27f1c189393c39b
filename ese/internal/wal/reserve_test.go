package wal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"pillarbox/ese/vfs"
)

// TestReserve shows that whatever was set aside can be written when the disk is full: in the
// current file, the prepared one, and the reserve files.
func TestReserve(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 5))
		disk := vfs.NewMem()
		o := testOptions(disk, seed)
		now := time.Unix(1_700_000_000, 0)
		o.Now = func() time.Time { now = now.Add(time.Second); return now }
		l := mustCreate(t, o)
		var due []int // sizes of the compensations to come
		for i := 0; ; i++ {
			if i == 30 {
				disk.SetCapacity(disk.Used() + rng.Int64N(300<<10))
			}
			if rng.IntN(8) == 0 {
				mustFlush(t, l)
			}
			if rng.IntN(8) == 0 {
				_, _ = l.Prepare()
			}
			n := rng.IntN(3000)
			_, _, err := l.AppendChange(int64(n+64), 16, make([]byte, n))
			if errors.Is(err, ErrFull) {
				break
			}
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			due = append(due, n)
			if len(due) > 3 && rng.IntN(3) == 0 { // something else commits
				if _, _, err := l.AppendReserved(int64(due[0]+64), 18, make([]byte, 20)); err != nil {
					t.Fatalf("seed %d: commit: %v", seed, err)
				}
				due = due[1:]
			}
		}
		for i := len(due) - 1; i >= 0; i-- {
			if _, _, err := l.AppendReserved(int64(due[i]+64), 16, make([]byte, due[i])); err != nil {
				t.Fatalf("seed %d: compensation %d of %d: %v", seed, i, len(due), err)
			}
		}
		if _, _, err := l.AppendReserved(0, 21, nil); err != nil {
			t.Fatalf("seed %d: the last record: %v", seed, err)
		}
		if err := l.Close(); err != nil {
			t.Fatalf("seed %d: close: %v", seed, err)
		}
		disk.SetCapacity(0)
		if recs, _, err := readAll(disk, 0); err != nil || len(recs) == 0 || recs[len(recs)-1].Type != 21 {
			t.Fatalf("seed %d: %d records: %v", seed, len(recs), err)
		}
		l, _ = reopen(t, o)
		for range 10 {
			if _, err := l.Prepare(); err != nil {
				t.Fatal(err)
			}
		}
		if l.reserves != minReserves {
			t.Errorf("seed %d: %d reserve files with space again", seed, l.reserves)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReserveGrows shows that a large transaction gets reserve files of its own, and that they
// go with it.
func TestReserveGrows(t *testing.T) {
	disk := vfs.NewMem()
	l := mustCreate(t, testOptions(disk, 1))
	reserved := int64(0)
	for range 200 {
		if _, _, err := l.AppendChange(4000, 16, make([]byte, 3900)); err != nil {
			t.Fatal(err)
		}
		reserved += 4000
	}
	if room := int64(l.reserves) * l.fileRoom(); l.reserves < 10 || room < reserved-2*l.o.GenerationBytes {
		t.Fatalf("%d reserve files for %d bytes", l.reserves, reserved)
	}
	if _, _, err := l.AppendReserved(reserved, 18, nil); err != nil {
		t.Fatal(err)
	}
	mustFlush(t, l)
	for did := true; did; {
		var err error
		if did, err = l.Prepare(); err != nil {
			t.Fatal(err)
		}
	}
	if l.reserves != minReserves {
		t.Errorf("%d reserve files are left", l.reserves)
	}
	for i := range 40 {
		_, err := disk.Stat(fmt.Sprintf("%s/%s", testDir, l.files.reserve(i)))
		if there := err == nil; there != (i == 1 || i == 2) {
			t.Errorf("reserve file %d: there is %v", i, there)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestRefuse shows that a log that refuses still takes what space was set aside for.
func TestRefuse(t *testing.T) {
	l := mustCreate(t, testOptions(vfs.NewMem(), 1))
	no := errors.New("no more")
	l.Refuse(no)
	if _, _, err := l.Append(16, nil); !errors.Is(err, no) {
		t.Errorf("append: %v", err)
	}
	if _, _, err := l.AppendReserved(0, 16, nil); err != nil {
		t.Errorf("reserved append: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
