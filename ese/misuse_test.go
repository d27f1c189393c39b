package ese_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
	"pillarbox/ese/vfs"
)

func newPeople(t *testing.T, g *esetest.Group, db *ese.Database) *ese.Table {
	t.Helper()
	var tb *ese.Table
	must(t, g.In.Update(context.Background(), func(tx *ese.Tx) (err error) {
		tb, err = tx.CreateTable(db, peopleDef())
		return err
	}))
	return tb
}

// After a savepoint was rolled back and something else done, the number of changes may be
// the same as before; an old cursor must show what is there now.
func TestCursorAfterSavepoint(t *testing.T) {
	g := esetest.Open(t, ese.Options{})
	tb := newPeople(t, g, g.Database("a.edb"))
	id := col(t, tb, "ID")
	must(t, g.In.Update(context.Background(), func(tx *ese.Tx) error {
		must(t, tx.Insert(tb.NewRow().Set(id, ese.Int(1))))
		sp, err := tx.Save()
		must(t, err)
		must(t, tx.Insert(tb.NewRow().Set(id, ese.Int(2))))
		c := tx.Cursor(tb.Primary())
		if ok, err := c.Seek(ese.Int(2)); !ok || err != nil {
			t.Fatal(ok, err)
		}
		must(t, tx.RollbackTo(sp))
		must(t, tx.Insert(tb.NewRow().Set(id, ese.Int(3))))
		if ok, err := c.Seek(ese.Int(2)); !ok || err != nil || c.Row().Int(id) != 3 {
			t.Errorf("after the rollback the cursor stands on %d (%v, %v), want 3", c.Row().Int(id), ok, err)
		}
		return nil
	}))
}

// A table made after a savepoint is gone when that is rolled back.
func TestCreateTableRolledBack(t *testing.T) {
	g := esetest.Open(t, ese.Options{})
	db := g.Database("a.edb")
	must(t, g.In.Update(context.Background(), func(tx *ese.Tx) error {
		sp, err := tx.Save()
		must(t, err)
		if _, err := tx.CreateTable(db, peopleDef()); err != nil {
			return err
		}
		must(t, tx.RollbackTo(sp))
		if _, err := db.Table("People"); !errors.Is(err, ese.ErrNotFound) {
			t.Errorf("the table is still there: %v", err)
		}
		return nil
	}))
	tb := newPeople(t, g, db)
	must(t, g.In.Update(context.Background(), func(tx *ese.Tx) error {
		return tx.Insert(tb.NewRow().Set(col(t, tb, "ID"), ese.Int(1)))
	}))
	g.Crash()
}

// Last and Prev also find rows whose further columns are NULL in a descending index: their
// keys go on with 0xff.
func TestLastOfDescendingNull(t *testing.T) {
	g := esetest.Open(t, ese.Options{})
	db := g.Database("a.edb")
	var tb *ese.Table
	must(t, g.In.Update(context.Background(), func(tx *ese.Tx) (err error) {
		tb, err = tx.CreateTable(db, ese.TableDef{
			Name: "T",
			Columns: []ese.ColumnDef{
				{Name: "ID", Type: ese.Long, NotNull: true}, {Name: "A", Type: ese.Long}, {Name: "B", Type: ese.Long},
			},
			Indexes: []ese.IndexDef{
				{Name: "ID", Primary: true, Columns: []ese.IndexColumn{{Name: "ID"}}},
				{Name: "AB", Columns: []ese.IndexColumn{{Name: "A"}, {Name: "B", Descending: true}}},
			},
		})
		if err != nil {
			return err
		}
		id, a, b := col(t, tb, "ID"), col(t, tb, "A"), col(t, tb, "B")
		must(t, tx.Insert(tb.NewRow().Set(id, ese.Int(1)).Set(a, ese.Int(5)).Set(b, ese.Int(7))))
		return tx.Insert(tb.NewRow().Set(id, ese.Int(2)).Set(a, ese.Int(5)))
	}))
	must(t, g.In.View(func(tx *ese.Tx) error {
		x, err := tb.Index("AB")
		must(t, err)
		c := tx.Cursor(x)
		must(t, c.Prefix(ese.Int(5)))
		if ok, err := c.Last(); !ok || err != nil || c.Row().Int(col(t, tb, "ID")) != 2 {
			t.Errorf("the last row is %d (%v, %v), want 2", c.Row().Int(col(t, tb, "ID")), ok, err)
		}
		return nil
	}))
}

// A panic in a transaction's function leaves no open transaction behind.
func TestPanicRollsBack(t *testing.T) {
	g := esetest.Open(t, ese.Options{})
	tb := newPeople(t, g, g.Database("a.edb"))
	for _, run := range []func(func(*ese.Tx) error) error{
		func(fn func(*ese.Tx) error) error { return g.In.Update(context.Background(), fn) },
		g.In.View,
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic was swallowed")
				}
			}()
			_ = run(func(tx *ese.Tx) error {
				_ = tx.Insert(tb.NewRow().Set(col(t, tb, "ID"), ese.Int(9)))
				panic("bug of the caller")
			})
		}()
		if n := g.In.Stats().ActiveTx; n != 0 {
			t.Errorf("%d transactions are open", n)
		}
	}
}

// What is used after Close gives an error, also from other goroutines in the middle of work.
func TestUseAfterClose(t *testing.T) {
	fs := vfs.NewMem()
	in, err := ese.Open(ese.Options{FS: fs, Dir: "d", CacheBytes: 64 * 8192})
	must(t, err)
	db, err := in.OpenDatabase("a.edb")
	must(t, err)
	var tb *ese.Table
	must(t, in.Update(context.Background(), func(tx *ese.Tx) error {
		if tb, err = tx.CreateTable(db, peopleDef()); err != nil {
			return err
		}
		for i := range 2000 {
			if err := tx.Insert(tb.NewRow().Set(tb.Columns()[0], ese.Int(i))); err != nil {
				return err
			}
		}
		return nil
	}))
	held := in.BeginRead() // keeps Close from a clean shutdown
	cur := held.Cursor(tb.Primary())
	if ok, err := cur.First(); !ok || err != nil {
		t.Fatal(ok, err)
	}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for range 1_000_000 {
				var err error
				if w%2 == 0 {
					err = in.View(func(tx *ese.Tx) error {
						c := tx.Cursor(tb.Primary())
						ok, err := c.First()
						for ; ok && err == nil; ok, err = c.Next() {
						}
						return err
					})
				} else {
					err = in.Update(context.Background(), func(tx *ese.Tx) error {
						return tx.Update(tb.NewRow().Set(col(t, tb, "Age"), ese.Int(w)), ese.Int(w))
					})
				}
				if err != nil {
					return
				}
			}
			t.Error("still at work after Close")
		})
	}
	time.Sleep(20 * time.Millisecond)
	if err := in.Close(); err == nil {
		t.Error("Close with an open transaction says nothing")
	}
	wg.Wait()
	for ok := true; ok && err == nil; {
		ok, err = cur.Next()
	}
	if _, gerr := held.Get(tb, new(ese.RowView), new([]byte), ese.Int(1999)); gerr == nil {
		t.Error("a lookup after Close finds the row")
	}
	if _, err := in.OpenDatabase("a.edb"); !errors.Is(err, ese.ErrClosed) {
		t.Errorf("open a database after Close: %v", err)
	}
	_ = held.Rollback()
	in2, err := ese.Open(ese.Options{FS: fs, Dir: "d"})
	must(t, err)
	must(t, in2.Close())
}

// A stream that was finished and never adopted goes when its lease ends, not before.
func TestLeaseEnds(t *testing.T) {
	var mu sync.Mutex
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	pass := func(d time.Duration) {
		mu.Lock()
		now = now.Add(d)
		mu.Unlock()
	}
	g := esetest.Open(t, ese.Options{Manual: true, Now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}})
	db := g.Database("a.edb")
	w, err := db.NewStream()
	must(t, err)
	pass(3 * time.Hour) // a slow client
	if _, err := io.WriteString(w, "hello"); err != nil {
		t.Fatal(err)
	}
	must(t, w.Close())
	clean := func() {
		for range 4 {
			for n := range ese.Steps {
				must(t, g.In.Step(n))
			}
		}
	}
	there := func() error {
		return g.In.View(func(tx *ese.Tx) error {
			r, err := tx.OpenStream(db, w.ID())
			if err != nil {
				return err
			}
			return r.Close()
		})
	}
	clean()
	must(t, there())
	pass(2 * time.Hour)
	clean()
	if err := there(); !errors.Is(err, ese.ErrNotFound) {
		t.Errorf("two hours after its writer ended the stream is there: %v", err)
	}
}

// A damaged catalog, or one of a newer version, is an error at each opening and never a
// reason to begin anew.
func TestDamagedCatalogIsKept(t *testing.T) {
	fs := vfs.NewMem()
	for _, what := range []string{"damaged", "blank"} {
		in, err := ese.Open(ese.Options{FS: fs, Dir: what})
		must(t, err)
		db, err := in.OpenDatabase("a.edb")
		must(t, err)
		must(t, in.Update(context.Background(), func(tx *ese.Tx) error {
			for i := range 60 {
				d := peopleDef()
				d.Name = fmt.Sprint("T", i)
				if _, err := tx.CreateTable(db, d); err != nil {
					return err
				}
			}
			return nil
		}))
		must(t, in.Close())
		path := filepath.Join(what, "a.edb")
		f, err := fs.OpenFile(path, 2, 0)
		must(t, err)
		bad := make([]byte, 8192)
		if what == "damaged" {
			copy(bad[100:], "no catalog")
		}
		if _, err := f.WriteAt(bad, 5*8192); err != nil {
			t.Fatal(err)
		}
		must(t, f.Close())
		size, err := fs.Stat(path)
		must(t, err)
		if in, err = ese.Open(ese.Options{FS: fs, Dir: what}); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := in.OpenDatabase("a.edb"); err == nil {
				t.Fatalf("%s: a database without a catalog opens", what)
			}
		}
		if now, err := fs.Stat(path); err != nil || now < size {
			t.Errorf("%s: the file had %d bytes, now %d: %v", what, size, now, err)
		}
		_ = in.Close()
		if now, err := fs.Stat(path); err != nil || now < size {
			t.Errorf("%s: the file had %d bytes, now %d: %v", what, size, now, err)
		}
	}
}

// Two openings of one database at the same time get the same one.
func TestOpenDatabaseTogether(t *testing.T) {
	g := esetest.Open(t, ese.Options{})
	var wg sync.WaitGroup
	got := make([]*ese.Database, 8)
	for i := range got {
		wg.Go(func() {
			db, err := g.In.OpenDatabase("a.edb")
			if err != nil {
				t.Error(err)
			}
			got[i] = db
		})
	}
	wg.Wait()
	for _, db := range got {
		if db != got[0] {
			t.Fatal("different databases of one name")
		}
	}
}

// Making a database on a disk that fills up leaves nothing half-made: with space again it
// opens, in the same process or the next.
func TestCreateDatabaseOnFullDisk(t *testing.T) {
	for after := range 40 {
		mem := vfs.NewMem()
		fault := vfs.NewFault(mem)
		in, err := ese.Open(ese.Options{FS: fault, Dir: "d", GenerationBytes: 64 << 10, Manual: true})
		must(t, err)
		full := fault.Inject(vfs.Rule{Op: vfs.OpWrite, Path: "*.log", After: after, Err: syscall.ENOSPC})
		db, err := in.OpenDatabase("a.edb")
		full.Remove()
		if err != nil && in.Err() == nil {
			must(t, in.Step(5)) // the log is prepared again
			db, err = in.OpenDatabase("a.edb")
		}
		if in.Err() != nil {
			_ = in.Close()
			in, err = ese.Open(ese.Options{FS: mem, Dir: "d"})
			must(t, err)
			db, err = in.OpenDatabase("a.edb")
		}
		if err != nil {
			t.Fatalf("full after %d writes: %v", after, err)
		}
		must(t, in.Update(context.Background(), func(tx *ese.Tx) error {
			_, err := tx.CreateTable(db, peopleDef())
			return err
		}))
		must(t, in.Close())
		esetest.Check(t, mem, filepath.Join("d", "a.edb"))
	}
}

// A full log disk refuses changes, lets open transactions end, and is over when there is
// space again.
func TestLogDiskFull(t *testing.T) {
	fault := vfs.NewFault(vfs.NewMem())
	in, err := ese.Open(ese.Options{FS: fault, Dir: "d", GenerationBytes: 256 << 10})
	must(t, err)
	db, err := in.OpenDatabase("a.edb")
	must(t, err)
	ctx := context.Background()
	var tb *ese.Table
	must(t, in.Update(ctx, func(tx *ese.Tx) error {
		tb, err = tx.CreateTable(db, peopleDef())
		return err
	}))
	id, photo := col(t, tb, "ID"), col(t, tb, "Photo")
	insert := func(tx *ese.Tx, i int) error {
		return tx.Insert(tb.NewRow().Set(id, ese.Int(i)).Set(photo, ese.Bytes(make([]byte, 500))))
	}
	full := fault.Inject(vfs.Rule{Op: vfs.OpOpen, Path: "E00tmp.log", Grow: true, Err: syscall.ENOSPC})
	open, lost := in.Begin(), in.Begin()
	must(t, insert(open, -1))
	must(t, insert(lost, -2))
	n := 0
	for ; ; n++ {
		if err = in.Update(ctx, func(tx *ese.Tx) error { return insert(tx, n) }); err != nil {
			break
		}
		if n > 10_000 {
			t.Fatal("the disk never fills")
		}
	}
	if !errors.Is(err, ese.ErrLogDiskFull) || !errors.Is(err, syscall.ENOSPC) || in.Err() != nil {
		t.Fatalf("on a full disk: %v (the instance: %v)", err, in.Err())
	}
	if _, err := open.Commit(); err != nil {
		t.Errorf("an open transaction cannot commit: %v", err)
	}
	must(t, lost.Rollback())
	must(t, in.View(func(tx *ese.Tx) error {
		if ok, err := tx.Get(tb, new(ese.RowView), new([]byte), ese.Int(-1)); !ok || err != nil {
			t.Errorf("the row is not there: %v", err)
		}
		if ok, err := tx.Get(tb, new(ese.RowView), new([]byte), ese.Int(-2)); ok || err != nil {
			t.Errorf("the row rolled back is there: %v", err)
		}
		return nil
	}))
	full.Remove()
	for i := 0; ; i++ {
		if err = in.Update(ctx, func(tx *ese.Tx) error { return insert(tx, n) }); err == nil {
			break
		}
		if !errors.Is(err, ese.ErrLogDiskFull) || i > 300 {
			t.Fatalf("with space again: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	must(t, in.Close())
	esetest.Check(t, fault, filepath.Join("d", "a.edb"))
}

// The double-write file of a database that was removed is not restored into a new one of the
// same name.
func TestForeignDoubleWrite(t *testing.T) {
	fs := vfs.NewMem()
	var logged strings.Builder
	logger := slog.New(slog.NewTextHandler(&logged, nil))
	open := func() *ese.Instance {
		t.Helper()
		logged.Reset()
		in, err := ese.Open(ese.Options{FS: fs, Dir: "d", Manual: true, Logger: logger})
		must(t, err)
		return in
	}
	fill := func(in *ese.Instance) {
		t.Helper()
		db, err := in.OpenDatabase("a.edb")
		must(t, err)
		must(t, in.Update(context.Background(), func(tx *ese.Tx) error {
			tb, err := tx.CreateTable(db, peopleDef())
			if err != nil {
				return err
			}
			return tx.Insert(tb.NewRow().Set(col(t, tb, "ID"), ese.Int(1)))
		}))
	}
	in := open()
	fill(in)
	must(t, in.Close())
	must(t, fs.Remove("d/a.edb"))
	must(t, fs.Remove("d/a.stm"))
	in = open()
	if s := logged.String(); strings.Contains(s, "recovery") || !strings.Contains(s, "opened clean") {
		t.Errorf("after a clean shutdown the log says:\n%s", s)
	}
	fill(in)
	must(t, in.Kill())
	in = open()
	if n := in.Recovery().Torn; n != 0 {
		t.Errorf("%d pages of the old database were restored", n)
	}
	if s := logged.String(); !strings.Contains(s, "recovery begun") || !strings.Contains(s, "recovery ended") {
		t.Errorf("after a crash the log says:\n%s", s)
	}
	must(t, in.Close())
	esetest.Check(t, fs, filepath.Join("d", "a.edb"))
}

// A disk that fills up under any of the files loses no commit that was reported.
func TestFullDiskKeepsCommits(t *testing.T) {
	for _, path := range []string{"a.edb", "a.dw", "a.stm", "E00*.chk", "*.log"} {
		for after := 0; after < 30; after += 3 {
			fullDisk(t, path, after)
		}
	}
}

func fullDisk(t *testing.T, path string, after int) {
	t.Helper()
	mem := vfs.NewMem()
	fault := vfs.NewFault(mem)
	o := ese.Options{
		FS: fault, Dir: "d", GenerationBytes: 64 << 10, CacheBytes: 32 * 4096, PageSize: 4096,
		CheckpointDepth: 128 << 10, StreamBytes: 64 << 10, Manual: true,
	}
	in, err := ese.Open(o)
	must(t, err)
	db, err := in.OpenDatabase("a.edb")
	must(t, err)
	ctx := context.Background()
	var tb *ese.Table
	must(t, in.Update(ctx, func(tx *ese.Tx) error {
		tb, err = tx.CreateTable(db, peopleDef())
		return err
	}))
	id, key, photo := tb.Columns()[0], col(t, tb, "Key"), col(t, tb, "Photo")
	fault.Inject(vfs.Rule{Op: vfs.OpWrite, Path: path, After: after, Err: syscall.ENOSPC})
	stored := make(map[int]ese.StreamID)
	for i := range 200 {
		var sid ese.StreamID
		err := in.Update(ctx, func(tx *ese.Tx) error {
			if sid, err = tx.WriteStream(db, make([]byte, 3000+i)); err != nil {
				return err
			}
			r := tb.NewRow().Set(id, ese.Int(i)).Set(key, ese.Bytes(fmt.Append(nil, sid)))
			return tx.Insert(r.Set(photo, ese.Bytes(make([]byte, 700))))
		})
		if err == nil {
			stored[i] = sid
		}
		if in.Step(i%ese.Steps) != nil && in.Err() != nil {
			break
		}
	}
	_ = in.Close()
	o.FS = mem
	in, err = ese.Open(o)
	if err != nil {
		t.Fatalf("%s full after %d writes: %v", path, after, err)
	}
	db, err = in.OpenDatabase("a.edb")
	must(t, err)
	if tb, err = db.Table("People"); err != nil {
		t.Fatal(err)
	}
	must(t, in.View(func(tx *ese.Tx) error {
		for i, sid := range stored {
			if ok, err := tx.Get(tb, new(ese.RowView), new([]byte), ese.Int(i)); !ok || err != nil {
				return fmt.Errorf("%s full after %d writes: row %d: %v %v", path, after, i, ok, err)
			}
			r, err := tx.OpenStream(db, sid)
			if err != nil {
				return err
			}
			if b, err := io.ReadAll(io.NewSectionReader(r, 0, 1<<20)); err != nil || len(b) != 3000+i {
				return fmt.Errorf("%s full after %d writes: stream of row %d: %d bytes, %v", path, after, i, len(b), err)
			}
			if err := r.Close(); err != nil {
				return err
			}
		}
		return nil
	}))
	must(t, in.Close())
	esetest.Check(t, mem, filepath.Join("d", "a.edb"))
}
