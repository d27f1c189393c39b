package ese_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
	"pillarbox/ese/vfs"
)

// lossRun writes rows with streams to two databases at once, deletes the oldest, and knows which
// rows were there after each commit.
type lossRun struct {
	t    *testing.T
	rng  *rand.Rand
	disk *vfs.Mem
	in   *ese.Instance
	dbs  [2]*ese.Database
	tabs [2]*ese.Table

	low, high int64 // the rows that are there
	states    []lossState
}

// lossState is what a commit left.
type lossState struct {
	end       ese.LogPos
	low, high int64
}

var lossNames = [2]string{"a.edb", "b.edb"}

func (r *lossRun) options(fsys vfs.FS) ese.Options {
	return ese.Options{
		Dir: "/data", FS: fsys, Manual: true, GenerationBytes: 64 << 10, CacheBytes: 1 << 20,
		CheckpointDepth: 1 << 20, StreamBytes: 128 << 10, Rand: r.rng.Uint32,
	}
}

func (r *lossRun) open(o ese.Options) {
	r.t.Helper()
	in, err := ese.Open(o)
	must(r.t, err)
	r.in = in
	for i, name := range lossNames {
		r.dbs[i], err = in.OpenDatabase(name)
		must(r.t, err)
		r.tabs[i], err = r.dbs[i].Table("L")
		if errors.Is(err, ese.ErrNotFound) {
			err = in.Update(context.Background(), func(tx *ese.Tx) (err error) {
				r.tabs[i], err = tx.CreateTable(r.dbs[i], ese.TableDef{
					Name: "L",
					Columns: []ese.ColumnDef{
						{Name: "ID", Type: ese.LongLong},
						{Name: "Stream", Type: ese.LongLong},
						{Name: "Body", Type: ese.LongBinary},
					},
					Indexes: []ese.IndexDef{
						{Name: "pk", Primary: true, Columns: []ese.IndexColumn{{Name: "ID"}}},
					},
				})
				return err
			})
		}
		must(r.t, err)
	}
}

// body is the content of a row's stream and long value.
func lossBody(id int64) []byte {
	rng := rand.New(rand.NewPCG(uint64(id), 5))
	b := make([]byte, rng.IntN(9000))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func (r *lossRun) insert(tx *ese.Tx, i int, id int64) error {
	s, err := tx.WriteStream(r.dbs[i], lossBody(id))
	if err != nil {
		return err
	}
	row := r.tabs[i].NewRow().Set(col(r.t, r.tabs[i], "ID"), ese.Int(id))
	row.Set(col(r.t, r.tabs[i], "Stream"), ese.Int(s))
	row.Set(col(r.t, r.tabs[i], "Body"), ese.Bytes(lossBody(id)))
	return tx.Insert(row)
}

func (r *lossRun) remove(tx *ese.Tx, i int, id int64) error {
	c := tx.Cursor(r.tabs[i].Primary())
	ok, err := c.Seek(ese.Int(id))
	if err != nil || !ok {
		return errors.Join(err, fmt.Errorf("row %d is not there", id))
	}
	s := ese.StreamID(c.Row().Int(col(r.t, r.tabs[i], "Stream")))
	return errors.Join(tx.DeleteStream(r.dbs[i], s), c.Delete())
}

// write makes n commits, with background work between: busy of 100 times.
func (r *lossRun) write(n, busy int) {
	r.t.Helper()
	for range n {
		tx := r.in.Begin()
		grow := r.high-r.low < 5 || r.rng.IntN(2) == 0
		for i := range r.dbs {
			if grow {
				must(r.t, r.insert(tx, i, r.high))
			} else {
				must(r.t, r.remove(tx, i, r.low))
			}
		}
		if grow {
			r.high++
		} else {
			r.low++
		}
		end, err := tx.CommitLazy()
		must(r.t, err)
		r.states = append(r.states, lossState{end, r.low, r.high})
		must(r.t, r.in.Step(5)) // the next generation is prepared
		if r.rng.IntN(100) < busy {
			must(r.t, r.in.Step(r.rng.IntN(ese.Steps)))
		}
	}
}

// leaveOpen leaves a transaction open, part of it in the log.
func (r *lossRun) leaveOpen() {
	tx := r.in.Begin()
	for i := range r.dbs {
		must(r.t, r.insert(tx, i, 1_000_000+r.high))
	}
}

// check compares what is there with the rows from low to high.
func (r *lossRun) check(low, high int64) {
	r.t.Helper()
	for i := range r.dbs {
		must(r.t, r.in.View(func(tx *ese.Tx) error {
			want := low
			c := tx.Cursor(r.tabs[i].Primary())
			ok, err := c.First()
			for ; ok && err == nil; ok, err = c.Next() {
				v := c.Row()
				if id := v.Int(col(r.t, r.tabs[i], "ID")); id != want {
					return fmt.Errorf("%s: row %d, want %d", lossNames[i], id, want)
				}
				b, err := v.Blob(col(r.t, r.tabs[i], "Body"), nil)
				if err != nil || !bytes.Equal(b, lossBody(want)) {
					return fmt.Errorf("%s: long value of row %d: %w", lossNames[i], want, err)
				}
				s, err := tx.OpenStream(r.dbs[i], ese.StreamID(v.Int(col(r.t, r.tabs[i], "Stream"))))
				if err != nil {
					return err
				}
				b = make([]byte, s.Size())
				if _, err := s.ReadAt(b, 0); len(b) > 0 && err != nil {
					return err
				}
				if err := s.Close(); err != nil || !bytes.Equal(b, lossBody(want)) {
					return fmt.Errorf("%s: stream of row %d: %w", lossNames[i], want, err)
				}
				want++
			}
			if err == nil && want != high {
				err = fmt.Errorf("%s: rows to %d, want %d", lossNames[i], want, high)
			}
			return err
		}))
	}
}

func (r *lossRun) close() {
	r.t.Helper()
	must(r.t, r.in.Close())
	for _, name := range lossNames {
		esetest.Check(r.t, r.disk, "/data/"+name)
	}
}

// lose removes the newest n generations, the current one first.
func lose(t *testing.T, disk *vfs.Mem, n int) {
	t.Helper()
	must(t, disk.Remove("/data/E00.log"))
	names, err := disk.ReadDir("/data")
	must(t, err)
	for i := len(names) - 1; i >= 0 && n > 1; i-- {
		if strings.HasPrefix(names[i], "E000") && strings.HasSuffix(names[i], ".log") {
			must(t, disk.Remove("/data/"+names[i]))
			n--
		}
	}
	must(t, disk.SyncDir("/data"))
}

// at is what was committed up to a place in the log.
func (r *lossRun) at(pos ese.LogPos) (low, high int64) {
	for _, s := range r.states {
		if s.end > pos {
			break
		}
		low, high = s.low, s.high
	}
	return low, high
}

// newLossRun writes, leaves a transaction open and pulls the plug.
func newLossRun(t *testing.T, seed uint64) *lossRun {
	t.Helper()
	r := &lossRun{t: t, rng: rand.New(rand.NewPCG(seed, 3)), disk: vfs.NewMem()}
	r.open(r.options(r.disk))
	busy := []int{0, 3, 30, 90}[seed%4]
	r.write(20+r.rng.IntN(40), 100)
	if seed%3 == 0 { // from a clean end on
		r.close()
		r.open(r.options(r.disk))
	}
	r.write(20+r.rng.IntN(60), busy)
	r.leaveOpen()
	r.write(r.rng.IntN(15), busy)
	must(t, r.in.WaitDurable(r.states[len(r.states)-1].end))
	crashed := r.disk.CrashClone(r.rng)
	must(t, r.in.Kill())
	r.disk = crashed
	return r
}

// TestAcceptLoss loses the newest generations of the log. Without acceptance all that is missing
// is named. With it either exactly what was committed before is there, on a new stream, or it is
// refused, and then the files are as before and the log can still be put back.
func TestAcceptLoss(t *testing.T) {
	refused, accepted := 0, 0
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := newLossRun(t, seed)
			whole := r.disk.CrashClone(r.rng)
			lost := 1 + r.rng.IntN(3)
			lose(t, r.disk, lost)
			_, err := ese.Open(r.options(r.disk))
			var missing *ese.MissingLogsError
			if !errors.As(err, &missing) || !errors.Is(err, ese.ErrMissingLog) {
				t.Fatalf("without acceptance: %v", err)
			}
			if len(missing.Generations) < lost {
				t.Fatalf("%d lost, and named are %d", lost, missing.Generations)
			}
			o := r.options(r.disk)
			o.AcceptLoss = true
			in, err := ese.Open(o)
			if errors.Is(err, ese.ErrNeedsLostLog) {
				refused++
				r.disk = putBack(t, r.disk, whole)
				r.open(r.options(r.disk))
				r.check(r.low, r.high)
				r.close()
				return
			}
			must(t, err)
			accepted++
			r.settled(in, missing.Generations[0])
		})
	}
	t.Logf("%d accepted, %d refused", accepted, refused)
	if accepted < 10 || refused < 10 {
		t.Errorf("%d accepted, %d refused: too few to tell", accepted, refused)
	}
}

// settled checks an instance that has given up log, and that it stays so.
func (r *lossRun) settled(in *ese.Instance, first uint32) {
	t := r.t
	t.Helper()
	loss := in.Loss()
	if loss == nil || loss.First != first || loss.To.Generation() != first-1 || loss.Last < first {
		t.Fatalf("loss %+v, first missing %d", loss, first)
	}
	sign, fork := in.Parent()
	if sign == "" || sign == in.LogSignature() || fork != loss.To {
		t.Fatalf("the stream left %s at %v", sign, fork)
	}
	must(t, in.Close())
	if _, err := r.disk.Stat("/data/E00.loss"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the note: %v", err)
	}
	if _, err := r.disk.ReadDir(filepath.Join("/data", loss.Aside)); err != nil {
		t.Fatal(err)
	}
	r.low, r.high = r.at(loss.To)
	for range 2 {
		r.open(r.options(r.disk))
		r.check(r.low, r.high)
		r.write(10, 30)
		must(t, r.in.WaitDurable(r.states[len(r.states)-1].end))
		r.check(r.low, r.high)
		crashed := r.disk.CrashClone(r.rng)
		must(t, r.in.Kill())
		r.disk = crashed
		r.open(r.options(r.disk))
		r.check(r.low, r.high)
		if r.in.Loss() != nil {
			t.Fatal("it was given up once more")
		}
		r.close()
	}
}

// putBack copies the log files that are missing from another disk.
func putBack(t *testing.T, to, from *vfs.Mem) *vfs.Mem {
	t.Helper()
	names, err := from.ReadDir("/data")
	must(t, err)
	for _, n := range names {
		if filepath.Ext(n) != ".log" {
			continue
		}
		if _, err := to.Stat("/data/" + n); err == nil {
			continue
		}
		f := dbFile(t, from, "/data/"+n)
		size, err := f.Size()
		must(t, err)
		b := make([]byte, size)
		_, err = f.ReadAt(b, 0)
		must(t, err)
		g, err := to.OpenFile("/data/"+n, 0x42, 0o600)
		must(t, err)
		_, err = g.WriteAt(b, 0)
		must(t, errors.Join(err, g.SyncData(), g.Close(), to.SyncDir("/data")))
	}
	return to
}

// TestAcceptLossCut pulls the plug at every kind of moment while log is given up. Whoever opens
// next, also without acceptance, goes on with it; before the note is there nothing has changed.
func TestAcceptLossCut(t *testing.T) {
	before, during := 0, 0
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := newLossRun(t, seed*4) // none or little was written
			lose(t, r.disk, 1)
			o := r.options(nil)
			o.AcceptLoss = true
			cut := &esetest.CrashDisk{Mem: r.disk.CrashClone(r.rng), Rand: r.rng}
			cut.Left = 1 + r.rng.IntN(160)
			o.FS = cut
			in, err := ese.Open(o)
			if errors.Is(err, ese.ErrNeedsLostLog) {
				return
			}
			must(t, err)
			loss := in.Loss()
			must(t, in.Kill())
			if cut.Cut == nil {
				return
			}
			r.disk = cut.Cut
			in, err = ese.Open(r.options(r.disk))
			if errors.Is(err, ese.ErrMissingLog) {
				before++
				o.FS = r.disk
				in, err = ese.Open(o)
			} else {
				during++
			}
			must(t, err)
			if in.Loss() != nil {
				r.settled(in, loss.First)
				return
			}
			sign, fork := in.Parent()
			must(t, in.Close())
			if sign == "" || fork != loss.To {
				t.Fatalf("no new stream: %v", fork)
			}
			low, high := r.at(loss.To)
			r.open(r.options(r.disk))
			r.check(low, high)
			r.close()
		})
	}
	t.Logf("%d before the note, %d behind it", before, during)
	if before < 2 || during < 20 {
		t.Errorf("%d before the note, %d behind it: too few to tell", before, during)
	}
}

// Lost log is not given up against a database that neither checkpoint nor log nor folder tell of, but
// the options do.
func TestLossOfDatabaseElsewhere(t *testing.T) {
	const name = "/elsewhere/b.edb"
	mem, rng := vfs.NewMem(), rand.New(rand.NewPCG(1, 1))
	o := twoOptions(mem, rng)
	o.LogKeep = 1
	must(t, mem.MkdirAll("/elsewhere", 0o700))
	in, err := ese.Open(o)
	must(t, err)
	_, tb, c, err := numbers(in, name)
	must(t, err)
	for i := range int64(3000) {
		must(t, insertNumber(in, tb, c, i))
		if i%10 == 0 {
			must(t, in.Step(2))
		}
		if i%100 == 0 && i < 2000 {
			must(t, in.Step(4))
		}
	}
	for range 50 {
		must(t, in.Step(2))
	}
	mem = mem.CrashClone(rng)
	_ = in.Kill()
	if _, err := mem.Stat("/data/E0000000001.log"); err == nil {
		t.Fatal("the log tells of its making")
	}
	must(t, errors.Join(mem.Remove("/data/E00.chk"), mem.Remove("/data/E00.log")))
	o.FS, o.AcceptLoss, o.Databases = mem, true, []string{name}
	in, err = ese.Open(o)
	if err == nil {
		err = in.Close()
	}
	if !errors.Is(err, ese.ErrNeedsLostLog) {
		t.Errorf("with the log lost that %s needs: %v", name, err)
	}
}
