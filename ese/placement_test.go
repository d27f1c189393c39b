package ese_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
	"pillarbox/ese/vfs"
)

// groupWithRows makes a storage group with n people and returns it open.
func groupWithRows(t *testing.T, o ese.Options, db string, n int) (*ese.Instance, *ese.Table) {
	t.Helper()
	in, err := ese.Open(o)
	must(t, err)
	d, err := in.OpenDatabase(db)
	must(t, err)
	var tb *ese.Table
	must(t, in.Update(context.Background(), func(tx *ese.Tx) error {
		if tb, err = tx.CreateTable(d, peopleDef()); err != nil {
			return err
		}
		for i := range n {
			r := tb.NewRow().Set(col(t, tb, "ID"), ese.Int(i)).Set(col(t, tb, "Photo"), ese.Bytes(make([]byte, 3000)))
			if err := tx.Insert(r); err != nil {
				return err
			}
		}
		return nil
	}))
	return in, tb
}

func countPeople(t *testing.T, in *ese.Instance, db string) int {
	t.Helper()
	d, err := in.OpenDatabase(db)
	must(t, err)
	tb, err := d.Table("People")
	must(t, err)
	n := 0
	must(t, in.View(func(tx *ese.Tx) error {
		c := tx.Cursor(tb.Primary())
		ok, err := c.First()
		for ; ok && err == nil; ok, err = c.Next() {
			if b, err := c.Row().Blob(col(t, tb, "Photo"), nil); err != nil || len(b) != 3000 {
				return fmt.Errorf("%d bytes: %w", len(b), err)
			}
			n++
		}
		return err
	}))
	return n
}

// TestPlacement puts log, checkpoint and database in folders of their own, opens with another
// generation size, and looks at where the files are.
func TestPlacement(t *testing.T) {
	disk := vfs.NewMem()
	o := ese.Options{
		FS: disk, Dir: "/sys", LogDir: "/logs/deep", CheckpointDir: "/chk", Manual: true,
		GenerationBytes: 64 << 10, CheckpointDepth: 64 << 10,
	}
	must(t, disk.MkdirAll("/db", 0o700))
	in, _ := groupWithRows(t, o, "/db/a.edb", 100)
	must(t, in.Kill())
	for _, size := range []int64{256 << 10, 128 << 10} {
		o.GenerationBytes = size
		var err error
		in, err = ese.Open(o)
		must(t, err)
		if n := countPeople(t, in, "/db/a.edb"); n != 100 {
			t.Errorf("%d rows", n)
		}
		must(t, in.Close())
	}
	esetest.Check(t, disk, "/db/a.edb")
	for dir, want := range map[string][]string{
		"/sys": {"E00.lock"}, "/chk": {"E00.chk"}, "/db": {"a.dw", "a.edb", "a.jfm", "a.stm"},
	} {
		names, err := disk.ReadDir(dir)
		if must(t, err); !slices.Equal(names, want) {
			t.Errorf("%s holds %v, want %v", dir, names, want)
		}
	}
	if _, err := disk.Stat("/logs/deep/E00.log"); err != nil {
		t.Error(err)
	}
}

// TestBadOptions shows that options that cannot be are refused by name.
func TestBadOptions(t *testing.T) {
	for _, o := range []ese.Options{
		{},
		{Dir: "/d", PageSize: 5000},
		{Dir: "/d", GenerationBytes: 32 << 10},
		{Dir: "/d", GenerationBytes: 100_000},
		{Dir: "/d", GenerationBytes: 1 << 40},
		{Dir: "/d", CheckpointDepth: -1},
	} {
		o.FS = vfs.NewMem()
		if in, err := ese.Open(o); err == nil {
			t.Errorf("%+v is taken", o)
			must(t, in.Close())
		}
	}
}

// noWrites is a file system that cannot be written at all.
type noWrites struct{ *vfs.Fault }

// TestReadOnly opens a clean group on a disk that takes no write, and refuses a dirty one.
func TestReadOnly(t *testing.T) {
	disk := vfs.NewMem()
	o := ese.Options{FS: disk, Dir: "/d", Manual: true}
	in, _ := groupWithRows(t, o, "a.edb", 50)
	ro := o
	ro.ReadOnly = true
	if _, err := ese.Open(ro); !errors.Is(err, ese.ErrLocked) {
		t.Errorf("read-only beside a writer: %v", err)
	}
	must(t, in.Kill())
	rin, err := ese.Open(ro)
	must(t, err)
	if _, err := rin.OpenDatabase("a.edb"); !errors.Is(err, ese.ErrDirtyShutdown) {
		t.Errorf("a dirty database, read-only: %v", err)
	}
	must(t, rin.Close())
	in, err = ese.Open(o)
	must(t, err)
	must(t, in.Close())

	faults := vfs.NewFault(disk)
	for _, op := range []vfs.Op{vfs.OpWrite, vfs.OpSync, vfs.OpSyncDir, vfs.OpTruncate, vfs.OpAllocate, vfs.OpRename, vfs.OpRemove} {
		faults.Inject(vfs.Rule{Op: op, Err: fs.ErrPermission})
	}
	ro.FS = noWrites{faults}
	rin, err = ese.Open(ro)
	must(t, err)
	if n := countPeople(t, rin, "a.edb"); n != 50 {
		t.Errorf("%d rows", n)
	}
	db, err := rin.OpenDatabase("a.edb")
	must(t, err)
	tb, err := db.Table("People")
	must(t, err)
	if err := rin.Update(context.Background(), func(tx *ese.Tx) error { return tx.Delete(tb, ese.Int(1)) }); !errors.Is(err, ese.ErrReadOnly) {
		t.Errorf("a change: %v", err)
	}
	if _, err := db.NewStream(); !errors.Is(err, ese.ErrReadOnly) {
		t.Errorf("a stream: %v", err)
	}
	if _, err := rin.OpenDatabase("none.edb"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a database that is not there: %v", err)
	}
	must(t, rin.Step(2))
	_ = rin.Stats()
	must(t, rin.Close())
	esetest.Check(t, disk, "/d/a.edb")
}

// TestInstances runs many instances in one process; a second opening of one is refused.
func TestInstances(t *testing.T) {
	disk := vfs.NewMem()
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			o := ese.Options{FS: disk, Dir: fmt.Sprintf("/g%d", i), CacheBytes: 1 << 20, PageSize: 4096 << (i % 2)}
			in, _ := groupWithRows(t, o, "a.edb", 20+i)
			if _, err := ese.Open(o); !errors.Is(err, ese.ErrLocked) {
				t.Errorf("a second opening: %v", err)
			}
			if n := countPeople(t, in, "a.edb"); n != 20+i {
				t.Errorf("group %d: %d rows", i, n)
			}
			must(t, in.Close())
			esetest.Check(t, disk, filepath.Join(o.Dir, "a.edb"))
		}()
	}
	wg.Wait()
}

// TestPageSizes shows the limits of each page size: the largest row fits, one more byte does
// not, and the file is what its header says.
func TestPageSizes(t *testing.T) {
	for size, limit := range map[int]int{4096: 1430, 8192: 3478, 16384: 7554, 32768: 15746} {
		g := esetest.Open(t, ese.Options{PageSize: size, GenerationBytes: 256 << 10})
		db := g.Database("a.edb")
		var cols []ese.ColumnDef
		for i := range 30 {
			cols = append(cols, ese.ColumnDef{Name: fmt.Sprintf("B%02d", i), Type: ese.Binary})
		}
		def := ese.TableDef{
			Name:    "Wide",
			Columns: append([]ese.ColumnDef{{Name: "ID", Type: ese.Long, NotNull: true}}, cols...),
			Indexes: []ese.IndexDef{{Name: "ID", Primary: true, Columns: []ese.IndexColumn{{Name: "ID"}}}},
		}
		var tb *ese.Table
		must(t, g.In.Update(context.Background(), func(tx *ese.Tx) (err error) {
			tb, err = tx.CreateTable(db, def)
			return err
		}))
		largest := 0
		for n := limit - 200; n <= limit+1; n++ {
			r := tb.NewRow().Set(col(t, tb, "ID"), ese.Int(n))
			for i, left := 0, n; left > 0; i++ {
				k := min(left, 1000)
				r.Set(col(t, tb, fmt.Sprintf("B%02d", i)), ese.Bytes(make([]byte, k)))
				left -= k
			}
			err := g.In.Update(context.Background(), func(tx *ese.Tx) error { return tx.Insert(r) })
			switch {
			case err == nil:
				largest = n
			case !errors.Is(err, ese.ErrTooBig):
				t.Fatalf("%d: a row of %d bytes: %v", size, n, err)
			}
		}
		if largest < limit-120 || largest >= limit {
			t.Errorf("pages of %d: the largest row has %d bytes of values, the limit is %d", size, largest, limit)
		}
	}
}
