package ese

import (
	"fmt"

	"pillarbox/ese/internal/logrec"
)

// Add adds to an escrow column of the row with the primary key. Any number of transactions
// may add to one row at the same time; only a change or a lock of the row itself conflicts
// with it. A number that leaves its type's range wraps around.
func (tx *Tx) Add(t *Table, c *Column, delta int64, key ...Value) error {
	if err := tx.writable(); err != nil {
		return err
	}
	if !c.escrow || !c.seen(&tx.v) {
		return fmt.Errorf("add to %s of %s: %w: not an escrow column", c.name, t.Name(), ErrSchema)
	}
	pk, err := t.primary.searchKey(nil, key)
	if err != nil {
		return err
	}
	var v RowView
	var buf []byte
	ok, err := tx.getKey(t, &v, &buf, pk)
	if err == nil && !ok {
		err = ErrNotFound
	}
	if err != nil {
		return t.opError("add in", t.primary, err)
	}
	off, ok := v.rec.Place(t.s.Load().layout, c.id)
	if !ok { // older than the column: the first addition makes its place
		return tx.updateKey(t.NewRow().Set(c, Int(v.Int(c)+delta)), pk)
	}
	d := logrec.Delta{Off: off, Width: c.typ.FixedSize(), By: delta}
	if err := t.tree.Add(&tx.v, pk, d); err != nil {
		return t.opError("add in", t.primary, err)
	}
	return nil
}

// Lock keeps all others from changing the row with the primary key until the transaction
// ends. To those that began before its commit it counts as a change of the row.
func (tx *Tx) Lock(t *Table, key ...Value) error {
	if err := tx.writable(); err != nil {
		return err
	}
	pk, err := t.primary.searchKey(nil, key)
	if err != nil {
		return err
	}
	_, ok, err := t.tree.Get(&tx.v, pk, nil)
	if err == nil && !ok {
		err = ErrNotFound
	}
	if err == nil {
		err = t.tree.Lock(&tx.v, pk)
	}
	if err != nil {
		return t.opError("lock in", t.primary, err)
	}
	return nil
}
