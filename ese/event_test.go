package ese_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
	"pillarbox/ese/internal/dbheader"
	"pillarbox/ese/vfs"
)

// watcher collects events.
type watcher struct {
	mu     sync.Mutex
	events []ese.Event
}

func (w *watcher) observe(e ese.Event) {
	w.mu.Lock()
	w.events = append(w.events, e)
	w.mu.Unlock()
}

func (w *watcher) find(id ese.EventID) (found []ese.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.ID == id {
			found = append(found, e)
		}
	}
	return found
}

// dbFile opens a file of the disk for damage.
func dbFile(t *testing.T, fsys vfs.FS, name string) vfs.File {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_RDWR, 0)
	must(t, err)
	return f
}

// leafPage finds a page of the file that holds the bytes.
func leafPage(t *testing.T, f vfs.File, pageSize int, want string) int {
	t.Helper()
	size, err := f.Size()
	must(t, err)
	b := make([]byte, size)
	_, err = f.ReadAt(b, 0)
	must(t, err)
	for no := 1; (no+2)*pageSize <= len(b); no++ {
		p := b[(no+1)*pageSize : (no+2)*pageSize]
		if slices.Contains([]byte{2}, p[36]&3) && containsBytes(p, want) {
			return no
		}
	}
	t.Fatalf("no leaf holds %q", want)
	return 0
}

func containsBytes(p []byte, s string) bool {
	for i := 0; i+len(s) <= len(p); i++ {
		if string(p[i:i+len(s)]) == s {
			return true
		}
	}
	return false
}

func named(t *testing.T, tb *ese.Table, id int, name string) *ese.Row {
	return tb.NewRow().Set(col(t, tb, "ID"), ese.Int(id)).Set(col(t, tb, "Name"), ese.String(name)).
		Set(col(t, tb, "Photo"), ese.Bytes(make([]byte, 800)))
}

// manyNames makes a clean group with rows over many leaves.
func manyNames(t *testing.T, o ese.Options) {
	t.Helper()
	in, err := ese.Open(o)
	must(t, err)
	db, err := in.OpenDatabase("a.edb")
	must(t, err)
	must(t, in.Update(context.Background(), func(tx *ese.Tx) error {
		tb, err := tx.CreateTable(db, peopleDef())
		for i := 0; i < 200 && err == nil; i++ {
			err = tx.Insert(named(t, tb, i, "person-"+string(rune('A'+i%26))+time.Duration(i).String()))
		}
		return err
	}))
	must(t, in.Close())
}

func getPerson(in *ese.Instance, id int) error {
	db, err := in.OpenDatabase("a.edb")
	if err != nil {
		return err
	}
	tb, err := db.Table("People")
	if err != nil {
		return err
	}
	return in.View(func(tx *ese.Tx) error {
		ok, err := tx.Get(tb, new(ese.RowView), new([]byte), ese.Int(id))
		if err == nil && !ok {
			err = ese.ErrNotFound
		}
		return err
	})
}

// TestRepairOnTheFly flips a bit of a page at rest: the reader gets its row, the page is put
// right on disk, and header, counters and events tell of it.
func TestRepairOnTheFly(t *testing.T) {
	for _, size := range []int{4096, 8192, 16384, 32768} {
		disk := vfs.NewMem()
		var w watcher
		o := ese.Options{FS: disk, Dir: "/d", Manual: true, PageSize: size, GenerationBytes: 256 << 10, Observer: w.observe}
		manyNames(t, o)
		f := dbFile(t, disk, "/d/a.edb")
		no := leafPage(t, f, size, "person-A0s")
		at := int64(no+1)*int64(size) + int64(size)/2
		b := make([]byte, 1)
		_, err := f.ReadAt(b, at)
		must(t, err)
		good := b[0]
		b[0] ^= 0x10
		_, err = f.WriteAt(b, at)
		must(t, err)

		in, err := ese.Open(o)
		must(t, err)
		must(t, getPerson(in, 0))
		if s := in.Stats(); s.PagesRepaired != 1 || s.PagesDamaged != 0 {
			t.Errorf("%d: %d pages repaired, %d damaged", size, s.PagesRepaired, s.PagesDamaged)
		}
		if e := w.find(ese.EventPageRepaired); len(e) != 1 || int(e[0].Page) != no {
			t.Errorf("%d: events %v, page %d", size, e, no)
		}
		must(t, in.Close())
		if _, err = f.ReadAt(b, at); err != nil || b[0] != good {
			t.Errorf("%d: the page was not written back: %x %v", size, b, err)
		}
		h, _, err := dbheader.Read(f)
		must(t, err)
		if h.ECCFixes.N != 1 || h.ECCFixes.Time.IsZero() || h.BadChecksums.N != 0 {
			t.Errorf("%d: the header counts %+v and %+v", size, h.ECCFixes, h.BadChecksums)
		}
		esetest.Check(t, disk, "/d/a.edb")
	}
}

// TestDamageCounted damages a page past repair: the reader gets an error that names it, and
// the header counts it.
func TestDamageCounted(t *testing.T) {
	disk := vfs.NewMem()
	var w watcher
	o := ese.Options{FS: disk, Dir: "/d", Manual: true, Observer: w.observe}
	manyNames(t, o)
	f := dbFile(t, disk, "/d/a.edb")
	no := leafPage(t, f, 8192, "person-A0s")
	_, err := f.WriteAt(make([]byte, 300), int64(no+1)*8192+4000)
	must(t, err)
	in, err := ese.Open(o)
	must(t, err)
	var pe *ese.PageError
	if err := getPerson(in, 0); !errors.As(err, &pe) || int(pe.Page) != no {
		t.Errorf("a damaged page: %v", err)
	}
	if e := w.find(ese.EventPageDamaged); len(e) == 0 || int(e[0].Page) != no || e[0].Err == nil {
		t.Errorf("events: %v", e)
	}
	must(t, in.Close())
	h, _, err := dbheader.Read(f)
	must(t, err)
	if h.BadChecksums.N == 0 || h.ECCFixes.N != 0 {
		t.Errorf("the header counts %+v and %+v", h.ECCFixes, h.BadChecksums)
	}
}

// TestLostWrite lets the disk lose writes of pages: the engine must say so when it reads one
// again, in the same run and after a clean end.
func TestLostWrite(t *testing.T) {
	for _, reopen := range []bool{false, true} {
		disk := vfs.NewMem()
		faults := vfs.NewFault(disk)
		var w watcher
		o := ese.Options{
			FS: faults, Dir: "/d", Manual: true, CacheBytes: 16 * 8192, Observer: w.observe,
		}
		manyNames(t, o)
		in, err := ese.Open(o)
		must(t, err)
		db, err := in.OpenDatabase("a.edb")
		must(t, err)
		tb, err := db.Table("People")
		must(t, err)
		must(t, getPerson(in, 0))
		f := dbFile(t, disk, "/d/a.edb")
		no := leafPage(t, f, 8192, "person-A0s")
		old := make([]byte, 8192)
		_, err = f.ReadAt(old, int64(no+1)*8192)
		must(t, err)
		must(t, in.Update(context.Background(), func(tx *ese.Tx) error {
			return tx.Update(tb.NewRow().Set(col(t, tb, "Age"), ese.Int(7)), ese.Int(0))
		}))
		for range 4 {
			must(t, in.Step(2))
		}
		if reopen {
			must(t, in.Close())
		}
		_, err = f.WriteAt(old, int64(no+1)*8192) // as if it had never been written
		must(t, err)
		if reopen {
			in, err = ese.Open(o)
			must(t, err)
		} else { // the page leaves the cache
			for id := 199; id > 20; id-- {
				must(t, getPerson(in, id))
			}
		}
		if err := getPerson(in, 0); !errors.Is(err, ese.ErrLostWrite) {
			t.Errorf("reopened %v: a lost write: %v", reopen, err)
		}
		if e := w.find(ese.EventLostWrite); len(e) == 0 || int(e[0].Page) != no {
			t.Errorf("reopened %v: events %v, page %d", reopen, e, no)
		}
		if in.Stats().LostWrites == 0 {
			t.Error("not counted")
		}
		must(t, in.Kill())
	}
}

// TestStaleFlushMap shows that a map that does not belong to the database's last clean end is
// not believed.
func TestStaleFlushMap(t *testing.T) {
	disk := vfs.NewMem()
	o := ese.Options{FS: disk, Dir: "/d", Manual: true}
	manyNames(t, o)
	f := dbFile(t, disk, "/d/a.jfm")
	size, err := f.Size()
	must(t, err)
	old := make([]byte, size)
	_, err = f.ReadAt(old, 0)
	must(t, err)
	in, err := ese.Open(o)
	must(t, err)
	db, err := in.OpenDatabase("a.edb")
	must(t, err)
	tb, err := db.Table("People")
	must(t, err)
	must(t, in.Update(context.Background(), func(tx *ese.Tx) error {
		return tx.Update(tb.NewRow().Set(col(t, tb, "Age"), ese.Int(7)), ese.Int(0))
	}))
	must(t, in.Close())
	_, err = dbFile(t, disk, "/d/a.jfm").WriteAt(old, 0)
	must(t, err)
	in, err = ese.Open(o)
	must(t, err)
	must(t, getPerson(in, 0))
	must(t, in.Close())
	esetest.Check(t, disk, "/d/a.edb")
}

// TestEvents shows the events of a life: attached, rolled, checkpoint, detached, recovery.
func TestEvents(t *testing.T) {
	disk := vfs.NewMem()
	var w watcher
	o := ese.Options{
		FS: disk, Dir: "/d", Manual: true, GenerationBytes: 64 << 10, CheckpointDepth: 64 << 10,
		LogKeep: 1, Observer: w.observe,
	}
	in, tb := groupWithRows(t, o, "a.edb", 100)
	for range 20 {
		must(t, in.Step(8%ese.Steps))
		must(t, in.Step(2))
		must(t, in.Step(5))
	}
	must(t, in.Step(4))
	must(t, in.Update(context.Background(), func(tx *ese.Tx) error { return tx.Insert(named(t, tb, 1000, "last")) }))
	must(t, in.Kill())
	in, err := ese.Open(o)
	must(t, err)
	must(t, in.Close())
	for _, id := range []ese.EventID{
		ese.EventAttached, ese.EventLogRolled, ese.EventCheckpoint, ese.EventLogRemoved,
		ese.EventRecoveryBegun, ese.EventRecoveryProgress, ese.EventRecoveryEnded, ese.EventDetached,
	} {
		e := w.find(id)
		if len(e) == 0 {
			t.Errorf("no event %d (%v)", id, id)
			continue
		}
		if e[0].Time.IsZero() {
			t.Errorf("event %v without a time", id)
		}
	}
	if n := in.Stats().Events; n == 0 {
		t.Error("events are not counted")
	}
}
