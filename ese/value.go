package ese

import (
	"encoding/binary"
	"math"

	"pillarbox/ese/internal/record"
)

// ColumnType is the type of a column (docs/format-edb.md, "Column types").
type ColumnType = record.ColumnType

// The column types that tables may use.
const (
	Bit              = record.Bit
	UnsignedByte     = record.UnsignedByte
	Short            = record.Short
	Long             = record.Long
	Currency         = record.Currency
	IEEEDouble       = record.IEEEDouble
	DateTime         = record.DateTime
	Binary           = record.Binary
	Text             = record.Text
	LongBinary       = record.LongBinary
	LongText         = record.LongText
	UnsignedLong     = record.UnsignedLong
	LongLong         = record.LongLong
	GUID             = record.GUID
	UnsignedShort    = record.UnsignedShort
	UnsignedLongLong = record.UnsignedLongLong
)

type valueKind uint8

const (
	kindNull valueKind = iota
	kindInt
	kindFloat
	kindBytes
	kindString
	kindLong   // n is the id of a long value that the row is to own
	kindShared // n is the id of a long value that gets another reference
)

// Value is one column value or one part of a key. The zero Value is NULL.
type Value struct {
	kind valueKind
	n    uint64
	b    []byte
	s    string
}

// Null is the absence of a value.
func Null() Value { return Value{} }

// Int is an integer of any width; bits that do not fit the column are an error when stored.
func Int[T ~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64](v T) Value {
	return Value{kind: kindInt, n: uint64(v)}
}

// Bool is a Bit.
func Bool(v bool) Value {
	if v {
		return Value{kind: kindInt, n: 1}
	}
	return Value{kind: kindInt}
}

// Float is an IEEEDouble or DateTime.
func Float(v float64) Value { return Value{kind: kindFloat, n: math.Float64bits(v)} }

// Bytes is a Binary, LongBinary or GUID. The bytes are not copied until they are stored.
func Bytes(v []byte) Value { return Value{kind: kindBytes, b: v} }

// String is a Text, LongText, or the bytes of a Binary.
func String(v string) Value { return Value{kind: kindString, s: v} }

// IsNull tells that there is no value.
func (v Value) IsNull() bool { return v.kind == kindNull }

// appendTo appends the value in record byte order. ok is false when it does not fit the type.
func (v Value) appendTo(dst []byte, t ColumnType) (out []byte, ok bool) {
	size := t.FixedSize()
	switch v.kind {
	case kindInt:
		if size == 0 || size > 8 || t == IEEEDouble || t == DateTime || t == record.IEEESingle {
			return dst, false
		}
		n := v.n
		if t == Bit {
			if n > 1 {
				return dst, false
			}
			n *= 0xff
		} else if !fits(n, size) {
			return dst, false
		}
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], n)
		return append(dst, b[:size]...), true
	case kindFloat:
		if t != IEEEDouble && t != DateTime {
			return dst, false
		}
		return binary.LittleEndian.AppendUint64(dst, v.n), true
	case kindBytes:
		if size != 0 && size != len(v.b) {
			return dst, false
		}
		return append(dst, v.b...), size == 0 || t == GUID
	case kindString:
		return append(dst, v.s...), size == 0
	}
	return dst, false
}

// fits tells whether n, taken as signed or unsigned, has at most size bytes.
func fits(n uint64, size int) bool {
	if size == 8 {
		return true
	}
	top := n >> (8*size - 1)
	return n>>(8*size) == 0 || top == math.MaxUint64>>(8*size-1)
}

// byteLen is the length of a Bytes or String value.
func (v Value) byteLen() int {
	if v.kind == kindString {
		return len(v.s)
	}
	return len(v.b)
}

// decodeInt reads a fixed column of up to eight bytes; signed types are sign-extended.
func decodeInt(t ColumnType, b []byte) int64 {
	var x [8]byte
	n := copy(x[:], b)
	v := binary.LittleEndian.Uint64(x[:])
	switch t {
	case Bit:
		return int64(v & 1)
	case Short, Long:
		shift := 64 - 8*n
		return int64(v<<shift) >> shift
	}
	return int64(v)
}
