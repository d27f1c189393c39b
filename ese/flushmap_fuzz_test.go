package ese

import (
	"encoding/binary"
	"testing"

	"pillarbox/ese/internal/dbheader"
	"pillarbox/ese/internal/logrec"
)

// Any bytes of a flush map file are refused, or are a map of the length that they say.
func FuzzFlushMap(f *testing.F) {
	good := make([]byte, flushHeader+10)
	binary.LittleEndian.PutUint32(good[4:], flushMagic)
	binary.LittleEndian.PutUint32(good[8:], 8192)
	binary.LittleEndian.PutUint32(good[12:], 10)
	binary.LittleEndian.PutUint32(good, flushSum(good))
	f.Add(good)
	f.Add([]byte{})
	h := dbheader.New(8192)
	f.Fuzz(func(t *testing.T, b []byte) {
		bits, ok := decodeFlushMap(b, &h, logrec.Signature{})
		if ok && len(bits) != len(b)-flushHeader {
			t.Fatalf("%d bytes of map in a file of %d", len(bits), len(b))
		}
	})
}
