package cache

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/page"
	"pillarbox/ese/vfs"
)

// hookLog lets a test act between the copy of the pages and their write.
type hookLog struct{ onFlush func() }

func (l *hookLog) FlushTo(logrec.LogPos) error { l.onFlush(); return nil }
func (l *hookLog) End() logrec.LogPos          { return 5 }

// oneFile is a cache of sixteen pages over one empty file.
func oneFile(t *testing.T, log Log) (*Cache, *File) {
	t.Helper()
	fs := vfs.NewMem()
	f, err := fs.OpenFile("a.edb", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	d, err := fs.OpenFile("a.dw", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Options{PageSize: 4096, Bytes: 16 * 4096, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	file, err := c.Register(1, "a.edb", f, d, 0)
	if err != nil {
		t.Fatal(err)
	}
	return c, file
}

// A page that is changed while its copy is written stays dirty from the new change on.
func TestChangedWhileWritten(t *testing.T) {
	log := &hookLog{onFlush: func() {}}
	c, file := oneFile(t, log)
	f := file.f
	change := func(pos logrec.LogPos, flags page.Flags) {
		fr, err := c.Fetch(file, 7, Fresh)
		if err != nil {
			t.Fatal(err)
		}
		fr.Dirty(pos)
		page.Init(fr.P, 9, flags)
		fr.Logged(pos + 1)
		fr.Unlock()
	}
	change(10, page.FlagLeaf)
	log.onFlush = func() { change(20, page.FlagLeaf|page.FlagIndex) }
	if n, err := c.WriteBatch(10, 0); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if got := c.OldestDirty(99); got != 20 {
		t.Errorf("the oldest unwritten change is at %d, want 20", got)
	}
	log.onFlush = func() {}
	if n, err := c.WriteBatch(10, 0); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if got := c.OldestDirty(99); got != 99 {
		t.Errorf("a clean page counts as dirty from %d", got)
	}
	p := make(page.Page, 4096)
	if _, err := f.ReadAt(p, page.No(7).Offset(4096)); err != nil {
		t.Fatal(err)
	}
	if p.Verify(7) != page.Good || p.Flags()&page.FlagIndex == 0 {
		t.Error("the later change did not reach the disk")
	}
}

// A full cache of dirty pages writes some and goes on; a page read back is the one written.
func TestEvictDirty(t *testing.T) {
	fs := vfs.NewMem()
	f, err := fs.OpenFile("a.edb", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	d, err := fs.OpenFile("a.dw", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Options{PageSize: 4096, Bytes: 16 * 4096, Log: &hookLog{onFlush: func() {}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	file, err := c.Register(1, "a.edb", f, d, 0)
	if err != nil {
		t.Fatal(err)
	}
	for no := page.No(1); no <= 200; no++ {
		fr, err := c.Fetch(file, no, Fresh)
		if err != nil {
			t.Fatal(err)
		}
		fr.Dirty(logrec.LogPos(no))
		page.Init(fr.P, page.ObjID(no), page.FlagLeaf)
		fr.Logged(logrec.LogPos(no))
		fr.Unlock()
	}
	for no := page.No(1); no <= 200; no++ {
		fr, err := c.Fetch(file, no, Shared)
		if err != nil {
			t.Fatal(err)
		}
		if fr.P.ObjID() != page.ObjID(no) {
			t.Errorf("page %d is that of object %d", no, fr.P.ObjID())
		}
		fr.RUnlock()
	}
	if _, err := c.Fetch(file, 300, Shared); err == nil {
		t.Error("a page that was never written is handed out")
	}
}

// A page whose stamp is above all that the file gave out is not changed: redo would take the
// change for one that is there already.
func TestStampFromTheFuture(t *testing.T) {
	f := &File{Name: "a.edb"}
	f.SawDBTime(10)
	if got, err := f.NextDBTime(1, 10); got != 11 || err != nil {
		t.Errorf("%d %v", got, err)
	}
	if _, err := f.NextDBTime(7, 12); !errors.Is(err, ErrStamp) ||
		!strings.Contains(err.Error(), "page 7 of a.edb") {
		t.Errorf("%v", err)
	}
	if got, err := f.NextDBTime(1, 11); got != 13 || err != nil {
		t.Errorf("%d %v", got, err)
	}
}

// A change that could not be logged leaves no trace: a page fetched Fresh, whose bytes were
// never read, is not written over what the disk has.
func TestUndirty(t *testing.T) {
	log := &hookLog{onFlush: func() {}}
	c, file := oneFile(t, log)
	touch := func(undo bool, pos logrec.LogPos) {
		fr, err := c.Fetch(file, 7, Fresh)
		if err != nil {
			t.Fatal(err)
		}
		if made := fr.Dirty(pos); undo && made {
			fr.Undirty(pos)
		}
		fr.Unlock()
	}
	touch(true, 10)
	if n, err := c.WriteBatch(10, 0); n != 0 || err != nil {
		t.Errorf("%d pages written, %v", n, err)
	}
	// An earlier change is not forgotten with a later one, nor one of a page in flight.
	touch(false, 20)
	touch(true, 30)
	if got := c.OldestDirty(99); got != 20 {
		t.Errorf("the oldest unwritten change is at %d, want 20", got)
	}
	log.onFlush = func() { touch(true, 40) }
	if n, err := c.WriteBatch(10, 0); n != 1 || err != nil {
		t.Errorf("%d pages written, %v", n, err)
	}
	if got := c.OldestDirty(99); got != 99 || c.Stats().Dirty != 0 {
		t.Errorf("dirty from %d, %d pages", got, c.Stats().Dirty)
	}
}

// A page that the log brings whole is not written twice; but one that stands in the
// double-write file since an earlier batch is, or recovery would bring the old one back.
func TestWholePages(t *testing.T) {
	c, file := oneFile(t, &hookLog{onFlush: func() {}})
	pos := logrec.LogPos(10)
	change := func(no page.No, obj page.ObjID, whole bool) {
		fr, err := c.Fetch(file, no, Fresh)
		if err != nil {
			t.Fatal(err)
		}
		if whole {
			fr.DirtyWhole(pos)
		} else {
			fr.Dirty(pos)
		}
		page.Init(fr.P, obj, page.FlagLeaf)
		fr.Logged(pos + 1)
		pos += 2
		fr.Unlock()
	}
	write := func() {
		t.Helper()
		if _, err := c.WriteBatch(10, 0); err != nil {
			t.Fatal(err)
		}
	}
	twice := func() (nos []page.No) {
		for no := range file.doubled {
			nos = append(nos, no)
		}
		slices.Sort(nos)
		return nos
	}
	change(1, 101, true)
	change(2, 102, false)
	write()
	if got := twice(); !slices.Equal(got, []page.No{2}) {
		t.Errorf("pages %v are in the double-write file, want 2", got)
	}
	change(2, 202, true)
	change(3, 203, true)
	write()
	if got := twice(); !slices.Equal(got, []page.No{2}) {
		t.Errorf("pages %v are in the double-write file, want 2 again", got)
	}
	change(4, 204, true) // the batch of page 2 stays where it is
	write()
	n, err := RestoreTorn(file.f, file.double, 4096)
	if n != 0 || err != nil {
		t.Errorf("recovery restores %d pages, %v; none was torn", n, err)
	}
	for no, obj := range map[page.No]page.ObjID{1: 101, 2: 202, 3: 203, 4: 204} {
		p := make(page.Page, 4096)
		if err := file.read(p, no); err != nil || p.ObjID() != obj {
			t.Errorf("page %d is that of object %d, want %d (%v)", no, p.ObjID(), obj, err)
		}
	}
	// The batch is forgotten: what is written once from now on stays.
	if _, err := file.f.WriteAt(make([]byte, 4096), page.No(2).Offset(4096)); err != nil {
		t.Fatal(err)
	}
	if n, err := RestoreTorn(file.f, file.double, 4096); n != 0 || err != nil {
		t.Errorf("a forgotten batch restores %d pages, %v", n, err)
	}
}
