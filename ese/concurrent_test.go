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
	"pillarbox/ese/vfs"
)

func counterDef() ese.TableDef {
	return ese.TableDef{
		Name: "C",
		Columns: []ese.ColumnDef{
			{Name: "ID", Type: ese.Long, NotNull: true},
			{Name: "N", Type: ese.LongLong},
			{Name: "Pad", Type: ese.Binary},
		},
		Indexes: []ese.IndexDef{
			{Name: "ID", Primary: true, Columns: []ese.IndexColumn{{Name: "ID"}}},
			{Name: "N", Columns: []ese.IndexColumn{{Name: "N"}}},
		},
	}
}

// TestTransfers moves amounts between counters from many goroutines while others read
// snapshots and rows come and go around them; the sum never changes for anybody.
func TestTransfers(t *testing.T) {
	for _, o := range []ese.Options{
		{},
		{PageSize: 4096, CacheBytes: 64 * 4096, GenerationBytes: 256 << 10, CheckpointDepth: 1 << 20},
		{PageSize: 16384, CacheBytes: 64 * 16384, GenerationBytes: 256 << 10, CheckpointDepth: 1 << 20},
		{PageSize: 32768, CacheBytes: 32 * 32768, GenerationBytes: 256 << 10, CheckpointDepth: 1 << 20},
	} {
		t.Run(fmt.Sprintf("cache=%d", o.CacheBytes), func(t *testing.T) { transfers(t, o) })
	}
}

func transfers(t *testing.T, o ese.Options) {
	g := esetest.Open(t, o)
	db := g.Database("a.edb")
	ctx := context.Background()
	var tb *ese.Table
	const accounts, each = 40, 1000
	must(t, g.In.Update(ctx, func(tx *ese.Tx) (err error) {
		if tb, err = tx.CreateTable(db, counterDef()); err != nil {
			return err
		}
		for i := range accounts {
			if err := tx.Insert(tb.NewRow().Set(tb.Columns()[0], ese.Int(i*1000)).Set(tb.Columns()[1], ese.Int(each))); err != nil {
				return err
			}
		}
		return nil
	}))
	id, num, pad := col(t, tb, "ID"), col(t, tb, "N"), col(t, tb, "Pad")
	var wg sync.WaitGroup
	work := func(fn func(rng *rand.Rand) error) {
		seed := rand.Uint64()
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 1))
			for range 300 {
				if err := fn(rng); err != nil && !errors.Is(err, ese.ErrKeyExists) && !errors.Is(err, ese.ErrNotFound) {
					t.Errorf("seed %d: %v", seed, err)
					return
				}
			}
		})
	}
	for range 4 {
		work(func(rng *rand.Rand) error {
			return g.In.Update(ctx, func(tx *ese.Tx) error { return transfer(tx, tb, id, num, rng, accounts) })
		})
		work(func(rng *rand.Rand) error { // neighbours that split and merge the pages
			k := rng.IntN(accounts)*1000 + 1 + rng.IntN(900)
			return g.In.Update(ctx, func(tx *ese.Tx) error {
				if rng.IntN(2) == 0 {
					return tx.Delete(tb, ese.Int(k))
				}
				return tx.Insert(tb.NewRow().Set(id, ese.Int(k)).Set(pad, ese.Bytes(make([]byte, rng.IntN(900)))))
			})
		})
	}
	for range 2 {
		work(func(*rand.Rand) error {
			return g.In.View(func(tx *ese.Tx) error { return checkSum(tx, tb, num, accounts*each) })
		})
	}
	wg.Wait()
	g.Crash()
	db = g.Database("a.edb")
	tb, err := db.Table("C")
	must(t, err)
	must(t, g.In.View(func(tx *ese.Tx) error { return checkSum(tx, tb, col(t, tb, "N"), accounts*each) }))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func transfer(tx *ese.Tx, tb *ese.Table, id, num *ese.Column, rng *rand.Rand, accounts int) error {
	from, to := rng.IntN(accounts)*1000, rng.IntN(accounts)*1000
	if from == to {
		return nil
	}
	n := int64(rng.IntN(10))
	for _, k := range []struct {
		id int
		d  int64
	}{{from, -n}, {to, n}} {
		var v ese.RowView
		var buf []byte
		ok, err := tx.Get(tb, &v, &buf, ese.Int(k.id))
		if err != nil || !ok {
			return fmt.Errorf("account %d: %v %w", k.id, ok, err)
		}
		if err := tx.Update(tb.NewRow().Set(num, ese.Int(v.Int(num)+k.d)), ese.Int(k.id)); err != nil {
			return err
		}
	}
	return nil
}

func checkSum(tx *ese.Tx, tb *ese.Table, num *ese.Column, want int64) error {
	for _, name := range []string{"ID", "N"} {
		x, err := tb.Index(name)
		if err != nil {
			return err
		}
		sum := int64(0)
		c := tx.Cursor(x)
		ok, err := c.First()
		for ; ok && err == nil; ok, err = c.Next() {
			sum += c.Row().Int(num)
		}
		if err != nil {
			return err
		}
		if sum != want {
			return fmt.Errorf("by index %s the sum is %d, not %d", name, sum, want)
		}
	}
	return nil
}

// TestConcurrentStreams writes, adopts, reads and deletes streams at once; every byte read
// is the one written, and deleted space comes back.
func TestConcurrentStreams(t *testing.T) {
	g := esetest.Open(t, ese.Options{StreamBytes: 1 << 20, FS: vfs.NewMem()})
	db := g.Database("a.edb")
	ctx := context.Background()
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 9))
			for range 60 {
				body := make([]byte, rng.IntN(150_000)+1)
				for i := range body {
					body[i] = byte(i*7 + w)
				}
				if err := streamOnce(ctx, g.In, db, body, rng.IntN(2) == 0); err != nil {
					t.Errorf("worker %d: %v", w, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func streamOnce(ctx context.Context, in *ese.Instance, db *ese.Database, body []byte, unowned bool) error {
	var id ese.StreamID
	var w *ese.StreamWriter
	if unowned {
		var err error
		if w, err = db.NewStream(); err != nil {
			return err
		}
		if _, err := w.Write(body); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
		id = w.ID()
	}
	err := in.Update(ctx, func(tx *ese.Tx) (err error) {
		if unowned {
			return tx.AdoptStream(db, id)
		}
		id, err = tx.WriteStream(db, body)
		return err
	})
	if err != nil {
		return err
	}
	var r *ese.StreamReader
	if err := in.View(func(tx *ese.Tx) (err error) {
		r, err = tx.OpenStream(db, id)
		return err
	}); err != nil {
		return err
	}
	if err := in.Update(ctx, func(tx *ese.Tx) error { return tx.DeleteStream(db, id) }); err != nil {
		return err
	}
	got := make([]byte, len(body))
	if _, err := r.ReadAt(got, 0); err != nil {
		return err
	}
	if string(got) != string(body) {
		return fmt.Errorf("stream %d reads otherwise than written", id)
	}
	return r.Close()
}

// TestConcurrentGrowth inserts from many goroutines, in runs that share leaves, until inner
// pages split under their readers; every row is found by the one who wrote it, and the check
// at the end finds the trees sound.
func TestConcurrentGrowth(t *testing.T) {
	g := esetest.Open(t, ese.Options{PageSize: 4096, CacheBytes: 2 << 20})
	db := g.Database("a.edb")
	ctx := context.Background()
	var tb *ese.Table
	must(t, g.In.Update(ctx, func(tx *ese.Tx) (err error) {
		tb, err = tx.CreateTable(db, counterDef())
		return err
	}))
	id, num, pad := col(t, tb, "ID"), col(t, tb, "N"), col(t, tb, "Pad")
	const runs, each = 8, 4000
	var wg sync.WaitGroup
	for w := range runs {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 11))
			for i := range each {
				k := rng.IntN(400)*1_000_000 + w*100_000 + i // 400 growing ends, shared by all
				err := g.In.Update(ctx, func(tx *ese.Tx) error {
					r := tb.NewRow().Set(id, ese.Int(k)).Set(num, ese.Int(rng.Int64N(1<<40)))
					return tx.Insert(r.Set(pad, ese.Bytes(make([]byte, 60))))
				})
				if err == nil {
					err = g.In.View(func(tx *ese.Tx) error {
						var v ese.RowView
						var buf []byte
						ok, err := tx.Get(tb, &v, &buf, ese.Int(k))
						if err == nil && !ok {
							err = fmt.Errorf("row %d is not found right after its commit", k)
						}
						return err
					})
				}
				if err != nil {
					t.Errorf("writer %d: %v", w, err)
					return
				}
			}
		})
	}
	wg.Wait()
	must(t, g.In.View(func(tx *ese.Tx) error {
		for _, name := range []string{"ID", "N"} {
			x, err := tb.Index(name)
			if err != nil {
				return err
			}
			rows := 0
			c := tx.Cursor(x)
			ok, err := c.First()
			for ; ok && err == nil; ok, err = c.Next() {
				rows++
			}
			if err != nil || rows != runs*each {
				return fmt.Errorf("index %s has %d rows of %d: %w", name, rows, runs*each, err)
			}
		}
		return nil
	}))
}
