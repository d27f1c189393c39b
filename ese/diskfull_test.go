package ese_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
	"pillarbox/ese/internal/dbheader"
	"pillarbox/ese/vfs"
)

// fullGroup is a storage group on a disk that can be full, driven step by step.
type fullGroup struct {
	t    *testing.T
	disk *vfs.Mem
	fs   *vfs.Fault
	o    ese.Options
	now  time.Time
	in   *ese.Instance
	db   *ese.Database
	tb   *ese.Table
	id   *ese.Column
	pic  *ese.Column
	rows map[int]int // id -> bytes of the photo
}

func newFullGroup(t *testing.T, o ese.Options) *fullGroup {
	g := &fullGroup{t: t, disk: vfs.NewMem(), now: time.Unix(1e9, 0), rows: map[int]int{}}
	g.fs = vfs.NewFault(g.disk)
	o.FS, o.Dir, o.Manual = g.fs, "/d", true
	o.Now = func() time.Time { g.now = g.now.Add(time.Millisecond); return g.now }
	if o.GenerationBytes == 0 {
		o.GenerationBytes = 64 << 10
	}
	g.o = o
	g.open()
	return g
}

func (g *fullGroup) open() {
	g.t.Helper()
	var err error
	g.in, err = ese.Open(g.o)
	must(g.t, err)
	g.db, err = g.in.OpenDatabase("a.edb")
	must(g.t, err)
	if g.tb, err = g.db.Table("People"); err != nil {
		must(g.t, g.in.Update(context.Background(), func(tx *ese.Tx) error {
			g.tb, err = tx.CreateTable(g.db, peopleDef())
			return err
		}))
	}
	g.id, g.pic = col(g.t, g.tb, "ID"), col(g.t, g.tb, "Photo")
}

func (g *fullGroup) insert(tx *ese.Tx, id, n int) error {
	return tx.Insert(g.tb.NewRow().Set(g.id, ese.Int(id)).Set(g.pic, ese.Bytes(make([]byte, n))))
}

// fill inserts rows until that is refused, and returns the error.
func (g *fullGroup) fill(from, size int) error {
	g.t.Helper()
	for id := from; id < from+20_000; id++ {
		err := g.in.Update(context.Background(), func(tx *ese.Tx) error { return g.insert(tx, id, size) })
		if err != nil {
			return err
		}
		g.rows[id] = size
	}
	g.t.Fatal("the disk never fills")
	return nil
}

// expect compares the table with what was committed.
func (g *fullGroup) expect() {
	g.t.Helper()
	must(g.t, g.in.View(func(tx *ese.Tx) error {
		n := 0
		c := tx.Cursor(g.tb.Primary())
		ok, err := c.First()
		for ; ok && err == nil; ok, err = c.Next() {
			b, err := c.Row().Blob(g.pic, nil)
			if id := int(c.Row().Int(g.id)); err != nil || len(b) != g.rows[id] {
				return fmt.Errorf("row %d: %d bytes, want %d: %w", id, len(b), g.rows[id], err)
			}
			n++
		}
		if err == nil && n != len(g.rows) {
			err = fmt.Errorf("%d rows, want %d", n, len(g.rows))
		}
		return err
	}))
}

func (g *fullGroup) close() {
	g.t.Helper()
	must(g.t, g.in.Close())
	esetest.Check(g.t, g.disk, "/d/a.edb")
}

func (g *fullGroup) state() dbheader.State {
	g.t.Helper()
	f, err := g.disk.OpenFile("/d/a.edb", 0, 0)
	must(g.t, err)
	h, _, err := dbheader.Read(f)
	must(g.t, err)
	must(g.t, f.Close())
	return h.State
}

// TestLogDiskFullSteps fills the disk at each step of the preparation of a generation. What is
// open then can commit or roll back, reads go on, and work resumes with the space.
func TestLogDiskFullSteps(t *testing.T) {
	rules := map[string]vfs.Rule{
		"no file can be made": {Op: vfs.OpOpen, Path: "E00tmp.log", Grow: true, Err: vfs.ErrDiskFull},
		"no rename":           {Op: vfs.OpRename, Path: "E00free*", Err: vfs.ErrDiskFull},
	}
	for after := range 3 {
		rules[fmt.Sprintf("write %d", after)] = vfs.Rule{
			Op: vfs.OpWrite, Path: "E00tmp.log", Grow: true, After: after, Err: vfs.ErrDiskFull,
		}
		rules[fmt.Sprintf("short write %d", after)] = vfs.Rule{
			Op: vfs.OpWrite, Path: "E00tmp.log", Grow: true, After: after, ShortBytes: 777,
			Err: vfs.ErrDiskFull,
		}
	}
	for name, rule := range rules {
		t.Run(name, func(t *testing.T) {
			g := newFullGroup(t, ese.Options{})
			_, held := g.in.Begin(), g.in.BeginRead()
			stays, goes := g.in.Begin(), g.in.Begin()
			must(t, g.insert(stays, -1, 500))
			for i := range 20 {
				must(t, g.insert(goes, -2-i, 3000))
			}
			full := g.fs.Inject(rule)
			if name == "no rename" {
				_ = g.in.Step(5)
				full.Remove()
				full = g.fs.Inject(rules["no file can be made"])
			}
			if err := g.fill(0, 500); !errors.Is(err, ese.ErrLogDiskFull) || g.in.Err() != nil {
				t.Fatalf("on a full disk: %v, the instance: %v", err, g.in.Err())
			}
			must(t, goes.Rollback())
			_, err := stays.Commit()
			must(t, err)
			g.rows[-1] = 500
			g.expect()
			must(t, held.Rollback())
			full.Remove()
			g.now = g.now.Add(time.Second)
			for id := 50_000; id < 50_100; id++ {
				must(t, g.in.Update(context.Background(), func(tx *ese.Tx) error { return g.insert(tx, id, 100) }))
				g.rows[id] = 100
			}
			g.expect()
		})
	}
}

// TestLogDiskFullClose shows that a storage group can be closed clean, and opened, on a disk
// that is full.
func TestLogDiskFullClose(t *testing.T) {
	g := newFullGroup(t, ese.Options{})
	g.disk.SetCapacity(g.disk.Used() + 100<<10)
	if err := g.fill(0, 800); !errors.Is(err, ese.ErrLogDiskFull) {
		t.Fatal(err)
	}
	g.close()
	if s := g.state(); s != dbheader.CleanShutdown {
		t.Errorf("state %v", s)
	}
	g.disk.SetCapacity(0)
	g.open()
	g.expect()
	g.close()
}

// TestDismount shows that the databases are dismounted clean when the log disk stays full for
// longer than the limit, once the open transactions have ended.
func TestDismount(t *testing.T) {
	for _, rows := range []int{1, 20} { // the rollback of many goes on in a reserve file
		t.Run(fmt.Sprint(rows), func(t *testing.T) { dismount(t, rows) })
	}
}

func dismount(t *testing.T, rows int) {
	g := newFullGroup(t, ese.Options{DiskFullLimit: time.Minute})
	must(t, g.insertOne(-9, 1))
	locks := g.in.Begin()
	must(t, locks.Lock(g.tb, ese.Int(-9)))
	open := g.in.Begin()
	for i := range rows {
		must(t, g.insert(open, -100-i, 3000))
	}
	g.disk.SetCapacity(1)
	if err := g.fill(0, 500); !errors.Is(err, ese.ErrLogDiskFull) {
		t.Fatal(err)
	}
	watch := func(want error) {
		t.Helper()
		must(t, g.in.Step(7))
		if err := g.in.Err(); !errors.Is(err, want) {
			t.Fatalf("the instance: %v, want %v", err, want)
		}
	}
	watch(nil)
	g.now = g.now.Add(time.Minute)
	watch(nil) // a transaction is open
	if err := g.insert(open, -2, 100); !errors.Is(err, ese.ErrLogDiskFull) && !errors.Is(err, ese.ErrDismounted) {
		t.Errorf("a change while dismounting: %v", err)
	}
	g.expect()
	must(t, open.Rollback())
	watch(ese.ErrDismounted)
	if err := locks.Rollback(); err != nil {
		t.Errorf("a transaction that had changed nothing: %v", err)
	}
	if s := g.state(); s != dbheader.CleanShutdown {
		t.Errorf("state %v", s)
	}
	if err := g.in.Update(context.Background(), func(tx *ese.Tx) error { return g.insert(tx, -3, 1) }); !errors.Is(err, ese.ErrDismounted) {
		t.Errorf("a change after: %v", err)
	}
	if err := g.in.View(func(tx *ese.Tx) error {
		_, err := tx.Cursor(g.tb.Primary()).First()
		return err
	}); !errors.Is(err, ese.ErrClosed) {
		t.Errorf("a read after: %v", err)
	}
	must(t, g.in.Close())
	g.disk.SetCapacity(0)
	g.open()
	g.expect()
	g.close()
}

// TestDatabaseDiskFull shows that a database file that cannot grow ends only the changes that
// need space.
func TestDatabaseDiskFull(t *testing.T) {
	for _, size := range []int{300, 9000} {
		g := newFullGroup(t, ese.Options{GenerationBytes: 1 << 20})
		var rules []*vfs.Injection
		for _, op := range []vfs.Op{vfs.OpWrite, vfs.OpTruncate, vfs.OpAllocate} {
			for _, path := range []string{"*.edb", "*.stm", "*.dw"} {
				rules = append(rules, g.fs.Inject(vfs.Rule{Op: op, Path: path, Grow: true, Err: vfs.ErrDiskFull}))
			}
		}
		err := g.fill(0, size)
		if !errors.Is(err, ese.ErrDiskFull) || errors.Is(err, ese.ErrLogDiskFull) || g.in.Err() != nil {
			t.Fatalf("on a full disk: %v, the instance: %v", err, g.in.Err())
		}
		g.expect()
		for id := range len(g.rows) / 2 { // deleting needs no space
			must(t, g.in.Update(context.Background(), func(tx *ese.Tx) error { return tx.Delete(g.tb, ese.Int(id)) }))
			delete(g.rows, id)
		}
		for n := range 20 * ese.Steps {
			must(t, g.in.Step(n%ese.Steps))
		}
		g.expect()
		big := make([]byte, 8<<20)
		err = g.in.Update(context.Background(), func(tx *ese.Tx) error {
			_, err := tx.WriteStream(g.db, big)
			return err
		})
		if !errors.Is(err, ese.ErrDiskFull) {
			t.Errorf("a stream on a full disk: %v", err)
		}
		must(t, g.insertOne(100_000, size)) // into what the deletions left
		for _, r := range rules {
			r.Remove()
		}
		for id := 200_000; id < 200_500; id++ {
			must(t, g.insertOne(id, size))
		}
		must(t, g.in.Update(context.Background(), func(tx *ese.Tx) error {
			_, err := tx.WriteStream(g.db, big)
			return err
		}))
		g.expect()
		g.close()
	}
}

func (g *fullGroup) insertOne(id, size int) error {
	err := g.in.Update(context.Background(), func(tx *ese.Tx) error { return g.insert(tx, id, size) })
	if err == nil {
		g.rows[id] = size
	}
	return err
}

// TestRefusedChangeLeavesPageClean: a change that the full log refuses was announced on its page
// before. The page must not be written for it: the flush map would know it by another type, of
// which no record tells redo.
func TestRefusedChangeLeavesPageClean(t *testing.T) {
	g := newFullGroup(t, ese.Options{ScrubEvery: -1})
	used := g.disk.Used()
	g.disk.SetCapacity(used + 200<<10)
	refused := false
	for id := 0; id < 20_000 && !refused; id++ {
		for g.in.Stats().Cache.Dirty > 0 {
			must(t, g.in.Step(0))
			must(t, g.in.Step(2))
		}
		err := g.in.Update(context.Background(), func(tx *ese.Tx) error { return g.insert(tx, id, 0) })
		if err == nil {
			g.rows[id] = 0
			continue
		}
		if !errors.Is(err, ese.ErrLogDiskFull) {
			t.Fatal(err)
		}
		if n := g.in.Stats().Cache.Dirty; n != 0 {
			t.Errorf("%d dirty pages after a change that was refused", n)
		}
		refused = true
	}
	if !refused {
		t.Fatal("the log was never full")
	}
	g.disk.SetCapacity(used + 64<<20)
	g.expect()
	g.close()
}
