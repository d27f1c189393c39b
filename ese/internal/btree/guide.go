package btree

import (
	"bytes"
	"encoding/binary"

	"pillarbox/ese/internal/page"
)

// guide finds the child for a key on an internal page with few reads of memory: it has the
// first bytes of all separators in a row, where the page has them anywhere.
type guide struct {
	shared []byte   // what all separators begin with
	heads  []uint64 // the eight bytes behind it, of every separator but the last, empty one
}

// make fills the guide from a page, which must not change.
func (g *guide) make(p page.Page) {
	n := p.Len() - 1
	if n < 1 {
		return
	}
	first, last := p.AppendKey(nil, 0), p.AppendKey(nil, n-1)
	g.shared = first[:shared(first, last)]
	g.heads = make([]uint64, n)
	key := last
	for i := range g.heads {
		key = p.AppendKey(key[:0], i)
		g.heads[i] = head(key[min(len(g.shared), len(key)):])
	}
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

// child finds the node whose child holds key: the first whose separator is above it.
func (g *guide) child(p page.Page, key []byte) int {
	lo, hi := g.span(key)
	if lo == hi {
		return lo
	}
	return p.SearchChildIn(key, lo, hi)
}

// childBelow finds the node whose child holds the keys just below key.
func (g *guide) childBelow(p page.Page, key []byte) int {
	lo, hi := g.span(key)
	if lo == hi {
		return lo
	}
	return p.SearchChildBelowIn(key, lo, hi)
}
