package ese_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
)

func sumDef() ese.TableDef {
	return ese.TableDef{
		Name: "S",
		Columns: []ese.ColumnDef{
			{Name: "ID", Type: ese.Long, NotNull: true},
			{Name: "N", Type: ese.LongLong, Escrow: true},
			{Name: "Small", Type: ese.Long, Escrow: true},
			{Name: "Pad", Type: ese.Binary},
		},
		Indexes: []ese.IndexDef{{Name: "ID", Primary: true, Columns: []ese.IndexColumn{{Name: "ID"}}}},
	}
}

func newTable(t *testing.T, g *esetest.Group, db *ese.Database, def ese.TableDef) *ese.Table {
	t.Helper()
	var tb *ese.Table
	must(t, g.In.Update(context.Background(), func(tx *ese.Tx) (err error) {
		tb, err = tx.CreateTable(db, def)
		return err
	}))
	return tb
}

type rowOp struct {
	name string
	do   func(tx *ese.Tx) error
}

func rowOps(t *testing.T, tb *ese.Table) []rowOp {
	id, n, pad := col(t, tb, "ID"), col(t, tb, "N"), col(t, tb, "Pad")
	return []rowOp{
		{"insert", func(tx *ese.Tx) error { return tx.Insert(tb.NewRow().Set(id, ese.Int(1))) }},
		{"replace", func(tx *ese.Tx) error {
			return tx.Update(tb.NewRow().Set(pad, ese.String("x")), ese.Int(1))
		}},
		{"delete", func(tx *ese.Tx) error { return tx.Delete(tb, ese.Int(1)) }},
		{"escrow", func(tx *ese.Tx) error { return tx.Add(tb, n, 5, ese.Int(1)) }},
		{"lock", func(tx *ese.Tx) error { return tx.Lock(tb, ese.Int(1)) }},
	}
}

// The write conflict matrix: what the second of two transactions gets for each pair of
// operations on one row.
func TestConflictMatrix(t *testing.T) {
	for _, state := range []string{"open", "committed", "rolled back"} {
		for i := range 5 {
			for j := range 5 {
				conflictPair(t, state, i, j)
			}
		}
	}
}

func conflictPair(t *testing.T, state string, i, j int) {
	g := esetest.Open(t, ese.Options{})
	tb := newTable(t, g, g.Database("a.edb"), sumDef())
	ops := rowOps(t, tb)
	first, second := ops[i], ops[j]
	if first.name != "insert" {
		must(t, g.In.Update(context.Background(), ops[0].do))
	}
	a, b := g.In.Begin(), g.In.Begin()
	must(t, first.do(a))
	switch state {
	case "committed":
		_, err := a.Commit()
		must(t, err)
	case "rolled back":
		must(t, a.Rollback())
	}
	var want error
	switch ins := first.name == "insert"; {
	case ins && second.name != "insert":
		want = ese.ErrNotFound // its snapshot has no row
	case state == "rolled back" && !ins && second.name == "insert":
		want = ese.ErrKeyExists
	case state == "rolled back":
	case first.name == "escrow" && second.name == "escrow":
	default:
		want = ese.ErrWriteConflict
	}
	if err := second.do(b); !errors.Is(err, want) || (want == nil) != (err == nil) {
		t.Errorf("%s (%s), then %s: %v, want %v", first.name, state, second.name, err, want)
	}
	must(t, b.Rollback())
	must(t, a.Rollback())
}

// Levels nest to seven; each can be taken back alone.
func TestSavepoints(t *testing.T) {
	g := esetest.Open(t, ese.Options{})
	tb := newTable(t, g, g.Database("a.edb"), sumDef())
	id, n := col(t, tb, "ID"), col(t, tb, "N")
	tx := g.In.Begin()
	must(t, tx.Insert(tb.NewRow().Set(id, ese.Int(1))))
	sum := func() int64 {
		var v ese.RowView
		var buf []byte
		if ok, err := tx.Get(tb, &v, &buf, ese.Int(1)); !ok || err != nil {
			t.Fatal(ok, err)
		}
		return v.Int(n)
	}
	var sps []ese.Savepoint
	for i := range 6 {
		sp, err := tx.Save()
		must(t, err)
		sps = append(sps, sp)
		must(t, tx.Add(tb, n, 1<<(8*i), ese.Int(1)))
	}
	if _, err := tx.Save(); !errors.Is(err, ese.ErrTooDeep) {
		t.Errorf("an eighth level: %v", err)
	}
	must(t, tx.RollbackTo(sps[4]))
	if got := sum(); got != 0x01010101 {
		t.Errorf("after the rollback of two levels: %x", got)
	}
	must(t, tx.RollbackTo(sps[4])) // it is still open
	if err := tx.RollbackTo(sps[5]); !errors.Is(err, ese.ErrSavepoint) {
		t.Errorf("a savepoint inside of the one rolled back: %v", err)
	}
	must(t, tx.Release(sps[2]))
	if err := tx.RollbackTo(sps[3]); !errors.Is(err, ese.ErrSavepoint) {
		t.Errorf("a savepoint inside of the one released: %v", err)
	}
	must(t, tx.RollbackTo(sps[1]))
	if got := sum(); got != 1 {
		t.Errorf("after the rollback of the second level: %x", got)
	}
	_, err := tx.Commit()
	must(t, err)
	if err := tx.Release(sps[0]); !errors.Is(err, ese.ErrTxDone) {
		t.Errorf("release after the end: %v", err)
	}
}

// Adds of many transactions at once never conflict, snapshots see whole sums, and what is
// rolled back leaves nothing, across a crash too.
func TestEscrowConcurrent(t *testing.T) {
	g := esetest.Open(t, ese.Options{PageSize: 4096, CacheBytes: 16 * 4096})
	tb := newTable(t, g, g.Database("a.edb"), sumDef())
	id, n, small := col(t, tb, "ID"), col(t, tb, "N"), col(t, tb, "Small")
	const rows, workers, rounds = 3, 6, 120
	must(t, g.In.Update(context.Background(), func(tx *ese.Tx) error {
		for i := range rows {
			must(t, tx.Insert(tb.NewRow().Set(id, ese.Int(i))))
		}
		return nil
	}))
	var wg sync.WaitGroup
	errs := make(chan error, workers+1)
	for w := range workers {
		wg.Go(func() { errs <- addRounds(g.In, tb, n, small, w, rounds, rows) })
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		must(t, err)
	}
	check := func(when string) {
		must(t, g.In.View(func(tx *ese.Tx) error {
			c := tx.Cursor(tb.Primary())
			var sum, few int64
			ok, err := c.First()
			for ; ok && err == nil; ok, err = c.Next() {
				sum += c.Row().Int(n)
				few -= c.Row().Int(small)
			}
			if sum != workers*rounds/2 || few != sum {
				t.Errorf("%s: sums %d and %d, want %d", when, sum, few, workers*rounds/2)
			}
			return err
		}))
	}
	check("live")
	g.Crash()
	var err error
	tb, err = g.Database("a.edb").Table("S")
	must(t, err)
	id, n, small = col(t, tb, "ID"), col(t, tb, "N"), col(t, tb, "Small")
	check("after the crash")
}

// addRounds adds one here and takes one there, and rolls every second round back.
func addRounds(in *ese.Instance, tb *ese.Table, n, small *ese.Column, w, rounds, rows int) error {
	rng := rand.New(rand.NewPCG(uint64(w), 3))
	var last ese.LogPos
	for i := range rounds {
		tx := in.Begin()
		key := ese.Int(rng.IntN(rows))
		if err := errors.Join(tx.Add(tb, n, 1, key), tx.Add(tb, small, -1, key)); err != nil {
			return fmt.Errorf("add: %w", errors.Join(err, tx.Rollback()))
		}
		if i%2 == 0 {
			if err := tx.Rollback(); err != nil {
				return err
			}
			continue
		}
		pos, err := tx.CommitLazy()
		if err != nil {
			return err
		}
		last = pos
	}
	return in.WaitDurable(last)
}

// What cannot be an escrow column is refused.
func TestEscrowRefused(t *testing.T) {
	g := esetest.Open(t, ese.Options{})
	db := g.Database("a.edb")
	tb := newTable(t, g, db, sumDef())
	bad := sumDef()
	bad.Name, bad.Columns[1].Type = "B", ese.Short
	keyed := sumDef()
	keyed.Name = "K"
	keyed.Indexes = append(keyed.Indexes, ese.IndexDef{Name: "N", Columns: []ese.IndexColumn{{Name: "N"}}})
	tx := g.In.Begin()
	for _, def := range []ese.TableDef{bad, keyed} {
		if _, err := tx.CreateTable(db, def); !errors.Is(err, ese.ErrSchema) {
			t.Errorf("table %s: %v", def.Name, err)
		}
	}
	if err := tx.Add(tb, col(t, tb, "ID"), 1, ese.Int(1)); !errors.Is(err, ese.ErrSchema) {
		t.Errorf("add to a plain column: %v", err)
	}
	null := tb.NewRow().Set(col(t, tb, "ID"), ese.Int(1)).Set(col(t, tb, "N"), ese.Null())
	if err := tx.Insert(null); !errors.Is(err, ese.ErrBadValue) {
		t.Errorf("NULL in an escrow column: %v", err)
	}
	must(t, tx.Rollback())
}
