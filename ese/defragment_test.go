package ese_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
	"pillarbox/ese/vfs"
)

// defragAll runs a defragmentation to its end.
func defragAll(t *testing.T, in *ese.Instance, db *ese.Database) ese.DefragmentStatus {
	t.Helper()
	db.StartDefragment()
	must(t, in.Step(11))
	for i := 0; db.Defragmentation().Running; i++ {
		must(t, in.Step(11))
		if i > 100_000 {
			t.Fatal("the defragmentation never ends")
		}
	}
	return db.Defragmentation()
}

// mixed is a database of tables whose pages lie between each other's.
type mixed struct {
	t      *testing.T
	in     *ese.Instance
	db     *ese.Database
	tables []*ese.Table
	live   []map[int]bool
}

func openMixed(t *testing.T, o ese.Options) *mixed {
	in, err := ese.Open(o)
	must(t, err)
	db, err := in.OpenDatabase("a.edb")
	must(t, err)
	return &mixed{t: t, in: in, db: db}
}

// create makes n tables.
func (m *mixed) create(n int) {
	must(m.t, m.in.Update(context.Background(), func(tx *ese.Tx) error {
		for i := range n {
			def := peopleDef()
			def.Name = fmt.Sprintf("People%d", i)
			tb, err := tx.CreateTable(m.db, def)
			if err != nil {
				return err
			}
			m.tables, m.live = append(m.tables, tb), append(m.live, map[int]bool{})
		}
		return nil
	}))
}

// reopen finds the tables again.
func (m *mixed) reopen(o ese.Options) {
	var err error
	m.in, err = ese.Open(o)
	must(m.t, err)
	m.db, err = m.in.OpenDatabase("a.edb")
	must(m.t, err)
	for i := range m.tables {
		m.tables[i], err = m.db.Table(fmt.Sprintf("People%d", i))
		must(m.t, err)
	}
}

func mixedPhoto(id int) []byte {
	return bytes.Repeat([]byte{byte(id), byte(id >> 8)}, []int{20, 300, 3000}[id%3])
}

func (m *mixed) row(i, id int) *ese.Row {
	tb := m.tables[i]
	return tb.NewRow().Set(col(m.t, tb, "ID"), ese.Int(id)).Set(col(m.t, tb, "Age"), ese.Int(id%40)).
		Set(col(m.t, tb, "Name"), ese.String(fmt.Sprintf("person %d of %d", id, i))).
		Set(col(m.t, tb, "Photo"), ese.Bytes(mixedPhoto(id)))
}

// put inserts rows into the tables in turn, in an order of chance.
func (m *mixed) put(rng *rand.Rand, from, to int) {
	m.each(rng.Perm(to-from), func(tx *ese.Tx, i, id int) error {
		m.live[i][from+id] = true
		return tx.Insert(m.row(i, from+id))
	})
}

// cull deletes all but some rows.
func (m *mixed) cull(rng *rand.Rand, keep func(i, id int) bool) {
	var ids []int
	for id := range m.live[0] {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	m.each(ids, func(tx *ese.Tx, i, id int) error {
		if !m.live[i][id] || keep(i, id) {
			return nil
		}
		delete(m.live[i], id)
		return tx.Delete(m.tables[i], ese.Int(id))
	})
}

func (m *mixed) each(ids []int, fn func(tx *ese.Tx, i, id int) error) {
	for len(ids) > 0 {
		n := min(20, len(ids))
		must(m.t, m.in.Update(context.Background(), func(tx *ese.Tx) error {
			for _, id := range ids[:n] {
				for i := range m.tables {
					if err := fn(tx, i, id); err != nil {
						return err
					}
				}
			}
			return nil
		}))
		must(m.t, m.in.Step(1))
		ids = ids[n:]
	}
}

// verify reads every row by two indexes.
func (m *mixed) verify() {
	m.t.Helper()
	must(m.t, m.in.View(func(tx *ese.Tx) error {
		for i, tb := range m.tables {
			for _, name := range []string{"ID", "Name"} {
				x, err := tb.Index(name)
				must(m.t, err)
				n := 0
				c := tx.Cursor(x)
				ok, err := c.First()
				for ; ok && err == nil; ok, err = c.Next() {
					id := int(c.Row().Int(col(m.t, tb, "ID")))
					photo, err := c.Row().Blob(col(m.t, tb, "Photo"), nil)
					if err != nil || !m.live[i][id] || !bytes.Equal(photo, mixedPhoto(id)) {
						return fmt.Errorf("table %d, row %d (there: %v), %d bytes: %w",
							i, id, m.live[i][id], len(photo), err)
					}
					n++
				}
				if err != nil || n != len(m.live[i]) {
					return fmt.Errorf("table %d by %s: %d rows, want %d: %w", i, name, n, len(m.live[i]), err)
				}
			}
		}
		return nil
	}))
}

// TestDefragment fills tables that lie between each other, deletes nearly everything, and
// defragments: the file comes near to what the rows that are left take in a new one. Crashes on
// the way, with and without a checkpoint file, keep every row.
func TestDefragment(t *testing.T) {
	for seed := range uint64(10) {
		rng := rand.New(rand.NewPCG(seed, 9))
		disk := vfs.NewMem()
		o := ese.Options{
			FS: disk, Dir: "/d", Manual: true, PageSize: 4096 << (seed % 4), GenerationBytes: 1 << 20,
			CacheBytes: 8 << 20, CheckpointDepth: 1 << 20,
		}
		m := openMixed(t, o)
		m.create(3)
		m.put(rng, 0, 1200)
		quiesce(t, m.in)
		f := dbFile(t, disk, "/d/a.edb")
		full, err := f.Size()
		must(t, err)
		m.cull(rng, func(_, id int) bool { return rng.IntN(20) == 0 || id > 1150 && seed%2 == 0 })
		quiesce(t, m.in)
		if seed >= 4 { // a crash on the way
			m.db.StartDefragment()
			for range rng.IntN(60) {
				must(t, m.in.Step(11))
				if rng.IntN(4) == 0 {
					must(t, m.in.Step([]int{0, 2, 4, 10}[rng.IntN(4)]))
				}
			}
			disk = disk.CrashClone(rng)
			o.FS = disk
			_ = m.in.Kill()
			if seed%3 == 0 {
				must(t, disk.Remove("/d/E00.chk"))
			}
			m.reopen(o)
			m.verify()
			f = dbFile(t, disk, "/d/a.edb")
		}
		st := defragAll(t, m.in, m.db)
		quiesce(t, m.in)
		must(t, m.in.Step(10)) // cuts the file
		m.verify()
		after, err := f.Size()
		must(t, err)
		fresh := liveSize(t, o, m)
		t.Logf("seed %d: %d bytes full, %d after, %d in a new file: %+v", seed, full, after, fresh, st)
		if seed < 4 && (st.Moved == 0 || st.Joined == 0 || st.Returned == 0 || st.Took == 0) {
			t.Errorf("seed %d: it did nothing: %+v", seed, st)
		}
		// 64 pages stay free at the end, and the first of a file are there in any case.
		if slack := int64(96+64) * int64(o.PageSize); after > fresh+fresh/5+slack {
			t.Errorf("seed %d: the file had %d bytes and has %d; a new one takes %d",
				seed, full, after, fresh)
		}
		m.put(rng, 5000, 5100)
		m.verify()
		must(t, m.in.Close())
		esetest.Check(t, disk, "/d/a.edb")
	}
}

// liveSize is how long a new database with the same rows is.
func liveSize(t *testing.T, o ese.Options, m *mixed) int64 {
	disk := vfs.NewMem()
	o.FS = disk
	c := openMixed(t, o)
	c.create(len(m.tables))
	for i := range m.live {
		must(t, c.in.Update(context.Background(), func(tx *ese.Tx) error {
			for id := range 1200 {
				if m.live[i][id] {
					if err := tx.Insert(c.row(i, id)); err != nil {
						return err
					}
				}
			}
			return nil
		}))
	}
	quiesce(t, c.in)
	n, err := dbFile(t, disk, "/d/a.edb").Size()
	must(t, err)
	must(t, c.in.Close())
	return n
}

// TestDefragmentByItself shows that a scrub which finds the file half empty has it defragmented,
// with events, and that the option forbids it.
func TestDefragmentByItself(t *testing.T) {
	for _, limit := range []int{0, -1} {
		var w watcher
		m := openMixed(t, ese.Options{
			FS: vfs.NewMem(), Dir: "/d", Manual: true, PageSize: 4096, Observer: w.observe,
			DefragmentFree: limit, ScrubEvery: -1,
		})
		m.create(2)
		rng := rand.New(rand.NewPCG(1, 1))
		m.put(rng, 0, 1000)
		scrubAll(t, m.in, m.db)
		must(t, m.in.Step(11))
		if m.db.Defragmentation().Running {
			t.Error("it defragments a full file")
		}
		m.cull(rng, func(int, int) bool { return rng.IntN(10) == 0 })
		scrubAll(t, m.in, m.db)
		must(t, m.in.Step(11))
		if got := m.db.Defragmentation().Running; got != (limit == 0) {
			t.Errorf("limit %d: running: %v", limit, got)
		}
		for m.db.Defragmentation().Running {
			must(t, m.in.Step(11))
		}
		begun, ended := len(w.find(ese.EventDefragBegun)), len(w.find(ese.EventDefragEnded))
		if limit == 0 && (begun != 1 || ended != 1) {
			t.Errorf("%d events of a begin, %d of an end", begun, ended)
		}
		if s := m.in.Stats(); limit == 0 && s.PagesMoved == 0 {
			t.Error("nothing was moved")
		}
		m.verify()
		must(t, m.in.Close())
	}
}

// TestDefragmentConcurrent defragments again and again while others read snapshots that may
// never change, and write.
func TestDefragmentConcurrent(t *testing.T) {
	g := esetest.Open(t, ese.Options{
		PageSize: 4096, CacheBytes: 128 * 4096, GenerationBytes: 1 << 20, CheckpointDepth: 1 << 20,
		DefragmentRate: 1 << 30,
	})
	db := g.Database("a.edb")
	ctx := context.Background()
	var tb *ese.Table
	const ids = 600
	must(t, g.In.Update(ctx, func(tx *ese.Tx) (err error) {
		tb, err = tx.CreateTable(db, counterDef())
		return err
	}))
	id, num, pad := col(t, tb, "ID"), col(t, tb, "N"), col(t, tb, "Pad")
	row := func(i, n int) *ese.Row {
		return tb.NewRow().Set(id, ese.Int(i)).Set(num, ese.Int(n)).Set(pad, ese.Bytes(make([]byte, 200)))
	}
	const pairs = 1000 // rows i and ids+i have N's that add up to it, or neither is there
	var stop atomic.Bool
	var wg sync.WaitGroup
	for seed := range uint64(3) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 4))
			for !stop.Load() {
				i := rng.IntN(ids)
				err := g.In.Update(ctx, func(tx *ese.Tx) error {
					n := rng.IntN(pairs)
					err := errors.Join(tx.Delete(tb, ese.Int(i)), tx.Delete(tb, ese.Int(ids+i)))
					if errors.Is(err, ese.ErrNotFound) {
						return errors.Join(tx.Insert(row(i, n)), tx.Insert(row(ids+i, pairs-n)))
					}
					return err
				})
				if err != nil {
					t.Errorf("write: %v", err)
					return
				}
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			for !stop.Load() {
				err := g.In.View(func(tx *ese.Tx) error { return sumPairs(tx, tb, id, num, ids, pairs) })
				if err != nil {
					t.Errorf("read: %v", err)
					return
				}
			}
		})
	}
	for range 4 {
		db.StartDefragment()
		await(t, func() bool { return db.Defragmentation().Pass > 0 && !db.Defragmentation().Running })
	}
	await(t, func() bool { db.StartDefragment(); return g.In.Stats().PagesMoved > 20 })
	stop.Store(true)
	wg.Wait()
	await(t, func() bool { return !db.Defragmentation().Running })
}

func sumPairs(tx *ese.Tx, tb *ese.Table, id, num *ese.Column, ids, want int) error {
	sum, n := make([]int64, ids), make([]int, ids)
	c := tx.Cursor(tb.Primary())
	ok, err := c.First()
	for ; ok && err == nil; ok, err = c.Next() {
		i := int(c.Row().Int(id)) % ids
		sum[i] += c.Row().Int(num)
		n[i]++
	}
	for i := range sum {
		if n[i] != 0 && (n[i] != 2 || sum[i] != int64(want)) {
			return fmt.Errorf("%d rows of %d with the sum %d", n[i], i, sum[i])
		}
	}
	return err
}

// await waits for the background, for a minute at most.
func await(t *testing.T, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the background does not come to it")
		}
	}
}
