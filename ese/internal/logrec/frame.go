package logrec

import (
	"encoding/binary"
	"hash/crc32"
)

// Sizes of the framing.
const (
	// MinFrame is the size of the shortest frame, MaxFrameHeader that of the longest header.
	MinFrame       = fixedHeader + 1
	MaxFrameHeader = fixedHeader + maxLength + maxLink
	// MarkSize is what a FlushMark takes, EndSize what an End takes.
	MarkSize        = MinFrame + MarkPayloadSize
	EndSize         = MinFrame
	MarkPayloadSize = 8

	fixedHeader = 9 // crc, crc before, type
	maxLength   = 4 // bytes of a length
	maxFile     = 1 << 28
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Frame is one record as it lies in the file.
type Frame struct {
	Type    Type
	Prev    uint32 // crc of the record before
	Sum     uint32 // crc of this record
	Size    int    // the bytes the frame takes in the file
	Back    LogPos // of a linked type: the record before of the same transaction; 0 for its first
	Payload []byte
}

// FrameSize is the most bytes that a record with such a payload takes in the file.
func FrameSize(payload int) int { return MaxFrameHeader + payload }

// seed mixes the position into the checksum. It steps through the table by hand because
// crc32.Update would make the eight bytes escape to the heap for each record.
func seed(pos LogPos) uint32 {
	var crc uint32
	for v, i := uint64(pos), 0; i < 8; i++ {
		crc = castagnoli[byte(crc)^byte(v)] ^ crc>>8
		v >>= 8
	}
	return crc
}

// SealFrame fills the header h of a record at pos; back goes into that of a linked type. It
// returns how much of h the header takes, and the record's checksum, which the next record takes
// as prev.
func SealFrame(
	h *[MaxFrameHeader]byte, pos LogPos, typ Type, prev uint32, back LogPos, parts ...[]byte,
) (n int, sum uint32) {
	var link [maxLink]byte
	size := 0
	if typ.Linked() {
		size = putLink(link[:], pos, back)
	}
	linked := link[:size]
	for _, p := range parts {
		size += len(p)
	}
	binary.LittleEndian.PutUint32(h[4:], prev)
	h[8] = byte(typ)
	n = fixedHeader + binary.PutUvarint(h[fixedHeader:fixedHeader+maxLength], uint64(size))
	n += copy(h[n:], linked)
	sum = crc32.Update(seed(pos), castagnoli, h[4:n])
	for _, p := range parts {
		sum = crc32.Update(sum, castagnoli, p)
	}
	binary.LittleEndian.PutUint32(h[:], sum)
	return n, sum
}

// FrameLen returns the size of the frame that begins at b, as its header has it, which only
// the checksum can prove. ok is false where no frame can begin.
func FrameLen(b []byte) (n int, ok bool) {
	header, rest, ok := frameLen(b)
	return header + rest, ok
}

func frameLen(b []byte) (header, rest int, ok bool) {
	if len(b) < MinFrame || b[8] == byte(TypeNone) {
		return 0, 0, false
	}
	u, n := binary.Uvarint(b[fixedHeader:min(len(b), fixedHeader+maxLength)])
	if n <= 0 || n > 1 && u>>(7*(n-1)) == 0 { // there is one way to write a length
		return 0, 0, false
	}
	return fixedHeader + n, int(u), true
}

// DecodeFrame returns the frame at the beginning of b, which lies at pos. The payload is part
// of b. ok is false when there is no valid frame; the caller compares Prev with the chain.
func DecodeFrame(b []byte, pos LogPos) (f Frame, ok bool) {
	header, rest, ok := frameLen(b)
	n := header + rest
	if !ok || n > len(b) {
		return Frame{}, false
	}
	sum := crc32.Update(seed(pos), castagnoli, b[4:n])
	if sum != binary.LittleEndian.Uint32(b) {
		return Frame{}, false
	}
	f = Frame{
		Type: Type(b[8]), Prev: binary.LittleEndian.Uint32(b[4:]), Sum: sum, Size: n,
		Payload: b[header:n:n],
	}
	if f.Type.Linked() {
		var m int
		if f.Back, m, ok = readLink(f.Payload, pos); !ok {
			return Frame{}, false
		}
		f.Payload = f.Payload[m:]
	}
	return f, true
}

// PutMark fills the payload of a FlushMark in the file with this key.
func PutMark(p *[MarkPayloadSize]byte, key, nonce uint32) {
	binary.LittleEndian.PutUint32(p[:], key)
	binary.LittleEndian.PutUint32(p[4:], nonce)
}

// IsMark reports whether a valid FlushMark of the file with this key begins at b; the key stands
// at MinFrame. It asks for no chain.
func IsMark(b []byte, pos LogPos, key uint32) bool {
	if len(b) < MarkSize || b[8] != byte(TypeFlushMark) || b[fixedHeader] != MarkPayloadSize ||
		binary.LittleEndian.Uint32(b[MinFrame:]) != key {
		return false
	}
	_, ok := DecodeFrame(b[:MarkSize], pos)
	return ok
}

// ChainStart is what the first record of a generation has as the crc before it.
func ChainStart(sign Signature, gen uint32, created LogTime) uint32 {
	var b [SignatureSize + 12]byte
	sign.Encode(b[:])
	binary.LittleEndian.PutUint32(b[SignatureSize:], gen)
	copy(b[SignatureSize+4:], created[:])
	return crc32.Checksum(b[:], castagnoli)
}
