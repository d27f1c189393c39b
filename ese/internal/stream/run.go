package stream

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Sizes, in bytes (docs/format-stm.md).
const (
	PageSize   = 4096
	RunPages   = 16
	HeaderSize = 32
	// MaxPayload is what one run holds.
	MaxPayload = RunPages*PageSize - HeaderSize
)

const runMagic = 0x31525350 // "PSR1"

// PageNo is a page of a .stm file, from 0.
type PageNo uint32

// Offset is the page's byte offset in the file.
func (n PageNo) Offset() int64 { return (int64(n) + 1) * PageSize }

// Pages is the number of pages that a run of n payload bytes takes.
func Pages(n int) int { return (n + HeaderSize + PageSize - 1) / PageSize }

// BadRunError reports a run that cannot be what was written.
type BadRunError struct {
	File   string
	Page   PageNo
	Reason string
}

func (e *BadRunError) Error() string {
	return fmt.Sprintf("stream page %d of %s: %s (-1018)", e.Page, e.File, e.Reason)
}

// seal writes the run header into b, whose payload stands behind it.
func seal(b []byte, id uint64) {
	payload := b[HeaderSize:]
	binary.LittleEndian.PutUint32(b[0:], runMagic)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(payload, castagnoli))
	binary.LittleEndian.PutUint32(b[12:], 0) // codec
	binary.LittleEndian.PutUint32(b[16:], 0) // key id
	binary.LittleEndian.PutUint64(b[20:], id)
	binary.LittleEndian.PutUint32(b[28:], crc32.Checksum(b[:28], castagnoli))
}

// open checks a run read from disk and returns its payload; want is its length.
func open(b []byte, id uint64, want int) (payload []byte, reason string) {
	if want < 0 || len(b) < HeaderSize+want {
		return nil, "shorter than its extent says"
	}
	payload = b[HeaderSize : HeaderSize+want]
	return payload, check(b[:HeaderSize], payload, id)
}

// check tells what is wrong with a run's header and payload; empty when nothing is.
func check(head, payload []byte, id uint64) (reason string) {
	switch {
	case binary.LittleEndian.Uint32(head[28:]) != crc32.Checksum(head[:28], castagnoli),
		binary.LittleEndian.Uint32(head) != runMagic:
		return "run header damaged"
	case binary.LittleEndian.Uint64(head[20:]) != id:
		return fmt.Sprintf("belongs to stream %d, not %d", binary.LittleEndian.Uint64(head[20:]), id)
	case int(binary.LittleEndian.Uint32(head[4:])) != len(payload):
		return fmt.Sprintf("holds %d bytes, not %d", binary.LittleEndian.Uint32(head[4:]), len(payload))
	case binary.LittleEndian.Uint32(head[12:]) != 0 || binary.LittleEndian.Uint32(head[16:]) != 0:
		return "compressed or encrypted by a newer version"
	case crc32.Checksum(payload, castagnoli) != binary.LittleEndian.Uint32(head[8:]):
		return "checksum mismatch"
	}
	return ""
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)
