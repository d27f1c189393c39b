package inspect

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"unicode/utf8"

	"pillarbox/ese/internal/record"
)

// KeyValue is a column's value as a key has it, written for people and for programs: numbers in
// decimal, GUIDs and bytes in hexadecimal digits, printable bytes quoted.
type KeyValue struct {
	Column string `json:"column"`
	Value  string `json:"value"`
}

// KeyValues takes a key of an index apart, as far as it is whole and can be.
func (t *Table) KeyValues(x *Index, key []byte) []KeyValue {
	k, err := newKeyMaker(t, x)
	if err != nil || k.opaque {
		return nil
	}
	var out []KeyValue
	for _, s := range k.segments {
		value, null, rest, ok := record.SplitKey(key, s.column.Type, s.Descending, s.column.ID.IsFixed())
		if !ok {
			break
		}
		text := "NULL"
		if !null {
			text = valueText(s.column.Type, value)
		}
		out = append(out, KeyValue{s.column.Name, text})
		key = rest
	}
	return out
}

func valueText(t record.ColumnType, b []byte) string {
	le := binary.LittleEndian
	switch t {
	case record.UnsignedByte, record.Bit:
		return strconv.Itoa(int(b[0]))
	case record.Short:
		return strconv.Itoa(int(int16(le.Uint16(b))))
	case record.UnsignedShort:
		return strconv.Itoa(int(le.Uint16(b)))
	case record.Long:
		return strconv.FormatInt(int64(int32(le.Uint32(b))), 10)
	case record.UnsignedLong:
		return strconv.FormatUint(uint64(le.Uint32(b)), 10)
	case record.LongLong, record.Currency:
		return strconv.FormatInt(int64(le.Uint64(b)), 10)
	case record.UnsignedLongLong:
		return strconv.FormatUint(le.Uint64(b), 10)
	case record.GUID, record.IEEESingle, record.IEEEDouble, record.DateTime:
		return fmt.Sprintf("%x", b)
	}
	if !utf8.Valid(b) {
		return fmt.Sprintf("%x", b)
	}
	for _, r := range string(b) {
		if !strconv.IsPrint(r) {
			return fmt.Sprintf("%x", b)
		}
	}
	return strconv.Quote(string(b))
}
