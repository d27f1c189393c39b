package ese

import (
	"bytes"
	"fmt"
	"slices"

	"pillarbox/ese/internal/record"
)

// A multi-valued column has any number of values in a row, in the order they were set. What
// reads one value (RowView.Int, Bytes, Blob) reads the first.

// SetValues gives a multi-valued column its values; none is NULL.
func (r *Row) SetValues(c *Column, vals ...Value) *Row {
	if len(vals) == 0 {
		return r.Set(c, Null())
	}
	r.Set(c, vals[0])
	if len(vals) > 1 {
		if r.more == nil {
			r.more = make(map[int][]Value)
		}
		r.more[c.pos] = slices.Clone(vals)
	}
	return r
}

// values appends several values of a column.
func (r *Row) values(c *Column, vals []Value, arena []byte) ([]byte, []record.FieldValue, error) {
	if !c.multi {
		return arena, nil, fmt.Errorf("%w: column %s of %s takes one value", ErrBadValue, c.name, r.t.Name())
	}
	out := make([]record.FieldValue, 0, len(vals))
	for _, v := range vals {
		n := len(arena)
		var err error
		if arena, err = r.store(c, v, arena); err != nil {
			return arena, nil, err
		}
		m := record.FieldValue{Data: arena[n:len(arena):len(arena)]}
		if len(out) == 0 { // no other may be
			arena, m.Data, m.Compressed = r.compress(c, arena, m.Data)
		}
		out = append(out, m)
	}
	return arena, out, nil
}

// stored returns the values that the record has of a multi-valued column.
func (v *RowView) stored(c *Column) []record.Tagged {
	tg, ok := v.rec.Tagged(c.id)
	if !ok {
		return nil
	}
	vals, err := tg.Values()
	if err != nil {
		return nil // the integrity check names it
	}
	return vals
}

// fieldAt finds the bytes of a column's n-th value.
func (v *RowView) fieldAt(c *Column, n int) (b []byte, sep, ok bool) {
	if c.packed && v.rec.Present(c.id) {
		return v.unpacked(c, n)
	}
	if !c.multi || !v.rec.Present(c.id) {
		if n > 0 || c.multi && c.def == nil {
			return nil, false, false
		}
		return v.field(c)
	}
	vals := v.stored(c)
	if n < 0 || n >= len(vals) {
		return nil, false, false
	}
	return vals[n].Data, vals[n].Separated, true
}

// valueAt is fieldAt with the error of a compressed value.
func (v *RowView) valueAt(c *Column, n int) (b []byte, sep, ok bool, err error) {
	if c.packed {
		return v.unpack(nil, c, n)
	}
	b, sep, ok = v.fieldAt(c, n)
	return b, sep, ok, nil
}

// Count is the number of a column's values: 0 for NULL, above 1 in multi-valued columns only.
func (v *RowView) Count(c *Column) int {
	if c.multi && v.rec.Present(c.id) {
		return len(v.stored(c))
	}
	if v.IsNull(c) {
		return 0
	}
	return 1
}

// IntAt is the n-th value of an integer column, counted from 0; 0 when there is none.
func (v *RowView) IntAt(c *Column, n int) int64 {
	b, _, ok := v.fieldAt(c, n)
	if !ok {
		return 0
	}
	return decodeInt(c.typ, b)
}

// BytesAt is the n-th value of a column, as Bytes is of one value.
func (v *RowView) BytesAt(c *Column, n int) []byte {
	b, sep, ok := v.fieldAt(c, n)
	if !ok || sep {
		return nil
	}
	return b
}

// BlobAt appends the n-th value of a long column to dst, wherever it is kept.
func (v *RowView) BlobAt(c *Column, n int, dst []byte) ([]byte, error) {
	if c.packed {
		return v.unpackBlob(c, n, dst)
	}
	b, sep, ok := v.fieldAt(c, n)
	if !ok || !sep {
		return append(dst, b...), nil
	}
	return v.t.readLV(v.tx, b, dst)
}

// keepValues are a column's values as they go into the next record.
func (v *RowView) keepValues(c *Column) []record.FieldValue {
	vals := v.stored(c)
	out := make([]record.FieldValue, len(vals))
	for i, t := range vals {
		out[i] = record.FieldValue{Data: t.Data, Separated: t.Separated, Compressed: t.Compressed && !t.Separated}
	}
	return out
}

// separatedOf returns the ids of the long values among several values.
func separatedOf(tg record.Tagged) (out []uint32) {
	vals, err := tg.Values()
	if err != nil {
		return nil
	}
	for _, t := range vals {
		if t.Separated {
			out = append(out, lidOf(t.Data))
		}
	}
	return out
}

// keys returns the keys of a row's entries, sorted and each once: one for each value of the
// first multi-valued column that has several.
func (x *Index) keys(v *RowView) ([][]byte, error) {
	var expand *Column
	n := 1
	for _, c := range x.cols {
		if c.multi && expand == nil && v.Count(c) > 1 {
			expand, n = c, v.Count(c)
		}
	}
	var out [][]byte
	for i := range n {
		k, ok, err := x.keyAt(nil, v, expand, i)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, bytes.Compare)
	return slices.CompactFunc(out, bytes.Equal), nil
}

// enterAll puts in the entries of a new row.
func (x *Index) enterAll(tx *Tx, v *RowView, pk []byte) error {
	keys, err := x.keys(v)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if err := x.tree.Insert(&tx.v, k, pk); err != nil {
			return x.table.opError("insert into", x, err)
		}
	}
	return nil
}

// leaveAll removes the entries of a row.
func (x *Index) leaveAll(tx *Tx, v *RowView, pk []byte) error {
	keys, err := x.keys(v)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if err := x.cut(tx, k, pk); err != nil {
			return err
		}
	}
	return nil
}

// moveAll changes those entries of a row that its change adds or takes away.
func (x *Index) moveAll(tx *Tx, pk []byte, old, now *RowView) error {
	was, err := x.keys(old)
	if err != nil {
		return err
	}
	is, err := x.keys(now)
	if err != nil {
		return err
	}
	has := func(keys [][]byte, k []byte) bool {
		_, found := slices.BinarySearchFunc(keys, k, bytes.Compare)
		return found
	}
	for _, k := range was {
		if !has(is, k) {
			if err := x.cut(tx, k, pk); err != nil {
				return err
			}
		}
	}
	for _, k := range is {
		if !has(was, k) {
			if err := x.tree.Insert(&tx.v, k, pk); err != nil {
				return err
			}
		}
	}
	return nil
}
