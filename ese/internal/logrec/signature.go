package logrec

import (
	"encoding/binary"
	"time"
)

// LogTime is a time as headers keep it, in milliseconds (docs/format-log.md, "File header").
type LogTime [8]byte

// MakeLogTime makes a LogTime, in UTC. The zero time makes the zero LogTime.
func MakeLogTime(t time.Time) LogTime {
	if t.IsZero() {
		return LogTime{}
	}
	t = t.UTC()
	ms := t.Nanosecond() / 1e6
	return LogTime{
		byte(t.Second()), byte(t.Minute()), byte(t.Hour()),
		byte(t.Day()), byte(t.Month()), byte(t.Year() - 1900),
		byte(ms&0x7f)<<1 | 1, byte(ms>>7) << 1,
	}
}

// IsZero reports whether no time was set.
func (t LogTime) IsZero() bool { return t == LogTime{} }

// Time is the time; the zero time when none was set. Headers of other programs may hold local
// time, which is returned as if it were UTC, since nothing tells the zone.
func (t LogTime) Time() time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	ms := int(t[6]>>1) | int(t[7]>>1&7)<<7
	return time.Date(int(t[5])+1900, time.Month(t[4]), int(t[3]), int(t[2]), int(t[1]), int(t[0]),
		ms*1e6, time.UTC)
}

// SignatureSize is the encoded size of a Signature.
const SignatureSize = 28

// Signature is the identity of a log stream or of a database: random, time and computer name.
type Signature struct {
	Random   uint32
	Created  LogTime
	Computer [16]byte
}

// NewSignature makes a signature; a longer computer name is cut.
func NewSignature(random uint32, now time.Time, computer string) Signature {
	s := Signature{Random: random, Created: MakeLogTime(now)}
	copy(s.Computer[:], computer)
	return s
}

// IsZero reports whether the signature is unset.
func (s Signature) IsZero() bool { return s == Signature{} }

// Encode writes the signature to the first SignatureSize bytes of b.
func (s Signature) Encode(b []byte) {
	binary.LittleEndian.PutUint32(b, s.Random)
	copy(b[4:12], s.Created[:])
	copy(b[12:SignatureSize], s.Computer[:])
}

// DecodeSignature reads a signature from the first SignatureSize bytes of b.
func DecodeSignature(b []byte) Signature {
	var s Signature
	s.Random = binary.LittleEndian.Uint32(b)
	copy(s.Created[:], b[4:12])
	copy(s.Computer[:], b[12:SignatureSize])
	return s
}
