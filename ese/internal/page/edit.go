package page

import (
	"encoding/binary"
	"sync"
)

// Room is the number of bytes an insert may use: free space less what a rollback may need
// again.
func (p Page) Room() int { return p.Free() - p.UncommittedFree() }

// Insert puts a node at index i. The caller has made sure of NodeSize bytes in Free.
func (p Page) Insert(i int, f NodeFlags, prefix int, suffix, data []byte) {
	f &^= NodeCompressed
	n := 2 + len(suffix) + len(data)
	if prefix > 0 {
		f |= NodeCompressed
		n += 2
	}
	off := p.alloc(n, 4)
	tags := p.tags()
	// Tags i+1.. move one place down.
	from, to := len(p)-4*tags, len(p)-4*(i+1)
	copy(p[from-4:to-4], p[from:to])
	p.setTags(tags + 1)
	p.setTag(i+1, off, n, f)
	p.setFree(p.Free() - n - 4)
	b := p[off : off+n]
	if prefix > 0 {
		binary.LittleEndian.PutUint16(b, uint16(prefix))
		b = b[2:]
	}
	binary.LittleEndian.PutUint16(b, uint16(len(suffix)))
	copy(b[2:], suffix)
	copy(b[2+len(suffix):], data)
	if len(p) > maxSmall {
		p.flagNode(off, f)
	}
}

// flagNode writes the flags of the node at off on a large page: above the size in its first
// word.
func (p Page) flagNode(off int, f NodeFlags) { p.put16(off, p.u16(off)&keyMask|uint16(f)<<13) }

// Replace gives node i new data. The caller has made sure of the room for growth in Free.
func (p Page) Replace(i int, data []byte) {
	off, n, f := p.tag(i + 1)
	nd := p.Node(i)
	head := n - len(nd.Data)
	grow := len(data) - len(nd.Data)
	if grow <= 0 {
		copy(p[off+head:], data)
		p.setTag(i+1, off, n+grow, f)
		if off+n == p.header()+p.micFree() {
			p.setMicFree(p.micFree() + grow)
		}
		p.setFree(p.Free() - grow)
		return
	}
	// The node moves to the end of the used area; its old place becomes a hole.
	var buf [4 + maxKey]byte
	keep := append(buf[:0], p[off:off+head]...)
	p.setTag(i+1, p.header(), 0, f)
	p.setFree(p.Free() + n)
	off = p.alloc(head+len(data), 0)
	p.setTag(i+1, off, head+len(data), f)
	copy(p[off:], keep)
	copy(p[off+head:], data)
	p.setFree(p.Free() - head - len(data))
}

// maxKey is the longest key part of a node that our own trees have; a longer one costs memory.
const maxKey = 2000 + 256

// Delete removes node i.
func (p Page) Delete(i int) {
	off, n, _ := p.tag(i + 1)
	tags := p.tags()
	from, to := len(p)-4*tags, len(p)-4*(i+2)
	copy(p[from+4:to+4], p[from:to])
	p.setTags(tags - 1)
	p.setFree(p.Free() + n + 4)
	if off+n == p.header()+p.micFree() {
		p.setMicFree(p.micFree() - n)
	}
}

// Truncate removes the nodes from index i on.
func (p Page) Truncate(i int) {
	for n := p.Len() - 1; n >= i; n-- {
		p.Delete(n)
	}
	p.compact()
}

// SetNodeFlags changes node i's versioned and deleted flags.
func (p Page) SetNodeFlags(i int, f NodeFlags) {
	off, n, old := p.tag(i + 1)
	f = f&^NodeCompressed | old&NodeCompressed
	if len(p) > maxSmall {
		p.flagNode(off, f)
		return
	}
	p.setTag(i+1, off, n, f)
}

// SetExternal replaces tag 0. The nodes must not depend on the old prefix.
func (p Page) SetExternal(b []byte) {
	_, n, _ := p.tag(0)
	p.setTag(0, p.header(), 0, 0)
	p.setFree(p.Free() + n)
	off := p.alloc(len(b), 0)
	p.setTag(0, off, len(b), 0)
	copy(p[off:], b)
	p.setFree(p.Free() - len(b))
}

// alloc finds n contiguous bytes, with extra bytes left for a tag, closing holes when needed.
func (p Page) alloc(n, extra int) int {
	if p.header()+p.micFree()+n+extra > len(p)-4*p.tags() {
		p.compact()
	}
	off := p.header() + p.micFree()
	if off+n+extra > len(p)-4*p.tags() {
		panic("page: no room: the caller did not ask Free")
	}
	p.setMicFree(p.micFree() + n)
	return off
}

var scratch = sync.Pool{New: func() any { return new([maxPage]byte) }}

// compact closes the holes between nodes.
func (p Page) compact() {
	buf := scratch.Get().(*[maxPage]byte)
	n := 0
	for i := range p.tags() {
		off, size, f := p.tag(i)
		copy(buf[n:], p[off:off+size])
		p.setTag(i, p.header()+n, size, f)
		n += size
	}
	copy(p[p.header():], buf[:n])
	p.setMicFree(n)
	scratch.Put(buf)
}
