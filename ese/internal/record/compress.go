package record

import (
	"encoding/binary"
	"math/bits"
)

// minXpress is the smallest value that XPRESS is tried on (JET_paramMinDataForXpress).
const minXpress = 1024

// maxXpress is the largest: the size has 16 bits.
const maxXpress = 1<<16 - 1

// Compressor makes the compressed forms that Decompress reads. It keeps the memory of one
// call for the next, and is for one goroutine. The zero Compressor is ready.
type Compressor struct {
	heads [1 << lzHashBits]uint16 // the last place of a hash, one more; 0: none
	links [lzWindow]uint16        // the place before with the same hash, by place
}

// Compress appends the smallest compressed form of b to dst. ok is false, and dst as it was,
// where none is smaller than b.
func (c *Compressor) Compress(dst, b []byte) (out []byte, ok bool) {
	scheme, size := plan7(b)
	if len(b) >= minXpress && len(b) <= maxXpress {
		if out, ok := c.packLZ77(dst, b, min(size, len(b))); ok {
			return out, true
		}
	}
	if size >= len(b) {
		return dst, false
	}
	return pack7(dst, b, scheme), true
}

// plan7 tells which 7-bit form takes a value, and the size of that: above every value's when
// none does.
func plan7(b []byte) (scheme byte, size int) {
	var seen uint64 // all bits that are set anywhere, at even and odd places
	rest := b
	for ; len(rest) >= 8; rest = rest[8:] {
		if seen |= binary.LittleEndian.Uint64(rest); seen&0x8080808080808080 != 0 {
			return 0, len(b) + 1
		}
	}
	var last [8]byte
	copy(last[:], rest)
	seen |= binary.LittleEndian.Uint64(last[:])
	switch {
	case seen&0x8080808080808080 != 0 || len(b) == 0:
		return 0, len(b) + 1
	case seen&0xff00ff00ff00ff00 == 0 && len(b)%2 == 0:
		return schemeUnicode7, 1 + (len(b)/2*7+7)/8
	}
	return schemeASCII7, 1 + (len(b)*7+7)/8
}

// pack7 appends a value in a 7-bit form (see unpack7).
func pack7(dst, b []byte, scheme byte) []byte {
	step := 1
	if scheme == schemeUnicode7 {
		step = 2
	}
	used := (len(b)/step*7 + 7) % 8
	dst = append(dst, scheme<<3|byte(used))
	var window uint64
	held := 0
	for i := 0; i < len(b); i += step {
		window |= uint64(b[i]) << held
		if held += 7; held == 56 {
			dst = append(dst, byte(window), byte(window>>8), byte(window>>16), byte(window>>24),
				byte(window>>32), byte(window>>40), byte(window>>48))
			window, held = 0, 0
		}
	}
	for ; held > 0; held -= 8 {
		dst = append(dst, byte(window))
		window >>= 8
	}
	return dst
}

const (
	lzWindow   = 1 << 13 // the farthest match
	lzHashBits = 12
	lzMinMatch = 3
	lzTries    = 8  // earlier places that are compared
	lzGood     = 32 // a match of this length is taken without comparing others
)

// lzWriter writes a plain LZ77 stream. It is the counterpart of lz77.
type lzWriter struct {
	out     []byte
	flags   uint32
	count   int // flags in it
	flagsAt int // where they go
	halfAt  int // a length byte with a free high half, or -1
}

// packLZ77 appends the XPRESS form of b when it is smaller than limit.
func (c *Compressor) packLZ77(dst, b []byte, limit int) (out []byte, ok bool) {
	clear(c.heads[:])
	w := lzWriter{out: append(dst, schemeXpress<<3, byte(len(b)), byte(len(b)>>8)), halfAt: -1}
	w.reserve()
	full := len(dst) + limit
	at, missed := 0, 0
	for at < len(b) {
		if len(w.out) >= full {
			return dst, false
		}
		length, distance := 0, 0
		if at+4 <= len(b) {
			length, distance = c.find(b, at)
		}
		if length < lzMinMatch {
			w.literal(b[at])
			at++
			// Where nothing matches, fewer and fewer places are tried.
			for range missed >> 6 {
				if at < len(b) {
					w.literal(b[at])
					at++
				}
			}
			missed++
			continue
		}
		missed = 0
		w.match(length, distance)
		end := at + length
		for at++; at < end && at+4 <= len(b); at++ {
			c.enter(b, at)
		}
		at = end
	}
	w.finish()
	if len(w.out) >= full {
		return dst, false
	}
	return w.out, true
}

func lzHash(b []byte, at int) uint32 {
	v := binary.LittleEndian.Uint32(b[at:]) << 8 // three bytes
	return v * 0x9e3779b1 >> (32 - lzHashBits)
}

// enter notes a place, and returns the one before with the same hash, one more.
func (c *Compressor) enter(b []byte, at int) uint16 {
	h := lzHash(b, at)
	before := c.heads[h]
	c.links[at%lzWindow] = before
	c.heads[h] = uint16(at + 1)
	return before
}

// find looks for the longest match of what begins at a place, and notes the place.
func (c *Compressor) find(b []byte, at int) (length, distance int) {
	next := c.enter(b, at)
	for range lzTries {
		from := int(next) - 1
		if from < 0 || at-from >= lzWindow {
			break
		}
		if at+length < len(b) && b[from+length] == b[at+length] {
			if n := common(b[from:], b[at:]); n > length {
				length, distance = n, at-from
				if n >= lzGood {
					break
				}
			}
		}
		next = c.links[from%lzWindow]
	}
	return length, distance
}

// common is how many bytes b has at its beginning that are a's, which is longer.
func common(a, b []byte) int {
	n := 0
	for ; len(b)-n >= 8; n += 8 {
		if x := binary.LittleEndian.Uint64(a[n:]) ^ binary.LittleEndian.Uint64(b[n:]); x != 0 {
			return n + bits.TrailingZeros64(x)/8
		}
	}
	for n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// reserve makes room for the next 32 flags.
func (w *lzWriter) reserve() {
	w.flags, w.count, w.flagsAt = 0, 0, len(w.out)
	w.out = append(w.out, 0, 0, 0, 0)
}

// flag notes whether a match was written; when 32 are known their room is filled.
func (w *lzWriter) flag(match uint32) {
	w.flags = w.flags<<1 | match
	if w.count++; w.count == 32 {
		binary.LittleEndian.PutUint32(w.out[w.flagsAt:], w.flags)
		w.reserve()
	}
}

func (w *lzWriter) literal(v byte) {
	w.out = append(w.out, v)
	w.flag(0)
}

// match writes a distance and a length (see lz77.match).
func (w *lzWriter) match(length, distance int) {
	length -= lzMinMatch
	w.out = binary.LittleEndian.AppendUint16(w.out, uint16((distance-1)<<3|min(length, 7)))
	if length >= 7 {
		half := byte(min(length-7, 15))
		if w.halfAt >= 0 {
			w.out[w.halfAt] |= half << 4
			w.halfAt = -1
		} else {
			w.halfAt = len(w.out)
			w.out = append(w.out, half)
		}
		switch {
		case half < 15:
		case length-7-15 < 255:
			w.out = append(w.out, byte(length-7-15))
		default: // below 1<<16: the value is
			w.out = append(w.out, 255, byte(length), byte(length>>8))
		}
	}
	w.flag(1)
}

// finish fills the last flags. Those that are left are 1, which tells a reader that does not
// know the size that the stream ends.
func (w *lzWriter) finish() {
	left := 32 - w.count
	binary.LittleEndian.PutUint32(w.out[w.flagsAt:], uint32(uint64(w.flags)<<left|(1<<left-1)))
}
