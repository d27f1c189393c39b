package logrec

import (
	"fmt"
	"strconv"
	"strings"
)

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

// ParseLogPos reads what String prints, with or without the brackets and 0x.
func ParseLogPos(s string) (LogPos, error) {
	var part [3]uint64
	fields := strings.Split(strings.Trim(s, "()"), ",")
	if len(fields) != len(part) {
		return 0, fmt.Errorf("log position %q: it looks like 0x1A,2F,B3", s)
	}
	for i, bits := range []int{32, 16, 16} {
		n, err := strconv.ParseUint(strings.TrimPrefix(strings.TrimSpace(fields[i]), "0x"), 16, bits)
		if err != nil {
			return 0, fmt.Errorf("log position %q: it looks like 0x1A,2F,B3", s)
		}
		part[i] = n
	}
	return LogPos(part[0]<<32 | part[1]<<16 | part[2]), nil
}
