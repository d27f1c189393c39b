package logrec

import "fmt"

// SectorSize is the unit of LogPos, in bytes.
const SectorSize = 4096

// LogPos is a position in a log stream: generation, sector of 4,096 bytes in its file, byte in
// the sector (docs/format-log.md, "Positions"). Positions compare as integers. 0 means none.
type LogPos uint64

// MakePos makes a LogPos from a generation and a byte offset in its file.
func MakePos(gen uint32, offset int64) LogPos {
	return LogPos(uint64(gen)<<32 | uint64(offset/SectorSize)<<16 | uint64(offset%SectorSize))
}

// Generation is the number of the log file, from 1.
func (p LogPos) Generation() uint32 { return uint32(p >> 32) }

// Sector is the sector in the file; the header is sector 0.
func (p LogPos) Sector() uint16 { return uint16(p >> 16) }

// Byte is the byte in the sector.
func (p LogPos) Byte() uint16 { return uint16(p) }

// Offset is the byte offset in the file.
func (p LogPos) Offset() int64 { return int64(p.Sector())*SectorSize + int64(p.Byte()) }

// String prints as eseutil does: (0xGEN,SEC,BYTE) in hexadecimal.
func (p LogPos) String() string {
	return fmt.Sprintf("(0x%X,%X,%X)", p.Generation(), p.Sector(), p.Byte())
}
