package ese

import (
	"errors"
	"slices"
	"sync"
	"time"

	"pillarbox/ese/internal/btree"
	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/page"
	"pillarbox/ese/internal/space"
	"pillarbox/ese/internal/version"
)

// scrub is one database's pass over all its pages: every page is verified, rows that are
// deleted and left over come to the clean-up list, as do leaves with little on them, which are
// merged; then space that nothing uses goes back to where it came from, at last to the file
// system.
type scrub struct {
	mu      sync.Mutex
	running bool
	wanted  bool // StartScrub
	due     time.Time
	status  ScrubStatus
	buf     page.Page
	trees   []*btree.Tree // still to give space back

	cut   page.No // the file ends here once the checkpoint has passed cutAt; 0 = no
	cutAt LogPos
}

// ScrubStatus is how far a scrub is, or how the last one ended.
type ScrubStatus struct {
	Running     bool
	Page, Pages uint32 // verified so far, of how many
	Damaged     uint32 // pages that are not right and cannot be repaired
	Dead        uint64 // deleted rows found
	Thin        uint32 // leaves found with little on them
	Returned    int    // pages given back to the tree above, or to the database
	Began       time.Time
	Took        time.Duration // of a pass that has ended
}

const (
	scrubProgressParts = 10
	// firstScrub is when a database that was never scrubbed is, after its opening.
	firstScrub = time.Hour
)

// StartScrub asks for a pass over the database's pages now.
func (db *Database) StartScrub() {
	s := &db.scrub
	s.mu.Lock()
	s.wanted = true
	s.mu.Unlock()
}

// Scrub tells how far the scrub is.
func (db *Database) Scrub() ScrubStatus {
	s := &db.scrub
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// scrubTick is the work of one tick of the background: as many pages as Options.ScrubRate
// allows.
func (in *Instance) scrubTick() error {
	perTick := in.o.ScrubRate * int64(tick) / int64(time.Second)
	return in.scrubStep(int(max(1, perTick/int64(in.o.PageSize))))
}

// scrubStep verifies up to n pages of the databases whose turn it is, and cuts files whose end
// is free.
func (in *Instance) scrubStep(n int) error {
	for _, db := range in.databases() {
		if db.unmade || db.space == nil {
			continue
		}
		if err := db.scrubStep(n); err != nil {
			return err
		}
		if err := db.cutFile(); err != nil {
			return err
		}
	}
	return nil
}

func (db *Database) scrubStep(n int) error {
	s := &db.scrub
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running && !db.beginScrub() {
		return nil
	}
	for ; n > 0 && s.status.Page < s.status.Pages; n-- {
		s.status.Page++
		if err := db.scrubPage(page.No(s.status.Page)); err != nil {
			return err
		}
		if part := s.status.Pages / scrubProgressParts; part > 0 && s.status.Page%part == 0 {
			db.in.emit(Event{
				ID: EventScrubProgress, Database: db.name, Page: s.status.Page,
				N: uint64(s.status.Pages),
			})
		}
	}
	if s.status.Page < s.status.Pages {
		return nil
	}
	if done, err := db.giveBack(); !done || err != nil {
		return err
	}
	return db.endScrub()
}

// beginScrub starts a pass when it is time. s.mu is held, as in all below.
func (db *Database) beginScrub() bool {
	s, in := &db.scrub, db.in
	now := in.o.Now()
	if s.due.IsZero() {
		s.due = now.Add(firstScrub)
		db.headerMu.Lock()
		last := db.header.ScanPrevious
		db.headerMu.Unlock()
		if !last.IsZero() {
			s.due = last.Time().Add(in.o.ScrubEvery)
		}
	}
	if !s.wanted && (in.o.ScrubEvery < 0 || now.Before(s.due)) {
		return false
	}
	s.running, s.wanted = true, false
	s.status = ScrubStatus{Running: true, Pages: uint32(db.file.Pages()), Began: now}
	s.buf = make(page.Page, in.o.PageSize)
	s.trees = db.currentTrees()
	in.emit(Event{ID: EventScrubBegun, Database: db.name, N: uint64(s.status.Pages)})
	return true
}

// endScrub notes the pass in the header.
func (db *Database) endScrub() error {
	s, in := &db.scrub, db.in
	now := in.o.Now()
	s.running, s.status.Running = false, false
	s.status.Took = now.Sub(s.status.Began)
	s.due = now.Add(in.o.ScrubEvery)
	s.buf = nil
	in.stats.scrubPasses.Add(1)
	in.emit(Event{
		ID: EventScrubEnded, Database: db.name, N: uint64(s.status.Pages), Took: s.status.Took,
	})
	if err := db.defragmentIfLoose(); err != nil {
		return err
	}
	return db.changeHeader(func(h *header) {
		h.ScanStart, h.ScanPrevious = logrec.MakeLogTime(s.status.Began), logrec.MakeLogTime(now)
		h.ScanHighest, h.ScanContinuous = page.No(s.status.Pages), page.No(s.status.Pages)
	})
}

// scrubPage verifies one page and looks for what is left over on it. A damaged page is reported
// and counted where it is read (pageEvent); the pass goes on.
func (db *Database) scrubPage(no page.No) error {
	s, in := &db.scrub, db.in
	blank, err := in.cache.Settle(db.file, no, s.buf)
	var pe *PageError
	switch {
	case errors.As(err, &pe):
		if !pe.Blank {
			s.status.Damaged++
		}
		return nil
	case err != nil:
		return err
	}
	in.stats.scrubbed.Add(1)
	p := s.buf
	if blank || !p.Leaf() || p.Flags()&page.FlagSpaceTree != 0 {
		return nil
	}
	id := version.MakeTreeID(db.id, uint32(p.ObjID()))
	if in.treeByID(id) == nil {
		return nil // a page that was freed shows what it was
	}
	var rows []version.Deleted
	for i := range p.Len() {
		if p.Node(i).Flags&page.NodeDeleted != 0 {
			rows = append(rows, version.Deleted{Tree: id, Key: p.AppendKey(nil, i)})
		}
	}
	s.status.Dead += uint64(len(rows))
	if len(rows) == 0 && p.Len() > 0 && btree.Underfull(p) {
		s.status.Thin++
		rows = append(rows, version.Deleted{Tree: id, Key: p.AppendKey(nil, 0)})
	}
	in.addDeletes(rows)
	return nil
}

// currentTrees are the trees of the tables there are, those of indexes and long values before the
// table's own: what they give back the table gives on. Trees of a dropped table go as a whole.
func (db *Database) currentTrees() []*btree.Tree {
	var out []*btree.Tree
	for _, t := range db.allTables() {
		if !t.current() {
			continue
		}
		for _, x := range t.s.Load().second {
			if x.current() {
				out = append(out, x.tree)
			}
		}
		if lv := t.lv.Load(); lv != nil {
			out = append(out, lv)
		}
		out = append(out, t.tree)
	}
	return out
}

// giveBack gives one extent back that nothing uses; done when there is no more. At last the
// end of the file is free to be cut off.
func (db *Database) giveBack() (done bool, err error) {
	s := &db.scrub
	for len(s.trees) > 0 {
		if !slices.Contains(db.currentTrees(), s.trees[0]) { // dropped meanwhile
			s.trees = s.trees[1:]
			continue
		}
		n, err := db.returnExtent(s.trees[0].Root)
		if err != nil {
			return false, err
		}
		if n > 0 {
			s.status.Returned += n
			db.in.stats.freed.Add(uint64(n))
			return false, nil
		}
		s.trees = s.trees[1:]
	}
	return true, db.shorten()
}

// returnExtent is one structure change: an extent goes from a tree to the one above.
func (db *Database) returnExtent(root page.No) (int, error) {
	return db.changeSpace(func(m *btree.Mtr) (int, error) { return db.space.Return(m, root) })
}

// changeSpace makes one structure change of the space trees. fn returns 0 when it is to be given
// up.
func (db *Database) changeSpace(fn func(*btree.Mtr) (int, error)) (int, error) {
	db.space.Lock()
	defer db.space.Unlock()
	m := db.in.env.NewMtr()
	n, err := fn(m)
	if err != nil || n == 0 {
		m.Abort()
		return 0, err
	}
	return n, m.Commit()
}

// shorten takes the free end of the database out of its space. The file is cut when no redo
// can need it any more.
func (db *Database) shorten() error {
	s := &db.scrub
	db.space.Lock()
	defer db.space.Unlock()
	m := db.in.env.NewMtr()
	end, ok, err := db.space.Shorten(m)
	if err != nil || !ok {
		m.Abort()
		return err
	}
	if err := m.Commit(); err != nil {
		return err
	}
	s.cut, s.cutAt = end, db.in.log.End()
	return nil
}

// cutFile gives the end of the file back to the file system, once the checkpoint has passed the
// change that freed it and no page there waits to be written.
func (db *Database) cutFile() error {
	s, in := &db.scrub, db.in
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut == 0 || in.Checkpoint() < s.cutAt {
		return nil
	}
	// A backup copies pages up to the end that the file had, and its log begins before the cut.
	in.stepMu.Lock()
	defer in.stepMu.Unlock()
	if in.pinned != 0 {
		return nil
	}
	db.space.Lock()
	defer db.space.Unlock()
	owned, err := db.space.End()
	if err != nil {
		return err
	}
	if owned != s.cut { // it has grown again
		s.cut = 0
		return nil
	}
	to := s.cut + space.SparePages
	if in.cache.DirtyFrom(db.file, to+1) {
		return nil
	}
	have := db.file.Pages()
	// Should the checkpoint file be lost, redo begins before the cut: the header tells it that
	// pages behind the end are not missing.
	if err := db.changeHeader(func(h *header) {
		h.LastResize = s.cutAt
		h.Shrinks.N++
		h.Shrinks.Time = in.logTime()
	}); err != nil {
		return err
	}
	db.file.Resized(s.cutAt)
	if err := in.cache.Cut(db.file, to); err != nil {
		return err
	}
	db.saveFlushMap(in.Checkpoint())
	s.cut = 0
	if have > to {
		in.stats.trimmed.Add(uint64(have - to))
	}
	return nil
}
