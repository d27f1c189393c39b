package wal

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pillarbox/ese/internal/logrec"
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
			_, _, err := l.AppendChange(int64(n+64), 0, 16, make([]byte, n))
			if errors.Is(err, ErrFull) {
				break
			}
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			due = append(due, n)
			if len(due) > 3 && rng.IntN(3) == 0 { // something else commits
				if _, _, err := l.AppendReserved(int64(due[0]+64), 0, 18, make([]byte, 20)); err != nil {
					t.Fatalf("seed %d: commit: %v", seed, err)
				}
				due = due[1:]
			}
		}
		for i := len(due) - 1; i >= 0; i-- {
			if _, _, err := l.AppendReserved(int64(due[i]+64), 0, 16, make([]byte, due[i])); err != nil {
				t.Fatalf("seed %d: compensation %d of %d: %v", seed, i, len(due), err)
			}
		}
		if _, _, err := l.AppendReserved(0, 0, 21, nil); err != nil {
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
		if _, _, err := l.AppendChange(4000, 0, 16, make([]byte, 3900)); err != nil {
			t.Fatal(err)
		}
		reserved += 4000
	}
	if room := int64(l.reserves) * l.fileRoom(); l.reserves < 10 || room < reserved-2*l.o.GenerationBytes {
		t.Fatalf("%d reserve files for %d bytes", l.reserves, reserved)
	}
	if _, _, err := l.AppendReserved(reserved, 0, 18, nil); err != nil {
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
	if _, _, err := l.AppendReserved(0, 0, 16, nil); err != nil {
		t.Errorf("reserved append: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestSetAside sets log aside for what an earlier run has logged: it is there on a full disk, and more
// than there is space for is refused.
func TestSetAside(t *testing.T) {
	disk := vfs.NewMem()
	l := mustCreate(t, testOptions(disk, 1))
	const n = 200_000
	before := l.reserved
	if err := l.SetAside(n); err != nil {
		t.Fatal(err)
	}
	disk.SetCapacity(disk.Used())
	if err := l.SetAside(100 * n); !errors.Is(err, ErrFull) {
		t.Fatalf("set aside what is not there: %v", err)
	}
	for left := n; left > 0; left -= 4000 {
		if _, _, err := l.AppendReserved(0, 0, 16, make([]byte, 3900)); err != nil {
			t.Fatalf("with %d bytes left: %v", left, err)
		}
	}
	l.GiveBack(n)
	if l.reserved != before {
		t.Errorf("%d bytes are set aside, %d were", l.reserved, before)
	}
	mustFlush(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestEach reads the closed generations while the log goes on.
func TestEach(t *testing.T) {
	disk := vfs.NewMem()
	l := mustCreate(t, testOptions(disk, 1))
	var want []logrec.LogPos
	for i := range 300 {
		pos, _, err := l.Append(16, []byte{byte(i)}, make([]byte, 900))
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, pos)
	}
	if err := l.Roll(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.Append(16, []byte("in the current one")); err != nil {
		t.Fatal(err)
	}
	from := want[100].Generation()
	want = slices.DeleteFunc(want, func(p logrec.LogPos) bool { return p.Generation() < from })
	var got []logrec.LogPos
	err := l.Each(from, func(r Record) error {
		if r.Type != 16 || len(r.Payload) != 901 || r.End <= r.Pos {
			t.Fatalf("%+v", r)
		}
		got = append(got, r.Pos)
		return nil
	})
	if err != nil || !slices.Equal(got, want) || from < 2 {
		t.Fatalf("from %d: %d records, not %d: %v", from, len(got), len(want), err)
	}
	if err := l.Each(from, func(Record) error { return io.EOF }); !errors.Is(err, io.EOF) {
		t.Errorf("its error: %v", err)
	}
	f, err := disk.OpenFile(filepath.Join(testDir, NumberedName(l.o.Base, from)), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("damage"), want[5].Offset()+30); err != nil {
		t.Fatal(err)
	}
	err = l.Each(from, func(Record) error { return nil })
	if !errors.Is(err, logrec.ErrLogCorrupt) {
		t.Errorf("damaged: %v", err)
	}
	if err := errors.Join(f.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
}
