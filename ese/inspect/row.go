package inspect

import (
	"fmt"

	"pillarbox/ese/internal/page"
	"pillarbox/ese/internal/record"
)

// Row is one row of a table.
type Row struct {
	// Key is the row's primary key, its bookmark.
	Key []byte
	// Page is the leaf the row stands on.
	Page page.No

	table *Table
	rec   record.Record
}

// Rows calls fn for the rows in order of their primary keys. A Row is valid during the call.
func (t *Table) Rows(fn func(Row) error) error {
	return t.db.walk(t.Root, func(n node) error {
		if n.deleted {
			return nil
		}
		rec, err := record.Parse(n.data, t.db.LargePages())
		if err == nil && !rec.Fits(t.layout) {
			err = record.ErrCorrupt
		}
		if err != nil {
			return &CorruptError{Page: n.page, Table: t.Name, Reason: fmt.Sprintf("row: %v", err)}
		}
		return fn(Row{Key: n.key, Page: n.page, table: t, rec: rec})
	})
}

// Value is one value of a column.
type Value struct {
	// Data is the value, decompressed and in record byte order. Of a long value no more than
	// the limit asked for is there.
	Data []byte
	// Size is the whole value's size in bytes.
	Size int64
	// LongValue is the id of the long value the data came from, 0 when it is in the row.
	LongValue uint64
	// Encrypted means that Data is unreadable.
	Encrypted bool
}

// Values returns a column's values, none for NULL, more than one only for multi-valued
// columns. At most limit bytes of each separated value are read.
func (r Row) Values(c *Column, limit int) ([]Value, error) {
	if !r.rec.Present(c.ID) {
		if len(c.Default) == 0 {
			return nil, nil
		}
		return []Value{inRow(c.Default)}, nil
	}
	switch {
	case c.ID.IsFixed():
		if data, ok := r.rec.Fixed(r.table.layout, c.ID); ok {
			return []Value{inRow(data)}, nil
		}
		return nil, nil
	case c.ID.IsVar():
		if data, ok := r.rec.Var(c.ID); ok {
			return []Value{inRow(data)}, nil
		}
		return nil, nil
	}
	return r.taggedValues(c, limit)
}

func inRow(data []byte) Value { return Value{Data: data, Size: int64(len(data))} }

func (r Row) taggedValues(c *Column, limit int) ([]Value, error) {
	tag, _ := r.rec.Tagged(c.ID)
	stored, err := tag.Values()
	if err != nil {
		return nil, r.corrupt(c, err)
	}
	values := make([]Value, 0, len(stored))
	for _, s := range stored {
		v, err := r.table.resolve(s, limit)
		if err != nil {
			return nil, r.corrupt(c, err)
		}
		values = append(values, v)
	}
	return values, nil
}

// resolve turns a stored tagged value into the value itself.
func (t *Table) resolve(s record.Tagged, limit int) (Value, error) {
	switch {
	case s.Separated:
		id, err := longValueID(s.Data)
		if err != nil {
			return Value{}, err
		}
		return t.longValue(id, limit)
	case s.Encrypted:
		v := inRow(s.Data)
		v.Encrypted = true
		return v, nil
	case s.Compressed:
		data, err := record.Decompress(nil, s.Data)
		return inRow(data), err
	}
	return inRow(s.Data), nil
}

// corrupt keeps read errors as they are and places the others.
func (r Row) corrupt(c *Column, err error) error {
	return fmt.Errorf("page %d of table %s: row %x, column %s: %w",
		r.Page, r.table.Name, r.Key, c.Name, err)
}

// eachLongValue calls fn for the ids of the long values the row refers to.
func (r Row) eachLongValue(fn func(id lid)) error {
	var first error
	r.rec.EachTagged(func(_ record.ColumnID, tag record.Tagged) bool {
		values, err := tag.Values()
		for _, v := range values {
			if !v.Separated || err != nil {
				continue
			}
			var id lid
			if id, err = longValueID(v.Data); err == nil {
				fn(id)
			}
		}
		first = err
		return err == nil
	})
	return first
}
