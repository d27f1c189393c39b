package ese_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
	"pillarbox/ese/vfs"
)

// numbers makes a table of numbers in a database, or finds it.
func numbers(in *ese.Instance, name string) (*ese.Database, *ese.Table, *ese.Column, error) {
	db, err := in.OpenDatabase(name)
	if err != nil {
		return nil, nil, nil, err
	}
	t, err := db.Table("N")
	if errors.Is(err, ese.ErrNotFound) {
		err = in.Update(context.Background(), func(tx *ese.Tx) error {
			var err error
			t, err = tx.CreateTable(db, ese.TableDef{
				Name: "N", Columns: []ese.ColumnDef{{Name: "n", Type: ese.LongLong}},
				Indexes: []ese.IndexDef{{Name: "pk", Primary: true, Columns: []ese.IndexColumn{{Name: "n"}}}},
			})
			return err
		})
	}
	if err != nil {
		return nil, nil, nil, err
	}
	c, err := t.Column("n")
	return db, t, c, err
}

func insertNumber(in *ese.Instance, t *ese.Table, c *ese.Column, n int64) error {
	return in.Update(context.Background(), func(tx *ese.Tx) error {
		return tx.Insert(t.NewRow().Set(c, ese.Int(n)))
	})
}

func countNumbers(t *testing.T, in *ese.Instance, tb *ese.Table) (n int) {
	t.Helper()
	err := in.View(func(tx *ese.Tx) error {
		n = 0
		c := tx.Cursor(tb.Primary())
		ok, err := c.First()
		for ; ok && err == nil; ok, err = c.Next() {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestCloseDatabase closes a database of two and opens it again while both are written and read.
// What was committed is there, and who is cut off learns it.
func TestCloseDatabase(t *testing.T) {
	g := esetest.Open(t, ese.Options{CacheBytes: 1 << 20, GenerationBytes: 256 << 10})
	_, stay, cs, err := numbers(g.In, "stay.edb")
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	stayed := int64(0)
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := insertNumber(g.In, stay, cs, stayed); err != nil {
				t.Errorf("the other database: %v", err)
				return
			}
			stayed++
		}
	})
	next := int64(0)
	for round := range 6 {
		db, tb, c, err := numbers(g.In, "goes.edb")
		if err != nil {
			t.Fatal(err)
		}
		if got := countNumbers(t, g.In, tb); int64(got) != next {
			t.Fatalf("round %d: %d rows, committed were %d", round, got, next)
		}
		var users sync.WaitGroup
		users.Go(func() {
			for {
				err := insertNumber(g.In, tb, c, next)
				if err == nil {
					next++
					continue
				}
				if !errors.Is(err, ese.ErrDetached) {
					t.Errorf("insert: %v", err)
				}
				return
			}
		})
		users.Go(func() {
			for {
				err := g.In.View(func(tx *ese.Tx) error {
					_, err := tx.Cursor(tb.Primary()).Last()
					return err
				})
				if err != nil {
					if !errors.Is(err, ese.ErrDetached) {
						t.Errorf("read: %v", err)
					}
					return
				}
			}
		})
		time.Sleep(5 * time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if err := g.In.CloseDatabase(ctx, db); err != nil {
			t.Fatal(err)
		}
		cancel()
		users.Wait()
		esetest.Check(t, g.FS, "/data/goes.edb")
		if round == 2 { // another one takes its number
			other, ot, oc, err := numbers(g.In, "other.edb")
			if err != nil {
				t.Fatal(err)
			}
			if err := insertNumber(g.In, ot, oc, 1); err != nil {
				t.Fatal(err)
			}
			if err := insertNumber(g.In, tb, c, -1); !errors.Is(err, ese.ErrDetached) {
				t.Errorf("insert into the closed one: %v", err)
			}
			if err := g.In.CloseDatabase(t.Context(), other); err != nil {
				t.Fatal(err)
			}
		}
	}
	close(stop)
	wg.Wait()
	if got := countNumbers(t, g.In, stay); int64(got) != stayed || stayed == 0 {
		t.Errorf("the other database has %d rows, want %d", got, stayed)
	}
}

// TestCloseDatabaseInUse waits for a transaction, gives up in time, and closes when it has ended.
func TestCloseDatabaseInUse(t *testing.T) {
	g := esetest.Open(t, ese.Options{})
	db, tb, c, err := numbers(g.In, "a.edb")
	if err != nil {
		t.Fatal(err)
	}
	tx := g.In.Begin()
	if err := tx.Insert(tb.NewRow().Set(c, ese.Int(1))); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if err := g.In.CloseDatabase(ctx, db); !errors.Is(err, ese.ErrInUse) {
		t.Fatalf("closed: %v", err)
	}
	if err := tx.Insert(tb.NewRow().Set(c, ese.Int(2))); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := g.In.CloseDatabase(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	if _, tb, _, err = numbers(g.In, "a.edb"); err != nil {
		t.Fatal(err)
	}
	if n := countNumbers(t, g.In, tb); n != 2 {
		t.Errorf("%d rows", n)
	}
}

// TestCloseDatabaseCrash cuts the power while a database of two is closed and opened again and
// again. Every commit is there, in both.
func TestCloseDatabaseCrash(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 9))
		mem := vfs.NewMem()
		committed := map[string]int64{}
		for range 3 {
			d := &esetest.CrashDisk{Mem: mem, Rand: rng}
			o := ese.Options{
				Dir: "/data", FS: d, Manual: true, GenerationBytes: 64 << 10,
				CacheBytes: 256 << 10, CheckpointDepth: 64 << 10, Circular: true, Rand: rng.Uint32,
			}
			in, err := ese.Open(o)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			d.Left = 1 + rng.IntN(150)
			if err := closeAndOpen(in, d, rng, committed); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			_ = in.Kill()
			mem = d.Cut
		}
		in, err := ese.Open(ese.Options{Dir: "/data", FS: mem, Manual: true})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for _, name := range []string{"a.edb", "b.edb"} {
			_, tb, _, err := numbers(in, name)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if n := int64(countNumbers(t, in, tb)); n < committed[name] || n > committed[name]+3 {
				t.Fatalf("seed %d: %s has %d rows, committed were %d", seed, name, n, committed[name])
			}
		}
		if err := in.Close(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		esetest.Check(t, mem, "/data/a.edb")
		esetest.Check(t, mem, "/data/b.edb")
	}
}

// closeAndOpen works until the power is cut.
func closeAndOpen(
	in *ese.Instance, d *esetest.CrashDisk, rng *rand.Rand, committed map[string]int64,
) error {
	for d.Cut == nil {
		for _, name := range []string{"a.edb", "b.edb"} {
			db, tb, c, err := numbers(in, name)
			if err != nil {
				return err
			}
			for range rng.IntN(4) {
				n := committed[name]
				err := insertNumber(in, tb, c, n)
				if errors.Is(err, ese.ErrKeyExists) {
					err = nil // it was there although it was not acknowledged
				}
				if err != nil {
					return fmt.Errorf("insert: %w", err)
				}
				if d.Cut == nil {
					committed[name]++
				}
			}
			for range rng.IntN(3) {
				if err := in.Step(rng.IntN(ese.Steps)); err != nil {
					return fmt.Errorf("step: %w", err)
				}
			}
			if rng.IntN(2) == 0 {
				if err := in.CloseDatabase(context.Background(), db); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
