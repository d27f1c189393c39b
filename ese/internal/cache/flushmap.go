package cache

import (
	"sync"

	"pillarbox/ese/internal/page"
)

// flushMap knows the flush type that each page of a file has on disk: two bits a page, 0 for
// one not read or written yet. A page that comes back with another type is an older state of
// itself: its last write was lost.
type flushMap struct {
	mu   sync.Mutex
	bits []byte // page n at bits 2(n-1)
}

func flushPlace(no page.No) (i int, shift uint) {
	n := uint(no - 1)
	return int(n / 4), n % 4 * 2
}

func (m *flushMap) get(no page.No) uint8 {
	i, shift := flushPlace(no)
	m.mu.Lock()
	defer m.mu.Unlock()
	if i >= len(m.bits) {
		return 0
	}
	return m.bits[i] >> shift & 3
}

func (m *flushMap) set(no page.No, t uint8) {
	i, shift := flushPlace(no)
	m.mu.Lock()
	defer m.mu.Unlock()
	if i >= len(m.bits) {
		m.bits = append(m.bits, make([]byte, i+1-len(m.bits)+len(m.bits)/4)...)
	}
	m.bits[i] = m.bits[i]&^(3<<shift) | t<<shift
}

// next is the type for the next write of a page whose bytes show type seen.
func (m *flushMap) next(no page.No, seen uint8) uint8 {
	if t := m.get(no); t != 0 {
		seen = t
	}
	return seen%3 + 1
}

// arrived compares a page just read with its last write; a page not known is learned.
func (m *flushMap) arrived(no page.No, t uint8) bool {
	switch m.get(no) {
	case 0:
		m.set(no, t)
		return true
	case t:
		return true
	}
	return false
}

// cut forgets the pages behind n.
func (m *flushMap) cut(n page.No) {
	i, shift := flushPlace(n + 1)
	m.mu.Lock()
	defer m.mu.Unlock()
	if i < len(m.bits) {
		m.bits = m.bits[:i+1]
		m.bits[i] &= 1<<shift - 1
	}
}

// FlushMap is a copy of the flush map, four pages a byte.
func (f *File) FlushMap() []byte {
	f.flush.mu.Lock()
	defer f.flush.mu.Unlock()
	n := min((int(f.Pages())+3)/4, len(f.flush.bits))
	return append([]byte(nil), f.flush.bits[:n]...)
}

// SetFlushMap takes over what FlushMap gave when the file was closed clean.
func (f *File) SetFlushMap(bits []byte) {
	f.flush.mu.Lock()
	f.flush.bits = bits
	f.flush.mu.Unlock()
}
