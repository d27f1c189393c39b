package ese_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
	"pillarbox/ese/vfs"
)

var (
	crashSeeds = flag.Int("seeds", 150, "seeds of the crash simulation")
	crashFirst = flag.Uint64("seed", 1, "first seed of the crash simulation")
)

// TestCrash runs the engine step by step on a disk that loses what was not synced, cuts the
// power at random writes and syncs (inside recovery too), and compares what is there
// afterwards with a model: everything acknowledged, nothing half done.
func TestCrash(t *testing.T) {
	var sum crashCounts
	for i := range *crashSeeds {
		seed := *crashFirst + uint64(i)
		s := newSim(t, seed)
		s.run()
		sum.add(&s.counts)
		if t.Failed() {
			t.Fatalf("seed %d: repeat with -run TestCrash -seed %d -seeds 1", seed, seed)
		}
	}
	t.Logf("%d seeds: %+v", *crashSeeds, sum)
	if *crashSeeds >= 100 {
		sum.demand(t)
	}
}

// row is a row of the model.
type row struct {
	age    int
	sum    int64 // an escrow column
	name   string
	photo  []byte
	stream ese.StreamID
	body   []byte
	tags   []string         // of a multi-valued column, each once
	extra  map[string]int64 // of columns added later; never changed, only replaced
}

// state is the model of the whole database.
type state struct {
	rows    map[int]row
	markers int // commits contained
	schema  simSchema
}

func (s state) clone() state { return state{maps.Clone(s.rows), s.markers, s.schema.clone()} }

// simTx is an open transaction and what it will have changed.
type simTx struct {
	tx      *ese.Tx
	view    state // what it must see
	changes map[int]*row
	adds    map[int]int64 // to rows not changed otherwise
	ddl     []func(*simSchema)
	saves   []save
}

type save struct {
	sp      ese.Savepoint
	view    state
	changes map[int]*row
	adds    map[int]int64
	ddl     int
}

type sim struct {
	t      *testing.T
	seed   uint64
	rng    *rand.Rand
	o      ese.Options
	disk   *esetest.CrashDisk
	in     *ese.Instance
	db     *ese.Database
	tb, mk *ese.Table
	c      map[string]*ese.Column
	mkID   *ese.Column
	pair   pairSim
	now    time.Time
	lose   *rand.Rand // whether a crash takes the checkpoint as well

	history []state // after each commit; history[i] has i markers
	acked   int     // commits acknowledged as durable
	ackCut  int     // acked when the power was cut
	open    []*simTx
	counts  crashCounts
	fault   *vfs.Injection // a planted write error
	readers []reader
	named   int // names given to tables, columns and indexes

	full bool // the disk has an end

	held      *ese.Tx // a snapshot that stays open for a while
	heldState state
}

// reader is a stream reader that outlives its transaction and perhaps its stream.
type reader struct {
	r    *ese.StreamReader
	body []byte
}

func newSim(t *testing.T, seed uint64) *sim {
	s := &sim{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 77)), now: time.Unix(1e9, 0)}
	s.o = ese.Options{
		Dir: "/d", Manual: true, CheckpointDepth: 128 << 10,
		GenerationBytes: int64([]int{64 << 10, 64 << 10, 256 << 10, 2 << 20}[s.rng.IntN(4)]),
		PageSize:        4096 << (seed % 4), StreamBytes: 256 << 10, LogKeep: 128 << 10,
		DiskFullLimit: time.Duration([]int{0, 20, 100}[s.rng.IntN(3)]) * time.Millisecond,
		CacheBytes:    int64([]int{16, 24, 64, 256}[s.rng.IntN(4)]) * 8192,
		Now:           func() time.Time { s.now = s.now.Add(time.Millisecond); return s.now },
		Rand:          func() uint32 { return s.rng.Uint32() },
	}
	if s.rng.IntN(2) == 0 {
		s.o.VersionBytes = 256 << 10 // earlier states go to the file
	}
	s.o.GenerationBytes = max(s.o.GenerationBytes, 8*int64(s.o.PageSize))
	s.lose = rand.New(rand.NewPCG(seed, 78))
	s.disk = &esetest.CrashDisk{Mem: vfs.NewMem(), Rand: s.rng}
	s.placePair()
	s.history = []state{{rows: map[int]row{}, schema: newSimSchema()}}
	return s
}

// errBroken unwinds a step whose instance has met a planted write error.
var errBroken = errors.New("instance is broken")

// fatal is hard, but a full disk ends only the step.
func (s *sim) fatal(format string, a ...any) {
	s.t.Helper()
	s.tolerateFull(a)
	s.hard(format, a...)
}

// hard ends the test; but an error that follows from a planted fault ends only the
// instance: it must be opened again.
func (s *sim) hard(format string, a ...any) {
	s.t.Helper()
	for _, x := range a {
		if err, ok := x.(error); ok && s.fault != nil && s.fault.Hits() > 0 {
			_ = err
			panic(errBroken)
		}
	}
	s.t.Fatalf("seed %d: %s", s.seed, fmt.Sprintf(format, a...))
}

// openUp opens the instance and the tables; the power may be cut meanwhile.
func (s *sim) openUp() error {
	o := s.o
	faults := vfs.NewFault(s.disk)
	o.FS = faults
	s.fault = nil
	defer func() { s.plant(faults) }()
	in, err := ese.Open(o)
	if err != nil {
		return err
	}
	s.in = in
	r := in.Recovery()
	s.counts.Torn += r.Torn
	s.counts.UndoneInRecovery += r.Undone
	if s.db, err = in.OpenDatabase("a.edb"); err != nil {
		return err
	}
	if err := s.openPair(); err != nil {
		return err
	}
	err = in.Update(context.Background(), func(tx *ese.Tx) error {
		if s.tb, err = s.db.Table("T"); err == nil {
			s.mk, err = s.db.Table("M")
			return err
		}
		if s.tb, err = tx.CreateTable(s.db, simTable(s.seed)); err != nil {
			return err
		}
		s.mk, err = tx.CreateTable(s.db, ese.TableDef{
			Name:    "M",
			Columns: []ese.ColumnDef{{Name: "ID", Type: ese.Long, NotNull: true}},
			Indexes: []ese.IndexDef{{Name: "ID", Primary: true, Columns: []ese.IndexColumn{{Name: "ID"}}}},
		})
		return err
	})
	if err != nil {
		return err
	}
	s.c = make(map[string]*ese.Column)
	for _, c := range s.tb.Columns() {
		s.c[c.Name()] = c
	}
	s.mkID, err = s.mk.Column("ID")
	return err
}

// plant sometimes lets one later write or sync fail.
func (s *sim) plant(f *vfs.Fault) {
	if s.in == nil || s.rng.IntN(3) > 0 {
		return
	}
	r := vfs.Rule{
		Op:    []vfs.Op{vfs.OpWrite, vfs.OpSync}[s.rng.IntN(2)],
		Path:  []string{"*.log", "*.edb", "*.dw", "*.stm", "*.chk"}[s.rng.IntN(5)],
		After: s.rng.IntN(30), Times: 1, Err: errors.New("planted I/O error"),
	}
	if r.Op == vfs.OpWrite && s.rng.IntN(2) == 0 {
		r.ShortBytes = 1 + s.rng.IntN(2000)
	}
	s.fault = f.Inject(r)
}

// simTable is the table of a run; every other one compresses its long values.
func simTable(seed uint64) ese.TableDef {
	return ese.TableDef{
		Name: "T",
		Columns: []ese.ColumnDef{
			{Name: "ID", Type: ese.Long, NotNull: true},
			{Name: "Age", Type: ese.Short},
			{Name: "Name", Type: ese.Binary},
			{Name: "Photo", Type: ese.LongBinary, Compressed: seed/4%2 == 1},
			{Name: "Stream", Type: ese.LongLong},
			{Name: "Sum", Type: ese.LongLong, Escrow: true},
			{Name: "Tags", Type: ese.Binary, Tagged: true, MultiValued: true},
		},
		Indexes: []ese.IndexDef{
			{Name: "ID", Primary: true, Columns: []ese.IndexColumn{{Name: "ID"}}},
			{Name: "Name", Unique: true, Sparse: true, Columns: []ese.IndexColumn{{Name: "Name"}}},
			{Name: "Age", Columns: []ese.IndexColumn{{Name: "Age", Descending: true}}},
			{Name: "Tags", Sparse: true, Columns: []ese.IndexColumn{{Name: "Tags"}}},
		},
	}
}

func (s *sim) run() {
	s.disk.OnCut = func() { s.ackCut = s.acked }
	s.recoverUntilUp(false)
	for range 2 + s.rng.IntN(3) {
		s.disk.Left = 1 + s.rng.IntN(400)
		quiet, reuse := -1, -1
		if s.rng.IntN(3) == 0 {
			quiet = s.rng.IntN(150)
		}
		if s.rng.IntN(3) == 0 {
			reuse = s.rng.IntN(60)
		}
		for i := 0; s.disk.Cut == nil; i++ {
			do := s.step
			switch {
			case i == quiet && !s.full:
				do = s.quiet
			case i == reuse && !s.full:
				do = s.reuse
			}
			if !s.stepOn(do) {
				break
			}
			if s.t.Failed() {
				return
			}
		}
		if s.disk.Cut == nil { // broken by a planted error: the power goes as well
			s.counts.Faults++
			s.disk.Cut, s.ackCut = s.disk.Mem.CrashClone(s.rng), s.acked
		}
		s.collect()
		s.counts.Crashes++
		_ = s.in.Kill()
		s.open, s.readers, s.held = nil, nil, nil
		s.recoverUntilUp(true)
	}
	s.disk.Left = 0
	if s.fault != nil {
		s.fault.Remove()
	}
	s.finish()
}

// stepOn does one step; false when a planted error has broken the instance.
func (s *sim) stepOn(do func()) (alive bool) {
	defer func() {
		if r := recover(); r == errBroken {
			alive = false
		} else if r == errNoSpace {
			alive = true
		} else if r != nil {
			panic(r)
		}
	}()
	s.squeeze()
	do()
	return true
}

// collect adds the instance's counters before it goes.
func (s *sim) collect() {
	st := s.in.Stats()
	s.counts.Rolls += int(st.Log.Rolls)
	s.counts.Checkpoints += int(st.Checkpoints)
	s.counts.Uncommitted += int(st.Cache.UncommittedWrites)
	s.counts.Splits += int(st.Splits)
	s.counts.Merges += int(st.Merges)
	s.counts.Undone += int(st.Undone)
	s.counts.full.Reserves += int(st.Log.ReservesUsed)
	s.counts.ScrubPasses += int(st.ScrubPasses)
	s.counts.PagesReturned += int(st.PagesReturned)
	s.counts.PagesTrimmed += int(st.PagesTrimmed)
	s.counts.PagesMoved += int(st.PagesMoved)
	s.counts.PagesJoined += int(st.PagesJoined)
}

// recoverUntilUp opens after a crash; with again the power may fail in recovery too.
func (s *sim) recoverUntilUp(again bool) {
	for try := 0; ; try++ {
		if s.disk.Cut != nil {
			s.disk = &esetest.CrashDisk{
				Mem: s.disk.Cut, Rand: s.rng, OnCut: s.disk.OnCut, Trace: s.disk.Trace,
			}
			s.acked = s.ackCut // what was acknowledged after the cut never happened
			s.loseCheckpoint()
		}
		if again && try < 3 && s.rng.IntN(2) == 0 {
			s.disk.Left = 1 + s.rng.IntN(60)
		}
		err := s.openUp()
		if s.disk.Cut != nil {
			s.counts.InRecovery++
			if s.in != nil {
				_ = s.in.Kill()
			}
			continue
		}
		if err != nil && s.roomToOpen(err) {
			continue
		}
		if err != nil {
			s.hard("open: %v", err)
		}
		s.disk.Left = 0
		break
	}
	if again {
		s.verifyRecovered()
	}
}

// loseCheckpoint sometimes takes the checkpoint file away.
func (s *sim) loseCheckpoint() {
	if s.lose.IntN(12) > 0 {
		return
	}
	dir := s.o.Dir
	if s.o.CheckpointDir != "" {
		dir = s.o.CheckpointDir
	}
	err := s.disk.Mem.Remove(dir + "/E00.chk")
	if err == nil {
		s.counts.CheckpointsLost++
	} else if !errors.Is(err, fs.ErrNotExist) {
		s.hard("lose the checkpoint: %v", err)
	}
}

// verifyRecovered finds out how many commits survived and compares everything.
func (s *sim) verifyRecovered() {
	n := 0
	err := s.in.View(func(tx *ese.Tx) error {
		c := tx.Cursor(s.mk.Primary())
		ok, err := c.First()
		for ; ok && err == nil; ok, err = c.Next() {
			n++
			if got := c.Row().Int(s.mkID); got != int64(n) {
				return fmt.Errorf("commit %d is there, %d is not", got, n)
			}
		}
		return err
	})
	if err != nil {
		s.fatal("after the crash: %v", err)
	}
	if n < s.ackCut || n >= len(s.history) {
		s.fatal("%d commits survived; %d were acknowledged, %d made", n, s.ackCut, len(s.history)-1)
	}
	s.comparePair(n)
	s.history = s.history[:n+1]
	s.acked, s.ackCut = n, n
	tx := s.in.BeginRead()
	s.compare(tx, s.history[n])
	_ = tx.Rollback()
}

// compare reads everything and holds it against a model state.
func (s *sim) compare(tx *ese.Tx, want state) {
	s.t.Helper()
	if s.in.Stats().VersionFileBytes > 0 {
		s.counts.Spilled++
	}
	for _, index := range []string{"ID", "Age", "Name", "Tags"} {
		x, err := s.tb.Index(index)
		if err != nil {
			s.fatal("%v", err)
		}
		seen := 0
		c := tx.Cursor(x)
		ok, err := c.First()
		for ; ok && err == nil; ok, err = c.Next() {
			s.compareRow(tx, c.Row(), want, index == "ID")
			seen++
		}
		if err != nil {
			s.fatal("index %s: %v", index, err)
		}
		rows := 0
		for _, r := range want.rows {
			switch {
			case index == "Tags":
				rows += len(r.tags)
			case index != "Name" || r.name != "":
				rows++
			}
		}
		if seen != rows {
			s.fatal("index %s shows %d rows, the model has %d", index, seen, rows)
		}
	}
	s.compareSchema(tx, want)
}

func (s *sim) compareRow(tx *ese.Tx, v *ese.RowView, want state, deep bool) {
	id := int(v.Int(s.c["ID"]))
	r, ok := want.rows[id]
	if !ok {
		s.fatal("row %d should not be there", id)
	}
	if int(v.Int(s.c["Age"])) != r.age || v.String(s.c["Name"]) != r.name {
		s.fatal("row %d: age %d name %q, want %d %q", id, v.Int(s.c["Age"]), v.String(s.c["Name"]), r.age, r.name)
	}
	if v.Int(s.c["Sum"]) != r.sum {
		s.fatal("row %d: sum %d, want %d", id, v.Int(s.c["Sum"]), r.sum)
	}
	if v.Count(s.c["Tags"]) != len(r.tags) {
		s.fatal("row %d: %d tags, want %q", id, v.Count(s.c["Tags"]), r.tags)
	}
	for i, tag := range r.tags {
		if string(v.BytesAt(s.c["Tags"], i)) != tag {
			s.fatal("row %d: tag %d is %q, want %q", id, i, v.BytesAt(s.c["Tags"], i), r.tags)
		}
	}
	s.compareExtra(tx, v, id, r, want)
	if !deep {
		return
	}
	photo, err := v.Blob(s.c["Photo"], nil)
	if err != nil || !bytes.Equal(photo, r.photo) {
		s.fatal("row %d: photo of %d bytes %.4x, want %d %.4x: %v\n%s", id, len(photo), photo, len(r.photo), r.photo, err, debug.Stack())
	}
	if ese.StreamID(v.Int(s.c["Stream"])) != r.stream {
		s.fatal("row %d: stream %d, want %d", id, v.Int(s.c["Stream"]), r.stream)
	}
	if r.stream != 0 {
		s.compareStream(tx, id, r)
	}
}

func (s *sim) compareStream(tx *ese.Tx, id int, r row) {
	rd, err := tx.OpenStream(s.db, r.stream)
	if err != nil {
		s.fatal("row %d: stream %d: %v", id, r.stream, err)
	}
	defer func() { _ = rd.Close() }()
	// Not of a stream that its own transaction may still take back.
	if tx.ReadOnly() && s.rng.IntN(4) == 0 && len(s.readers) < 8 {
		// One that has read nothing yet, so that it must go to the file later.
		later, err := tx.OpenStream(s.db, r.stream)
		if err != nil {
			s.fatal("row %d: stream %d: %v", id, r.stream, err)
		}
		s.readers = append(s.readers, reader{later, r.body})
	}
	got := make([]byte, rd.Size())
	if _, err := rd.ReadAt(got, 0); err != nil || !bytes.Equal(got, r.body) {
		s.fatal("row %d: stream %d has %d bytes, want %d: %v", id, r.stream, len(got), len(r.body), err)
	}
}

// step does one random thing.
func (s *sim) step() {
	switch k := s.rng.IntN(20); {
	case k < 3:
		n := s.rng.IntN(ese.Steps + 3)
		if n >= ese.Steps {
			n = 6 // free streams: it takes several rounds until pages are used again
		}
		if n == 10 { // a pass, or most of one
			s.db.StartScrub()
			for range s.rng.IntN(20) {
				if err := s.in.Step(10); err != nil {
					s.fatal("scrub: %v", err)
				}
			}
		}
		if n == 11 {
			s.db.StartDefragment()
			for range s.rng.IntN(20) {
				if err := s.in.Step(11); err != nil {
					s.fatal("defragment: %v", err)
				}
			}
		}
		if err := s.in.Step(n); err != nil && !errors.Is(err, ese.ErrWriteConflict) {
			s.fatal("step: %v", err)
		}
	case k < 4 && s.rng.IntN(4) == 0:
		s.snapshot()
	case k < 4 && len(s.readers) > 0:
		s.readOn()
	case k < 4 && s.rng.IntN(4) == 0:
		s.endHeld()
	case len(s.open) == 0 || (k < 7 && len(s.open) < 4):
		s.open = append(s.open, s.begin())
	case k < 17:
		s.changeOrFull(s.open[s.rng.IntN(len(s.open))])
	default:
		i := s.rng.IntN(len(s.open))
		x := s.open[i]
		s.open = slices.Delete(s.open, i, i+1)
		s.endTx(x)
	}
}

// begin begins a transaction, which sees what was committed last.
func (s *sim) begin() *simTx {
	return &simTx{
		tx: s.in.Begin(), view: s.history[len(s.history)-1].clone(), changes: map[int]*row{},
		adds: map[int]int64{},
	}
}

// readOn reads a stream again that has been open for a while, and closes it.
func (s *sim) readOn() {
	rd := s.readers[0]
	s.readers = s.readers[1:]
	got := make([]byte, rd.r.Size())
	if _, err := rd.r.ReadAt(got, 0); err != nil || !bytes.Equal(got, rd.body) {
		s.fatal("a stream reads otherwise after a while: %v", err)
	}
	if err := rd.r.Close(); err != nil {
		s.fatal("close a stream: %v", err)
	}
}

// snapshot compares a read-only transaction with the durable horizon.
func (s *sim) snapshot() {
	tx := s.in.BeginRead()
	n := 0
	c := tx.Cursor(s.mk.Primary())
	ok, err := c.First()
	for ; ok && err == nil; ok, err = c.Next() {
		n++
	}
	if err != nil || n < s.acked || n >= len(s.history) {
		s.fatal("a snapshot shows %d commits, %d are durable: %v", n, s.acked, err)
	}
	if s.held == nil && s.rng.IntN(2) == 0 {
		s.held, s.heldState = tx, s.history[n]
		return
	}
	s.compare(tx, s.history[n])
	_ = tx.Rollback()
}

// endHeld looks once more at a snapshot that has been open for a while.
func (s *sim) endHeld() {
	if s.held == nil {
		return
	}
	s.compare(s.held, s.heldState)
	_ = s.held.Rollback()
	s.held = nil
}

func (s *sim) randomRow(x *simTx) (row, *ese.Row) {
	r := row{age: s.rng.IntN(50)}
	er := s.tb.NewRow().Set(s.c["Age"], ese.Int(r.age))
	r.extra = s.setExtra(x, er, r.extra)
	var tags []ese.Value
	for _, n := range s.rng.Perm(6)[:s.rng.IntN(4)] {
		r.tags = append(r.tags, fmt.Sprintf("tag %d", n))
		tags = append(tags, ese.String(r.tags[len(r.tags)-1]))
	}
	er.SetValues(s.c["Tags"], tags...)
	if s.rng.IntN(3) > 0 {
		r.name = fmt.Sprintf("%d-%d-%s", s.rng.Uint64(), s.seed, bytes.Repeat([]byte{'x'}, s.rng.IntN(60)))
		er.Set(s.c["Name"], ese.String(r.name))
	} else {
		er.Set(s.c["Name"], ese.Null())
	}
	if n := s.rng.IntN(4); n > 0 {
		r.photo = bytes.Repeat([]byte{byte(s.rng.Uint32())}, s.rng.IntN([]int{1, 100, 900, 6000}[n])+1)
		er.Set(s.c["Photo"], ese.Bytes(r.photo))
	} else {
		er.Set(s.c["Photo"], ese.Null())
	}
	r.stream, r.body = s.newStream(x)
	er.Set(s.c["Stream"], ese.Int(r.stream))
	return r, er
}

// newStream sometimes writes a stream for a row, in the transaction or before it.
func (s *sim) newStream(x *simTx) (ese.StreamID, []byte) {
	if s.rng.IntN(4) > 0 {
		return 0, nil
	}
	body := bytes.Repeat([]byte{byte(s.rng.Uint32()), byte(s.rng.Uint32())}, s.rng.IntN(3000)+1)
	if s.rng.IntN(2) == 0 {
		id, err := x.tx.WriteStream(s.db, body)
		if err != nil {
			s.fatal("write stream: %v", err)
		}
		return id, body
	}
	body = bytes.Repeat(body, s.rng.IntN(30)+1)
	w, err := s.db.NewStream()
	if err != nil {
		s.fatal("new stream: %v", err)
	}
	_, err = w.Write(body)
	if err = errors.Join(err, w.Close()); err != nil {
		s.fatal("write stream: %v", err)
	}
	if err := x.tx.AdoptStream(s.db, w.ID()); errors.Is(err, ese.ErrWriteConflict) || errors.Is(err, ese.ErrNotFound) {
		w.Abort() // the transaction began before the stream: it stays unowned
		return 0, nil
	} else if err != nil {
		s.fatal("adopt: %v", err)
	}
	return w.ID(), body
}

// change makes one change in a transaction, and in its model.
func (s *sim) change(x *simTx) {
	id := s.rng.IntN(120)
	switch k := s.rng.IntN(12); {
	case k == 0:
		s.save(x)
		return
	case k == 1 && len(x.saves) > 0:
		n := s.rng.IntN(len(x.saves))
		if err := x.tx.RollbackTo(x.saves[n].sp); err != nil {
			s.fatal("roll back to a savepoint: %v", err)
		}
		sv := x.saves[n]
		x.view, x.changes, x.adds = sv.view.clone(), maps.Clone(sv.changes), maps.Clone(sv.adds)
		x.ddl = x.ddl[:sv.ddl]
		x.saves = x.saves[:n+1]
		return
	case k == 2:
		s.compare(x.tx, x.view)
		return
	case k == 3 && s.rng.IntN(3) == 0:
		s.ddl(x)
		return
	}
	old, there := x.view.rows[id]
	var err error
	var now *row
	switch k := s.rng.IntN(9); {
	case !there:
		r, er := s.randomRow(x)
		r.sum = s.rng.Int64() >> 20
		er.Set(s.c["Sum"], ese.Int(r.sum))
		s.share(x, &r, er)
		err, now = x.tx.Insert(er.Set(s.c["ID"], ese.Int(id))), &r
	case k == 0:
		err, now = x.tx.Lock(s.tb, ese.Int(id)), &old
	case k < 3:
		s.add(x, id)
		return
	case k == 3:
		now, err = s.long(x, id, old)
	case k < 6:
		err = x.tx.Delete(s.tb, ese.Int(id))
		if err == nil && old.stream != 0 {
			err = x.tx.DeleteStream(s.db, old.stream)
		}
	default:
		r, er := s.randomRow(x)
		r.sum = old.sum
		r.extra = merged(old.extra, r.extra)
		err, now = x.tx.Update(er, ese.Int(id)), &r
		if err == nil && old.stream != 0 {
			err = x.tx.DeleteStream(s.db, old.stream)
		}
	}
	if s.conflict(x, err) {
		return
	}
	if err != nil {
		s.fatal("change row %d (there: %v): %v", id, there, err)
	}
	x.changes[id] = now
	delete(x.adds, id)
	if now == nil {
		delete(x.view.rows, id)
	} else {
		x.view.rows[id] = *now
	}
}

// save makes a savepoint, or releases one when they are as deep as they go.
func (s *sim) save(x *simTx) {
	sp, err := x.tx.Save()
	if err == nil {
		x.saves = append(x.saves, save{sp, x.view.clone(), maps.Clone(x.changes), maps.Clone(x.adds), len(x.ddl)})
		return
	}
	if !errors.Is(err, ese.ErrTooDeep) || len(x.saves) != 6 {
		s.fatal("savepoint %d: %v", len(x.saves), err)
	}
	n := s.rng.IntN(len(x.saves))
	if err := x.tx.Release(x.saves[n].sp); err != nil {
		s.fatal("release a savepoint: %v", err)
	}
	x.saves = x.saves[:n]
}

// conflict tells whether err is a write conflict, and then rolls back.
func (s *sim) conflict(x *simTx, err error) bool {
	if !errors.Is(err, ese.ErrWriteConflict) {
		return false
	}
	i := slices.Index(s.open, x)
	s.open = slices.Delete(s.open, i, i+1)
	if err := x.tx.Rollback(); err != nil {
		s.hard("rollback: %v", err)
	}
	return true
}

// add adds to the escrow column of a row, where other open transactions may do so too.
func (s *sim) add(x *simTx, id int) {
	by := s.rng.Int64N(1000) - 500
	err := x.tx.Add(s.tb, s.c["Sum"], by, ese.Int(id))
	if s.conflict(x, err) {
		return
	}
	if err != nil {
		s.fatal("add to row %d: %v", id, err)
	}
	r := x.view.rows[id]
	r.sum += by
	x.view.rows[id] = r
	if x.changes[id] != nil {
		x.changes[id] = &r
	} else {
		x.adds[id] += by
	}
	s.counts.Adds++
}

// endTx commits or rolls back.
func (s *sim) endTx(x *simTx) {
	if s.rng.IntN(4) == 0 {
		if err := x.tx.Rollback(); err != nil {
			s.hard("rollback: %v", err)
		}
		return
	}
	n := len(s.history)
	if err := errors.Join(
		x.tx.Insert(s.mk.NewRow().Set(s.mkID, ese.Int(n))), s.insertPair(x.tx, n),
	); err != nil {
		if !errors.Is(err, ese.ErrWriteConflict) && !s.isFull(err) {
			s.fatal("marker: %v", err)
		}
		if err := x.tx.Rollback(); err != nil {
			s.hard("rollback: %v", err)
		}
		return
	}
	pos, err := x.tx.CommitLazy()
	if err != nil {
		s.hard("commit: %v", err)
	}
	next := s.history[n-1].clone()
	next.markers = n
	for id, r := range x.changes {
		if r == nil {
			delete(next.rows, id)
		} else {
			next.rows[id] = *r
		}
	}
	for id, by := range x.adds {
		r := next.rows[id]
		r.sum += by
		next.rows[id] = r
	}
	for _, fn := range x.ddl {
		fn(&next.schema)
		s.counts.DDL++
	}
	s.history = append(s.history, next)
	s.counts.Commits++
	if s.rng.IntN(2) == 0 {
		if err := s.in.WaitDurable(pos); err != nil {
			s.hard("wait: %v", err)
		}
		s.acked = n
	}
}

// finish closes clean and runs the full check.
func (s *sim) finish() {
	for _, x := range s.open {
		if err := x.tx.Rollback(); err != nil {
			s.hard("rollback: %v", err)
		}
	}
	for len(s.readers) > 0 {
		s.readOn()
	}
	s.endHeld()
	tx := s.in.BeginReadLatest()
	s.compare(tx, s.history[len(s.history)-1])
	_ = tx.Rollback()
	s.collect()
	if err := s.in.Close(); err != nil {
		s.hard("close: %v", err)
	}
	esetest.Check(s.t, s.disk.Mem, "/d/a.edb")
	esetest.Check(s.t, s.disk.Mem, s.pair.path)
}
