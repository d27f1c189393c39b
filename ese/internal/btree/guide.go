package btree

import (
	"bytes"
	"encoding/binary"
)

// guide narrows a search among the separators of an internal page down to those that agree
// with the key in their first bytes, which it has in a row: few reads of memory for a page.
type guide struct {
	shared []byte   // what all separators begin with
	heads  []uint64 // the eight bytes behind it of each
}

// make fills the guide for the separators of in.
func (g *guide) make(in *inner) {
	n := len(in.ends)
	g.heads = make([]uint64, n, cap(in.ends))
	if n == 0 {
		return
	}
	first, last := in.sep(0), in.sep(n-1)
	g.shared = first[:shared(first, last)]
	for i := range g.heads {
		key := in.sep(i)
		g.heads[i] = head(key[min(len(g.shared), len(key)):])
	}
}

// insert is the guide with one more separator, which begins with what all share, at place i.
func (g *guide) insert(i int, sep []byte, room int) guide {
	heads := append(make([]uint64, 0, room), g.heads[:i]...)
	heads = append(heads, head(sep[len(g.shared):]))
	return guide{g.shared, append(heads, g.heads[i:]...)}
}

// head is the first eight bytes as a number; two keys whose heads differ are in the order of
// their heads.
func head(b []byte) uint64 {
	if len(b) >= 8 {
		return binary.BigEndian.Uint64(b)
	}
	var x [8]byte
	copy(x[:], b)
	return binary.BigEndian.Uint64(x[:])
}

// span finds the separators whose heads equal the key's: those before lo lie before the key,
// those from hi on behind it.
func (g *guide) span(key []byte) (lo, hi int) {
	n := len(g.heads)
	if !bytes.HasPrefix(key, g.shared) {
		if bytes.Compare(key, g.shared) < 0 {
			return 0, 0
		}
		return n, n
	}
	h := head(key[len(g.shared):])
	lo, hi = 0, n
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if g.heads[mid] < h {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	for hi < n && g.heads[hi] == h {
		hi++
	}
	return lo, hi
}

// child finds the child that holds key: the one before the first separator above it.
func (in *inner) child(key []byte) int {
	lo, hi := in.guide.span(key)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if bytes.Compare(key, in.sep(mid)) < 0 {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}

// childBelow finds the child that holds the keys just below key: the one before the first
// separator at or above it.
func (in *inner) childBelow(key []byte) int {
	lo, hi := in.guide.span(key)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if bytes.Compare(key, in.sep(mid)) <= 0 {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}
