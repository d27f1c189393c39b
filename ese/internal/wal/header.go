package wal

import (
	"encoding/binary"
	"fmt"

	"pillarbox/ese/internal/logrec"
)

// The header of a log file (docs/format-log.md, "File header").
const (
	headerSize     = 4096
	headerSeed     = 0x89abcdef
	versionMajor   = 0x50420002 // of log files; 0x50420001 had other frames
	versionCheckp  = 0x50420001
	fileTypeLog    = 3
	fileTypeCheckp = 4
	fileTypeOffset = 667
	knownIncompat  = 0
)

// Header is what a log file says about itself.
type Header struct {
	Gen         uint32
	Bytes       int64 // size of the file
	PageSize    int
	Created     logrec.LogTime
	PrevCreated logrec.LogTime
	Sign        logrec.Signature
	Key         uint32 // random; FlushMarks of this file carry it
	Compat      uint32
	ROCompat    uint32
	Incompat    uint32
	Parent      logrec.Signature // the stream this one left, by a restore to an earlier time
	Fork        logrec.LogPos
}

// xor32 is the checksum of headers: all words but the first.
func xor32(b []byte) uint32 {
	x := uint32(headerSeed)
	for i := 4; i+4 <= len(b); i += 4 {
		x ^= binary.LittleEndian.Uint32(b[i:])
	}
	return x
}

func (h *Header) encode() []byte {
	b := make([]byte, headerSize)
	le := binary.LittleEndian
	le.PutUint32(b[4:], h.Gen)
	le.PutUint16(b[8:], logrec.SectorSize)
	le.PutUint16(b[10:], headerSize/logrec.SectorSize)
	le.PutUint16(b[12:], uint16(h.Bytes/logrec.SectorSize))
	if h.PageSize != 4096 {
		le.PutUint16(b[14:], uint16(h.PageSize))
	}
	copy(b[16:], h.Created[:])
	copy(b[24:], h.PrevCreated[:])
	le.PutUint32(b[32:], versionMajor)
	h.Sign.Encode(b[44:])
	le.PutUint32(b[fileTypeOffset:], fileTypeLog)
	le.PutUint32(b[2720:], h.Key)
	le.PutUint32(b[2724:], h.Compat)
	le.PutUint32(b[2728:], h.ROCompat)
	le.PutUint32(b[2732:], h.Incompat)
	h.Parent.Encode(b[2736:])
	le.PutUint64(b[2764:], uint64(h.Fork))
	le.PutUint32(b, xor32(b))
	return b
}

// decodeHeader reads a header; name is for the error, a *logrec.CorruptError.
func decodeHeader(name string, b []byte) (Header, error) {
	le := binary.LittleEndian
	bad := func(sentinel error, format string, args ...any) (Header, error) {
		return Header{}, &logrec.CorruptError{
			File: name, Reason: fmt.Sprintf(format, args...), Err: sentinel,
		}
	}
	switch {
	case len(b) < headerSize:
		return bad(logrec.ErrLogCorrupt, "shorter than a file header")
	case le.Uint32(b) != xor32(b[:headerSize]):
		return bad(logrec.ErrLogCorrupt, "header checksum mismatch")
	case le.Uint32(b[fileTypeOffset:]) != fileTypeLog:
		return bad(logrec.ErrLogCorrupt, "file type %d is no log", le.Uint32(b[fileTypeOffset:]))
	case le.Uint32(b[32:]) != versionMajor:
		return bad(logrec.ErrLogVersion, "major version 0x%X, this program has 0x%X: "+
			"use the one that wrote it", le.Uint32(b[32:]), versionMajor)
	case le.Uint32(b[2732:])&^knownIncompat != 0:
		return bad(logrec.ErrLogVersion, "feature bits 0x%X", le.Uint32(b[2732:]))
	case le.Uint16(b[8:]) != logrec.SectorSize || le.Uint16(b[10:]) != 1:
		return bad(logrec.ErrLogCorrupt, "sector size %d", le.Uint16(b[8:]))
	}
	h := Header{
		Gen:      le.Uint32(b[4:]),
		Bytes:    int64(le.Uint16(b[12:])) * logrec.SectorSize,
		PageSize: int(le.Uint16(b[14:])),
		Sign:     logrec.DecodeSignature(b[44:]),
		Key:      le.Uint32(b[2720:]),
		Compat:   le.Uint32(b[2724:]),
		ROCompat: le.Uint32(b[2728:]),
		Incompat: le.Uint32(b[2732:]),
		Parent:   logrec.DecodeSignature(b[2736:]),
		Fork:     logrec.LogPos(le.Uint64(b[2764:])),
	}
	copy(h.Created[:], b[16:])
	copy(h.PrevCreated[:], b[24:])
	if h.PageSize == 0 {
		h.PageSize = 4096
	}
	if h.Gen == 0 || h.Bytes < minGenerationBytes {
		return bad(logrec.ErrLogCorrupt, "generation %d of %d bytes", h.Gen, h.Bytes)
	}
	return h, nil
}

// chainStart is the crc before the first record of the file.
func (h *Header) chainStart() uint32 { return logrec.ChainStart(h.Sign, h.Gen, h.Created) }

// follows returns the sentinel of why h is not the successor of prev, or nil.
func (h *Header) follows(prev *Header) (reason string, sentinel error) {
	switch {
	case h.Gen != prev.Gen+1:
		return fmt.Sprintf("generation %d after %d", h.Gen, prev.Gen), logrec.ErrLogSequence
	case h.Sign != prev.Sign:
		return fmt.Sprintf("signature is not that of generation %d", prev.Gen), logrec.ErrLogSignature
	case h.PrevCreated != prev.Created:
		return fmt.Sprintf("generation %d before it was created at another time", prev.Gen),
			logrec.ErrLogSequence
	}
	return "", nil
}
