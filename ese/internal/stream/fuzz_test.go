package stream

import (
	"bytes"
	"testing"
)

// Any bytes of a run are refused, or give the payload that was sealed.
func FuzzRun(f *testing.F) {
	for _, n := range []int{0, 1, 100, MaxPayload} {
		b := make([]byte, HeaderSize+n)
		seal(b, 7)
		f.Add(b, uint64(7), n)
	}
	f.Fuzz(func(t *testing.T, b []byte, id uint64, want int) {
		payload, reason := open(b, id, want)
		if reason != "" {
			return
		}
		if len(payload) != want {
			t.Fatalf("%d bytes, want %d", len(payload), want)
		}
		again := make([]byte, HeaderSize+want)
		copy(again[HeaderSize:], payload)
		seal(again, id)
		if !bytes.Equal(again[:HeaderSize], b[:HeaderSize]) {
			t.Fatalf("header %x is taken for %x", b[:HeaderSize], again[:HeaderSize])
		}
	})
}
