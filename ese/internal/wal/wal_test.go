package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/vfs"
)

const testDir = "/log"

func testOptions(fsys vfs.FS, seed uint64) Options {
	rng := rand.New(rand.NewPCG(seed, 1))
	var mu sync.Mutex
	return Options{
		FS: fsys, Dir: testDir, Base: "E00", GenerationBytes: 64 << 10, BufferBytes: 64 << 10,
		Manual: true,
		Now:    func() time.Time { return time.Unix(1_700_000_000, 0) },
		Rand: func() uint32 {
			mu.Lock()
			defer mu.Unlock()
			return rng.Uint32()
		},
	}
}

func mustCreate(t testing.TB, o Options) *Log {
	t.Helper()
	l, err := Create(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// reopen reads the stream to its end and opens it there.
func reopen(t testing.TB, o Options) (*Log, []Record) {
	t.Helper()
	recs, end, err := readAll(o.FS, 0)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(o, end)
	if err != nil {
		t.Fatal(err)
	}
	return l, recs
}

func readAll(fsys vfs.FS, from logrec.LogPos) ([]Record, End, error) {
	r, err := NewReader(fsys, testDir, "E00", from, ReaderOptions{})
	if err != nil {
		return nil, End{}, err
	}
	var out []Record
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out, r.End(), nil
		}
		if err != nil {
			return out, End{}, err
		}
		rec.Payload = bytes.Clone(rec.Payload)
		out = append(out, rec)
	}
}

func mustAppend(t testing.TB, l *Log, typ logrec.Type, parts ...[]byte) Record {
	t.Helper()
	start, end, err := l.Append(typ, parts...)
	if err != nil {
		t.Fatal(err)
	}
	return Record{Type: typ, Pos: start, End: end, Payload: bytes.Join(parts, nil)}
}

func mustFlush(t testing.TB, l *Log) {
	t.Helper()
	if err := l.FlushTo(l.End()); err != nil {
		t.Fatal(err)
	}
}

func sameRecord(a, b Record) bool {
	return a.Type == b.Type && a.Pos == b.Pos && a.End == b.End && a.Back == b.Back && bytes.Equal(a.Payload, b.Payload)
}

func compare(t testing.TB, got, want []Record) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if !sameRecord(got[i], want[i]) {
			t.Fatalf("record %d: %v %d of %d bytes, want %v %d of %d bytes", i, got[i].Pos,
				got[i].Type, len(got[i].Payload), want[i].Pos, want[i].Type, len(want[i].Payload))
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
}

func TestAppendReadBack(t *testing.T) {
	mem := vfs.NewMem()
	o := testOptions(mem, 1)
	l := mustCreate(t, o)
	var want []Record
	rng := rand.New(rand.NewPCG(2, 2))
	for i := range 400 {
		payload := bytes.Repeat([]byte{byte(i)}, rng.IntN(3000))
		want = append(want, mustAppend(t, l, 16, []byte("head"), payload))
		if rng.IntN(5) == 0 {
			mustFlush(t, l)
		}
		if i == 200 {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			var got []Record
			l, got = reopen(t, o)
			compare(t, got, want)
		}
		for _, rec := range want[max(0, i-20):] {
			got, err := l.ReadAt(rec.Pos)
			if err != nil || !sameRecord(got, rec) {
				t.Fatalf("ReadAt(%v): %v, %v", rec.Pos, got, err)
			}
		}
	}
	if s := l.Stats(); s.Rolls < 4 || s.RollsWaited != s.Rolls {
		t.Errorf("stats: %+v", l.Stats())
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.Append(16); !errors.Is(err, ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
	got, _, err := readAll(mem, 0)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, got, want)
	for _, i := range []int{0, 1, 57, 399} {
		got, _, err := readAll(mem, want[i].Pos)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, got, want[i:])
	}
	got, end, err := readAll(mem, want[399].End)
	if err != nil || len(got) != 0 || end.Pos != want[399].End {
		t.Errorf("read from the end: %d records, %v, %v", len(got), end, err)
	}
	if _, _, err := readAll(mem, want[3].Pos+8); !errors.Is(err, logrec.ErrLogCorrupt) {
		t.Errorf("read from between records: %v", err)
	}
	f := NewFetcher(mem, testDir, "E00")
	for _, rec := range want {
		got, err := f.At(rec.Pos)
		if err != nil || !sameRecord(got, rec) {
			t.Fatalf("At(%v): %v", rec.Pos, err)
		}
	}
	if _, err := f.At(want[0].Pos + 8); !errors.Is(err, logrec.ErrLogCorrupt) {
		t.Errorf("At between records: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func TestCreateRefuses(t *testing.T) {
	mem := vfs.NewMem()
	o := testOptions(mem, 1)
	l := mustCreate(t, o)
	if _, err := Create(o); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second Create: %v", err)
	}
	for _, name := range []string{"E00res00001.jrs", "E00res00002.jrs", "E00.log"} {
		if n, err := mem.Stat(filepath.Join(testDir, name)); err != nil || n != o.GenerationBytes {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
	}
	o.GenerationBytes = 65<<10 + 1
	if _, err := Create(o); err == nil {
		t.Error("an odd generation size was taken")
	}
	if _, _, err := l.Append(16, make([]byte, l.MaxRecord()+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	mustAppend(t, l, 16, make([]byte, l.MaxRecord()))
	if l.Err() != nil || l.Generation() != 1 || l.Signature().IsZero() {
		t.Error("state of a new log is wrong")
	}
}

// TestPrepared shows that a roll with a prepared generation waits for nothing, and the names.
func TestPrepared(t *testing.T) {
	mem := vfs.NewMem()
	o := testOptions(mem, 1)
	var announced []uint32
	o.BeforeGeneration = func(gen uint32) error { announced = append(announced, gen); return nil }
	var durable []logrec.LogPos
	o.OnDurable = func(p logrec.LogPos) { durable = append(durable, p) }
	l := mustCreate(t, o)
	step := func(want bool) {
		t.Helper()
		if did, err := l.Prepare(); err != nil || did != want {
			t.Fatalf("Prepare: %v, %v", did, err)
		}
	}
	step(true)
	step(false)
	mustAppend(t, l, 16, []byte("a"))
	if err := l.Roll(); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, 16, []byte("b"))
	mustFlush(t, l)
	if gens, err := Generations(mem, testDir, "E00"); err != nil || len(gens) != 2 ||
		gens[0].Name != "E00.log" || gens[1].Name != "E00tmp.log" {
		t.Fatalf("before the renames: %+v, %v", gens, err)
	}
	if recs, _, err := readAll(mem, 0); err != nil || len(recs) != 2 {
		t.Fatalf("before the renames: %d records, %v", len(recs), err)
	}
	step(true)
	gens, err := Generations(mem, testDir, "E00")
	if err != nil || len(gens) != 3 || gens[0].Name != "E0000000001.log" ||
		gens[1].Name != "E00.log" || gens[2].Name != "E00tmp.log" {
		t.Fatalf("after the renames: %+v, %v", gens, err)
	}
	if err := l.Roll(); err != nil {
		t.Fatal(err)
	}
	if s := l.Stats(); s.RollsWaited != 0 || s.Rolls != 2 {
		t.Errorf("stats %+v", s)
	}
	if len(announced) != 2 || announced[0] != 2 || announced[1] != 3 {
		t.Errorf("announced %v", announced)
	}
	for i := 1; i < len(durable); i++ {
		if durable[i] <= durable[i-1] {
			t.Errorf("durable positions %v", durable)
		}
	}
}

func TestRecycle(t *testing.T) {
	mem := vfs.NewMem()
	o := testOptions(mem, 1)
	l := mustCreate(t, o)
	var last Record
	for i := range 40 {
		mustAppend(t, l, 16, bytes.Repeat([]byte{byte(i)}, 5000))
		last = mustAppend(t, l, 17, []byte("last"))
		if err := l.Roll(); err != nil {
			t.Fatal(err)
		}
		if i%4 == 3 {
			if _, err := l.Prepare(); err != nil {
				t.Fatal(err)
			}
			if err := l.TruncateBefore(l.Generation() - 1); err != nil {
				t.Fatal(err)
			}
		}
	}
	if l.Stats().Recycled < 10 {
		t.Errorf("recycled %d", l.Stats().Recycled)
	}
	recs, end, err := readAll(mem, 0)
	if err != nil || len(recs) == 0 || !sameRecord(recs[len(recs)-1], last) || end.Pos != l.End() {
		t.Fatalf("%d records, end %v, %v", len(recs), end, err)
	}
	if _, _, err := readAll(mem, logrec.MakePos(3, 4096)); !errors.Is(err, logrec.ErrMissingLog) {
		t.Errorf("removed generation: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, _ = reopen(t, o)
	mustAppend(t, l, 16, []byte("more"))
	mustFlush(t, l)
	if got, _, err := readAll(mem, 0); err != nil || len(got) != len(recs)+1 {
		t.Errorf("%d records after reopen, %v", len(got), err)
	}
}

func TestGroupCommit(t *testing.T) {
	o := testOptions(vfs.OS(), 1)
	o.Dir, o.Manual, o.GenerationBytes = t.TempDir(), false, 1<<20
	l := mustCreate(t, o)
	const workers, each = 64, 40
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			payload := bytes.Repeat([]byte{byte(w)}, 300)
			for range each {
				_, end, err := l.Append(16, payload)
				if err == nil {
					err = l.FlushTo(end)
				}
				if err != nil || l.Durable() < end {
					t.Errorf("commit: durable %v, end %v, %v", l.Durable(), end, err)
					return
				}
			}
		})
	}
	wg.Wait()
	s := l.Stats()
	if s.Syncs*4 > workers*each {
		t.Errorf("%d syncs for %d commits", s.Syncs, workers*each)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(o.FS, o.Dir, o.Base, 0, ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var counts [workers]int
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		counts[rec.Payload[0]]++
	}
	for w, n := range counts {
		if n != each {
			t.Errorf("worker %d: %d records", w, n)
		}
	}
}

// TestConcurrentRolls runs appends, flushes, reads and preparation against each other with
// tiny generations and the smallest ring.
func TestConcurrentRolls(t *testing.T) {
	mem := vfs.NewMem()
	o := testOptions(mem, 3)
	o.Manual = false
	l := mustCreate(t, o)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 9))
			for range 300 {
				payload := make([]byte, 8+rng.IntN(4000))
				start, end, err := l.Append(20, payload)
				if err != nil {
					t.Error(err)
					return
				}
				if rng.IntN(3) == 0 {
					if err := l.FlushTo(end); err != nil {
						t.Error(err)
					}
				}
				if rec, err := l.ReadAt(start); err != nil || rec.End != end {
					t.Errorf("ReadAt(%v): %v", start, err)
				}
			}
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	recs, _, err := readAll(mem, 0)
	if err != nil || len(recs) != 8*300 {
		t.Fatalf("%d records, %v", len(recs), err)
	}
}

func TestDeadLog(t *testing.T) {
	for _, op := range []vfs.Op{vfs.OpWrite, vfs.OpSync} {
		fault := vfs.NewFault(vfs.NewMem())
		o := testOptions(fault, 1)
		var events []Event
		o.OnEvent = func(e Event) { events = append(events, e) }
		l := mustCreate(t, o)
		mustAppend(t, l, 16, []byte("good"))
		mustFlush(t, l)
		boom := errors.New("boom")
		fault.Inject(vfs.Rule{Op: op, Path: "*.log", Times: 1, Err: boom, FlipBit: -1})
		mustAppend(t, l, 16, []byte("bad"))
		err := l.FlushTo(l.End())
		if !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, ErrLogDead) || !errors.Is(err, boom) {
			t.Errorf("flush: %v", err)
		}
		// The disk is well again, but the log is not.
		if err := l.FlushTo(l.End()); !errors.Is(err, ErrLogDead) {
			t.Errorf("second flush: %v", err)
		}
		if _, _, err := l.Append(16, nil); !errors.Is(err, ErrLogDead) {
			t.Errorf("append: %v", err)
		}
		if _, err := l.Prepare(); !errors.Is(err, ErrLogDead) {
			t.Errorf("prepare: %v", err)
		}
		if err := l.Close(); !errors.Is(err, ErrLogDead) {
			t.Errorf("close: %v", err)
		}
		if len(events) != 1 || events[0].Kind != EventDead {
			t.Errorf("events %+v", events)
		}
		l, recs := reopen(t, testOptions(fault, 2))
		if len(recs) < 1 || string(recs[0].Payload) != "good" {
			t.Errorf("records after reopening: %v", recs)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestDiskFull shows that a failed preparation ends nothing.
func TestDiskFull(t *testing.T) {
	fault := vfs.NewFault(vfs.NewMem())
	l := mustCreate(t, testOptions(fault, 1))
	full := errors.New("no space left")
	rule := fault.Inject(vfs.Rule{Op: vfs.OpWrite, Path: "E00tmp.log", After: 1, Err: full, FlipBit: -1})
	var err error
	n := 0
	for ; err == nil; n++ {
		_, _, err = l.Append(16, make([]byte, 4000))
	}
	if !errors.Is(err, full) || !errors.Is(err, ErrFull) || l.Full() == nil {
		t.Fatalf("append %d: %v", n, err)
	}
	rule.Remove()
	if l.Err() != nil {
		t.Fatal(l.Err())
	}
	if _, err := l.Prepare(); err != nil || l.Full() != nil {
		t.Fatalf("with space again: %v %v", err, l.Full())
	}
	mustAppend(t, l, 16, make([]byte, 4000))
	mustFlush(t, l)
	if recs, _, err := readAll(fault, 0); err != nil || len(recs) != n {
		t.Errorf("%d records of %d, %v", len(recs), n, err)
	}
}

func TestRenameFailure(t *testing.T) {
	fault := vfs.NewFault(vfs.NewMem())
	l := mustCreate(t, testOptions(fault, 1))
	for i := range 2 {
		if _, err := l.Prepare(); err != nil {
			t.Fatal(err)
		}
		mustAppend(t, l, 16, []byte("x"))
		if err := l.Roll(); err != nil {
			t.Fatal(err)
		}
		rule := fault.Inject(vfs.Rule{Op: vfs.OpRename, After: i, Err: errors.New("no"), FlipBit: -1})
		if _, err := l.Prepare(); err == nil {
			t.Fatal("Prepare did not see the failed rename")
		}
		if recs, _, err := readAll(fault, 0); err != nil || len(recs) != i+1 {
			t.Errorf("between the renames: %d records, %v", len(recs), err)
		}
		rule.Remove()
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, recs := reopen(t, testOptions(fault, 2))
	mustAppend(t, l, 16, []byte("y"))
	if err := l.Roll(); err != nil || len(recs) != 2 {
		t.Errorf("%d records, %v", len(recs), err)
	}
}

func readFile(t testing.TB, fsys vfs.FS, name string) []byte {
	t.Helper()
	f, err := fsys.OpenFile(filepath.Join(testDir, name), os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	_ = f.Close()
	return b
}

func writeFile(t testing.TB, fsys vfs.FS, name string, b []byte) {
	t.Helper()
	if err := fsys.MkdirAll(testDir, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := fsys.OpenFile(filepath.Join(testDir, name), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
}

// TestTornTail cuts and flips the last flush of a log at each byte: the stream ends early but
// well, and goes on there. The same damage to an earlier flush is corruption.
func TestTornTail(t *testing.T) {
	mem := vfs.NewMem()
	o := testOptions(mem, 1)
	l := mustCreate(t, o)
	var all []Record
	var flushes []int64
	for i := range 4 {
		flushes = append(flushes, l.End().Offset())
		for j := range 3 {
			all = append(all, mustAppend(t, l, 16, bytes.Repeat([]byte{byte(i*3 + j + 1)}, 10+13*j)))
		}
		mustFlush(t, l)
	}
	lastFlush, end := flushes[3], l.End().Offset()
	good := readFile(t, mem, "E00.log")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for off := int64(headerSize); off < end; off++ {
		for _, mode := range []string{"cut", "flip"} {
			b := bytes.Clone(good)
			if mode == "flip" {
				b[off] ^= 0x10
			} else {
				clear(b[off:])
			}
			disk := vfs.NewMem()
			writeFile(t, disk, "E00.log", b)
			got, stop, err := readAll(disk, 0)
			if mode == "flip" && off < lastFlush {
				var ce *logrec.CorruptError
				if !errors.As(err, &ce) || ce.Pos.Offset() > off || !errors.Is(err, logrec.ErrLogCorrupt) {
					t.Fatalf("flip at %d: %d records, %v", off, len(got), err)
				}
				continue
			}
			if err != nil {
				t.Fatalf("%s at %d: %v", mode, off, err)
			}
			compare(t, got, all[:len(got)])
			if stop.Pos.Offset() > off {
				t.Fatalf("%s at %d: end %v", mode, off, stop.Pos)
			}
			od := testOptions(disk, uint64(off))
			l2, err := Open(od, stop)
			if err != nil {
				t.Fatal(err)
			}
			more := mustAppend(t, l2, 33, []byte("after the tear"))
			mustFlush(t, l2)
			again, _, err := readAll(disk, 0)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, again, append(all[:len(got):len(got)], more))
			_ = l2.Close()
		}
	}
}

// TestLeftOver shows that the rest of a torn flush does not come back to life when the same
// records are written over its beginning.
func TestLeftOver(t *testing.T) {
	mem := vfs.NewMem()
	l := mustCreate(t, testOptions(mem, 1))
	start := l.End().Offset()
	for range 3 {
		mustAppend(t, l, 16, []byte("the same"))
	}
	mustFlush(t, l)
	b := readFile(t, mem, "E00.log")
	clear(b[start : start+markSize]) // the first sector was lost, the others are there
	disk := vfs.NewMem()
	writeFile(t, disk, "E00.log", b)
	l, recs := reopen(t, testOptions(disk, 2))
	want := mustAppend(t, l, 16, []byte("the same"))
	mustFlush(t, l)
	got, _, err := readAll(disk, 0)
	if err != nil || len(recs) != 0 {
		t.Fatal(len(recs), err)
	}
	compare(t, got, []Record{want})
}

func TestCorruption(t *testing.T) {
	build := func() (*vfs.Mem, Record) {
		mem := vfs.NewMem()
		l := mustCreate(t, testOptions(mem, 1))
		var middle Record
		for i := range 4 {
			for range 5 {
				rec := mustAppend(t, l, 16, bytes.Repeat([]byte{byte(i)}, 700))
				if i == 1 {
					middle = rec
				}
			}
			mustFlush(t, l)
			if i < 3 {
				if err := l.Roll(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := l.Prepare(); err != nil {
			t.Fatal(err)
		}
		return mem, middle
	}
	edit := func(name string, change func(b []byte)) func(*vfs.Mem) {
		return func(m *vfs.Mem) {
			b := readFile(t, m, name)
			change(b)
			writeFile(t, m, name, b)
		}
	}
	reheader := func(change func(h *Header)) func(b []byte) {
		return func(b []byte) {
			h, err := decodeHeader("", b)
			if err != nil {
				t.Fatal(err)
			}
			change(&h)
			copy(b, h.encode())
		}
	}
	_, middle := build()
	for _, c := range []struct {
		name   string
		damage func(*vfs.Mem)
		want   error
		pos    logrec.LogPos
	}{
		{"record in a closed generation", edit("E0000000002.log", func(b []byte) {
			b[middle.Pos.Offset()+100]++
		}), logrec.ErrLogCorrupt, middle.Pos},
		{"closed generation cut short", edit("E0000000002.log", func(b []byte) {
			clear(b[middle.Pos.Offset():])
		}), logrec.ErrLogCorrupt, middle.Pos},
		{"header", edit("E0000000002.log", func(b []byte) { b[50]++ }), logrec.ErrLogCorrupt, 0},
		{"header of the current one", edit("E00.log", func(b []byte) { b[50]++ }), logrec.ErrLogCorrupt, 0},
		{"missing", func(m *vfs.Mem) {
			_ = m.Remove(testDir + "/E0000000002.log")
		}, logrec.ErrMissingLog, 0},
		{"foreign", edit("E0000000003.log", reheader(func(h *Header) {
			h.Sign.Random++
		})), logrec.ErrLogSignature, 0},
		{"other past", edit("E0000000003.log", reheader(func(h *Header) {
			h.PrevCreated = logrec.MakeLogTime(time.Unix(1, 0))
		})), logrec.ErrLogSequence, 0},
		{"newer format", edit("E0000000001.log", func(b []byte) {
			b[32]++
			binary.LittleEndian.PutUint32(b, xor32(b[:headerSize]))
		}), logrec.ErrLogVersion, 0},
		{"unknown feature", edit("E0000000001.log", reheader(func(h *Header) {
			h.Incompat = 1
		})), logrec.ErrLogVersion, 0},
		{"renamed", func(m *vfs.Mem) {
			_ = m.Rename(testDir+"/E0000000002.log", testDir+"/E0000000009.log")
		}, logrec.ErrLogCorrupt, 0},
		{"truncated file", func(m *vfs.Mem) {
			writeFile(t, m, "E0000000002.log", readFile(t, m, "E0000000002.log")[:8192])
		}, logrec.ErrLogCorrupt, 0},
		{"no files", func(m *vfs.Mem) {
			for _, n := range []string{"E0000000001.log", "E0000000002.log", "E0000000003.log", "E00.log"} {
				_ = m.Remove(testDir + "/" + n)
			}
		}, logrec.ErrMissingLog, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			mem, _ := build()
			if _, _, err := readAll(mem, 0); err != nil {
				t.Fatal(err)
			}
			c.damage(mem)
			_, _, err := readAll(mem, 0)
			var ce *logrec.CorruptError
			if !errors.Is(err, c.want) || !errors.As(err, &ce) || ce.File == "" {
				t.Fatalf("got %v", err)
			}
			if c.pos != 0 && ce.Pos != c.pos {
				t.Errorf("position %v, want %v", ce.Pos, c.pos)
			}
		})
	}
	// Damage before the place where reading begins is no matter.
	mem, middle := build()
	edit("E0000000002.log", func(b []byte) { b[headerSize+100]++ })(mem)
	if got, _, err := readAll(mem, middle.Pos); err != nil || len(got) != 11 {
		t.Errorf("%d records, %v", len(got), err)
	}
}

// A checkpoint is cut again and again, in either copy: one that was written is always there.
func TestCheckpointCutTwice(t *testing.T) {
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		disk := vfs.NewMem()
		if err := disk.MkdirAll(testDir, 0o700); err != nil {
			t.Fatal(err)
		}
		path := testDir + "/E00.chk"
		c := Checkpoint{Pos: 1}
		if err := WriteCheckpoint(disk, path, &c); err != nil {
			t.Fatal(err)
		}
		for try := logrec.LogPos(2); try < 8; try++ {
			fault := vfs.NewFault(disk)
			op := []vfs.Op{vfs.OpWrite, vfs.OpSync}[rng.IntN(2)]
			fault.Inject(vfs.Rule{
				Op: op, After: rng.IntN(3), ShortBytes: 512 * (1 + rng.IntN(7)), Err: io.ErrShortWrite,
			})
			c.Pos, c.Time = try, logrec.MakeLogTime(time.Unix(int64(try), 0)) // in several sectors
			err := WriteCheckpoint(fault, path, &c)
			if rng.IntN(3) > 0 {
				disk = disk.CrashClone(rng)
			} else if f, err := disk.OpenFile(path, os.O_RDWR, 0); err != nil || f.SyncData() != nil {
				t.Fatal(err) // the next process makes durable what it finds
			}
			got, rerr := ReadCheckpoint(disk, path)
			if rerr != nil {
				t.Fatalf("seed %d, try %d: %v", seed, try, rerr)
			}
			if err == nil && got.Pos != try {
				t.Fatalf("seed %d, try %d: checkpoint %d is back", seed, try, got.Pos)
			}
		}
	}
}

func TestCheckpoint(t *testing.T) {
	mem := vfs.NewMem()
	if err := mem.MkdirAll(testDir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := testDir + "/E00.chk"
	if _, err := ReadCheckpoint(mem, path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	c := &Checkpoint{
		Pos: logrec.MakePos(7, 8200), Sign: logrec.NewSignature(1, time.Unix(2, 0), "host"),
		Time: logrec.MakeLogTime(time.Unix(3, 0)),
	}
	for i := range 3 {
		c.Attachments = append(c.Attachments, Attachment{
			DBID: uint8(i + 1), DBTime: 99, LastObject: 5, Pages: 1000, Attach: 6, Consistent: 7,
			Sign: logrec.NewSignature(uint32(i), time.Unix(2, 0), "h"),
			Path: fmt.Sprintf("/data/db%d.edb", i),
		})
	}
	if err := WriteCheckpoint(mem, path, c); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		got, err := ReadCheckpoint(mem, path)
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(got) != fmt.Sprint(c) {
			t.Errorf("got %+v", got)
		}
	}
	check()
	b := readFile(t, mem, "E00.chk")
	if len(b) != 8192 || !CheckpointWhole(mem, path) {
		t.Errorf("%d bytes, whole: %v", len(b), CheckpointWhole(mem, path))
	}
	b[20]++
	writeFile(t, mem, "E00.chk", b)
	check()
	if CheckpointWhole(mem, path) {
		t.Error("with a damaged copy it counts as whole")
	}
	b[4096+13]++
	writeFile(t, mem, "E00.chk", b)
	if _, err := ReadCheckpoint(mem, path); !errors.Is(err, logrec.ErrCheckpointCorrupt) {
		t.Errorf("both copies damaged: %v", err)
	}
	c.Attachments[0].Path = string(make([]byte, 2000))
	if err := WriteCheckpoint(mem, path, c); err == nil {
		t.Error("a list that is too long was written")
	}
}

func FuzzDecodeCheckpoint(f *testing.F) {
	c := Checkpoint{Pos: 5, Attachments: []Attachment{{DBID: 1, Path: "x"}}}
	b, _ := c.encode()
	f.Add(b[attachOffset : attachOffset+200])
	f.Add(bytes.Repeat([]byte{0xff}, 2048))
	f.Fuzz(func(t *testing.T, list []byte) {
		b, _ := c.encode()
		copy(b[attachOffset:attachOffset+attachBytes], list)
		binary.LittleEndian.PutUint32(b, xor32(b))
		if got, ok := decodeCheckpoint(b); ok && len(got.Attachments) > attachBytes/attachHeaderSize {
			t.Error("more attachments than fit")
		}
	})
}

// FuzzReader reads a log whose current file has arbitrary bytes behind two records.
func FuzzReader(f *testing.F) {
	mem := vfs.NewMem()
	l := mustCreate(f, testOptions(mem, 1))
	mustAppend(f, l, 16, []byte("first"))
	mustFlush(f, l)
	tail := l.End().Offset()
	mustAppend(f, l, 16, []byte("second"))
	mustFlush(f, l)
	good := readFile(f, mem, "E00.log")
	f.Add(good[tail : tail+100])
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 64))
	f.Fuzz(func(t *testing.T, b []byte) {
		file := bytes.Clone(good)
		clear(file[tail:])
		copy(file[tail:], b)
		disk := vfs.NewMem()
		writeFile(t, disk, "E00.log", file)
		if recs, _, err := readAll(disk, 0); err == nil && (len(recs) == 0 || string(recs[0].Payload) != "first") {
			t.Error("the first record is lost")
		}
	})
}

func benchCommit(b *testing.B, workers int) {
	o := Options{FS: vfs.OS(), Dir: b.TempDir(), Base: "E00"}
	l := mustCreate(b, o)
	payload := make([]byte, 200)
	b.SetBytes(200)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for range (b.N + w) / workers {
				_, end, err := l.Append(16, payload)
				if err == nil {
					err = l.FlushTo(end)
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(l.Stats().Syncs)/float64(b.N), "syncs/op")
	_ = l.Close()
}

func BenchmarkCommit1(b *testing.B)  { benchCommit(b, 1) }
func BenchmarkCommit64(b *testing.B) { benchCommit(b, 64) }

func BenchmarkAppend200(b *testing.B) {
	l := mustCreate(b, Options{FS: vfs.NewMem(), Dir: testDir, Base: "E00", Rand: func() uint32 { return 1 }})
	payload := make([]byte, 200)
	b.SetBytes(200)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := l.Append(16, payload); err != nil {
			b.Fatal(err)
		}
	}
	_ = l.Close()
}
