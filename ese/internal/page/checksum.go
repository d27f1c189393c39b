package page

import (
	"encoding/binary"
	"math/bits"
)

// Status is what Verify found.
type Status uint8

// The states of a page read from disk.
const (
	Good        Status = iota // the stored checksum is that of the bytes
	Blank                     // all zero: never written
	Correctable               // one flipped bit; Repair mends it
	Bad                       // more damage than the checksum can mend
)

const xorSeed = 0x89abcdef

// XOR32 is the checksum of file headers and of pages in the old form: the exclusive or of all
// 32-bit words but the first, started at 0x89abcdef (docs/format-edb.md, "Checksums").
func XOR32(b []byte) uint32 {
	x := uint32(xorSeed)
	for i := 4; i+4 <= len(b); i += 4 {
		x ^= binary.LittleEndian.Uint32(b[i:])
	}
	return x
}

// blockSum computes the XE checksum of one block without the page number: the column parity
// and the ECC word. The block's length is a power of two from 1 to 8 KiB. header leaves out
// the first eight bytes, which hold the sum itself.
//
// A bit k of p is the parity of all 32-bit rows whose index has bit k set, so the rows are
// folded by exclusive or first and parities are taken once at the end.
func blockSum(b []byte, header bool) (xor, ecc uint32) {
	var low [8]uint64    // by bits 0-2 of the 64-bit word index
	var high [128]uint64 // by the remaining bits
	groups := len(b) / 64
	for g := range groups {
		w := b[g*64 : g*64+64 : g*64+64]
		a0 := binary.LittleEndian.Uint64(w[0:])
		a1 := binary.LittleEndian.Uint64(w[8:])
		a2 := binary.LittleEndian.Uint64(w[16:])
		a3 := binary.LittleEndian.Uint64(w[24:])
		a4 := binary.LittleEndian.Uint64(w[32:])
		a5 := binary.LittleEndian.Uint64(w[40:])
		a6 := binary.LittleEndian.Uint64(w[48:])
		a7 := binary.LittleEndian.Uint64(w[56:])
		if header && g == 0 {
			a0 = 0
		}
		low[0] ^= a0
		low[1] ^= a1
		low[2] ^= a2
		low[3] ^= a3
		low[4] ^= a4
		low[5] ^= a5
		low[6] ^= a6
		low[7] ^= a7
		high[g] = a0 ^ a1 ^ a2 ^ a3 ^ a4 ^ a5 ^ a6 ^ a7
	}
	all := low[0] ^ low[1] ^ low[2] ^ low[3] ^ low[4] ^ low[5] ^ low[6] ^ low[7]
	xor = uint32(all) ^ uint32(all>>32)
	total := parity32(xor)

	// Row index bit 0 is the half of the 64-bit word; bits 1-3 its place in the group; the
	// rest the group's number.
	var p uint32
	p |= parity32(uint32(all >> 32))
	p |= parity64(low[1]^low[3]^low[5]^low[7]) << 1
	p |= parity64(low[2]^low[3]^low[6]^low[7]) << 2
	p |= parity64(low[4]^low[5]^low[6]^low[7]) << 3
	for bit, n := 0, groups; n > 1; bit, n = bit+1, n/2 {
		var x uint64
		for g := range groups {
			x ^= high[g] & -uint64(g>>bit&1)
		}
		p |= parity64(x) << (4 + bit)
	}
	rows := uint32(len(b) / 4)
	mask := rows - 1
	q := p // the complement where the number of odd rows is odd
	if total == 1 {
		q = ^p
	}
	var r uint32
	for k, m := range [5]uint32{0xaaaaaaaa, 0xcccccccc, 0xf0f0f0f0, 0xff00ff00, 0xffff0000} {
		r |= parity32(xor&m) << k
	}
	s := r
	if total == 1 {
		s = ^r
	}
	return xor, (q&mask)<<21 | (s&31)<<16 | (p&mask)<<5 | r&31
}

func parity32(x uint32) uint32 { return uint32(bits.OnesCount32(x) & 1) }
func parity64(x uint64) uint32 { return uint32(bits.OnesCount64(x) & 1) }

// blockSize is the length of the checksum blocks of a page.
func blockSize(pageSize int) int {
	switch pageSize {
	case 16384:
		return 4096
	case 32768:
		return 8192
	}
	return pageSize
}

func sumOf(b []byte, no No, header bool) uint64 {
	xor, ecc := blockSum(b, header)
	return uint64(ecc)<<32 | uint64(xor^uint32(no))
}

// sumOffset is where block i's checksum stands.
func sumOffset(i int) int {
	if i == 0 {
		return 0
	}
	return 40 + 8*(i-1)
}

// Seal writes the checksums. It is the last change before the page goes to disk.
func (p Page) Seal(no No) {
	if len(p) > maxSmall {
		p.put32(64, uint32(no))
	}
	bs := blockSize(len(p))
	for i := len(p)/bs - 1; i >= 0; i-- {
		s := sumOf(p[i*bs:(i+1)*bs], no, i == 0)
		binary.LittleEndian.PutUint64(p[sumOffset(i):], s)
	}
}

// Verify compares the stored checksums with the bytes. It changes nothing.
func (p Page) Verify(no No) Status {
	bs := blockSize(len(p))
	worst := Good
	for i := range len(p) / bs {
		stored := binary.LittleEndian.Uint64(p[sumOffset(i):])
		sum := sumOf(p[i*bs:(i+1)*bs], no, i == 0)
		if stored == sum {
			continue
		}
		if i == 0 && p.blank() {
			return Blank
		}
		st := Bad
		if _, _, ok := flippedBit(stored, sum, bs); ok {
			st = Correctable
		}
		worst = max(worst, st)
	}
	if worst == Bad && p.verifyOld(no) {
		return Good
	}
	return worst
}

// verifyOld checks the form in use before revision 0x0B: XOR and page number.
func (p Page) verifyOld(no No) bool {
	return p.Flags()&FlagNewChecksum == 0 &&
		binary.LittleEndian.Uint32(p[0:]) == XOR32(p) &&
		binary.LittleEndian.Uint32(p[4:]) == uint32(no)
}

func (p Page) blank() bool {
	for i := 0; i < len(p); i += 8 {
		if binary.LittleEndian.Uint64(p[i:]) != 0 {
			return false
		}
	}
	return true
}

// flippedBit finds the single bit that explains the difference between a stored and a
// computed checksum: a data bit (inSum false) or a bit of the stored checksum itself.
func flippedBit(stored, sum uint64, blockBytes int) (bit int, inSum, ok bool) {
	d := uint32(stored>>32) ^ uint32(sum>>32)
	x := bits.OnesCount32(uint32(stored) ^ uint32(sum))
	full := uint32(8*blockBytes - 1)
	switch {
	case x == 1 && (d>>16^d)&full == full:
		return int(d & 0xffff), false, true
	case x == 1 && d == 0: // the stored XOR was hit (engine.md rule 28)
		return bits.TrailingZeros32(uint32(stored) ^ uint32(sum)), true, true
	case x == 0 && bits.OnesCount32(d) == 1: // the stored ECC was hit
		return 32 + bits.TrailingZeros32(d), true, true
	}
	return 0, false, false
}

// Repair mends one flipped bit per block and reports whether the page is Good afterwards. The
// caller must Check the page before it trusts it. Block 0 is mended first, since it covers
// the sums of the others.
func (p Page) Repair(no No) bool {
	bs := blockSize(len(p))
	for i := range len(p) / bs {
		block := p[i*bs : (i+1)*bs]
		stored := binary.LittleEndian.Uint64(p[sumOffset(i):])
		sum := sumOf(block, no, i == 0)
		if stored == sum {
			continue
		}
		bit, inSum, ok := flippedBit(stored, sum, bs)
		switch {
		case !ok:
			return false
		case inSum:
			binary.LittleEndian.PutUint64(p[sumOffset(i):], sum)
		case bit >= 8*bs:
			return false
		default:
			block[bit/8] ^= 1 << (bit % 8)
		}
	}
	return p.Verify(no) == Good
}

// Number finds the number under which the page is whole: that of its own place for a page that
// was written to another one. last bounds it.
func (p Page) Number(last No) (No, bool) {
	block := p[:blockSize(len(p))]
	no := No(uint32(binary.LittleEndian.Uint64(p)) ^ uint32(sumOf(block, 0, true)))
	if no == 0 || no > last {
		return 0, false
	}
	return no, p.Verify(no) == Good
}
