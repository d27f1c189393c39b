package cache

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/page"
	"pillarbox/ese/vfs"
)

// File is a database file whose pages are cached.
type File struct {
	DB   logrec.DBID
	Name string

	f      vfs.File
	double vfs.File
	size   int // of a page
	pages  atomic.Uint32
	growMu sync.Mutex
	dbtime atomic.Uint64
	mended atomic.Uint64
	flush  flushMap
	cutAt  atomic.Uint64 // see Resized
	state  atomic.Uint32 // openFile, stillFile or goneFile

	// A batch on its way, and the pages in the double-write file; guarded by the cache's flushMu.
	doubleBuf []byte
	doubled   map[page.No]bool
}

// States of a File.
const (
	openFile  uint32 = iota
	stillFile        // no page of it may be latched to be changed
	goneFile         // no page of it may be latched at all
)

// Refuses tells whether a page may no longer be latched in this mode.
func (f *File) Refuses(m Mode) bool {
	s := f.state.Load()
	return s == goneFile || s == stillFile && m != Shared
}

// Register takes over an open database file and its double-write file, which holds no batch that
// recovery would use. dbtime is the highest
// page time stamp handed out so far.
func (c *Cache) Register(db logrec.DBID, name string, f, double vfs.File, dbtime page.DBTime) (*File, error) {
	n, err := f.Size()
	if err != nil {
		return nil, err
	}
	fl := &File{DB: db, Name: name, f: f, double: double, size: c.pageSize, doubled: make(map[page.No]bool)}
	fl.dbtime.Store(uint64(dbtime))
	fl.pages.Store(uint32(max(n/int64(c.pageSize)-2, 0)))
	c.filesMu.Lock()
	c.files[db] = fl
	c.filesMu.Unlock()
	return fl, nil
}

// File returns a registered file, or nil.
func (c *Cache) File(db logrec.DBID) *File {
	c.filesMu.RLock()
	defer c.filesMu.RUnlock()
	return c.files[db]
}

// DBTime is the highest page time stamp handed out.
func (f *File) DBTime() page.DBTime { return page.DBTime(f.dbtime.Load()) }

// ErrStamp reports a page whose time stamp is above all that the file has handed out: redo
// could not tell its next changes from its former ones.
var ErrStamp = errors.New("page time stamp from the future; " +
	"restore the database, or export its mail and make it anew")

// NextDBTime hands out the stamp for a change of a page that was stamped before.
func (f *File) NextDBTime(no page.No, before page.DBTime) (page.DBTime, error) {
	t := page.DBTime(f.dbtime.Add(1))
	if t <= before {
		return 0, fmt.Errorf("page %d of %s: stamp %d, next of the file %d: %w", no, f.Name,
			before, t, ErrStamp)
	}
	return t, nil
}

// SawDBTime raises the highest time stamp to t: redo met it.
func (f *File) SawDBTime(t page.DBTime) {
	for {
		old := f.dbtime.Load()
		if uint64(t) <= old || f.dbtime.CompareAndSwap(old, uint64(t)) {
			return
		}
	}
}

// Resized says that pages were cut off the file after the change at pos: what the log did to a
// missing page before is no matter.
func (f *File) Resized(pos logrec.LogPos) { f.cutAt.Store(uint64(pos)) }

// ResizedAt is the position given to Resized, or 0.
func (f *File) ResizedAt() logrec.LogPos { return logrec.LogPos(f.cutAt.Load()) }

// PageSize is the size of a page in bytes.
func (f *File) PageSize() int { return f.size }

// Pages is the number of pages in the file, headers not counted.
func (f *File) Pages() page.No { return page.No(f.pages.Load()) }

// Mended counts the pages whose flipped bit was repaired on reading.
func (f *File) Mended() uint64 { return f.mended.Load() }

// Grow makes the file at least n pages long, with room on the disk for all of them. New pages
// are zero. The size is durable with the next page write; until then redo grows the file
// again. vfs.ErrDiskFull when there is no room: nothing has changed then.
func (f *File) Grow(n page.No) error {
	f.growMu.Lock()
	defer f.growMu.Unlock()
	if page.No(f.pages.Load()) >= n {
		return nil
	}
	if err := f.f.Allocate((int64(n) + 2) * int64(f.size)); err != nil {
		return fmt.Errorf("grow %s to %d pages: %w", f.Name, n, err)
	}
	f.pages.Store(uint32(n))
	return nil
}

// read fills p with page no.
func (f *File) read(p page.Page, no page.No) error {
	n, err := f.f.ReadAt(p, no.Offset(f.size))
	if errors.Is(err, io.EOF) {
		clear(p[n:])
		err = nil
	}
	if err != nil {
		return fmt.Errorf("read page %d of %s: %w", no, f.Name, err)
	}
	return nil
}

// PageError reports a page that cannot be what was written.
type PageError struct {
	File   string
	Page   page.No
	Reason string
	Blank  bool // never written (-1019)
	Lost   bool // an older state: the last write was lost (-1119)
}

// ErrLostWrite is what a PageError with Lost set is.
var ErrLostWrite = errors.New("the disk lost the last write of a page (-1119)")

func (e *PageError) Error() string {
	n := -1018
	switch {
	case e.Lost:
		n = -1119
	case e.Blank:
		n = -1019
	}
	return fmt.Sprintf("page %d of %s: %s (%d)", e.Page, e.File, e.Reason, n)
}

// Is makes a lost write known as ErrLostWrite.
func (e *PageError) Is(target error) bool { return e.Lost && target == ErrLostWrite }

// verify checks a page just read; mended tells that a flipped bit was repaired. Where redo reads
// a page it may have been written after the flush map was saved: it is taken as it is.
func (f *File) verify(p page.Page, no page.No, redo bool) (mended bool, err error) {
	bad := func(reason string) (bool, error) {
		return false, &PageError{File: f.Name, Page: no, Reason: reason}
	}
	switch p.Verify(no) {
	case page.Blank:
		if redo {
			f.flush.set(no, 0)
		}
		if f.flush.get(no) != 0 {
			return false, f.lost(no)
		}
		return false, &PageError{File: f.Name, Page: no, Reason: "the page was never written", Blank: true}
	case page.Bad:
		return bad("checksum mismatch")
	case page.Correctable:
		if !p.Repair(no) {
			return bad("checksum mismatch")
		}
		mended = true
	}
	if err := p.Check(); err != nil {
		return bad(err.Error())
	}
	if redo {
		f.flush.set(no, p.FlushType())
	} else if !f.flush.arrived(no, p.FlushType()) {
		return false, f.lost(no)
	}
	return mended, nil
}

func (f *File) lost(no page.No) error {
	return &PageError{
		File: f.Name, Page: no, Lost: true,
		Reason: "the disk shows an older state than was written: look at the disk, open again to redo",
	}
}
