package page

import "bytes"

// Search finds the first node whose key is at or above key. exact tells that it is equal. In
// a non-unique leaf the key goes on in the node's data, and key must hold both parts.
func (p Page) Search(key []byte) (i int, exact bool) {
	s := p.searcher(key)
	lo, hi := 0, p.Len()
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		c := s.compare(mid)
		if c == 0 {
			return mid, true
		}
		if c < 0 {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo, false
}

// SearchChild finds the node of an internal page whose child holds key: the first whose
// separator is above it. The last node is above everything.
func (p Page) SearchChild(key []byte) int { return p.SearchChildIn(key, 0, p.Len()-1) }

// SearchChildIn is SearchChild where the answer is known to lie in lo..hi.
func (p Page) SearchChildIn(key []byte, lo, hi int) int {
	s := p.searcher(key)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if s.compare(mid) < 0 {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}

// SearchChildBelowIn finds the node of an internal page whose child holds the keys just below
// key, the first whose separator is at or above it, where the answer lies in lo..hi.
func (p Page) SearchChildBelowIn(key []byte, lo, hi int) int {
	s := p.searcher(key)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if s.compare(mid) <= 0 {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}

// searcher compares one key with many nodes; what it shares with the page's prefix is worked
// out once.
type searcher struct {
	p      Page
	key    []byte
	prefix []byte
	shared int
	joined bool // the data belongs to the key
}

func (p Page) searcher(key []byte) searcher {
	pre := p.prefix()
	return searcher{
		p: p, key: key, prefix: pre, shared: commonPrefix(pre, key),
		joined: p.NonUnique() && p.Leaf(),
	}
}

// compare orders the key against node i's: negative when it lies before.
func (s *searcher) compare(i int) int {
	nd := s.p.Node(i)
	if nd.Prefix > s.shared {
		if s.shared == len(s.key) {
			return -1
		}
		return int(s.key[s.shared]) - int(s.prefix[s.shared])
	}
	rest := s.key[nd.Prefix:]
	if !s.joined {
		return bytes.Compare(rest, nd.Suffix)
	}
	if len(rest) <= len(nd.Suffix) {
		if c := bytes.Compare(rest, nd.Suffix[:len(rest)]); c != 0 {
			return c
		}
		if len(rest) == len(nd.Suffix) && len(nd.Data) == 0 {
			return 0
		}
		return -1
	}
	if c := bytes.Compare(rest[:len(nd.Suffix)], nd.Suffix); c != 0 {
		return c
	}
	return bytes.Compare(rest[len(nd.Suffix):], nd.Data)
}
