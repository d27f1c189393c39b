package redo

import (
	"errors"
	"fmt"
	"io"

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
	File(db logrec.DBID) *cache.File
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
}

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

	Losers  map[logrec.TxID]*Loser
	MaxTx   logrec.TxID
	TimeMS  int64 // of the last commit
	Applied uint64
	Skipped uint64
	Deletes []Delete

	damaged map[pageKey]error // pages that cannot be read and have not come whole since
}

type pageKey struct {
	db logrec.DBID
	no page.No
}

// Run replays until the end of the log.
func (r *Redo) Run(rd *wal.Reader) error {
	r.Losers = make(map[logrec.TxID]*Loser)
	r.damaged = make(map[pageKey]error)
	for {
		rec, err := rd.Next()
		if errors.Is(err, io.EOF) {
			return r.unmended()
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
func (r *Redo) unmended() error {
	var first pageKey
	for k := range r.damaged {
		if first.no == 0 || k.db < first.db || k.db == first.db && k.no < first.no {
			first = k
		}
	}
	return r.damaged[first]
}

func (r *Redo) record(rec wal.Record) error {
	switch rec.Type {
	case logrec.TypeNode, logrec.TypeDelta:
		return r.node(rec)
	case logrec.TypeMacro:
		return r.macro(rec)
	case logrec.TypeCommit, logrec.TypeRollback:
		var c logrec.CommitRec
		if err := c.Decode(rec.Payload); err != nil {
			return err
		}
		r.MaxTx = max(r.MaxTx, c.Tx)
		r.TimeMS = max(r.TimeMS, c.TimeMS)
		delete(r.Losers, c.Tx)
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
		return r.Target.Databases(rec.Type, d, rec.Pos)
	case logrec.TypeTerm, logrec.TypeFlushMark, logrec.TypeEnd:
		return nil
	}
	return fmt.Errorf("record type %d is unknown: the log was written by a newer version", rec.Type)
}

// seen notes a record of a transaction.
func (r *Redo) seen(tx logrec.TxID, pos logrec.LogPos) {
	r.MaxTx = max(r.MaxTx, tx)
	l := r.Losers[tx]
	if l == nil {
		l = &Loser{Tx: tx, First: pos}
		r.Losers[tx] = l
	}
	l.Last = pos
}

func (r *Redo) node(rec wal.Record) error {
	var n logrec.NodeRec
	if err := n.Decode(rec.Payload); err != nil {
		return err
	}
	if n.Type() != rec.Type {
		return fmt.Errorf("operation %d in a record of type %d", n.Op, rec.Type)
	}
	r.seen(n.Tx, rec.Pos)
	if n.Op == logrec.NodeFlagDelete && len(r.Deletes) < maxDeletes {
		r.Deletes = append(r.Deletes, Delete{n.DB, n.Obj, append([]byte(nil), n.Key...)})
	}
	return r.page(n.DB, n.Page, n.Before, n.After, false, rec, n.Apply)
}

func (r *Redo) macro(rec wal.Record) error {
	t, err := logrec.MacroTree(rec.Payload)
	if err != nil {
		return err
	}
	if t != nil {
		r.seen(t.Tx, rec.Pos)
	}
	return logrec.EachMacroPage(rec.Payload, func(m logrec.MacroPage) error {
		return r.page(m.DB, m.Page, m.Before, m.After, m.Absolute(), rec, m.Apply)
	})
}

// growStep is how many pages a file grows by in redo.
const growStep = 256

// page applies one record to one page if the page has not seen it.
func (r *Redo) page(db logrec.DBID, no page.No, before, after page.DBTime, absolute bool,
	rec wal.Record, apply func(page.Page) error,
) error {
	f := r.Target.File(db)
	if f == nil {
		return nil
	}
	f.SawDBTime(after)
	cut := !absolute && rec.Pos < f.ResizedAt() // before the file was made shorter
	if cut && no > f.Pages() {
		r.Skipped++
		return nil
	}
	if no > f.Pages() {
		if err := f.Grow((no + growStep - 1) / growStep * growStep); err != nil {
			return err
		}
	}
	fr, err := r.Cache.Fetch(f, no, cache.Redo)
	if err != nil {
		return err
	}
	defer fr.Unlock()
	now := fr.P.DBTime()
	switch {
	case absolute:
		// Also where the page seems to have the change: it may not have been written twice, and
		// what a torn page says of itself is not to be trusted. All later changes come again.
		fr.Renewed()
		delete(r.damaged, pageKey{db, no})
	case fr.Damage() != nil:
		r.damaged[pageKey{db, no}] = fr.Damage()
		return nil // a whole page may follow
	case now >= after || cut && now == 0:
		r.Skipped++
		return nil
	case now == before:
	case now < before:
		return fmt.Errorf("page %d of %s has dbtime %d, the log %d: %w", no, f.Name, now, before, ErrDBTimeTooOld)
	default:
		return fmt.Errorf("page %d of %s has dbtime %d, the log %d: %w", no, f.Name, now, before, ErrDBTimeTooNew)
	}
	if absolute {
		fr.DirtyWhole(rec.Pos)
	} else {
		fr.Dirty(rec.Pos)
	}
	fr.Logged(rec.End)
	if err := apply(fr.P); err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	r.Applied++
	return nil
}
