package record

import "encoding/binary"

// SplitKey takes the segment of one column off a key that AppendKey made: the value in record
// byte order and what is behind it. Text comes as the key has it, in upper case. ok is false
// where the segment is cut off, or cannot be told from what follows.
func SplitKey(
	key []byte, t ColumnType, descending, fixedBinary bool,
) (value []byte, null bool, rest []byte, ok bool) {
	at := func(i int) byte {
		if descending {
			return ^key[i]
		}
		return key[i]
	}
	if len(key) == 0 {
		return nil, false, nil, false
	}
	switch at(0) {
	case keyNull:
		return nil, true, key[1:], true
	case keyEmpty:
		return []byte{}, false, key[1:], true
	case keyData:
	default:
		return nil, false, nil, false
	}
	n, text := 0, t == Text || t == LongText
	switch {
	case t.FixedSize() > 0:
		n = t.FixedSize()
	case text:
		for n = 0; n+1 < len(key) && at(n+1) != 0; n++ {
		}
		n++ // the terminator
	case fixedBinary || t != Binary && t != LongBinary:
		return nil, false, nil, false // its length is nowhere in the key
	default:
		n = keyChunk + 1
		for n < len(key) && at(n) == keyChunk+1 {
			n += keyChunk + 1
		}
	}
	if len(key) < n+1 {
		return nil, false, nil, false
	}
	raw := make([]byte, n)
	for i := range raw {
		raw[i] = at(i + 1)
	}
	rest = key[n+1:]
	switch {
	case t.FixedSize() > 0:
		return fixedKeyValue(t, raw), false, rest, true
	case text:
		return raw[:n-1], false, rest, true
	}
	value, ok = binaryKeyValue(raw)
	return value, false, rest, ok
}

// fixedKeyValue undoes appendFixedKey.
func fixedKeyValue(t ColumnType, raw []byte) []byte {
	le, be := binary.LittleEndian, binary.BigEndian
	switch t {
	case UnsignedByte, Bit:
		return raw
	case Short:
		return le.AppendUint16(nil, be.Uint16(raw)^1<<15)
	case UnsignedShort:
		return le.AppendUint16(nil, be.Uint16(raw))
	case Long:
		return le.AppendUint32(nil, be.Uint32(raw)^1<<31)
	case UnsignedLong:
		return le.AppendUint32(nil, be.Uint32(raw))
	case LongLong, Currency:
		return le.AppendUint64(nil, be.Uint64(raw)^1<<63)
	case UnsignedLongLong:
		return le.AppendUint64(nil, be.Uint64(raw))
	case IEEESingle:
		v := be.Uint32(raw)
		if v>>31 == 0 {
			return le.AppendUint32(nil, ^v)
		}
		return le.AppendUint32(nil, v^1<<31)
	case IEEEDouble, DateTime:
		v := be.Uint64(raw)
		if v>>63 == 0 {
			return le.AppendUint64(nil, ^v)
		}
		return le.AppendUint64(nil, v^1<<63)
	case GUID:
		var g []byte
		g = append(g, raw[12:16]...)
		g = append(g, raw[10:12]...)
		g = append(g, raw[8:10]...)
		g = append(g, raw[6:8]...)
		return append(g, raw[0:6]...)
	}
	panic("record: no key form for type " + t.String())
}

// binaryKeyValue undoes appendBinaryKey.
func binaryKeyValue(raw []byte) ([]byte, bool) {
	var out []byte
	for len(raw) > keyChunk+1 {
		out, raw = append(out, raw[:keyChunk]...), raw[keyChunk+1:]
	}
	n := int(raw[keyChunk])
	if n > keyChunk {
		return nil, false
	}
	return append(out, raw[:n]...), true
}
