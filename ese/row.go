package ese

import (
	"errors"
	"fmt"
	"math"

	"pillarbox/ese/internal/record"
)

// Row is a row being made: the values to insert, or those to change in an update. It is
// reused with Reset. It is for one goroutine.
type Row struct {
	t    *Table
	vals []Value
	set  []bool

	// Memory of encode, used again for each row.
	fields []record.Field
	arena  []byte
	rec    []byte
}

// NewRow returns an empty row of the table.
func (t *Table) NewRow() *Row {
	return &Row{t: t, vals: make([]Value, len(t.cols)), set: make([]bool, len(t.cols))}
}

// Set gives a column a value; Null() clears it.
func (r *Row) Set(c *Column, v Value) *Row {
	r.vals[c.pos], r.set[c.pos] = v, true
	return r
}

// Reset forgets all values.
func (r *Row) Reset() *Row {
	clear(r.vals)
	clear(r.set)
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
	_, _, ok := v.field(c)
	return !ok
}

// field finds a column's bytes; sep is set when they are the id of a long value.
func (v *RowView) field(c *Column) (b []byte, sep, ok bool) {
	switch {
	case c.id.IsFixed():
		b, ok = v.rec.Fixed(v.t.layout, c.id)
	case c.id.IsVar():
		b, ok = v.rec.Var(c.id)
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
// record; it lies in the view's memory. Use Blob for long columns.
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
	b, sep, ok := v.field(c)
	if !ok || !sep {
		return append(dst, b...), nil
	}
	return v.t.readLV(v.tx, b, dst)
}

// parse makes the view of a stored record.
func (v *RowView) parse(raw []byte) error {
	if err := v.rec.Parse(raw, v.t.db.in.largePages()); err != nil {
		return fmt.Errorf("table %s: %w", v.t.name, err)
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
	t := r.t
	fields, arena := r.fields[:0], r.arena[:0]
	defer func() { r.fields, r.arena = fields, arena }()
	for _, c := range t.cols {
		f := record.Field{ID: c.id, LongValue: c.long()}
		if old != nil && !r.set[c.pos] {
			b, sep, ok := old.field(c)
			if !ok {
				continue
			}
			f.Data, f.Separated = b, sep
			fields = append(fields, f)
			continue
		}
		if old != nil && c.long() {
			if b, sep, ok := old.field(c); ok && sep {
				dropped = append(dropped, lidOf(b))
			}
		}
		v := r.vals[c.pos]
		if c.escrow && !r.set[c.pos] {
			v = Int(0)
		}
		if v.IsNull() {
			if c.notNil {
				return nil, nil, fmt.Errorf("%w: column %s of %s must not be NULL", ErrBadValue, c.name, t.name)
			}
			continue
		}
		n := len(arena)
		var ok bool
		if arena, ok = v.appendTo(arena, c.typ); !ok || !c.long() && !c.id.IsFixed() && v.byteLen() > maxShort(c) {
			return nil, nil, fmt.Errorf("%w: column %s of %s", ErrBadValue, c.name, t.name)
		}
		f.Data = arena[n:len(arena):len(arena)]
		fields = append(fields, f)
	}
	rec, err = r.fit(tx, fields)
	return rec, dropped, err
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
func (r *Row) fit(tx *Tx, fields []record.Field) ([]byte, error) {
	limit := r.t.maxRecord()
	for {
		worst := -1
		for i := range fields {
			f := &fields[i]
			if f.LongValue && !f.Separated && len(f.Data) > 8 && (worst < 0 || len(f.Data) > len(fields[worst].Data)) {
				worst = i
			}
		}
		if worst < 0 || len(fields[worst].Data) <= maxInlineLong {
			rec, err := r.t.layout.Encode(r.rec[:0], fields, r.t.db.in.largePages())
			if err == nil && len(rec) <= limit {
				r.rec = rec
				return rec, nil
			}
			if err != nil && !errors.Is(err, record.ErrTooBig) {
				return nil, err
			}
			if worst < 0 {
				return nil, fmt.Errorf("row of table %s: %w", r.t.name, ErrTooBig)
			}
		}
		lid, err := r.t.writeLV(tx, fields[worst].Data)
		if err != nil {
			return nil, err
		}
		fields[worst].Data, fields[worst].Separated = lid, true
	}
}
