package record

import (
	"encoding/binary"
	"sort"
)

// Record is a decoded view of an encoded record. The zero value has no columns.
type Record struct {
	bytes     []byte
	bitmap    int // where the NULL bits start
	varTable  int // where the table of variable ends starts; it is the end of the NULL bits
	varData   int
	tagged    int // where the array of tagged columns starts
	tags      int // number of tagged columns
	fixedLast ColumnID
	varLast   ColumnID
	largePage bool
	sorted    bool // tagged columns stand in order of their ids
}

// Parse checks every offset of an encoded record.
func Parse(b []byte, largePage bool) (Record, error) {
	var r Record
	err := r.Parse(b, largePage)
	return r, err
}

// Parse makes r the record b, whose offsets it checks. After an error r has no columns.
func (r *Record) Parse(b []byte, largePage bool) error {
	if len(b) < headerSize {
		return r.damaged("%d bytes", len(b))
	}
	r.bytes, r.largePage, r.tags, r.sorted = b, largePage, 0, true
	r.fixedLast, r.varLast = ColumnID(b[0]), ColumnID(b[1])
	r.varTable = int(binary.LittleEndian.Uint16(b[2:]))
	r.bitmap = r.varTable - bitmapBytes(r.fixedLast)
	if r.fixedLast > LastFixed || r.varLast < FirstVar-1 || r.bitmap < headerSize || r.varTable > len(b) {
		return r.damaged("columns up to %d and %d, fixed ones end at %d of %d bytes",
			b[0], b[1], binary.LittleEndian.Uint16(b[2:]), len(b))
	}
	// The variable columns: each ends at or behind the one before, inside of the record.
	r.varData = r.varTable + 2*int(r.varLast-(FirstVar-1))
	most, end := len(b)-r.varData, 0
	if most < 0 {
		return r.damaged("table of %d variable columns over the end", r.varLast-(FirstVar-1))
	}
	for ends := b[r.varTable:r.varData]; len(ends) >= 2; ends = ends[2:] {
		next := int(binary.LittleEndian.Uint16(ends) & offsetMask)
		if next < end || next > most {
			return r.damaged("variable column %d ends at %d", int(r.varLast)+1-len(ends)/2, next)
		}
		end = next
	}
	if r.tagged = r.varData + end; r.tagged == len(b) {
		return nil
	}
	return r.parseTagged()
}

// damaged empties r and returns the error.
func (r *Record) damaged(format string, args ...any) error {
	*r = Record{}
	return corrupt(format, args...)
}

// varEnd is where the i-th variable column ends, relative to varData.
func (r *Record) varEnd(i int) int {
	return int(binary.LittleEndian.Uint16(r.bytes[r.varTable+2*i:]) & offsetMask)
}

// parseTagged checks the array of tagged columns and where their data lies.
func (r *Record) parseTagged() error {
	area := r.bytes[r.tagged:]
	if len(area) < taggedEntry {
		return r.damaged("%d bytes after the variable columns", len(area))
	}
	mask, header := uint32(smallMask), uint32(smallHeader)<<16
	if r.largePage {
		mask, header = offsetMask, 0
	}
	first := int(binary.LittleEndian.Uint32(area) >> 16 & mask)
	if first == 0 || first%taggedEntry != 0 || first > len(area) {
		return r.damaged("first tagged column at %d of %d bytes", first, len(area))
	}
	r.tags = first / taggedEntry
	// least is where a column may begin: behind the header byte of the one before.
	least, last := first, uint32(0)
	for entries := area[:first]; len(entries) >= taggedEntry; entries = entries[taggedEntry:] {
		e := binary.LittleEndian.Uint32(entries)
		id, at := e&0xffff, int(e>>16&mask)
		switch {
		case at < least || at > len(area):
			return r.damaged("tagged column %d at %d of %d bytes", id, at, len(area))
		case id < uint32(FirstTagged):
			return r.damaged("tagged column with id %d", id)
		case id <= last:
			r.sorted = false // columns of a template table stand first
		}
		least, last = at, id
		if e&header == header {
			least++
		}
	}
	if least > len(area) {
		return r.damaged("tagged column %d has no header byte", last)
	}
	return nil
}

func (r *Record) tagID(i int) ColumnID {
	return ColumnID(binary.LittleEndian.Uint16(r.bytes[r.tagged+taggedEntry*i:]))
}

func (r *Record) tagEntry(i int) uint16 {
	return binary.LittleEndian.Uint16(r.bytes[r.tagged+taggedEntry*i+2:])
}

// tagOffset is where the i-th tagged column's data starts, relative to the array.
func (r *Record) tagOffset(i int) int {
	if r.largePage {
		return int(r.tagEntry(i) & offsetMask)
	}
	return int(r.tagEntry(i) & smallMask)
}

func (r *Record) tagBounds(i int) (from, to int) {
	from, to = r.tagged+r.tagOffset(i), len(r.bytes)
	if i+1 < r.tags {
		to = r.tagged + r.tagOffset(i+1)
	}
	return from, to
}

func (r *Record) tagHasHeader(i int) bool {
	return r.largePage || r.tagEntry(i)&smallHeader != 0
}

// Fits reports whether the record's fixed columns end where the layout says.
func (r *Record) Fits(l *Layout) bool {
	if r.fixedLast == 0 {
		return r.bitmap == headerSize || r.bytes == nil
	}
	_, end, ok := l.place(r.fixedLast)
	return ok && end == r.bitmap
}

// Fixed returns a fixed column; ok is false when it is NULL or absent.
func (r *Record) Fixed(l *Layout, id ColumnID) (data []byte, ok bool) {
	if id == 0 || id > r.fixedLast {
		return nil, false
	}
	start, end, ok := l.place(id)
	if !ok || end > r.bitmap || r.fixedNull(id) {
		return nil, false
	}
	return r.bytes[start:end:end], true
}

// Place returns where a fixed column's value stands in the record; ok is false when it is
// NULL or absent.
func (r *Record) Place(l *Layout, id ColumnID) (offset int, ok bool) {
	if _, ok := r.Fixed(l, id); !ok {
		return 0, false
	}
	start, _, ok := l.place(id)
	return start, ok
}

func (r *Record) fixedNull(id ColumnID) bool {
	return r.bytes[r.bitmap+int(id-1)/8]&(1<<((id-1)%8)) != 0
}

// Present reports whether a column has a place in the record, be it for a NULL; an absent
// column has its default value.
func (r *Record) Present(id ColumnID) bool {
	switch {
	case id.IsFixed():
		return id <= r.fixedLast
	case id.IsVar():
		return id <= r.varLast
	}
	_, ok := r.Tagged(id)
	return ok
}

// Var returns a variable column; ok is false when it is NULL or absent.
func (r *Record) Var(id ColumnID) (data []byte, ok bool) {
	if !id.IsVar() || id > r.varLast {
		return nil, false
	}
	i := int(id - FirstVar)
	if binary.LittleEndian.Uint16(r.bytes[r.varTable+2*i:])&varNull != 0 {
		return nil, false
	}
	from, to := r.varData, r.varData+r.varEnd(i)
	if i > 0 {
		from += r.varEnd(i - 1)
	}
	return r.bytes[from:to:to], true
}

// Tagged returns a tagged column; ok is false when it is absent.
func (r *Record) Tagged(id ColumnID) (t Tagged, ok bool) {
	i := r.findTag(id)
	if i < 0 {
		return Tagged{}, false
	}
	return r.tag(i), true
}

// Value returns a tagged column that has a value: its data as stored, and whether this is the
// id of a long value. ok is false when it is NULL or absent.
func (r *Record) Value(id ColumnID) (data []byte, separated, ok bool) {
	if r.largePage || !r.sorted || r.tags > 8 {
		return r.value(r.findTag(id))
	}
	// The usual case in one pass: this is where scans spend their time.
	entries := r.bytes[r.tagged : r.tagged+taggedEntry*r.tags]
	for len(entries) >= taggedEntry {
		e := binary.LittleEndian.Uint32(entries)
		entries = entries[taggedEntry:]
		if ColumnID(e&0xffff) != id {
			continue
		}
		from, to := r.tagged+int(e>>16&smallMask), len(r.bytes)
		if len(entries) >= taggedEntry {
			to = r.tagged + int(binary.LittleEndian.Uint32(entries)>>16&smallMask)
		}
		data, ok = r.bytes[from:to:to], e&(smallNull<<16) == 0
		if e&(smallHeader<<16) == 0 {
			return data, false, ok
		}
		return data[1:], data[0]&headerLID != 0, ok && data[0]&headerNull == 0
	}
	return nil, false, false
}

// value is Value by place.
func (r *Record) value(i int) (data []byte, separated, ok bool) {
	if i < 0 {
		return nil, false, false
	}
	from, to := r.tagBounds(i)
	data = r.bytes[from:to:to]
	ok = r.largePage || r.tagEntry(i)&smallNull == 0
	if !r.tagHasHeader(i) {
		return data, false, ok
	}
	return data[1:], data[0]&headerLID != 0, ok && data[0]&headerNull == 0
}

// findTag is the place of a tagged column, -1 when it is absent.
func (r *Record) findTag(id ColumnID) int {
	if !r.sorted || r.tags <= 8 {
		for i := range r.tags {
			if r.tagID(i) == id {
				return i
			}
		}
		return -1
	}
	i := sort.Search(r.tags, func(i int) bool { return r.tagID(i) >= id })
	if i < r.tags && r.tagID(i) == id {
		return i
	}
	return -1
}

// EachTagged calls fn for the tagged columns in stored order until it returns false.
func (r *Record) EachTagged(fn func(id ColumnID, t Tagged) bool) {
	for i := range r.tags {
		if !fn(r.tagID(i), r.tag(i)) {
			return
		}
	}
}

func (r *Record) tag(i int) Tagged {
	from, to := r.tagBounds(i)
	t := Tagged{Data: r.bytes[from:to:to], Null: !r.largePage && r.tagEntry(i)&smallNull != 0}
	if !r.tagHasHeader(i) {
		return t
	}
	header := t.Data[0]
	t.Data = t.Data[1:]
	t.Null = t.Null || header&headerNull != 0
	t.LongValue = header&headerLong != 0
	t.Compressed = header&headerPacked != 0
	t.Separated = header&headerLID != 0
	t.MultiValue = header&headerMulti != 0
	t.TwoValues = header&headerTwo != 0
	t.Encrypted = header&headerSecret != 0
	return t
}

// Tagged is the stored form of a tagged column.
type Tagged struct {
	Data []byte
	// Null is an explicit NULL, which hides the column's default value.
	Null bool
	// Separated means that Data is the little-endian id of a long value.
	Separated bool
	// LongValue means that the column is LongBinary or LongText.
	LongValue bool
	// Compressed means that Data is for Decompress.
	Compressed bool
	// Encrypted means that Data cannot be read.
	Encrypted bool
	// MultiValue and TwoValues mean that Data is for Values.
	MultiValue bool
	TwoValues  bool
}

// Values returns the column's values: none for NULL, usually one.
func (t Tagged) Values() ([]Tagged, error) {
	switch {
	case t.Null:
		return nil, nil
	case t.TwoValues:
		return t.twoValues()
	case t.MultiValue:
		return t.multiValues()
	}
	return []Tagged{t}, nil
}

// twoValues splits the compact form: the size of the first in one byte.
func (t Tagged) twoValues() ([]Tagged, error) {
	if len(t.Data) == 0 || int(t.Data[0]) > len(t.Data)-1 {
		return nil, corrupt("two values in %d bytes", len(t.Data))
	}
	first, second := t, t
	end := 1 + int(t.Data[0])
	first.Data, second.Data = t.Data[1:end:end], t.Data[end:]
	first.TwoValues, first.MultiValue = false, false
	second.TwoValues, second.MultiValue, second.Compressed = false, false, false
	return []Tagged{first, second}, nil
}

func (t Tagged) multiValues() ([]Tagged, error) {
	if len(t.Data) < 2 {
		return nil, corrupt("multi-values in %d bytes", len(t.Data))
	}
	entry := func(i int) uint16 { return binary.LittleEndian.Uint16(t.Data[2*i:]) }
	table := int(entry(0) & offsetMask)
	if table == 0 || table%2 != 0 || table > len(t.Data) {
		return nil, corrupt("multi-values start at %d of %d bytes", table, len(t.Data))
	}
	values := make([]Tagged, table/2)
	for i := range values {
		from, to := int(entry(i)&offsetMask), len(t.Data)
		if i+1 < len(values) {
			to = int(entry(i+1) & offsetMask)
		}
		if from > to || to > len(t.Data) {
			return nil, corrupt("multi-value %d from %d to %d", i, from, to)
		}
		// Only the first value can be compressed.
		values[i] = Tagged{
			Data: t.Data[from:to:to], Separated: entry(i)&multiSeparated != 0,
			LongValue: t.LongValue, Compressed: t.Compressed && i == 0, Encrypted: t.Encrypted,
		}
	}
	return values, nil
}
