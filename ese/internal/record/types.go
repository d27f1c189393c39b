package record

import (
	"errors"
	"fmt"
)

// ErrCorrupt reports bytes that no writer of the format produces.
var ErrCorrupt = errors.New("corrupt record")

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

// ColumnType is the type of a column as the catalog stores it.
type ColumnType uint8

// The column types. SLV is the link into the stream file of Exchange 2000 and 2003.
const (
	Bit              ColumnType = 1
	UnsignedByte     ColumnType = 2
	Short            ColumnType = 3
	Long             ColumnType = 4
	Currency         ColumnType = 5
	IEEESingle       ColumnType = 6
	IEEEDouble       ColumnType = 7
	DateTime         ColumnType = 8
	Binary           ColumnType = 9
	Text             ColumnType = 10
	LongBinary       ColumnType = 11
	LongText         ColumnType = 12
	SLV              ColumnType = 13
	UnsignedLong     ColumnType = 14
	LongLong         ColumnType = 15
	GUID             ColumnType = 16
	UnsignedShort    ColumnType = 17
	UnsignedLongLong ColumnType = 18
)

// FixedSize is the size of every value of the type in bytes, 0 when values vary.
func (t ColumnType) FixedSize() int {
	switch t {
	case Bit, UnsignedByte:
		return 1
	case Short, UnsignedShort:
		return 2
	case Long, UnsignedLong, IEEESingle:
		return 4
	case Currency, LongLong, UnsignedLongLong, IEEEDouble, DateTime:
		return 8
	case GUID:
		return 16
	}
	return 0
}

// IsLong reports whether values of the type may be kept outside the record.
func (t ColumnType) IsLong() bool { return t == LongBinary || t == LongText || t == SLV }

var typeNames = [...]string{
	Bit: "Bit", UnsignedByte: "UnsignedByte", Short: "Short", Long: "Long",
	Currency: "Currency", IEEESingle: "IEEESingle", IEEEDouble: "IEEEDouble",
	DateTime: "DateTime", Binary: "Binary", Text: "Text", LongBinary: "LongBinary",
	LongText: "LongText", SLV: "SLV", UnsignedLong: "UnsignedLong", LongLong: "LongLong",
	GUID: "GUID", UnsignedShort: "UnsignedShort", UnsignedLongLong: "UnsignedLongLong",
}

// String is the type's name in the manner of eseutil.
func (t ColumnType) String() string {
	if t >= Bit && int(t) < len(typeNames) {
		return typeNames[t]
	}
	return fmt.Sprintf("ColumnType(%d)", uint8(t))
}

// ColumnID numbers the columns of a table; its range says where in the record it stands.
type ColumnID uint16

// The ranges of column ids.
const (
	FirstFixed  ColumnID = 1
	LastFixed   ColumnID = 127
	FirstVar    ColumnID = 128
	LastVar     ColumnID = 255
	FirstTagged ColumnID = 256
)

// IsFixed reports whether the column has its place among the fixed columns.
func (id ColumnID) IsFixed() bool { return id >= FirstFixed && id <= LastFixed }

// IsVar reports whether the column is a variable one.
func (id ColumnID) IsVar() bool { return id >= FirstVar && id <= LastVar }

// IsTagged reports whether the column is a tagged one.
func (id ColumnID) IsTagged() bool { return id >= FirstTagged }

const (
	headerSize   = 4
	nullFiller   = 0x2a // stands in the place of a NULL fixed column
	offsetMask   = 0x7fff
	varNull      = 0x8000
	taggedEntry  = 4
	smallMask    = 0x1fff // offset bits of a tagged entry on small pages
	smallHeader  = 0x4000 // the value begins with a header byte
	smallNull    = 0x2000
	headerLong   = 0x01
	headerPacked = 0x02 // compressed
	headerLID    = 0x04 // the data is the id of a long value
	headerMulti  = 0x08
	headerTwo    = 0x10
	headerNull   = 0x20
	headerSecret = 0x40 // encrypted

	multiSeparated = 0x8000 // of an offset in a multi-value: the value is a long value's id
)
