package redo

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"pillarbox/ese/internal/cache"
	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/page"
	"pillarbox/ese/internal/wal"
)

// Errors of redo. Each is wrapped with the file, the page and the log position.
var (
	// ErrDBTimeTooOld: the page lacks a change that the log no longer or not yet repeats.
	ErrDBTimeTooOld = errors.New("page is older than the log says (-566): a write to the database was lost")
	// ErrDBTimeTooNew: the page is from a history that the log does not tell.
	ErrDBTimeTooNew = errors.New("page is newer than the log says (-567): database and log do not belong together")
)

// Target is what redo acts on.
type Target interface {
	// File returns an attached database's file; nil when recovery is to leave it alone.
	File(db logrec.DBID, pos logrec.LogPos) *cache.File
	// Stream writes bytes of a .stm file again.
	Stream(rec logrec.StreamRec, pos, end logrec.LogPos) error
	// Databases handles creation, attachment and detachment.
	Databases(typ logrec.Type, rec logrec.DBRec, pos logrec.LogPos) error
}

// Loser is a transaction without an end.
type Loser struct {
	Tx    logrec.TxID
	First logrec.LogPos
	Last  logrec.LogPos
	// Cut tells that it has records before those that were read. No checkpoint passes a transaction
	// that is open, so it was left for the sake of a database that was lost.
	Cut bool
	// LeftAt is the newest record of it when the log last said so; 0 where it does not.
	LeftAt logrec.LogPos
}

// Settled tells that no database that is there has a change of it: those that were lost and came
// back had the log read from its beginning.
func (l *Loser) Settled() bool { return l.Cut && l.LeftAt != 0 }

// Delete is a deletion met in the log: its node may be cleaned up after recovery.
type Delete struct {
	DB  logrec.DBID
	Obj page.ObjID
	Key []byte
}

// maxDeletes bounds the clean-up list; the scrub finds what does not fit.
const maxDeletes = 100_000

// Redo replays a log.
type Redo struct {
	Cache  *cache.Cache
	Target Target
	// Progress is told each record's type and end.
	Progress func(logrec.Type, logrec.LogPos)
	// Workers is how many goroutines change pages, each those of its own; 0 does everything in
	// order, the same way each time.
	Workers int

	Losers map[logrec.TxID]*Loser
	// Left are losers that were left open for the sake of a database that was lost: a later
	// transaction may have the number.
	Left    []*Loser
	MaxTx   logrec.TxID
	TimeMS  int64 // of the last commit
	Deletes []Delete
	Counts

	own  pager
	rec  logrec.NodeRec
	team *team
}

// Counts is what redo did to pages.
type Counts struct {
	Applied uint64
	Skipped uint64
}

// pager changes pages.
type pager struct {
	Counts
	cache   *cache.Cache
	target  Target
	damaged map[pageKey]error // pages that cannot be read and have not come whole since
}

func (r *Redo) newPager() pager {
	return pager{cache: r.Cache, target: r.Target, damaged: make(map[pageKey]error)}
}

type pageKey struct {
	db logrec.DBID
	no page.No
}

// Run replays until the end of the log.
func (r *Redo) Run(rd *wal.Reader) error {
	r.Losers = make(map[logrec.TxID]*Loser)
	r.own = r.newPager()
	if r.Workers > 0 {
		r.team = r.newTeam()
		defer r.team.end()
	}
	err := r.replay(rd)
	if r.team != nil {
		// What a worker met lies before whatever ended the reading.
		if werr := r.team.wait(); werr != nil {
			return werr
		}
		r.team.collect(&r.own)
	}
	r.Counts = r.own.Counts
	if err != nil {
		return err
	}
	return r.own.unmended()
}

func (r *Redo) replay(rd *wal.Reader) error {
	for {
		rec, err := rd.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := r.record(rec); err != nil {
			return fmt.Errorf("redo at %v: %w", rec.Pos, err)
		}
		if r.Progress != nil {
			r.Progress(rec.Type, rec.End)
		}
	}
}

// unmended is the error of the first page that the log needs and the disk does not have.
func (g *pager) unmended() error {
	var first pageKey
	for k := range g.damaged {
		if first.no == 0 || k.db < first.db || k.db == first.db && k.no < first.no {
			first = k
		}
	}
	return g.damaged[first]
}

func (r *Redo) record(rec wal.Record) error {
	switch rec.Type {
	case logrec.TypeNode, logrec.TypeDelta:
		return r.node(rec)
	case logrec.TypeMacro:
		return r.macro(rec)
	case logrec.TypeCommit, logrec.TypeRollback, logrec.TypeLeft:
		var c logrec.CommitRec
		if err := c.Decode(rec.Payload, rec.Back); err != nil {
			return err
		}
		r.MaxTx = max(r.MaxTx, c.Tx)
		r.TimeMS = max(r.TimeMS, c.TimeMS)
		if rec.Type == logrec.TypeLeft {
			r.left(c, rec.Pos)
		} else {
			r.ended(c)
		}
		return nil
	case logrec.TypeStream:
		var s logrec.StreamRec
		if err := s.Decode(rec.Payload); err != nil {
			return err
		}
		return r.Target.Stream(s, rec.Pos, rec.End)
	case logrec.TypeCreateDB, logrec.TypeAttach, logrec.TypeDetach:
		var d logrec.DBRec
		if err := d.Decode(rec.Payload); err != nil {
			return err
		}
		if r.team != nil {
			if err := r.team.wait(); err != nil {
				return err
			}
		}
		return r.Target.Databases(rec.Type, d, rec.Pos)
	case logrec.TypeTerm, logrec.TypeFlushMark, logrec.TypeEnd:
		return nil
	}
	return fmt.Errorf("record type %d is unknown: the log was written by a newer version", rec.Type)
}

// Follow is for who wants to know the losers alone: it makes no changes.
func (r *Redo) Follow(rec wal.Record) error {
	if r.Losers == nil {
		r.Losers = make(map[logrec.TxID]*Loser)
	}
	switch rec.Type {
	case logrec.TypeNode, logrec.TypeDelta:
		if err := r.rec.Decode(rec.Payload, rec.Back); err != nil {
			return err
		}
		r.seen(r.rec.Tx, r.rec.Prev, rec.Pos)
	case logrec.TypeMacro:
		t, err := logrec.MacroTree(rec.Payload)
		if err != nil {
			return err
		}
		if t != nil {
			r.seen(t.Tx, t.Prev, rec.Pos)
		}
	case logrec.TypeCommit, logrec.TypeRollback, logrec.TypeLeft:
		return r.record(rec)
	}
	return nil
}

// Concerns tells whether a record is of a database.
func Concerns(rec wal.Record, db logrec.DBID) (yes bool, err error) {
	switch rec.Type {
	case logrec.TypeNode, logrec.TypeDelta:
		var n logrec.NodeRec
		err = n.Decode(rec.Payload, rec.Back)
		return n.DB == db, err
	case logrec.TypeMacro:
		err = logrec.EachMacroPage(rec.Payload, func(m logrec.MacroPage) error {
			yes = yes || m.DB == db
			return nil
		})
		return yes, err
	case logrec.TypeStream:
		var s logrec.StreamRec
		err = s.Decode(rec.Payload)
		return s.DB == db, err
	case logrec.TypeCreateDB, logrec.TypeAttach, logrec.TypeDetach:
		var d logrec.DBRec
		err = d.Decode(rec.Payload)
		return d.DB == db, err
	}
	return false, nil
}

// ended notes the end of a transaction. That of one that changed nothing names no record: another
// one may be open that was left with the number.
func (r *Redo) ended(c logrec.CommitRec) {
	for i, l := range r.Left {
		if l.Tx == c.Tx && l.Last == c.Prev {
			r.Left = slices.Delete(r.Left, i, i+1)
			return
		}
	}
	if c.Prev != 0 {
		delete(r.Losers, c.Tx)
	}
}

// left notes that a transaction is left for the sake of a database that was lost.
func (r *Redo) left(c logrec.CommitRec, pos logrec.LogPos) {
	for _, l := range append(slices.Clone(r.Left), r.Losers[c.Tx]) {
		if l != nil && l.Tx == c.Tx && l.Last == c.Prev {
			l.LeftAt = c.Prev
			return
		}
	}
	r.Left = append(r.Left, &Loser{Tx: c.Tx, First: pos, Last: c.Prev, Cut: true, LeftAt: c.Prev})
}

// All are the transactions without an end.
func (r *Redo) All() []*Loser {
	list := slices.Clone(r.Left)
	for _, l := range r.Losers {
		list = append(list, l)
	}
	return list
}

// Open is how many of them may have something to be taken back.
func (r *Redo) Open() (n int) {
	for _, l := range r.All() {
		if !l.Settled() {
			n++
		}
	}
	return n
}

// seen notes a record of a transaction. prev is the one before it.
func (r *Redo) seen(tx logrec.TxID, prev, pos logrec.LogPos) {
	r.MaxTx = max(r.MaxTx, tx)
	for _, l := range r.Left {
		if l.Tx == tx && l.Last == prev {
			l.Last = pos
			return
		}
	}
	l := r.Losers[tx]
	if l != nil && prev == 0 {
		r.Left = append(r.Left, l)
		l = nil
	}
	if l == nil {
		l = &Loser{Tx: tx, First: pos, Cut: prev != 0}
		r.Losers[tx] = l
	}
	l.Last = pos
}

func (r *Redo) node(rec wal.Record) error {
	n := &r.rec
	if err := n.Decode(rec.Payload, rec.Back); err != nil {
		return err
	}
	if n.Type() != rec.Type {
		return fmt.Errorf("operation %d in a record of type %d", n.Op, rec.Type)
	}
	r.seen(n.Tx, n.Prev, rec.Pos)
	if n.Op == logrec.NodeFlagDelete && len(r.Deletes) < maxDeletes {
		r.Deletes = append(r.Deletes, Delete{n.DB, n.Obj, append([]byte(nil), n.Key...)})
	}
	c := change{
		db: n.DB, no: n.Page, before: n.Before, after: n.After, pos: rec.Pos, end: rec.End,
		isNode: true, back: rec.Back, b: rec.Payload,
	}
	if r.team != nil {
		return r.team.give(c)
	}
	return r.own.page(&c, n)
}

func (r *Redo) macro(rec wal.Record) error {
	t, err := logrec.MacroTree(rec.Payload)
	if err != nil {
		return err
	}
	if t != nil {
		r.seen(t.Tx, t.Prev, rec.Pos)
	}
	return logrec.EachMacroPage(rec.Payload, func(m logrec.MacroPage) error {
		c := change{
			db: m.DB, no: m.Page, before: m.Before, after: m.After, pos: rec.Pos, end: rec.End,
			absolute: m.Absolute(), b: m.Actions,
		}
		if r.team != nil {
			return r.team.give(c)
		}
		return r.own.page(&c, nil)
	})
}

// change is what one record does to one page.
type change struct {
	db            logrec.DBID
	absolute      bool // needs nothing of the page before
	isNode        bool // b is a node record, else the actions of a macro
	no            page.No
	before, after page.DBTime
	pos, end      logrec.LogPos
	back          logrec.LogPos // of a node record
	b             []byte
}

// apply changes the page. n is the decoded node record, where there is one.
func (c *change) apply(p page.Page, n *logrec.NodeRec) error {
	if c.isNode {
		return n.Apply(p)
	}
	m := logrec.MacroPage{DB: c.db, Page: c.no, Before: c.before, After: c.after, Actions: c.b}
	return m.Apply(p)
}

// growStep is how many pages a file grows by in redo.
const growStep = 256

// page applies one record to one page if the page has not seen it.
func (g *pager) page(c *change, n *logrec.NodeRec) error {
	f := g.target.File(c.db, c.pos)
	if f == nil {
		return nil
	}
	f.SawDBTime(c.after)
	cut := !c.absolute && c.pos < f.ResizedAt() // before the file was made shorter
	if c.no > f.Pages() {
		if cut {
			g.Skipped++
			return nil
		}
		if err := f.Grow((c.no + growStep - 1) / growStep * growStep); err != nil {
			return err
		}
	}
	mode := cache.Redo
	if c.absolute {
		mode = cache.Fresh // what is on the disk is no matter
	}
	fr, err := g.cache.Fetch(f, c.no, mode)
	if err != nil {
		return err
	}
	defer fr.Unlock()
	now := fr.P.DBTime()
	switch {
	case c.absolute:
		// Also where the page seems to have the change: it may not have been written twice, and
		// what a torn page says of itself is not to be trusted. All later changes come again.
		fr.Renewed()
		delete(g.damaged, pageKey{c.db, c.no})
	case fr.Damage() != nil:
		g.damaged[pageKey{c.db, c.no}] = fr.Damage()
		return nil // a whole page may follow
	case now >= c.after || cut && now == 0:
		g.Skipped++
		return nil
	case now != c.before:
		return c.misfit(f, now)
	}
	if c.absolute {
		fr.DirtyWhole(c.pos)
	} else {
		fr.Dirty(c.pos)
	}
	fr.Logged(c.end)
	if err := c.apply(fr.P, n); err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	g.Applied++
	return nil
}

// misfit is the error of a page that is neither before nor behind the change.
func (c *change) misfit(f *cache.File, now page.DBTime) error {
	err := ErrDBTimeTooNew
	if now < c.before {
		err = ErrDBTimeTooOld
	}
	return fmt.Errorf("page %d of %s has dbtime %d, the log %d: %w", c.no, f.Name, now, c.before, err)
}
