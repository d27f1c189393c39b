package ese

import (
	"bytes"
	"errors"
	"fmt"

	"pillarbox/ese/internal/btree"
	"pillarbox/ese/internal/record"
)

// maxRecord bounds the stored record: with its key it must fit half a page.
func (t *Table) maxRecord() int { return btree.MaxNode(t.db.in.o.PageSize) - 512 }

// keyLimit is the longest index key (KeyMost): 1,000 bytes at 4 KiB pages, 2,000 at 8 KiB,
// bounded by half a page.
func keyLimit(pageSize int) int { return min(pageSize/4, 2000) }

// key builds the index key of a row. ok is false when the index leaves the row out.
func (x *Index) key(dst []byte, v *RowView) (key []byte, ok bool, err error) {
	return x.keyAt(dst, v, nil, 0)
}

// keyAt is key with the n-th value of a multi-valued column.
func (x *Index) keyAt(dst []byte, v *RowView, expand *Column, n int) (key []byte, ok bool, err error) {
	key = dst
	for i, c := range x.cols {
		b, sep, has, err := v.value(c)
		if c == expand {
			b, sep, has, err = v.valueAt(c, n)
		}
		if err != nil {
			return nil, false, fmt.Errorf("index %s: %w", x.name, err)
		}
		if sep {
			return nil, false, fmt.Errorf("index %s: %w: column %s is too long", x.name, ErrTooBig, c.name)
		}
		if !has && x.sparse {
			return nil, false, nil
		}
		if !has && x.prim {
			return nil, false, fmt.Errorf("%w: primary key column %s of %s is NULL", ErrBadValue, c.name, x.table.Name())
		}
		key, err = record.AppendKey(key, c.typ, b, !has, x.desc[i], c.fixedBytes())
		if err != nil {
			return nil, false, fmt.Errorf("index %s: %w", x.name, err)
		}
	}
	if len(key)-len(dst) > keyLimit(x.table.db.in.o.PageSize) {
		return nil, false, fmt.Errorf("index %s: key of %d bytes: %w", x.name, len(key)-len(dst), ErrTooBig)
	}
	return key, true, nil
}

// keyBuffer is room on the stack for most keys, in bytes.
const keyBuffer = 256

// searchKey builds a key, or the beginning of one, from values.
func (x *Index) searchKey(dst []byte, vals []Value) ([]byte, error) {
	if len(vals) > len(x.cols) {
		return nil, fmt.Errorf("index %s has %d columns, not %d", x.name, len(x.cols), len(vals))
	}
	var buf [64]byte
	for i, v := range vals {
		c := x.cols[i]
		b, ok := buf[:0], true
		if !v.IsNull() {
			if b, ok = v.appendTo(b, c.typ); !ok {
				return nil, fmt.Errorf("%w: column %s of index %s", ErrBadValue, c.name, x.name)
			}
		}
		var err error
		if dst, err = record.AppendKey(dst, c.typ, b, v.IsNull(), x.desc[i], c.fixedBytes()); err != nil {
			return nil, fmt.Errorf("index %s: %w", x.name, err)
		}
	}
	return dst, nil
}

// Insert adds a row. ErrKeyExists names the index that holds its key already.
func (tx *Tx) Insert(r *Row) error {
	if err := tx.writable(); err != nil {
		return err
	}
	sp := tx.v.Mark()
	if err := tx.insert(r); err != nil {
		return tx.fallBack(sp, err)
	}
	return nil
}

// fallBack undoes what a failed operation has done so far, so that it leaves no trace.
func (tx *Tx) fallBack(mark int, err error) error {
	if tx.v.Mark() > mark || len(tx.made) > 0 {
		if rerr := tx.rollbackTo(mark); rerr != nil {
			tx.in.fail(rerr)
			return rerr
		}
	}
	return err
}

func (tx *Tx) insert(r *Row) error {
	t := r.t
	if err := tx.sees(t); err != nil {
		return err
	}
	rec, _, err := r.encode(tx, nil)
	if err != nil {
		return err
	}
	v := RowView{t: t, tx: tx}
	if err := v.parse(rec); err != nil {
		return err
	}
	pk, _, err := t.primary.key(tx.pk[:0], &v)
	if err != nil {
		return err
	}
	tx.pk = pk
	if err := t.tree.Insert(&tx.v, pk, rec); err != nil {
		return t.opError("insert into", t.primary, err)
	}
	for _, x := range t.s.Load().second {
		if !x.kept(tx) {
			continue
		}
		if err := x.enter(tx, &v, pk); err != nil {
			return err
		}
	}
	return nil
}

// enter puts in the entries of a new row.
func (x *Index) enter(tx *Tx, v *RowView, pk []byte) error {
	if x.multi {
		return x.enterAll(tx, v, pk)
	}
	k, ok, err := x.key(tx.ik[:0], v)
	if err != nil || !ok {
		return err
	}
	tx.ik = k
	if err := x.tree.Insert(&tx.v, k, pk); err != nil {
		return x.table.opError("insert into", x, err)
	}
	return nil
}

func (t *Table) opError(op string, x *Index, err error) error {
	return fmt.Errorf("%s %s (index %s): %w", op, t.Name(), x.name, err)
}

// Get finds a row by its whole primary key and makes view show it. buf is reused memory for
// the row; the view is valid until buf is used again.
func (tx *Tx) Get(t *Table, view *RowView, buf *[]byte, key ...Value) (bool, error) {
	if err := tx.alive(); err != nil {
		return false, err
	}
	var kb [keyBuffer]byte
	k, err := t.primary.searchKey(kb[:0], key)
	if err != nil {
		return false, err
	}
	return tx.getKey(t, view, buf, k)
}

// getKey is Get by a ready primary key.
func (tx *Tx) getKey(t *Table, view *RowView, buf *[]byte, pk []byte) (bool, error) {
	if err := tx.sees(t); err != nil {
		return false, err
	}
	b, ok, err := t.tree.Get(&tx.v, pk, (*buf)[:0])
	*buf = b
	if err != nil || !ok {
		return false, err
	}
	view.t, view.tx = t, tx
	return true, view.parse(b)
}

// Update changes the columns set in r of the row with the primary key. ErrNotFound when
// there is none.
func (tx *Tx) Update(r *Row, key ...Value) error {
	if err := tx.writable(); err != nil {
		return err
	}
	pk, err := r.t.primary.searchKey(nil, key)
	if err != nil {
		return err
	}
	return tx.updateKey(r, pk)
}

func (tx *Tx) updateKey(r *Row, pk []byte) error {
	if err := tx.writable(); err != nil {
		return err
	}
	sp := tx.v.Mark()
	if err := tx.update(r, pk); err != nil {
		return tx.fallBack(sp, err)
	}
	return nil
}

func (tx *Tx) update(r *Row, pk []byte) error {
	t := r.t
	var old, now RowView
	var buf []byte
	ok, err := tx.getKey(t, &old, &buf, pk)
	if err != nil {
		return err
	}
	if !ok {
		return t.opError("update", t.primary, ErrNotFound)
	}
	rec, dropped, err := r.encode(tx, &old)
	if err != nil {
		return err
	}
	now = RowView{t: t, tx: tx}
	if err := now.parse(rec); err != nil {
		return err
	}
	newPK, _, err := t.primary.key(nil, &now)
	if err != nil {
		return err
	}
	if !bytes.Equal(pk, newPK) {
		return fmt.Errorf("update %s: %w: the primary key cannot change; delete and insert", t.Name(), ErrBadValue)
	}
	if err := t.tree.Replace(&tx.v, pk, rec); err != nil {
		return t.opError("update", t.primary, err)
	}
	for _, x := range t.s.Load().second {
		if !x.kept(tx) {
			continue
		}
		if err := x.move(tx, pk, &old, &now); err != nil {
			return t.opError("update", x, err)
		}
	}
	for _, lid := range dropped {
		if err := t.releaseLV(tx, lid); err != nil {
			return err
		}
	}
	return nil
}

// leave removes the entries of a row.
func (x *Index) leave(tx *Tx, v *RowView, pk []byte) error {
	if x.multi {
		return x.leaveAll(tx, v, pk)
	}
	k, ok, err := x.key(tx.ik[:0], v)
	if err != nil || !ok {
		return err
	}
	tx.ik = k
	return x.cut(tx, k, pk)
}

// move changes the index entry of a row whose columns changed.
func (x *Index) move(tx *Tx, pk []byte, old, now *RowView) error {
	if x.multi {
		return x.moveAll(tx, pk, old, now)
	}
	was, had, err := x.key(nil, old)
	if err != nil {
		return err
	}
	is, has, err := x.key(nil, now)
	if err != nil || (had == has && bytes.Equal(was, is)) {
		return err
	}
	if had {
		if err := x.cut(tx, was, pk); err != nil {
			return err
		}
	}
	if has {
		return x.tree.Insert(&tx.v, is, pk)
	}
	return nil
}

// cut removes a row's entry. While the index is being built it may not be there yet, and the
// key may lead to another row's.
func (x *Index) cut(tx *Tx, key, pk []byte) error {
	if !x.partial() {
		return x.tree.Delete(&tx.v, x.entry(key, pk))
	}
	own, err := x.owns(tx, key, pk)
	if err == nil && own {
		err = x.tree.Delete(&tx.v, x.entry(key, pk))
	}
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// entry is what finds an index entry: the key, in a non-unique index with the primary key.
func (x *Index) entry(key, pk []byte) []byte {
	if x.unique {
		return key
	}
	return append(key[:len(key):len(key)], pk...)
}

// Delete removes the row with the primary key. ErrNotFound when there is none.
func (tx *Tx) Delete(t *Table, key ...Value) error {
	if err := tx.writable(); err != nil {
		return err
	}
	pk, err := t.primary.searchKey(nil, key)
	if err != nil {
		return err
	}
	return tx.deleteKey(t, pk)
}

func (tx *Tx) deleteKey(t *Table, pk []byte) error {
	if err := tx.writable(); err != nil {
		return err
	}
	sp := tx.v.Mark()
	if err := tx.remove(t, pk); err != nil {
		return tx.fallBack(sp, err)
	}
	return nil
}

func (tx *Tx) remove(t *Table, pk []byte) error {
	var old RowView
	var buf []byte
	ok, err := tx.getKey(t, &old, &buf, pk)
	if err != nil {
		return err
	}
	if !ok {
		return t.opError("delete from", t.primary, ErrNotFound)
	}
	if err := t.tree.Delete(&tx.v, pk); err != nil {
		return t.opError("delete from", t.primary, err)
	}
	for _, x := range t.s.Load().second {
		if !x.kept(tx) {
			continue
		}
		if err := x.leave(tx, &old, pk); err != nil {
			return t.opError("delete from", x, err)
		}
	}
	for _, lid := range old.separated(nil) {
		if err := t.releaseLV(tx, lid); err != nil {
			return err
		}
	}
	return nil
}
