package ese_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
)

// ddl runs one change of the schema in a transaction of its own.
func ddl(t *testing.T, g *esetest.Group, fn func(tx *ese.Tx) error) {
	t.Helper()
	must(t, g.In.Update(context.Background(), fn))
}

func fill(t *testing.T, g *esetest.Group, tb *ese.Table, from, to int, set func(r *ese.Row, i int)) {
	t.Helper()
	id := col(t, tb, "ID")
	ddl(t, g, func(tx *ese.Tx) error {
		for i := from; i < to; i++ {
			r := tb.NewRow().Set(id, ese.Int(i))
			if set != nil {
				set(r, i)
			}
			if err := tx.Insert(r); err != nil {
				return err
			}
		}
		return nil
	})
}

// view gets one row.
func view(t *testing.T, tx *ese.Tx, tb *ese.Table, id int) *ese.RowView {
	t.Helper()
	v := new(ese.RowView)
	var buf []byte
	if ok, err := tx.Get(tb, v, &buf, ese.Int(id)); !ok || err != nil {
		t.Fatalf("row %d: %v, %v", id, ok, err)
	}
	return v
}

// A column added later costs old rows nothing: they show its default, also in keys; NULL is
// not the default; snapshots from before do not know it; the id of a dropped one is not used
// again.
func TestAddAndDropColumn(t *testing.T) {
	for _, page := range []int{4096, 8192} {
		g := esetest.Open(t, ese.Options{PageSize: page, CacheBytes: 16 * int64(page)})
		tb := newTable(t, g, g.Database("a.edb"), peopleDef())
		fill(t, g, tb, 0, 200, func(r *ese.Row, i int) {
			r.Set(col(t, tb, "Photo"), ese.Bytes(make([]byte, i*40)))
		})
		before := g.In.BeginRead()
		defs := []ese.ColumnDef{
			{Name: "Rank", Type: ese.Long, Default: ese.Int(-7)},
			{Name: "Town", Type: ese.Text, Default: ese.String("nowhere")},
			{Name: "Note", Type: ese.LongText, Default: ese.String("none")},
			{Name: "Mood", Type: ese.Short, Tagged: true, Default: ese.Int(3)},
			{Name: "Plain", Type: ese.LongLong},
			{Name: "Sum", Type: ese.Long, Escrow: true},
		}
		ddl(t, g, func(tx *ese.Tx) error {
			for _, d := range defs {
				if _, err := tx.AddColumn(tb, d); err != nil {
					return err
				}
			}
			return nil
		})
		rank, town, note, mood := col(t, tb, "Rank"), col(t, tb, "Town"), col(t, tb, "Note"), col(t, tb, "Mood")
		check := func(id int, r int64, tn, n string, m int64) {
			t.Helper()
			tx := g.In.BeginReadLatest()
			defer func() { must(t, tx.Rollback()) }()
			v := view(t, tx, tb, id)
			blob, err := v.Blob(note, nil)
			must(t, err)
			if v.Int(rank) != r || v.String(town) != tn || string(blob) != n || v.Int(mood) != m {
				t.Errorf("row %d: %d %q %q %d", id, v.Int(rank), v.String(town), blob, v.Int(mood))
			}
			if (tn == "") != v.IsNull(town) || (n == "") != v.IsNull(note) {
				t.Errorf("row %d: NULL is not NULL", id)
			}
		}
		check(5, -7, "nowhere", "none", 3)
		ddl(t, g, func(tx *ese.Tx) error {
			must(t, tx.Update(tb.NewRow().Set(town, ese.Null()).Set(note, ese.Null()).Set(mood, ese.Null()), ese.Int(6)))
			must(t, tx.Update(tb.NewRow().Set(rank, ese.Int(9)), ese.Int(7)))
			must(t, tx.Add(tb, col(t, tb, "Sum"), 4, ese.Int(8)))
			return tx.Add(tb, col(t, tb, "Sum"), 5, ese.Int(8))
		})
		fill(t, g, tb, 200, 220, nil)
		check(6, -7, "", "", 0)
		check(7, 9, "nowhere", "none", 3)
		check(210, -7, "nowhere", "none", 3)
		if v := view(t, before, tb, 7); v.Int(rank) != -7 {
			t.Error("a snapshot from before sees a value of the new column")
		}
		must(t, before.Rollback())
		ddl(t, g, func(tx *ese.Tx) error { return tx.DropColumn(tb, "Photo") })
		ddl(t, g, func(tx *ese.Tx) error { return tx.DropColumn(tb, "Rank") })
		ddl(t, g, func(tx *ese.Tx) error {
			_, err := tx.AddColumn(tb, ese.ColumnDef{Name: "Rank", Type: ese.Long})
			return err
		})
		if _, err := tb.Column("Photo"); !errors.Is(err, ese.ErrNotFound) {
			t.Errorf("a dropped column: %v", err)
		}
		g.Crash()
		tb, err := g.Database("a.edb").Table("People")
		must(t, err)
		rank, town, note, mood = col(t, tb, "Rank"), col(t, tb, "Town"), col(t, tb, "Note"), col(t, tb, "Mood")
		check(7, 0, "nowhere", "none", 3) // the new column, not the old value
		check(6, 0, "", "", 0)
		ddl(t, g, func(tx *ese.Tx) error {
			for i := range 100 { // rows whose long value nobody can name any more
				must(t, tx.Delete(tb, ese.Int(i)))
			}
			return tx.Update(tb.NewRow().Set(rank, ese.Int(1)), ese.Int(150))
		})
	}
}

// What a change of the schema must refuse.
func TestSchemaRefused(t *testing.T) {
	g := esetest.Open(t, ese.Options{})
	db := g.Database("a.edb")
	tb := newTable(t, g, db, peopleDef())
	newTable(t, g, db, sumDef())
	fill(t, g, tb, 0, 3, nil)
	tx := g.In.Begin()
	col := func(d ese.ColumnDef) error {
		_, err := tx.AddColumn(tb, d)
		return err
	}
	for what, c := range map[string]struct {
		got, want error
	}{
		"a column that is there":      {col(ese.ColumnDef{Name: "Age", Type: ese.Long}), ese.ErrKeyExists},
		"NOT NULL without a default":  {col(ese.ColumnDef{Name: "X", Type: ese.Long, NotNull: true}), ese.ErrSchema},
		"NOT NULL auto-increment":     {col(ese.ColumnDef{Name: "X", Type: ese.Long, AutoIncrement: true, NotNull: true}), ese.ErrSchema},
		"a default of another type":   {col(ese.ColumnDef{Name: "X", Type: ese.Long, Default: ese.String("x")}), ese.ErrSchema},
		"a short auto-increment":      {col(ese.ColumnDef{Name: "X", Type: ese.Short, AutoIncrement: true}), ese.ErrSchema},
		"dropping a key's column":     {tx.DropColumn(tb, "Name"), ese.ErrSchema},
		"dropping what is not there":  {tx.DropColumn(tb, "Nope"), ese.ErrNotFound},
		"dropping the primary index":  {tx.DropIndex(tb, "ID"), ese.ErrSchema},
		"dropping no index":           {tx.DropIndex(tb, "Nope"), ese.ErrNotFound},
		"dropping no table":           {tx.DropTable(db, "Nope"), ese.ErrNotFound},
		"dropping the engine's table": {tx.DropTable(db, "MSysPillarbox"), ese.ErrSchema},
		"renaming to a name there is": {tx.RenameTable(db, "People", "S"), ese.ErrKeyExists},
		"renaming no table":           {tx.RenameTable(db, "Nope", "S2"), ese.ErrNotFound},
		"renaming the engine's table": {tx.RenameTable(db, "MSysPillarbox", "S2"), ese.ErrSchema},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: %v, want %v", what, c.got, c.want)
		}
	}
	// Two transactions cannot change one table's schema.
	_, err := tx.AddColumn(tb, ese.ColumnDef{Name: "X", Type: ese.Long})
	must(t, err)
	other := g.In.Begin()
	if err := other.DropIndex(tb, "Age"); !errors.Is(err, ese.ErrWriteConflict) {
		t.Errorf("two changes of one schema: %v", err)
	}
	x, err := tx.Column(tb, "X")
	must(t, err)
	if err := other.Update(tb.NewRow().Set(x, ese.Int(1)), ese.Int(1)); !errors.Is(err, ese.ErrNotFound) {
		t.Errorf("a column that is not committed: %v", err)
	}
	must(t, other.Rollback())
	must(t, tx.Rollback())
	if _, err := tb.Column("X"); !errors.Is(err, ese.ErrNotFound) {
		t.Errorf("a column rolled back: %v", err)
	}
}

// A dropped table is there for snapshots from before, its name is free for later ones, and its
// pages are used again.
func TestDropTable(t *testing.T) {
	g := esetest.Open(t, ese.Options{Manual: true, PageSize: 4096})
	db := g.Database("a.edb")
	tb := newTable(t, g, db, peopleDef())
	fill(t, g, tb, 0, 500, func(r *ese.Row, i int) { r.Set(col(t, tb, "Photo"), ese.Bytes(make([]byte, 5000))) })
	old := g.In.BeginRead()
	ddl(t, g, func(tx *ese.Tx) error {
		must(t, tx.DropTable(db, "People"))
		if _, err := tx.Table(db, "People"); !errors.Is(err, ese.ErrNotFound) {
			t.Errorf("its own drop: %v", err)
		}
		_, err := tx.CreateTable(db, sumDef())
		return err
	})
	ddl(t, g, func(tx *ese.Tx) error { return tx.RenameTable(db, "S", "People") })
	again, err := db.Table("People")
	must(t, err)
	if again == tb || again.Name() != "People" {
		t.Errorf("the name leads to the old table")
	}
	for range 3 {
		for i := range ese.Steps {
			must(t, g.In.Step(i))
		}
	}
	same, err := old.Table(db, "People")
	must(t, err)
	if same != tb || slices.Contains(old.Tables(db), "S") {
		t.Error("the snapshot shows another table")
	}
	view(t, old, tb, 499)
	late := g.In.Begin()
	if err := late.Delete(tb, ese.Int(1)); !errors.Is(err, ese.ErrNotFound) {
		t.Errorf("a change of a dropped table: %v", err)
	}
	must(t, late.Rollback())
	must(t, old.Rollback())
	// Pages come back: filling and dropping again and again does not make the file grow.
	size := func() int64 {
		n, err := g.FS.Stat("/data/a.edb")
		must(t, err)
		return n
	}
	var first int64
	for i := range 6 {
		def := peopleDef()
		def.Name = "Again"
		x := newTable(t, g, db, def)
		fill(t, g, x, 0, 500, func(r *ese.Row, i int) { r.Set(col(t, x, "Photo"), ese.Bytes(make([]byte, 5000))) })
		ddl(t, g, func(tx *ese.Tx) error { return tx.DropTable(db, "Again") })
		for range 40 {
			for k := range ese.Steps {
				must(t, g.In.Step(k))
			}
		}
		if i == 0 {
			first = size()
		} else if size() > first {
			t.Fatalf("round %d: the file has grown from %d to %d", i, first, size())
		}
	}
	if i := slices.Index(db.Tables(), "Again"); i >= 0 {
		t.Error("a dropped table is listed")
	}
	// Dropped, not yet given back, and the power fails.
	def := peopleDef()
	def.Name = "Last"
	x := newTable(t, g, db, def)
	fill(t, g, x, 0, 100, nil)
	ddl(t, g, func(tx *ese.Tx) error {
		must(t, tx.DropIndex(x, "Age"))
		return tx.DropTable(db, "Last")
	})
	g.Crash()
	g.Database("a.edb")
}

// The power fails between the record that frees a dropped tree and the commit behind it: the
// pages are free once, and the list does not name the tree again.
func TestFreeDroppedHalf(t *testing.T) {
	for _, whole := range []bool{false, true} {
		g := esetest.Open(t, ese.Options{Manual: true, PageSize: 4096})
		db := g.Database("a.edb")
		tb := newTable(t, g, db, peopleDef())
		fill(t, g, tb, 0, 300, func(r *ese.Row, _ int) { r.Set(col(t, tb, "Photo"), ese.Bytes(make([]byte, 3000))) })
		ddl(t, g, func(tx *ese.Tx) error {
			if whole {
				return tx.DropTable(db, "People")
			}
			return tx.DropIndex(tb, "Age")
		})
		if ok, err := g.In.FreeDroppedHalf(db); !ok || err != nil {
			t.Fatal(ok, err)
		}
		g.Crash()
		db = g.Database("a.edb")
		if ok, err := g.In.FreeDroppedHalf(db); ok || err != nil {
			t.Errorf("the tree is still on the list: %v", err)
		}
		ddl(t, g, func(tx *ese.Tx) error {
			def := peopleDef()
			def.Name = "Next"
			if _, err := tx.CreateTable(db, def); err != nil { // it takes the pages
				return err
			}
			if !whole {
				must(t, tx.DropTable(db, "People"))
			}
			return tx.DropTable(db, "Next")
		})
	}
}

// A savepoint takes back every kind of schema change.
func TestSchemaRolledBack(t *testing.T) {
	g := esetest.Open(t, ese.Options{})
	db := g.Database("a.edb")
	tb := newTable(t, g, db, peopleDef())
	fill(t, g, tb, 0, 50, nil)
	tx := g.In.Begin()
	sp, err := tx.Save()
	must(t, err)
	for range 2 {
		_, err = tx.AddColumn(tb, ese.ColumnDef{Name: "X", Type: ese.Long, Default: ese.Int(1)})
		must(t, err)
		_, err = tx.AddIndex(tb, ese.IndexDef{Name: "X", Columns: []ese.IndexColumn{{Name: "X"}}})
		must(t, err)
		must(t, tx.Update(tb.NewRow().Set(col(t, tb, "Age"), ese.Int(3)), ese.Int(1)))
		must(t, tx.DropIndex(tb, "Age"))
		must(t, tx.DropColumn(tb, "Age"))
		must(t, tx.DropIndex(tb, "X"))
		must(t, tx.DropColumn(tb, "X"))
		must(t, tx.RenameTable(db, "People", "Folk"))
		must(t, tx.DropTable(db, "Folk"))
		must(t, tx.RollbackTo(sp))
	}
	must(t, tx.Rollback())
	if tb2, err := db.Table("People"); err != nil || tb2 != tb || len(tb.Columns()) != 5 || len(tb.Indexes()) != 3 {
		t.Errorf("%v, %d columns, %d indexes", err, len(tb.Columns()), len(tb.Indexes()))
	}
	fill(t, g, tb, 50, 60, nil)
	g.Crash()
}

// An index is built while writers go on; it has exactly the entries of the rows.
func TestBuildIndexUnderWriters(t *testing.T) {
	for _, unique := range []bool{false, true} {
		for _, crash := range []bool{false, true} {
			t.Run(fmt.Sprintf("unique=%v,crash=%v", unique, crash), func(t *testing.T) {
				buildUnderWriters(t, unique, crash)
			})
		}
	}
}

func buildUnderWriters(t *testing.T, unique, crash bool) {
	g := esetest.Open(t, ese.Options{PageSize: 4096, CacheBytes: 64 * 4096})
	db := g.Database("a.edb")
	def := counterDef()
	def.Indexes = def.Indexes[:1]
	tb := newTable(t, g, db, def)
	id, num := col(t, tb, "ID"), col(t, tb, "N")
	const rows = 3000
	fill(t, g, tb, 0, rows, func(r *ese.Row, i int) { r.Set(num, ese.Int(i)) })
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 5))
			for n := 0; ctx.Err() == nil; n++ {
				err := g.In.Update(ctx, func(tx *ese.Tx) error {
					k := rng.IntN(rows)
					switch ok, err := tx.Get(tb, new(ese.RowView), new([]byte), ese.Int(k)); {
					case err != nil:
						return err
					case !ok:
						return tx.Insert(tb.NewRow().Set(id, ese.Int(k)).Set(num, ese.Int(k)))
					case rng.IntN(2) == 0:
						return tx.Delete(tb, ese.Int(k))
					}
					return tx.Update(tb.NewRow().Set(num, ese.Int(k+rows*(1+rng.IntN(5)))), ese.Int(k))
				})
				if err != nil && ctx.Err() == nil {
					t.Errorf("writer: %v", err)
					return
				}
			}
		})
	}
	ix := ese.IndexDef{Name: "N", Unique: unique, Columns: []ese.IndexColumn{{Name: "N"}}}
	ddl(t, g, func(tx *ese.Tx) error {
		_, err := tx.AddIndex(tb, ix)
		return err
	})
	x, err := tb.Index("N")
	must(t, err)
	if !crash {
		must(t, g.In.BuildIndex(context.Background(), x))
	}
	cancel()
	wg.Wait()
	if crash {
		g.Crash()
		tb, err = g.Database("a.edb").Table("C")
		must(t, err)
		id, num = col(t, tb, "ID"), col(t, tb, "N")
		x, err = tb.Index("N")
		must(t, err)
		must(t, g.In.BuildIndex(context.Background(), x))
	}
	if s := x.State(); !s.Ready || s.Rows == 0 {
		t.Errorf("state %+v", s)
	}
	tx := g.In.BeginReadLatest()
	defer func() { must(t, tx.Rollback()) }()
	want := make(map[int64]int64)
	c := tx.Cursor(tb.Primary())
	ok, err := c.First()
	for ; ok && err == nil; ok, err = c.Next() {
		want[c.Row().Int(id)] = c.Row().Int(num)
	}
	must(t, err)
	seen, last := 0, int64(-1)
	c = tx.Cursor(x)
	ok, err = c.First()
	for ; ok && err == nil; ok, err = c.Next() {
		n := c.Row().Int(num)
		if v, there := want[c.Row().Int(id)]; !there || v != n || n < last {
			t.Fatalf("row %d has %d behind %d, want %d", c.Row().Int(id), n, last, v)
		}
		seen, last = seen+1, n
	}
	must(t, err)
	if seen != len(want) {
		t.Errorf("the index shows %d rows of %d", seen, len(want))
	}
}

// A unique index over rows that are not unique is refused and leaves nothing.
func TestBuildIndexOverDuplicates(t *testing.T) {
	g := esetest.Open(t, ese.Options{Manual: true})
	db := g.Database("a.edb")
	def := counterDef()
	def.Indexes = def.Indexes[:1]
	tb := newTable(t, g, db, def)
	fill(t, g, tb, 0, 500, func(r *ese.Row, i int) { r.Set(col(t, tb, "N"), ese.Int(i%400)) })
	var x *ese.Index
	old := g.In.Begin() // it may have written without the index: the building waits for it
	ddl(t, g, func(tx *ese.Tx) (err error) {
		x, err = tx.AddIndex(tb, ese.IndexDef{Name: "N", Unique: true, Columns: []ese.IndexColumn{{Name: "N"}}})
		return err
	})
	must(t, g.In.Step(9))
	if s := x.State(); s.Rows != 0 {
		t.Errorf("the building did not wait: %+v", s)
	}
	must(t, old.Rollback())
	tx := g.In.BeginReadLatest()
	if _, err := tx.Cursor(x).First(); !errors.Is(err, ese.ErrBuilding) {
		t.Errorf("an index being built: %v", err)
	}
	must(t, tx.Rollback())
	if err := g.In.BuildIndex(context.Background(), x); !errors.Is(err, ese.ErrKeyExists) {
		t.Errorf("a unique index over duplicates: %v", err)
	}
	if _, err := tb.Index("N"); !errors.Is(err, ese.ErrNotFound) {
		t.Errorf("the index is still there: %v", err)
	}
	fill(t, g, tb, 500, 510, func(r *ese.Row, _ int) { r.Set(col(t, tb, "N"), ese.Int(1)) })
}

// Numbers are unique and rising, and none is used twice, whatever is rolled back and however
// often the power fails.
func TestAutoIncrement(t *testing.T) {
	g := esetest.Open(t, ese.Options{})
	db := g.Database("a.edb")
	def := ese.TableDef{
		Name: "A",
		Columns: []ese.ColumnDef{
			{Name: "ID", Type: ese.Long, AutoIncrement: true},
			{Name: "W", Type: ese.Long},
		},
		Indexes: []ese.IndexDef{{Name: "ID", Primary: true, Columns: []ese.IndexColumn{{Name: "ID"}}}},
	}
	var tb *ese.Table
	top := int64(0)
	insert := func(tx *ese.Tx) {
		t.Helper()
		r := tb.NewRow().Set(col(t, tb, "W"), ese.Int(1))
		must(t, tx.Insert(r))
		if r.Assigned() <= top {
			t.Fatalf("number %d after %d", r.Assigned(), top)
		}
		top = r.Assigned()
	}
	ddl(t, g, func(tx *ese.Tx) (err error) {
		tb, err = tx.CreateTable(db, def)
		must(t, err)
		sp, err := tx.Save()
		must(t, err)
		insert(tx)
		must(t, tx.RollbackTo(sp))
		insert(tx)
		return nil
	})
	for range 4 {
		tx := g.In.Begin()
		for range 300 {
			insert(tx)
		}
		must(t, tx.Rollback())
		ddl(t, g, func(tx *ese.Tx) error { insert(tx); return nil })
		g.Crash()
		var err error
		db = g.Database("a.edb")
		tb, err = db.Table("A")
		must(t, err)
	}
	if err := g.In.Update(context.Background(), func(tx *ese.Tx) error {
		return tx.Insert(tb.NewRow().Set(col(t, tb, "ID"), ese.Int(1)))
	}); !errors.Is(err, ese.ErrBadValue) {
		t.Errorf("a number given by hand: %v", err)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	seen := make(map[int64]bool)
	for range 4 {
		wg.Go(func() {
			for range 100 {
				r := tb.NewRow()
				if err := g.In.Update(context.Background(), func(tx *ese.Tx) error { return tx.Insert(r) }); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if seen[r.Assigned()] {
					t.Errorf("number %d twice", r.Assigned())
				}
				seen[r.Assigned()] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	ddl(t, g, func(tx *ese.Tx) error { return tx.DropTable(db, "A") })
}

// An auto-increment column added to a table with rows numbers the new ones only, from the
// transaction that adds it on; taken back, it leaves nothing; a crash gives no number twice.
func TestAddAutoIncrement(t *testing.T) {
	g := esetest.Open(t, ese.Options{})
	db := g.Database("a.edb")
	tb := newTable(t, g, db, peopleDef())
	fill(t, g, tb, 0, 500, nil)
	def := ese.ColumnDef{Name: "Nr", Type: ese.LongLong, AutoIncrement: true}
	top := int64(0)
	insert := func(tx *ese.Tx, id int) {
		t.Helper()
		r := tb.NewRow().Set(col(t, tb, "ID"), ese.Int(id))
		must(t, tx.Insert(r))
		if r.Assigned() <= top {
			t.Fatalf("number %d after %d", r.Assigned(), top)
		}
		top = r.Assigned()
	}
	tx := g.In.Begin() // made, used and taken back
	_, err := tx.AddColumn(tb, def)
	must(t, err)
	insert(tx, 1000)
	must(t, tx.Rollback())
	top = 0
	old := g.In.Begin() // does not know of the column, and numbers nothing
	ddl(t, g, func(tx *ese.Tx) error {
		_, err := tx.AddColumn(tb, def)
		must(t, err)
		insert(tx, 1001)
		if top != 1 {
			t.Errorf("the first number is %d", top)
		}
		sp, err := tx.Save()
		must(t, err)
		insert(tx, 1002)
		must(t, tx.RollbackTo(sp))
		insert(tx, 1003)
		_, err = tx.AddColumn(tb, ese.ColumnDef{Name: "Nr2", Type: ese.Long, AutoIncrement: true})
		if !errors.Is(err, ese.ErrSchema) {
			t.Errorf("a second one: %v", err)
		}
		return nil
	})
	must(t, old.Insert(tb.NewRow().Set(col(t, tb, "ID"), ese.Int(1004))))
	_, err = old.Commit()
	must(t, err)
	for n := range 3 {
		ddl(t, g, func(tx *ese.Tx) error {
			for i := range 300 {
				insert(tx, 2000+1000*n+i)
			}
			return tx.Update(tb.NewRow().Set(col(t, tb, "Age"), ese.Int(n)), ese.Int(n)) // stays NULL
		})
		g.Crash()
		db = g.Database("a.edb")
		tb, err = db.Table("People")
		must(t, err)
	}
	nr := col(t, tb, "Nr")
	numbered, null, seen := 0, 0, map[int64]bool{}
	must(t, g.In.View(func(tx *ese.Tx) error {
		c := tx.Cursor(tb.Primary())
		ok, err := c.First()
		for ; ok && err == nil; ok, err = c.Next() {
			if c.Row().IsNull(nr) {
				null++
			} else if n := c.Row().Int(nr); seen[n] {
				t.Errorf("number %d twice", n)
			} else {
				seen[n] = true
				numbered++
			}
		}
		return err
	}))
	if null != 501 || numbered != 902 {
		t.Errorf("%d rows without a number, %d with", null, numbered)
	}
	ddl(t, g, func(tx *ese.Tx) error {
		_, err := tx.AddIndex(tb, ese.IndexDef{Name: "Nr", Sparse: true, Columns: indexOn("Nr")})
		return err
	})
}

func indexOn(names ...string) (out []ese.IndexColumn) {
	for _, n := range names {
		out = append(out, ese.IndexColumn{Name: n})
	}
	return out
}

// The building of an index tells how many of the table's pages it has gone through.
func TestIndexProgress(t *testing.T) {
	g := esetest.Open(t, ese.Options{Manual: true, PageSize: 4096})
	db := g.Database("a.edb")
	tb := newTable(t, g, db, peopleDef())
	fill(t, g, tb, 0, 2000, func(r *ese.Row, i int) {
		r.Set(col(t, tb, "Key"), ese.Bytes(make([]byte, 50)))
	})
	settle(t, g)
	var x *ese.Index
	ddl(t, g, func(tx *ese.Tx) (err error) {
		x, err = tx.AddIndex(tb, ese.IndexDef{Name: "Key", Columns: indexOn("Key")})
		return err
	})
	if s := x.State(); s.Pages != 0 || s.Of != 0 || s.Ready {
		t.Errorf("not begun: %+v", s)
	}
	last, steps := x.State(), 0
	for ; !last.Ready; steps++ {
		must(t, g.In.Step(9))
		s := x.State()
		if s.Pages < last.Pages || s.Pages > s.Of || s.Of < 20 || last.Of != 0 && s.Of != last.Of {
			t.Fatalf("%+v after %+v", s, last)
		}
		last = s
	}
	if last.Pages != last.Of || last.Rows != 2000 || steps < 16 {
		t.Errorf("ready after %d steps: %+v", steps, last)
	}
}
