package cache

import (
	"sync"

	"pillarbox/ese/internal/page"
)

// flushMap knows the flush type that each page of a file has on disk: two bits a page, 0 for
// one not read or written yet. A page that comes back with another type is an older state of
// itself: its last write was lost.
type flushMap struct {
	mu      sync.Mutex
	bits    []byte       // page n at bits 2(n-1)
	changed map[int]bool // chunks that FlushChanges has not given yet
}

// FlushChunk is the size of the pieces in which a flush map is saved, in bytes.
const FlushChunk = 16 << 10

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
	if was := m.bits[i]; was != was&^(3<<shift)|t<<shift {
		m.bits[i] = was&^(3<<shift) | t<<shift
		m.touch(i)
	}
}

// touch notes that byte i has changed.
func (m *flushMap) touch(i int) {
	if m.changed == nil {
		m.changed = make(map[int]bool)
	}
	m.changed[i/FlushChunk] = true
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
		m.touch(i)
	}
}

// FlushChanges gives the chunks of the flush map that have changed since it was last asked, the
// last one filled with zeros, and how many chunks the map has. With all set it gives every chunk.
func (f *File) FlushChanges(all bool) (chunks map[int][]byte, n int) {
	m := &f.flush
	m.mu.Lock()
	defer m.mu.Unlock()
	used := min((int(f.Pages())+3)/4, len(m.bits))
	n = (used + FlushChunk - 1) / FlushChunk
	chunks = make(map[int][]byte)
	for i := range n {
		if all || m.changed[i] {
			b := make([]byte, FlushChunk)
			copy(b, m.bits[i*FlushChunk:min((i+1)*FlushChunk, used)])
			chunks[i] = b
		}
	}
	clear(m.changed)
	return chunks, n
}

// SetFlushMap takes over a flush map that was saved.
func (f *File) SetFlushMap(bits []byte) {
	f.flush.mu.Lock()
	f.flush.bits = bits
	clear(f.flush.changed)
	f.flush.mu.Unlock()
}
