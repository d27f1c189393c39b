package ese_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
)

// op is one finished operation on a counter, with the time around it: a change that made the
// counter n, or a read that found n.
type op struct {
	key        int
	read       bool
	n          int64
	begun, end time.Duration
}

// TestHistory records what many goroutines do with counters and checks that each counter's
// history is linearizable: there is an order of all operations that agrees with the clock and in
// which every one sees what came before. Read-write transactions and durable reads promise that.
//
// Since every change adds one, the order of changes is that of their numbers, and the check is
// exact: a change must come after all that ended before it began; a read must see all changes
// that ended before it began and none that began after it ended.
func TestHistory(t *testing.T) {
	for _, o := range []ese.Options{
		{},
		{PageSize: 4096, CacheBytes: 32 * 4096, GenerationBytes: 64 << 10, CheckpointDepth: 256 << 10},
	} {
		history := recordHistory(t, o)
		for key := range counters {
			var own []op
			for _, x := range history {
				if x.key == key {
					own = append(own, x)
				}
			}
			checkHistory(t, own)
		}
	}
}

const counters = 4

func recordHistory(t *testing.T, o ese.Options) []op {
	t.Helper()
	g := esetest.Open(t, o)
	tb := counterTable(t, g)
	var mu sync.Mutex
	var history []op
	var wg sync.WaitGroup
	t0 := time.Now()
	for w := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 5))
			for range 150 {
				x := op{key: rng.IntN(counters), read: rng.IntN(3) == 0, begun: time.Since(t0)}
				if err := x.run(g.In, tb); err != nil {
					t.Error(err)
					return
				}
				x.end = time.Since(t0)
				mu.Lock()
				history = append(history, x)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return history
}

func counterTable(t *testing.T, g *esetest.Group) *ese.Table {
	t.Helper()
	db := g.Database("a.edb")
	var tb *ese.Table
	must(t, g.In.Update(context.Background(), func(tx *ese.Tx) (err error) {
		if tb, err = tx.CreateTable(db, counterDef()); err != nil {
			return err
		}
		for i := range counters {
			r := tb.NewRow().Set(tb.Columns()[0], ese.Int(i)).Set(tb.Columns()[1], ese.Int(0))
			if err := tx.Insert(r); err != nil {
				return err
			}
		}
		return nil
	}))
	return tb
}

func (x *op) run(in *ese.Instance, tb *ese.Table) error {
	get := func(tx *ese.Tx) (err error) {
		x.n, err = number(tx, tb, x.key)
		return err
	}
	if x.read {
		return in.View(get)
	}
	return in.Update(context.Background(), func(tx *ese.Tx) error {
		if err := get(tx); err != nil {
			return err
		}
		x.n++
		return setNumber(tx, tb, x.key, x.n)
	})
}

func number(tx *ese.Tx, tb *ese.Table, key int) (int64, error) {
	var v ese.RowView
	var buf []byte
	ok, err := tx.Get(tb, &v, &buf, ese.Int(key))
	if err != nil || !ok {
		return 0, err
	}
	return v.Int(tb.Columns()[1]), nil
}

func setNumber(tx *ese.Tx, tb *ese.Table, key int, n int64) error {
	return tx.Update(tb.NewRow().Set(tb.Columns()[1], ese.Int(n)), ese.Int(key))
}

func checkHistory(t *testing.T, own []op) {
	t.Helper()
	var changes []op
	for _, x := range own {
		if !x.read {
			changes = append(changes, x)
		}
	}
	slices.SortFunc(changes, func(a, b op) int { return int(a.n - b.n) })
	latest := time.Duration(0) // the latest beginning of the changes so far
	for i, x := range changes {
		if x.n != int64(i+1) {
			t.Fatalf("counter %d: change %d made it %d: an update was lost or came twice", x.key, i+1, x.n)
		}
		if x.end < latest {
			t.Errorf("counter %d: the change to %d ended before an earlier one began", x.key, x.n)
		}
		latest = max(latest, x.begun)
	}
	for _, x := range own {
		if !x.read {
			continue
		}
		for _, c := range changes {
			if c.end < x.begun && c.n > x.n {
				t.Errorf("counter %d: a read found %d although the change to %d had ended", x.key, x.n, c.n)
			}
			if c.begun > x.end && c.n <= x.n {
				t.Errorf("counter %d: a read found %d before the change to %d began", x.key, x.n, c.n)
			}
		}
		for _, y := range own {
			if y.read && y.end < x.begun && y.n > x.n {
				t.Errorf("counter %d: a read found %d after another had found %d", x.key, x.n, y.n)
			}
		}
	}
}
