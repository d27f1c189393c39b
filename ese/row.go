package ese

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"pillarbox/ese/internal/record"
)

// Row is a row being made: the values to insert, or those to change in an update. It is
// reused with Reset. It is for one goroutine.
type Row struct {
	t    *Table
	vals []Value
	set  []bool
	more map[int][]Value // several values of a column, by position

	// Memory of encode, used again for each row.
	fields []record.Field
	arena  []byte
	rec    []byte

	number uint64
}

// Assigned is the number that the last insertion gave to the auto-increment column.
func (r *Row) Assigned() int64 { return int64(r.number) }

// NewRow returns an empty row of the table.
func (t *Table) NewRow() *Row {
	n := len(t.s.Load().cols)
	return &Row{t: t, vals: make([]Value, n), set: make([]bool, n)}
}

// Set gives a column a value; Null() clears it.
func (r *Row) Set(c *Column, v Value) *Row {
	for c.pos >= len(r.vals) { // the column is younger than the row
		r.vals, r.set = append(r.vals, Value{}), append(r.set, false)
	}
	r.vals[c.pos], r.set[c.pos] = v, true
	delete(r.more, c.pos)
	return r
}

// Reset forgets all values.
func (r *Row) Reset() *Row {
	clear(r.vals)
	clear(r.set)
	clear(r.more)
	return r
}

// RowView is a stored row as a cursor or lookup shows it. It is valid until the cursor moves
// or its transaction ends; for a lookup, until the buffer is used again.
type RowView struct {
	t   *Table
	tx  *Tx
	rec record.Record
}

// IsNull tells that the column has no value.
func (v *RowView) IsNull(c *Column) bool {
	if c.packed && v.rec.Present(c.id) {
		_, ok := v.packed(c, 0)
		return !ok
	}
	_, _, ok := v.field(c)
	return !ok
}

// value is field with the error of a compressed value.
func (v *RowView) value(c *Column) (b []byte, sep, ok bool, err error) {
	if c.packed {
		return v.unpack(nil, c, 0)
	}
	b, sep, ok = v.field(c)
	return b, sep, ok, nil
}

// field finds a column's bytes; sep is set when they are the id of a long value.
func (v *RowView) field(c *Column) (b []byte, sep, ok bool) {
	if c.def != nil && !v.rec.Present(c.id) {
		return c.def, false, true
	}
	switch {
	case c.id.IsFixed():
		b, ok = v.rec.Fixed(v.t.s.Load().layout, c.id)
	case c.id.IsVar():
		b, ok = v.rec.Var(c.id)
	case c.packed:
		return v.unpacked(c, 0)
	case c.multi:
		return v.fieldAt(c, 0)
	default:
		return v.rec.Value(c.id)
	}
	return b, false, ok
}

// Int is an integer column's value, sign-extended; 0 when NULL.
func (v *RowView) Int(c *Column) int64 {
	b, _, ok := v.field(c)
	if !ok {
		return 0
	}
	return decodeInt(c.typ, b)
}

// Bool is a Bit column's value.
func (v *RowView) Bool(c *Column) bool { return v.Int(c) != 0 }

// Float is a floating-point column's value.
func (v *RowView) Float(c *Column) float64 { return math.Float64frombits(uint64(v.Int(c))) }

// Bytes is the value of a Binary, Text or GUID column, or of a long column that lies in the
// record; it lies in the view's memory, if it is not compressed. Use Blob for long columns.
func (v *RowView) Bytes(c *Column) []byte {
	b, sep, ok := v.field(c)
	if !ok || sep {
		return nil
	}
	return b
}

// String is Bytes as a string.
func (v *RowView) String(c *Column) string { return string(v.Bytes(c)) }

// Blob appends the value of a long column to dst, wherever it is kept.
func (v *RowView) Blob(c *Column, dst []byte) ([]byte, error) {
	if c.packed {
		return v.unpackBlob(c, 0, dst)
	}
	b, sep, ok := v.field(c)
	if !ok || !sep {
		return append(dst, b...), nil
	}
	return v.t.readLV(v.tx, b, dst)
}

// parse makes the view of a stored record.
func (v *RowView) parse(raw []byte) error {
	if err := v.rec.Parse(raw, v.t.db.in.largePages()); err != nil {
		return fmt.Errorf("table %s: %w", v.t.Name(), err)
	}
	return nil
}

// maxInlineLong is how much of a long value may stay in the record (cbLVIntrinsicMost).
const maxInlineLong = 1023

// encode makes the stored record from the row's values laid over old (nil for a new row). It
// is valid until the row is encoded again.
// Long values that do not fit are written to the long-value tree; dropped collects the ids
// of those that the new record no longer refers to.
func (r *Row) encode(tx *Tx, old *RowView) (rec []byte, dropped []uint32, err error) {
	s := r.t.s.Load()
	fields, arena := r.fields[:0], r.arena[:0]
	defer func() { r.fields, r.arena = fields, arena }()
	for _, c := range s.byID {
		set := c.pos < len(r.set) && r.set[c.pos]
		if !c.seen(&tx.v) {
			if set {
				return nil, nil, fmt.Errorf("column %s of %s is not in the transaction's snapshot: %w", c.name, r.t.Name(), ErrNotFound)
			}
			continue
		}
		f := record.Field{ID: c.id, LongValue: c.long()}
		if old != nil && !set {
			if !old.keep(c, &f) {
				continue
			}
			fields = append(fields, f)
			continue
		}
		if !set && old == nil && c.def != nil && c.id.IsTagged() {
			continue // it costs nothing
		}
		if set && len(r.more[c.pos]) > 0 {
			if arena, f.Values, err = r.values(c, r.more[c.pos], arena); err != nil {
				return nil, nil, err
			}
			fields = append(fields, f)
			continue
		}
		if set && r.vals[c.pos].kind >= kindLong {
			if err := r.refer(tx, c, &f, old); err != nil {
				return nil, nil, err
			}
			fields = append(fields, f)
			continue
		}
		n := len(arena)
		if arena, f.Null, err = r.value(tx, c, set, arena); err != nil {
			return nil, nil, err
		}
		if f.Null && c.def == nil {
			continue
		}
		arena, f.Data, f.Compressed = r.compress(c, arena, arena[n:len(arena):len(arena)])
		fields = append(fields, f)
	}
	if old != nil {
		dropped = old.separated(fields)
	}
	rec, err = r.fit(tx, s, fields)
	return rec, dropped, err
}

// value appends the value that a column gets in an insertion or is set to.
func (r *Row) value(tx *Tx, c *Column, set bool, arena []byte) (out []byte, null bool, err error) {
	if c.auto {
		if set {
			return arena, false, fmt.Errorf("%w: column %s of %s numbers the rows itself", ErrBadValue, c.name, r.t.Name())
		}
		if r.number, err = tx.nextNumber(r.t, c); err != nil {
			return arena, false, err
		}
		out, _ = Int(r.number).appendTo(arena, c.typ)
		return out, false, nil
	}
	if !set && c.def != nil {
		return append(arena, c.def...), false, nil
	}
	v := Value{}
	if set {
		v = r.vals[c.pos]
	}
	if v.IsNull() {
		if c.notNil {
			return arena, false, fmt.Errorf("%w: column %s of %s must not be NULL", ErrBadValue, c.name, r.t.Name())
		}
		return arena, true, nil
	}
	out, err = r.store(c, v, arena)
	return out, false, err
}

// store appends a value in record byte order.
func (r *Row) store(c *Column, v Value, arena []byte) ([]byte, error) {
	out, ok := v.appendTo(arena, c.typ)
	if !ok || !c.long() && c.typ.FixedSize() == 0 && v.byteLen() > maxShort(c) {
		return arena, fmt.Errorf("%w: column %s of %s", ErrBadValue, c.name, r.t.Name())
	}
	return out, nil
}

// keep makes f what a column has in the old row; false when that takes no place in the record.
func (v *RowView) keep(c *Column, f *record.Field) bool {
	if c.multi && v.Count(c) > 1 {
		f.Values = v.keepValues(c)
		return true
	}
	if c.packed {
		tg, ok := v.packed(c, 0)
		f.Data, f.Separated, f.Compressed = tg.Data, tg.Separated, tg.Compressed
		f.Null = !ok && c.def != nil && v.rec.Present(c.id)
		return ok || f.Null
	}
	if c.def == nil {
		var ok bool
		f.Data, f.Separated, ok = v.field(c)
		return ok
	}
	if !v.rec.Present(c.id) && c.id.IsTagged() {
		return false
	}
	b, sep, ok := v.field(c)
	f.Data, f.Separated, f.Null = b, sep, !ok
	return true
}

// separated returns the ids of the long values that the record refers to, those in fields
// left out.
func (v *RowView) separated(fields []record.Field) (out []uint32) {
	if v.t.lv.Load() == nil {
		return nil
	}
	v.rec.EachTagged(func(_ record.ColumnID, tg record.Tagged) bool {
		switch {
		case tg.Separated:
			out = append(out, lidOf(tg.Data))
		case tg.MultiValue && tg.LongValue:
			out = append(out, separatedOf(tg)...)
		}
		return true
	})
	drop := func(data []byte) {
		if at := slices.Index(out, lidOf(data)); at >= 0 {
			out = slices.Delete(out, at, at+1)
		}
	}
	for i := range fields {
		f := &fields[i]
		if f.Separated {
			drop(f.Data)
		}
		for k := range f.Values {
			if f.Values[k].Separated {
				drop(f.Values[k].Data)
			}
		}
	}
	return out
}

// maxShort is the longest value of a variable or short tagged column, in bytes.
func maxShort(c *Column) int {
	if c.id.IsTagged() {
		return 1023
	}
	return 1000
}

// fit moves long values out of the record: all above maxInlineLong, then the longest until
// the record fits its half page.
func (r *Row) fit(tx *Tx, s *schema, fields []record.Field) ([]byte, error) {
	limit := r.t.maxRecord()
	for {
		id, m := longest(fields)
		if id == 0 || len(*m.data) <= maxInlineLong {
			rec, err := s.layout.Encode(r.rec[:0], fields, r.t.db.in.largePages())
			if err == nil && len(rec) <= limit {
				r.rec = rec
				return rec, nil
			}
			if err != nil && !errors.Is(err, record.ErrTooBig) {
				return nil, err
			}
			if id == 0 {
				return nil, fmt.Errorf("row of table %s: %w", r.t.Name(), ErrTooBig)
			}
		}
		if err := r.separate(tx, s.column(id), m); err != nil {
			return nil, err
		}
	}
}

// separate moves a value out of the record.
func (r *Row) separate(tx *Tx, c *Column, m movable) error {
	data := *m.data
	if *m.compressed {
		var err error
		if data, err = record.Decompress(nil, data); err != nil {
			return fmt.Errorf("column %s of %s: %w", c.name, r.t.Name(), err)
		}
	}
	lid, err := r.t.writeLV(tx, data, c.packed)
	if err != nil {
		return err
	}
	*m.data, *m.separated, *m.compressed = lid, true, false
	return nil
}

// movable is a value that may leave the record.
type movable struct {
	data                  *[]byte
	separated, compressed *bool
}

// longest finds the longest value that may leave the record, and its column: 0 when there is
// none.
func longest(fields []record.Field) (id record.ColumnID, m movable) {
	most := 8 // what is shorter takes as much room outside
	for i := range fields {
		f := &fields[i]
		if !f.LongValue {
			continue
		}
		if len(f.Values) == 0 && !f.Separated && len(f.Data) > most {
			id, most = f.ID, len(f.Data)
			m = movable{&f.Data, &f.Separated, &f.Compressed}
		}
		for k := range f.Values {
			v := &f.Values[k]
			if !v.Separated && len(v.Data) > most {
				id, most = f.ID, len(v.Data)
				m = movable{&v.Data, &v.Separated, &v.Compressed}
			}
		}
	}
	return id, m
}
