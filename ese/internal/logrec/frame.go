package logrec

import (
	"encoding/binary"
	"hash/crc32"
)

// Sizes of the framing.
const (
	FrameHeaderSize = 16
	FrameAlign      = 8
	MarkPayloadSize = 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Frame is one record as it lies in the file.
type Frame struct {
	Type    Type
	Flags   uint8
	Prev    uint32 // crc of the record before
	Sum     uint32 // crc of this record
	Payload []byte
}

// Size is the number of bytes the frame takes in the file.
func (f Frame) Size() int { return FrameSize(len(f.Payload)) }

// FrameSize is the number of bytes a record with such a payload takes in the file.
func FrameSize(payload int) int {
	return (FrameHeaderSize + payload + FrameAlign - 1) &^ (FrameAlign - 1)
}

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

// SealFrame fills the header h of a record at pos and returns its checksum, which the next
// record takes as prev.
func SealFrame(h *[FrameHeaderSize]byte, pos LogPos, typ Type, prev uint32, parts ...[]byte) uint32 {
	size := FrameHeaderSize
	for _, p := range parts {
		size += len(p)
	}
	binary.LittleEndian.PutUint32(h[4:], uint32(size))
	binary.LittleEndian.PutUint32(h[8:], prev)
	h[12], h[13], h[14], h[15] = byte(typ), 0, 0, 0
	sum := crc32.Update(seed(pos), castagnoli, h[4:])
	for _, p := range parts {
		sum = crc32.Update(sum, castagnoli, p)
	}
	binary.LittleEndian.PutUint32(h[:], sum)
	return sum
}

// FrameLen returns the length field of the header in b: header and payload without padding.
// ok is false where no frame can begin.
func FrameLen(b []byte) (n int, ok bool) {
	if len(b) < FrameHeaderSize {
		return 0, false
	}
	u := binary.LittleEndian.Uint32(b[4:])
	if u < FrameHeaderSize || u > 1<<30 || b[12] == byte(TypeNone) || b[14] != 0 || b[15] != 0 {
		return 0, false
	}
	return int(u), true
}

// DecodeFrame returns the frame at the beginning of b, which lies at pos. The payload is part
// of b. ok is false when there is no valid frame; the caller compares Prev with the chain.
func DecodeFrame(b []byte, pos LogPos) (f Frame, ok bool) {
	n, ok := FrameLen(b)
	if !ok || n > len(b) {
		return Frame{}, false
	}
	sum := crc32.Update(seed(pos), castagnoli, b[4:n])
	if sum != binary.LittleEndian.Uint32(b) {
		return Frame{}, false
	}
	return Frame{
		Type:    Type(b[12]),
		Flags:   b[13],
		Prev:    binary.LittleEndian.Uint32(b[8:]),
		Sum:     sum,
		Payload: b[FrameHeaderSize:n:n],
	}, true
}

// PutMark fills the payload of a FlushMark at pos in the file with this key.
func PutMark(p *[MarkPayloadSize]byte, pos LogPos, key, nonce uint32) {
	binary.LittleEndian.PutUint64(p[:], uint64(pos))
	binary.LittleEndian.PutUint32(p[8:], key)
	binary.LittleEndian.PutUint32(p[12:], nonce)
}

// IsMark reports whether a valid FlushMark of the file with this key begins at b. It asks for no
// chain, and rejects nearly everything before it computes a checksum: it is called at every
// multiple of 8 bytes.
func IsMark(b []byte, pos LogPos, key uint32) bool {
	if len(b) < FrameHeaderSize+MarkPayloadSize || b[12] != byte(TypeFlushMark) ||
		binary.LittleEndian.Uint32(b[4:]) != FrameHeaderSize+MarkPayloadSize ||
		binary.LittleEndian.Uint64(b[16:]) != uint64(pos) ||
		binary.LittleEndian.Uint32(b[24:]) != key {
		return false
	}
	_, ok := DecodeFrame(b[:FrameHeaderSize+MarkPayloadSize], pos)
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
