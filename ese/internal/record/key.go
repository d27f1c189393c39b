package record

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrNotASCII reports text that cannot be made a key: the order of other characters is
// Windows' own, and keys made here must sort the same everywhere and for ever.
var ErrNotASCII = errors.New("text key is not ASCII")

// The prefix bytes of key segments.
const (
	keyNull  = 0x00
	keyEmpty = 0x40
	keyData  = 0x7f
)

// keyChunk is the number of bytes of a variable binary value between two length bytes.
const keyChunk = 8

// AppendKey appends the segment of one column value to a key. Data is in record byte order;
// fixedBinary means a Binary or Text column with a place among the fixed columns.
func AppendKey(
	dst []byte, t ColumnType, data []byte, null, descending, fixedBinary bool,
) ([]byte, error) {
	start := len(dst)
	switch {
	case null:
		dst = append(dst, keyNull)
	case t.FixedSize() > 0:
		if len(data) != t.FixedSize() {
			return nil, fmt.Errorf("key of %d bytes for a column of type %v", len(data), t)
		}
		dst = appendFixedKey(append(dst, keyData), t, data)
	case len(data) == 0:
		dst = append(dst, keyEmpty)
	case t == Text || t == LongText:
		var err error
		if dst, err = appendTextKey(append(dst, keyData), data); err != nil {
			return nil, err
		}
	case t == Binary || t == LongBinary:
		dst = append(dst, keyData)
		if fixedBinary {
			dst = append(dst, data...)
		} else {
			dst = appendBinaryKey(dst, data)
		}
	default:
		return nil, fmt.Errorf("no key for columns of type %v", t)
	}
	if descending {
		for i := start; i < len(dst); i++ {
			dst[i] = ^dst[i]
		}
	}
	return dst, nil
}

func appendFixedKey(dst []byte, t ColumnType, data []byte) []byte {
	le := binary.LittleEndian
	be := binary.BigEndian
	switch t {
	case Bit:
		if data[0] == 0 {
			return append(dst, 0)
		}
		return append(dst, 0xff)
	case UnsignedByte:
		return append(dst, data[0])
	case Short:
		return be.AppendUint16(dst, le.Uint16(data)^1<<15)
	case UnsignedShort:
		return be.AppendUint16(dst, le.Uint16(data))
	case Long:
		return be.AppendUint32(dst, le.Uint32(data)^1<<31)
	case UnsignedLong:
		return be.AppendUint32(dst, le.Uint32(data))
	case LongLong, Currency:
		return be.AppendUint64(dst, le.Uint64(data)^1<<63)
	case UnsignedLongLong:
		return be.AppendUint64(dst, le.Uint64(data))
	case IEEESingle:
		v := le.Uint32(data)
		if v>>31 == 1 {
			return be.AppendUint32(dst, ^v)
		}
		return be.AppendUint32(dst, v^1<<31)
	case IEEEDouble, DateTime:
		v := le.Uint64(data)
		if v>>63 == 1 {
			return be.AppendUint64(dst, ^v)
		}
		return be.AppendUint64(dst, v^1<<63)
	case GUID:
		return appendGUIDKey(dst, data)
	}
	panic("record: no key form for type " + t.String())
}

// appendTextKey writes ASCII text in upper case with a terminator. NUL would sort before the
// terminator's end and break the order, so it is refused as other non-text is.
func appendTextKey(dst, data []byte) ([]byte, error) {
	for _, c := range data {
		switch {
		case c == 0 || c >= 0x80:
			return nil, ErrNotASCII
		case c >= 'a' && c <= 'z':
			c -= 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return append(dst, 0), nil
}

// appendBinaryKey writes chunks of eight bytes with a length byte after each: 9 when more
// follows, else the number of bytes used, the rest of the chunk being zero. So a value sorts
// before all longer values that begin with it.
func appendBinaryKey(dst, data []byte) []byte {
	for len(data) > keyChunk {
		dst = append(append(dst, data[:keyChunk]...), keyChunk+1)
		data = data[keyChunk:]
	}
	var last [keyChunk + 1]byte
	last[keyChunk] = byte(copy(last[:keyChunk], data))
	return append(dst, last[:]...)
}

// appendGUIDKey writes a GUID as indexes without the .NET order have it: the node first,
// then the clock sequence, then the time from its high part on.
func appendGUIDKey(dst, data []byte) []byte {
	dst = append(dst, data[10:16]...)
	dst = append(dst, data[8:10]...)
	dst = append(dst, data[6:8]...)
	dst = append(dst, data[4:6]...)
	return append(dst, data[0:4]...)
}
