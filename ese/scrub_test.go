package ese_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
	"pillarbox/ese/internal/dbheader"
	"pillarbox/ese/vfs"
)

// scrubAll runs a pass of the database to its end, and what it has put on the lists.
func scrubAll(t *testing.T, in *ese.Instance, db *ese.Database) ese.ScrubStatus {
	t.Helper()
	db.StartScrub()
	must(t, in.Step(10))
	for i := 0; db.Scrub().Running; i++ {
		must(t, in.Step(10))
		if i > 100_000 {
			t.Fatal("the scrub never ends")
		}
	}
	for range 20 {
		must(t, in.Step(1))
	}
	return db.Scrub()
}

// quiesce makes everything durable and moves the checkpoint to the end.
func quiesce(t *testing.T, in *ese.Instance) {
	t.Helper()
	for range 3 {
		for _, n := range []int{0, 1, 6, 5} {
			must(t, in.Step(n))
		}
	}
	for range 2000 {
		before := in.Stats().Cache.Dirty
		must(t, in.Step(2))
		if before == 0 {
			break
		}
	}
	must(t, in.Step(3))
	must(t, in.Step(0))
	must(t, in.Step(4))
}

// TestScrub damages pages at rest, of each page size: a pass finds all of them, repairs what can
// be, reports its progress and notes itself in the header.
func TestScrub(t *testing.T) {
	for _, size := range []int{4096, 8192, 16384, 32768} {
		disk := vfs.NewMem()
		var w watcher
		o := ese.Options{
			FS: disk, Dir: "/d", Manual: true, PageSize: size, GenerationBytes: 256 << 10,
			Observer: w.observe, ScrubEvery: -1,
		}
		manyNames(t, o)
		f := dbFile(t, disk, "/d/a.edb")
		flipped, broken := leafPage(t, f, size, "person-A0s"), leafPage(t, f, size, "person-X101ns")
		at := int64(flipped+1)*int64(size) + int64(size)/2
		b := make([]byte, 1)
		_, err := f.ReadAt(b, at)
		must(t, err)
		b[0] ^= 4
		_, err = f.WriteAt(b, at)
		must(t, err)
		bad := uint32(0)
		if broken != flipped {
			_, err = f.WriteAt([]byte("what is this doing here"), int64(broken+1)*int64(size)+int64(size)/2)
			must(t, err)
			bad = 1
		}
		in, err := ese.Open(o)
		must(t, err)
		db, err := in.OpenDatabase("a.edb")
		must(t, err)
		must(t, in.Step(10)) // not asked for: it does nothing
		if db.Scrub().Running || db.Scrub().Pages != 0 {
			t.Error("it scrubs without being asked")
		}
		st := scrubAll(t, in, db)
		if st.Page != st.Pages || st.Pages < 50 || st.Damaged != bad || st.Took == 0 {
			t.Errorf("%d: the scrub ended as %+v", size, st)
		}
		if s := in.Stats(); s.PagesRepaired != 1 || s.ScrubPasses != 1 || s.PagesScrubbed == 0 {
			t.Errorf("%d: counters %+v", size, s)
		}
		if len(w.find(ese.EventScrubBegun)) != 1 || len(w.find(ese.EventScrubEnded)) != 1 ||
			len(w.find(ese.EventScrubProgress)) < 5 {
			t.Errorf("%d: events %v", size, w.events)
		}
		must(t, in.Close())
		h, _, err := dbheader.Read(f)
		must(t, err)
		if h.ScanPrevious.IsZero() || h.ECCFixes.N != 1 || h.BadChecksums.N != bad {
			t.Errorf("%d: header: scrubbed %v, %+v, %+v", size, h.ScanPrevious, h.ECCFixes, h.BadChecksums)
		}
	}
}

// TestScrubDue shows that a pass begins by itself when it is time, and that the throttle holds.
func TestScrubDue(t *testing.T) {
	g := newFullGroup(t, ese.Options{ScrubEvery: 24 * time.Hour})
	must(t, g.in.Step(10))
	if g.db.Scrub().Running {
		t.Error("it scrubs at once")
	}
	g.now = g.now.Add(2 * time.Hour)
	must(t, g.in.Step(10))
	if st := g.db.Scrub(); !st.Running || st.Page != 32 {
		t.Errorf("after two hours: %+v", st)
	}
	for g.db.Scrub().Running {
		must(t, g.in.Step(10))
	}
	g.now = g.now.Add(2 * time.Hour)
	must(t, g.in.Step(10))
	if g.db.Scrub().Running {
		t.Error("it scrubs again too soon")
	}
	g.close()
	g.open()
	g.now = g.now.Add(25 * time.Hour)
	must(t, g.in.Step(10))
	if !g.db.Scrub().Running {
		t.Error("a day after the last pass, noted in the header, it does not scrub")
	}
	for g.db.Scrub().Running {
		must(t, g.in.Step(10))
	}
	g.close()
}

// TestScrubDeadRows leaves deleted rows behind that neither the version store nor redo knows of:
// the scrub finds them.
func TestScrubDeadRows(t *testing.T) {
	disk := vfs.NewMem()
	o := ese.Options{FS: disk, Dir: "/d", Manual: true}
	in, tb := groupWithRows(t, o, "a.edb", 300)
	must(t, in.Update(context.Background(), func(tx *ese.Tx) error {
		for i := range 250 {
			if err := tx.Delete(tb, ese.Int(i)); err != nil {
				return err
			}
		}
		return nil
	}))
	for range 200 {
		must(t, in.Step(2))
	}
	must(t, in.Step(4))
	must(t, in.Kill())
	in, err := ese.Open(o)
	must(t, err)
	db, err := in.OpenDatabase("a.edb")
	must(t, err)
	must(t, in.Step(1))
	purged := in.Stats().Purged
	st := scrubAll(t, in, db)
	if st.Dead < 250 || in.Stats().Purged-purged < 250 {
		t.Errorf("the scrub found %d dead rows, %d were removed", st.Dead, in.Stats().Purged-purged)
	}
	if n := countPeople(t, in, "a.edb"); n != 50 {
		t.Errorf("%d rows", n)
	}
	must(t, in.Close())
	esetest.Check(t, disk, "/d/a.edb")
}

// TestGiveBack deletes nearly everything: leaves are merged, extents go back, and the file gets
// shorter. Then it grows again; crashes at every step, with and without a checkpoint file, must
// keep every row.
func TestGiveBack(t *testing.T) {
	for seed := range uint64(14) {
		rng := rand.New(rand.NewPCG(seed, 3))
		disk := vfs.NewMem()
		o := ese.Options{
			FS: disk, Dir: "/d", Manual: true, PageSize: 4096, GenerationBytes: 1 << 20, CacheBytes: 8 << 20,
			CheckpointDepth: 1 << 20,
		}
		in, tb := groupWithRows(t, o, "a.edb", 1500)
		quiesce(t, in)
		f := dbFile(t, disk, "/d/a.edb")
		before, err := f.Size()
		must(t, err)
		ctx := context.Background()
		for i := range 1500 {
			if i >= 15 {
				must(t, in.Update(ctx, func(tx *ese.Tx) error { return tx.Delete(tb, ese.Int(i)) }))
			}
		}
		quiesce(t, in)
		db, err := in.OpenDatabase("a.edb")
		must(t, err)
		steps := []func(){
			func() { scrubAll(t, in, db) }, func() { quiesce(t, in) }, func() { must(t, in.Step(10)) },
			func() { scrubAll(t, in, db) }, func() { quiesce(t, in) }, func() { must(t, in.Step(10)) },
		}
		cut := int(seed) % (len(steps) + 1)
		for _, step := range steps[:cut] {
			step()
		}
		if cut == len(steps) {
			after, err := f.Size()
			must(t, err)
			if s := in.Stats(); after > before/3 || s.PagesTrimmed == 0 || s.PagesReturned == 0 {
				t.Errorf("seed %d: the file had %d bytes and has %d: %d pages returned, %d trimmed",
					seed, before, after, s.PagesReturned, s.PagesTrimmed)
			}
		}
		if seed%2 == 0 { // and some that grow it again
			for i := 5000; i < 5200; i++ {
				must(t, in.Update(ctx, func(tx *ese.Tx) error {
					return tx.Insert(tb.NewRow().Set(col(t, tb, "ID"), ese.Int(i)).Set(col(t, tb, "Photo"), ese.Bytes(make([]byte, 3000))))
				}))
			}
		}
		o.FS = disk.CrashClone(rng)
		disk = o.FS.(*vfs.Mem)
		_ = in.Kill()
		if seed%3 == 0 {
			must(t, disk.Remove("/d/E00.chk"))
		}
		in, err = ese.Open(o)
		if err != nil {
			t.Fatalf("seed %d, cut %d: %v", seed, cut, err)
		}
		want := 15
		if seed%2 == 0 {
			want += 200
		}
		if n := countPeople(t, in, "a.edb"); n != want {
			t.Errorf("seed %d, cut %d: %d rows, want %d", seed, cut, n, want)
		}
		must(t, in.Close())
		esetest.Check(t, disk, "/d/a.edb")
	}
}

// TestDeleteReinsert deletes every second row and puts as many back: the files grow by less
// than 5 %.
func TestDeleteReinsert(t *testing.T) {
	disk := vfs.NewMem()
	o := ese.Options{FS: disk, Dir: "/d", Manual: true, CheckpointDepth: 4 << 20}
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
	const rows = 20_000
	order := rand.New(rand.NewPCG(1, 1)).Perm(rows)
	put := func(ids []int) {
		for len(ids) > 0 {
			n := min(200, len(ids))
			must(t, in.Update(ctx, func(tx *ese.Tx) error {
				for _, i := range ids[:n] {
					r := tb.NewRow().Set(col(t, tb, "ID"), ese.Int(i)).Set(col(t, tb, "Name"), ese.String(fmt.Sprintf("n%08d", i*7919%rows))).
						Set(col(t, tb, "Photo"), ese.Bytes(make([]byte, 100)))
					if err := tx.Insert(r); err != nil {
						return err
					}
				}
				return nil
			}))
			must(t, in.Step(1))
			ids = ids[n:]
		}
	}
	put(order)
	quiesce(t, in)
	f := dbFile(t, disk, "/d/a.edb")
	before, err := f.Size()
	must(t, err)
	for at := 0; at < rows/2; at += 200 {
		must(t, in.Update(ctx, func(tx *ese.Tx) error {
			for _, i := range order[at : at+200] {
				if err := tx.Delete(tb, ese.Int(i)); err != nil {
					return err
				}
			}
			return nil
		}))
		must(t, in.Step(1))
	}
	put(order[:rows/2])
	quiesce(t, in)
	after, err := f.Size()
	must(t, err)
	if float64(after) > 1.05*float64(before) {
		t.Errorf("the file grew from %d to %d bytes", before, after)
	}
	must(t, in.Close())
	esetest.Check(t, disk, "/d/a.edb")
}
