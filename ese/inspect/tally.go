package inspect

import (
	"crypto/sha256"
	"encoding/binary"
)

// tally is a sum over a set in which order does not count: two sets with the same tally are
// the same set (but for a chance of 2^-128). It lets the checker compare the entries of an
// index with the rows without keeping either.
type tally struct {
	n    int64
	a, b uint64
}

// add counts an element, which is made of parts, a number of times.
func (t *tally) add(times uint64, parts ...[]byte) {
	h := sha256.New()
	var size [8]byte
	for _, p := range parts {
		binary.LittleEndian.PutUint64(size[:], uint64(len(p)))
		_, _ = h.Write(size[:])
		_, _ = h.Write(p)
	}
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	t.n += int64(times)
	t.a += times * binary.LittleEndian.Uint64(sum[0:])
	t.b += times * binary.LittleEndian.Uint64(sum[8:])
}
