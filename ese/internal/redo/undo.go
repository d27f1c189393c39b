package redo

import (
	"cmp"
	"fmt"
	"slices"

	"pillarbox/ese/internal/btree"
	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/version"
	"pillarbox/ese/internal/wal"
)

// Undoer gives what taking back needs.
type Undoer struct {
	Log *wal.Log
	// Read returns the record at a position.
	Read func(logrec.LogPos) (wal.Record, error)
	// Tree opens a tree by what a record says of it; nil when its database is left alone.
	Tree func(rec *logrec.NodeRec) (*btree.Tree, error)
	// FreeTree gives a tree's pages back and logs rec with it. It returns the position.
	FreeTree func(rec *logrec.TreeRec) (logrec.LogPos, error)
	// Lost tells that a database is not there but may come back: what a transaction did to it is
	// left, and so is the transaction's end, for the redo that has the database.
	Lost  func(db logrec.DBID) bool
	NowMS func() int64
}

// Undo takes the losers back, one after the other, newest first.
func (u *Undoer) Undo(losers []*Loser) error {
	list := slices.Clone(losers)
	slices.SortFunc(list, func(a, b *Loser) int { return cmp.Compare(b.Last, a.Last) })
	for _, l := range list {
		if err := u.undoOne(l); err != nil {
			return fmt.Errorf("undo transaction %d: %w", l.Tx, err)
		}
	}
	return nil
}

func (u *Undoer) undoOne(l *Loser) error {
	if l.Settled() {
		return u.leaveOpen(l, l.Last)
	}
	w, err := u.walkBack(l)
	switch {
	case err != nil:
		return err
	case w.left:
		return u.leaveOpen(l, w.tx.Last)
	}
	return u.append(logrec.TypeRollback, w.tx.ID, w.tx.Last)
}

// leaveOpen logs that all is taken back that can be, last being the newest record: redo from a
// later checkpoint, which may pass the first ones, needs to know.
func (u *Undoer) leaveOpen(l *Loser, last logrec.LogPos) error {
	if l.LeftAt == last {
		return nil
	}
	return u.append(logrec.TypeLeft, l.Tx, last)
}

// Resume logs that losers which were left are gone on with. Who reads the log up to a moment on the
// way has not got the database, and perhaps not the first records.
func (u *Undoer) Resume(losers []*Loser) error {
	for _, l := range losers {
		if err := u.append(logrec.TypeLeft, l.Tx, l.Last); err != nil {
			return err
		}
	}
	return nil
}

func (u *Undoer) append(typ logrec.Type, tx logrec.TxID, last logrec.LogPos) error {
	c := logrec.CommitRec{Tx: tx, Prev: last, TimeMS: u.NowMS()}
	_, _, err := u.Log.AppendReserved(0, last, typ, c.Append(nil))
	return err
}

// walkBack goes back along the records of a loser.
func (u *Undoer) walkBack(l *Loser) (*walk, error) {
	w := &walk{tx: &version.Tx{ID: l.Tx, Last: l.Last}, back: make(map[logrec.DBID]logrec.LogPos)}
	w.tx.Logged(l.First)
	for pos := l.Last; pos != 0; {
		rec, err := u.Read(pos)
		if err != nil {
			return nil, fmt.Errorf("read the record at %v: %w", pos, err)
		}
		if pos, err = u.step(w, rec); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// Changed are the losers with a change of a database that is not taken back, and how much log
// taking them back may need. read returns the record at a position.
func Changed(
	read func(logrec.LogPos) (wal.Record, error), losers []*Loser, db logrec.DBID,
) (list []*Loser, bytes int64, err error) {
	u := Undoer{
		Read: read, Lost: func(id logrec.DBID) bool { return id == db },
		Tree:     func(*logrec.NodeRec) (*btree.Tree, error) { return nil, nil },
		FreeTree: func(*logrec.TreeRec) (logrec.LogPos, error) { return 0, nil },
	}
	for _, l := range losers {
		if l.Settled() {
			continue
		}
		w, err := u.walkBack(l)
		if err != nil {
			return nil, 0, fmt.Errorf("transaction %d: %w", l.Tx, err)
		}
		if w.left {
			list = append(list, l)
			bytes += w.bytes + endBytes
		}
	}
	return list, bytes, nil
}

// Bytes of log that are enough for the end of a transaction, for giving the pages of a tree back,
// and for what a compensation has beside the bytes it brings back, without and with a split.
const (
	endBytes    = 128
	treeBytes   = 4096
	changeBytes = 128
	splitBytes  = 16 << 10
)

// leave notes a change of a lost database.
func (w *walk) leave(rec wal.Record, n *logrec.NodeRec) {
	w.left = true
	w.bytes += int64(len(rec.Payload)) + changeBytes
	switch {
	case n == nil:
		w.bytes += treeBytes
	case len(n.Old) > len(n.New):
		w.bytes += int64(4*(len(n.Old)-len(n.New))) + splitBytes
	}
}

// walk is the way back along the records of a transaction. Every record is looked at, since what a
// compensation says holds for its own database: another one may not have been there when it was
// made.
type walk struct {
	tx *version.Tx
	// back has, for each database that has compensations, the newest record that none covers.
	back map[logrec.DBID]logrec.LogPos
	left bool // a change of a lost database
	// bytes is how much log taking back what was left may need.
	bytes int64
}

// covered tells that a record has been taken back.
func (w *walk) covered(db logrec.DBID, pos logrec.LogPos) bool {
	back, ok := w.back[db]
	return ok && pos > back
}

// compensated notes a compensation.
func (w *walk) compensated(db logrec.DBID, pos, next logrec.LogPos) {
	if !w.covered(db, pos) {
		w.back[db] = next
	}
}

// step takes one record back and returns the one before it.
func (u *Undoer) step(w *walk, rec wal.Record) (logrec.LogPos, error) {
	if rec.Type == logrec.TypeMacro {
		t, err := logrec.MacroTree(rec.Payload)
		if err != nil || t == nil {
			return 0, fmt.Errorf("record at %v is not the transaction's: %w", rec.Pos, err)
		}
		switch {
		case t.CLR:
			w.compensated(t.DB, rec.Pos, t.UndoNext)
		case w.covered(t.DB, rec.Pos):
		case u.Lost(t.DB):
			w.leave(rec, nil)
		default:
			return t.Prev, u.undoTree(w.tx, *t)
		}
		return t.Prev, nil
	}
	var n logrec.NodeRec
	if rec.Type != logrec.TypeNode && rec.Type != logrec.TypeDelta {
		return 0, fmt.Errorf("record at %v has type %d, not a change", rec.Pos, rec.Type)
	}
	if err := n.Decode(rec.Payload, rec.Back); err != nil {
		return 0, err
	}
	switch {
	case n.CLR:
		w.compensated(n.DB, rec.Pos, n.UndoNext)
		return n.Prev, nil
	case w.covered(n.DB, rec.Pos):
		return n.Prev, nil
	case u.Lost(n.DB):
		w.leave(rec, &n)
		return n.Prev, nil
	}
	// The payload's memory may be reused while pages are read; the record must last.
	n.Key, n.Data = slices.Clone(n.Key), slices.Clone(n.Data)
	n.Old, n.New = slices.Clone(n.Old), slices.Clone(n.New)
	t, err := u.Tree(&n)
	if err != nil || t == nil {
		return n.Prev, err
	}
	return n.Prev, t.UndoRecord(w.tx, &n)
}

func (u *Undoer) undoTree(tx *version.Tx, t logrec.TreeRec) error {
	clr := t
	clr.CLR, clr.UndoNext, clr.Prev = true, t.Prev, tx.Last
	pos, err := u.FreeTree(&clr)
	if err == nil && pos != 0 {
		tx.Last = pos
	}
	return err
}
