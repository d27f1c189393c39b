package record

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrUnsupported reports a compression that this package cannot undo.
var ErrUnsupported = errors.New("unsupported compression")

// The schemes, which stand in the high five bits of the first byte.
const (
	schemeASCII7   = 1
	schemeUnicode7 = 2
	schemeXpress   = 3
)

// Decompress appends the value whose compressed form is b. Output grows only as it is
// produced, and an XPRESS value has at most 65,535 bytes.
func Decompress(dst []byte, b []byte) ([]byte, error) {
	if len(b) == 0 {
		return nil, corrupt("compressed value of 0 bytes")
	}
	switch scheme := b[0] >> 3; scheme {
	case schemeASCII7, schemeUnicode7:
		return unpack7(dst, b, scheme == schemeUnicode7), nil
	case schemeXpress:
		if len(b) < 3 {
			return nil, corrupt("compressed value of %d bytes", len(b))
		}
		return unpackLZ77(dst, b[3:], int(binary.LittleEndian.Uint16(b[1:])))
	default:
		return nil, fmt.Errorf("%w: scheme %d", ErrUnsupported, scheme)
	}
}

// unpack7 undoes the 7-bit forms: the low three bits of the first byte are the number of
// bits used in the last one, less one; characters are packed from the low bit on.
func unpack7(dst, b []byte, unicode bool) []byte {
	if len(b) < 2 {
		return dst
	}
	bitCount := (len(b)-2)*8 + int(b[0]&7) + 1
	var window uint
	held := 0
	next := 1
	for range bitCount / 7 {
		if held < 7 {
			window |= uint(b[next]) << held
			next++
			held += 8
		}
		dst = append(dst, byte(window&0x7f))
		if unicode {
			dst = append(dst, 0)
		}
		window >>= 7
		held -= 7
	}
	return dst
}

// lz77 reads a stream of MS-XCA section 2.4 (plain LZ77).
type lz77 struct {
	in []byte
	at int
	// halfAt is the place of a length byte whose high half is still to be used, or -1.
	halfAt int
}

// errEnds reports a stream that ends before the value does.
var errEnds = corrupt("compressed value ends early")

// take returns the next n bytes as a number.
func (z *lz77) take(n int) (int, error) {
	if len(z.in)-z.at < n {
		return 0, errEnds
	}
	v := 0
	for i := range n {
		v |= int(z.in[z.at+i]) << (8 * i)
	}
	z.at += n
	return v, nil
}

// unpackLZ77 appends the size bytes that a stream stands for.
func unpackLZ77(dst, in []byte, size int) ([]byte, error) {
	z := &lz77{in: in, halfAt: -1}
	start := len(dst)
	flags, flagCount := 0, 0
	for len(dst)-start < size {
		if flagCount == 0 {
			v, err := z.take(4)
			if err != nil {
				return nil, err
			}
			flags, flagCount = v, 32
		}
		flagCount--
		if flags>>flagCount&1 == 0 {
			if z.at >= len(z.in) {
				return nil, errEnds
			}
			dst = append(dst, z.in[z.at])
			z.at++
			continue
		}
		distance, length, err := z.match()
		if err != nil {
			return nil, err
		}
		if distance > len(dst)-start || length > size-(len(dst)-start) {
			return nil, corrupt("match of %d bytes, %d back, at %d of %d",
				length, distance, len(dst)-start, size)
		}
		// A match may overlap what it produces: then no more than that at a time.
		for length > 0 {
			from := len(dst) - distance
			k := min(length, distance)
			dst = append(dst, dst[from:from+k]...)
			length -= k
		}
	}
	return dst, nil
}

// match reads a distance and a length. Lengths up to 9 stand in three bits, longer ones in a
// half byte (two matches share one), a byte, 16 or 32 bits, each used when the one before is
// full.
func (z *lz77) match() (distance, length int, err error) {
	v, err := z.take(2)
	if err != nil {
		return 0, 0, err
	}
	distance, length = v>>3+1, v&7
	if length < 7 {
		return distance, length + 3, nil
	}
	half, err := z.halfByte()
	if err != nil {
		return 0, 0, err
	}
	if half < 15 {
		return distance, half + 7 + 3, nil
	}
	if length, err = z.take(1); err != nil {
		return 0, 0, err
	}
	if length < 255 {
		return distance, length + 15 + 7 + 3, nil
	}
	if length, err = z.take(2); err != nil {
		return 0, 0, err
	}
	if length == 0 {
		if length, err = z.take(4); err != nil {
			return 0, 0, err
		}
	}
	if length < 15+7 {
		return 0, 0, corrupt("match length %d in the long form", length)
	}
	return distance, length + 3, nil
}

func (z *lz77) halfByte() (int, error) {
	if z.halfAt >= 0 {
		half := int(z.in[z.halfAt] >> 4)
		z.halfAt = -1
		return half, nil
	}
	v, err := z.take(1)
	if err != nil {
		return 0, err
	}
	z.halfAt = z.at - 1
	return v & 15, nil
}
