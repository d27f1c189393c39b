package record

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrTooBig reports a record whose offsets do not fit the format.
var ErrTooBig = errors.New("record too big")

// Field is one column value to be encoded.
type Field struct {
	ID   ColumnID
	Data []byte
	// Separated means that Data is the little-endian id of a long value.
	Separated bool
	// Null is an explicit NULL; Data is ignored.
	Null bool
	// LongValue means that the column is LongBinary or LongText.
	LongValue bool
	// Compressed means that Data begins with a compression byte (see Decompress).
	Compressed bool
	// Values, two or more, are those of a multi-valued tagged column; Data and Separated are
	// ignored then.
	Values []FieldValue
}

// FieldValue is one of several values of a column.
type FieldValue struct {
	Data      []byte
	Separated bool
	// Compressed is as in Field; only the first of several values may be.
	Compressed bool
}

// Layout is the place of a table's fixed columns.
type Layout struct {
	ends []uint16 // ends[i] is the end of column i+1 from the start of the record
}

// NewLayout places fixed columns of the given sizes one after the other; index 0 is column 1.
func NewLayout(fixedSizes []int) *Layout {
	l := &Layout{ends: make([]uint16, len(fixedSizes))}
	end := headerSize
	for i, size := range fixedSizes {
		end += size
		l.ends[i] = uint16(end)
	}
	return l
}

// Start returns where a fixed column of the layout begins in a record.
func (l *Layout) Start(id ColumnID) int {
	start, _, _ := l.place(id)
	return start
}

// place returns where a fixed column stands; ok is false for a column the layout lacks.
func (l *Layout) place(id ColumnID) (start, end int, ok bool) {
	i := int(id) - 1
	if i < 0 || i >= len(l.ends) {
		return 0, 0, false
	}
	start = headerSize
	if i > 0 {
		start = int(l.ends[i-1])
	}
	return start, int(l.ends[i]), true
}

// Encode appends the record that has these fields, which are sorted by id and unique; columns
// without a field are NULL or their default. largePage is true for pages of 16 and 32 KiB.
func (l *Layout) Encode(dst []byte, fields []Field, largePage bool) ([]byte, error) {
	var fixed, variable, tagged []Field
	for i := range fields {
		id := fields[i].ID
		if id == 0 || (i > 0 && id <= fields[i-1].ID) {
			return nil, fmt.Errorf("encode record: column %d is out of order", id)
		}
		switch {
		case id.IsFixed():
			fixed = fields[:i+1]
		case id.IsVar():
			variable = fields[len(fixed) : i+1]
		default:
			tagged = fields[len(fixed)+len(variable) : i+1]
		}
	}
	dst, err := l.encodeFixed(dst, fixed, variable)
	if err == nil {
		dst, err = encodeVar(dst, variable)
	}
	if err == nil {
		dst, err = encodeTagged(dst, tagged, largePage)
	}
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	return dst, nil
}

// encodeFixed appends the header, the fixed columns and the NULL bits.
func (l *Layout) encodeFixed(dst []byte, fixed, variable []Field) ([]byte, error) {
	start := len(dst)
	last, varLast := ColumnID(0), FirstVar-1
	if len(fixed) > 0 {
		last = fixed[len(fixed)-1].ID
	}
	if len(variable) > 0 {
		varLast = variable[len(variable)-1].ID
	}
	dst = append(dst, byte(last), byte(varLast), 0, 0)
	bitmap := bitmapBytes(last)
	end := headerSize
	if last > 0 {
		_, e, ok := l.place(last)
		if !ok {
			return nil, fmt.Errorf("column %d is not in the layout", last)
		}
		end = e
	}
	for len(dst)-start < end {
		dst = append(dst, nullFiller)
	}
	for range bitmap {
		dst = append(dst, 0xff)
	}
	for i := range fixed {
		f := &fixed[i]
		if f.Null {
			continue
		}
		from, to, _ := l.place(f.ID)
		if len(f.Data) != to-from {
			return nil, fmt.Errorf("column %d: %d bytes for a column of %d", f.ID, len(f.Data), to-from)
		}
		copy(dst[start+from:], f.Data)
		dst[start+end+int(f.ID-1)/8] &^= 1 << ((f.ID - 1) % 8)
	}
	if len(dst)-start > offsetMask {
		return nil, ErrTooBig
	}
	binary.LittleEndian.PutUint16(dst[start+2:], uint16(len(dst)-start))
	return dst, nil
}

func bitmapBytes(fixedLast ColumnID) int { return (int(fixedLast) + 7) / 8 }

// encodeVar appends the table of ends and the variable columns.
func encodeVar(dst []byte, fields []Field) ([]byte, error) {
	id, end := FirstVar, 0
	for i := range fields {
		f := &fields[i]
		for ; id < f.ID; id++ {
			dst = binary.LittleEndian.AppendUint16(dst, uint16(end)|varNull)
		}
		id++
		if f.Null {
			dst = binary.LittleEndian.AppendUint16(dst, uint16(end)|varNull)
			continue
		}
		end += len(f.Data)
		if end > offsetMask {
			return nil, ErrTooBig
		}
		dst = binary.LittleEndian.AppendUint16(dst, uint16(end))
	}
	for i := range fields {
		if !fields[i].Null {
			dst = append(dst, fields[i].Data...)
		}
	}
	return dst, nil
}

// encodeTagged appends the array of tagged columns and their data.
func encodeTagged(dst []byte, fields []Field, largePage bool) ([]byte, error) {
	offset := len(fields) * taggedEntry
	limit := smallMask
	if largePage {
		limit = offsetMask
	}
	for i := range fields {
		f := &fields[i]
		header, hasHeader := f.header(largePage)
		if offset > limit {
			return nil, ErrTooBig
		}
		entry := uint16(offset)
		switch {
		case largePage:
		case f.Null:
			entry |= smallNull
		case hasHeader:
			entry |= smallHeader
		}
		dst = binary.LittleEndian.AppendUint16(dst, uint16(f.ID))
		dst = binary.LittleEndian.AppendUint16(dst, entry)
		if hasHeader {
			offset++
		}
		if header&headerNull == 0 {
			offset += f.size()
		}
	}
	for i := range fields {
		f := &fields[i]
		header, hasHeader := f.header(largePage)
		if hasHeader {
			dst = append(dst, header)
		}
		if header&headerNull == 0 {
			var err error
			if dst, err = f.append(dst); err != nil {
				return nil, err
			}
		}
	}
	return dst, nil
}

// size is the length of a tagged column's data.
func (f *Field) size() int {
	if len(f.Values) == 0 {
		return len(f.Data)
	}
	n := 2 * len(f.Values)
	if f.twoValues() {
		n = 1
	}
	for i := range f.Values {
		n += len(f.Values[i].Data)
	}
	return n
}

// twoValues tells that the compact form is used: the size of the first value in one byte.
func (f *Field) twoValues() bool {
	return len(f.Values) == 2 && !f.LongValue && len(f.Values[0].Data) <= 0xff
}

// append appends a tagged column's data.
func (f *Field) append(dst []byte) ([]byte, error) {
	switch {
	case len(f.Values) == 0:
		return append(dst, f.Data...), nil
	case f.twoValues():
		dst = append(dst, byte(len(f.Values[0].Data)))
	default:
		offset := 2 * len(f.Values)
		for i := range f.Values {
			if offset > offsetMask {
				return nil, ErrTooBig
			}
			entry := uint16(offset)
			if f.Values[i].Separated {
				entry |= multiSeparated
			}
			dst = binary.LittleEndian.AppendUint16(dst, entry)
			offset += len(f.Values[i].Data)
		}
	}
	for i := range f.Values {
		dst = append(dst, f.Values[i].Data...)
	}
	return dst, nil
}

// header returns the header byte of a tagged value and whether it is written.
func (f *Field) header(largePage bool) (header byte, written bool) {
	if f.Null {
		return headerNull, largePage
	}
	if f.LongValue {
		header |= headerLong
	}
	if f.Compressed && len(f.Values) == 0 || len(f.Values) > 0 && f.Values[0].Compressed {
		header |= headerPacked
	}
	if len(f.Values) > 0 {
		header |= headerMulti
		if f.twoValues() {
			header |= headerTwo
		}
	} else if f.Separated {
		header |= headerLID
	}
	return header, largePage || header != 0
}
