package cache

import (
	"sync"
	"sync/atomic"

	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/page"
)

// Frame is a place for one page. Lock and RLock are its latch.
type Frame struct {
	sync.RWMutex
	// P is the page; read it under the latch, change it under the exclusive latch.
	P page.Page

	c    *Cache
	file *File // guarded by the latch; nil while the frame holds no page
	no   page.No

	lastInsert, run int // see Run; guarded by the latch

	used  atomic.Bool // since the clock hand passed
	first atomic.Uint64
	last  atomic.Uint64 // end of the newest change's log record, or of the log at reading

	state    sync.Mutex
	inFlight bool // being written
	next     uint64
	// whole: the change at first brings the whole page, so redo needs nothing of what the disk
	// has. nextWhole is that of next.
	whole, nextWhole bool
	// repair: the only change is a flipped bit put right, of which the log has no record.
	repair bool

	damage *PageError // what Fetch for redo found; guarded by the latch
}

// Is tells whether the frame holds page no of f. Ask it under the latch.
func (fr *Frame) Is(f *File, no page.No) bool { return fr.file == f && fr.no == no }

// No is the number of the page held.
func (fr *Frame) No() page.No { return fr.no }

// Touch tells the clock that the page is in use.
func (fr *Frame) Touch() {
	if !fr.used.Load() {
		fr.used.Store(true)
	}
}

// Run notes an insert at node i and tells whether inserts have been coming one behind the
// other: the page then serves a sequence that ends there. done is false for a try that found
// no room. The exclusive latch is held.
func (fr *Frame) Run(i int, done bool) bool {
	if i == fr.lastInsert+1 {
		if done {
			fr.run++
		}
	} else {
		fr.run = 0
	}
	if done {
		fr.lastInsert = i
	}
	return fr.run >= 4
}

// Dirty announces a change whose log record will stand at or after pos. Call it under the
// exclusive latch, before the record is appended; call Logged after. It tells whether the page
// had no change that waits to be written.
func (fr *Frame) Dirty(pos logrec.LogPos) bool { return fr.announce(pos, false) }

// DirtyWhole is Dirty of a change that needs nothing of the page's state before.
func (fr *Frame) DirtyWhole(pos logrec.LogPos) bool { return fr.announce(pos, true) }

func (fr *Frame) announce(pos logrec.LogPos, whole bool) bool {
	fr.state.Lock()
	defer fr.state.Unlock()
	switch {
	case fr.inFlight && fr.next == 0:
		fr.next, fr.nextWhole = uint64(pos), whole
	case !fr.inFlight && fr.first.Load() == 0:
		fr.first.Store(uint64(pos))
		fr.whole = whole
		fr.c.dirty.Add(1)
	default:
		return false
	}
	return true
}

// mended makes a page that was repaired on reading one to be written.
func (fr *Frame) mended(pos logrec.LogPos) {
	first := fr.announce(pos, false)
	fr.state.Lock()
	fr.repair = first
	fr.state.Unlock()
}

// Undirty takes Dirty back when it was true and the record could not be appended. The page has
// its former bytes again, and the latch was held all the time. It must not be written: a page
// fetched Fresh was never read, and what stands on the disk may be needed by redo.
func (fr *Frame) Undirty(pos logrec.LogPos) {
	fr.state.Lock()
	defer fr.state.Unlock()
	switch {
	case fr.inFlight && fr.next == uint64(pos):
		fr.next = 0
	case !fr.inFlight && fr.first.Load() == uint64(pos):
		fr.first.Store(0)
		fr.c.dirty.Add(-1)
	}
}

// Logged says where the record of the change ends. Call it under the exclusive latch.
func (fr *Frame) Logged(end logrec.LogPos) {
	fr.last.Store(uint64(end))
	fr.repair = false
}

// Quiet tells that the newest change of the page stands before pos. A page just read counts as
// changed then. Ask it under the latch.
func (fr *Frame) Quiet(pos logrec.LogPos) bool { return fr.last.Load() <= uint64(pos) }

// written ends a write that began with beginWrite. ok is false when it failed: the page
// stays dirty from its oldest change on.
func (fr *Frame) written(ok bool) {
	fr.state.Lock()
	fr.inFlight = false
	if ok {
		fr.first.Store(fr.next)
		fr.whole = fr.nextWhole
		if fr.next == 0 {
			fr.c.dirty.Add(-1)
		}
	}
	fr.next = 0
	fr.state.Unlock()
}

// beginWrite copies a dirty page into out.copy if the latch is free, and notes in out what is
// to be known of it. It returns the log position that must be durable before the copy may be
// written.
func (fr *Frame) beginWrite(out *outPage) (last logrec.LogPos, ok bool) {
	if !fr.TryRLock() {
		return 0, false
	}
	defer fr.RUnlock()
	fr.state.Lock()
	defer fr.state.Unlock()
	if fr.first.Load() == 0 || fr.inFlight {
		return 0, false
	}
	fr.inFlight = true
	copy(out.copy, fr.P)
	out.fr, out.no, out.f, out.whole, out.repair = fr, fr.no, fr.file, fr.whole, fr.repair
	return logrec.LogPos(fr.last.Load()), true
}

// Damage is why the page could not be read for redo; nil when it could. The page then reads as
// zeros, and only a record that brings the whole page can be applied. The exclusive latch is
// held.
func (fr *Frame) Damage() error {
	if fr.damage == nil {
		return nil
	}
	return fr.damage
}

// Renewed says that a whole page has taken the damaged one's place.
func (fr *Frame) Renewed() { fr.damage = nil }
