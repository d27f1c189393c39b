package logrec

import "encoding/binary"

// Linked tells that records of the type name the one before of the same transaction. Between
// type and payload stands how far back that is: 0 when there is none, twice the bytes in the
// same generation, else twice the generation and 1, and the offset in its file.
func (t Type) Linked() bool {
	switch t {
	case TypeNode, TypeDelta, TypeCommit, TypeRollback, TypeLeft:
		return true
	}
	return false
}

// maxLink is the longest link: 33 bits of generation, 28 of offset.
const maxLink = 9

// putLink writes the link of a record at pos to the one at back into b.
func putLink(b []byte, pos, back LogPos) int {
	switch {
	case back == 0:
		b[0] = 0
		return 1
	case back.Generation() == pos.Generation():
		return binary.PutUvarint(b, uint64(pos.Offset()-back.Offset())<<1)
	}
	n := binary.PutUvarint(b, uint64(back.Generation())<<1|1)
	return n + binary.PutUvarint(b[n:], uint64(back.Offset()))
}

// readLink reads the link of a record at pos and returns how long it is. What it returns is
// before pos.
func readLink(b []byte, pos LogPos) (back LogPos, n int, ok bool) {
	u, n := binary.Uvarint(b)
	switch {
	case n <= 0:
		return 0, 0, false
	case u == 0:
		return 0, n, true
	case u&1 == 0:
		off := pos.Offset() - int64(u>>1)
		return MakePos(pos.Generation(), off), n, u>>1 <= uint64(pos.Offset())
	}
	off, m := binary.Uvarint(b[n:])
	if m <= 0 || off >= maxFile || u>>1 >= uint64(pos.Generation()) {
		return 0, 0, false
	}
	return MakePos(uint32(u>>1), int64(off)), n + m, true
}
