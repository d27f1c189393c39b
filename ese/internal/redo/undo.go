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
	NowMS    func() int64
}

// Undo takes the losers back, one after the other, newest first.
func (u *Undoer) Undo(losers map[logrec.TxID]*Loser) error {
	list := make([]*Loser, 0, len(losers))
	for _, l := range losers {
		list = append(list, l)
	}
	slices.SortFunc(list, func(a, b *Loser) int { return cmp.Compare(b.Last, a.Last) })
	for _, l := range list {
		if err := u.undoOne(l); err != nil {
			return fmt.Errorf("undo transaction %d: %w", l.Tx, err)
		}
	}
	return nil
}

func (u *Undoer) undoOne(l *Loser) error {
	tx := &version.Tx{ID: l.Tx, Last: l.Last}
	tx.Logged(l.First)
	for pos := l.Last; pos != 0; {
		rec, err := u.Read(pos)
		if err != nil {
			return fmt.Errorf("read the record at %v: %w", pos, err)
		}
		if pos, err = u.step(tx, rec); err != nil {
			return err
		}
	}
	c := logrec.CommitRec{Tx: tx.ID, Prev: tx.Last, TimeMS: u.NowMS()}
	_, _, err := u.Log.AppendReserved(0, logrec.TypeRollback, c.Append(nil))
	return err
}

// step takes one record back and returns the next to take back.
func (u *Undoer) step(tx *version.Tx, rec wal.Record) (logrec.LogPos, error) {
	if rec.Type == logrec.TypeMacro {
		t, err := logrec.MacroTree(rec.Payload)
		if err != nil || t == nil {
			return 0, fmt.Errorf("record at %v is not the transaction's: %w", rec.Pos, err)
		}
		if t.CLR {
			return t.UndoNext, nil
		}
		return t.Prev, u.undoTree(tx, *t)
	}
	var n logrec.NodeRec
	if rec.Type != logrec.TypeNode && rec.Type != logrec.TypeDelta {
		return 0, fmt.Errorf("record at %v has type %d, not a change", rec.Pos, rec.Type)
	}
	if err := n.Decode(rec.Payload); err != nil {
		return 0, err
	}
	if n.CLR {
		return n.UndoNext, nil
	}
	// The payload's memory may be reused while pages are read; the record must last.
	n.Key, n.Data = slices.Clone(n.Key), slices.Clone(n.Data)
	n.Old, n.New = slices.Clone(n.Old), slices.Clone(n.New)
	t, err := u.Tree(&n)
	if err != nil || t == nil {
		return n.Prev, err
	}
	return n.Prev, t.UndoRecord(tx, &n)
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
