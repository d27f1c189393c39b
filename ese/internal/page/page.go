package page

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// No is a page number, from 1. Page n of a file starts at byte (n+1)*size; 0 means none.
type No uint32

// Offset is the page's byte offset in its file, in bytes.
func (n No) Offset(size int) int64 { return (int64(n) + 1) * int64(size) }

// ObjID is the number of a table, index or long-value tree in its database.
type ObjID uint32

// DBTime is a database's page time stamp; every change of a page takes a new one.
type DBTime uint64

// Flags of a page (docs/format-edb.md, "Page flags").
type Flags uint32

// The page flags.
const (
	FlagRoot         Flags = 0x1
	FlagLeaf         Flags = 0x2
	FlagParentOfLeaf Flags = 0x4
	FlagEmpty        Flags = 0x8
	FlagSpaceTree    Flags = 0x20
	FlagIndex        Flags = 0x40
	FlagLongValue    Flags = 0x80
	FlagNonUnique    Flags = 0x400
	FlagNewRecord    Flags = 0x800
	FlagNewChecksum  Flags = 0x2000
	flushTypeShift         = 15
	flushTypeMask    Flags = 3 << flushTypeShift
)

// NodeFlags are the three flag bits of a tag.
type NodeFlags uint8

// The node flags.
const (
	NodeVersioned  NodeFlags = 1 // a version may exist: ask the version store
	NodeDeleted    NodeFlags = 2 // deleted, physically removed later
	NodeCompressed NodeFlags = 4 // the key begins with part of the page's prefix
)

// Page is the bytes of one page.
type Page []byte

// Sizes at which the layout changes, and the largest, in bytes.
const (
	maxSmall = 8192
	maxPage  = 32768
)

// HeaderSize is the length of the page header for a page size, in bytes.
func HeaderSize(pageSize int) int {
	if pageSize <= maxSmall {
		return 40
	}
	return 80
}

func (p Page) header() int              { return HeaderSize(len(p)) }
func (p Page) u16(off int) uint16       { return binary.LittleEndian.Uint16(p[off:]) }
func (p Page) u32(off int) uint32       { return binary.LittleEndian.Uint32(p[off:]) }
func (p Page) put16(off int, v uint16)  { binary.LittleEndian.PutUint16(p[off:], v) }
func (p Page) put32(off int, v uint32)  { binary.LittleEndian.PutUint32(p[off:], v) }
func (p Page) DBTime() DBTime           { return DBTime(binary.LittleEndian.Uint64(p[8:])) }
func (p Page) SetDBTime(t DBTime)       { binary.LittleEndian.PutUint64(p[8:], uint64(t)) }
func (p Page) Prev() No                 { return No(p.u32(16)) }
func (p Page) SetPrev(n No)             { p.put32(16, uint32(n)) }
func (p Page) Next() No                 { return No(p.u32(20)) }
func (p Page) SetNext(n No)             { p.put32(20, uint32(n)) }
func (p Page) ObjID() ObjID             { return ObjID(p.u32(24)) }
func (p Page) Free() int                { return int(p.u16(28)) }
func (p Page) setFree(n int)            { p.put16(28, uint16(n)) }
func (p Page) UncommittedFree() int     { return int(p.u16(30)) }
func (p Page) SetUncommittedFree(n int) { p.put16(30, uint16(n)) }
func (p Page) micFree() int             { return int(p.u16(32)) }
func (p Page) setMicFree(n int)         { p.put16(32, uint16(n)) }
func (p Page) tags() int                { return int(p.u16(34) & 0x0fff) }
func (p Page) setTags(n int)            { p.put16(34, p.u16(34)&0xf000|uint16(n)) }
func (p Page) Flags() Flags             { return Flags(p.u32(36)) }
func (p Page) SetFlags(f Flags)         { p.put32(36, uint32(f)) }

// Leaf, Root and NonUnique are the flags asked for most.
func (p Page) Leaf() bool      { return p.Flags()&FlagLeaf != 0 }
func (p Page) Root() bool      { return p.Flags()&FlagRoot != 0 }
func (p Page) NonUnique() bool { return p.Flags()&FlagNonUnique != 0 }

// FlushType is 1, 2 or 3, another at each write to disk, so that a lost write can be told from
// the page and a flush map; 0 is not known.
func (p Page) FlushType() uint8 { return uint8(p.Flags() & flushTypeMask >> flushTypeShift) }

// SetFlushType sets the flush type.
func (p Page) SetFlushType(t uint8) {
	p.SetFlags(p.Flags()&^flushTypeMask | Flags(t)<<flushTypeShift)
}

// Init makes p an empty page with an empty tag 0. Root pages get their space header with
// SetExternal.
func Init(p Page, obj ObjID, f Flags) {
	clear(p)
	p.put32(24, uint32(obj))
	p.SetFlags(f | FlagNewRecord | FlagNewChecksum)
	p.setTags(1)
	p.setFree(len(p) - p.header() - 4)
}

// Len is the number of nodes (tags without tag 0).
func (p Page) Len() int { return p.tags() - 1 }

// tag returns the place (from the start of the page), size and flag bits of tag i.
func (p Page) tag(i int) (off, n int, f NodeFlags) {
	w := binary.LittleEndian.Uint32(p[len(p)-4*(i+1):])
	if len(p) <= maxSmall {
		return 40 + int(w>>16&0x1fff), int(w & 0x1fff), NodeFlags(w >> 29)
	}
	return p.largeTag(i, w)
}

// largeTag is tag on a page of 16 or 32 KiB, where the node itself has the flags.
func (p Page) largeTag(i int, w uint32) (off, n int, f NodeFlags) {
	off, n = p.header()+int(w>>16&0x7fff), int(w&0x7fff)
	if i > 0 && n >= 2 && off+2 <= len(p) {
		f = NodeFlags(p.u16(off) >> 13)
	}
	return off, n, f
}

// setTag writes tag i. The flags are in it on a small page only; on a large one they move with
// the node's bytes.
func (p Page) setTag(i, off, n int, f NodeFlags) {
	at := len(p) - 4*(i+1)
	p.put16(at, uint16(n))
	if len(p) > maxSmall {
		f = 0
	}
	p.put16(at+2, uint16(off-p.header())|uint16(f)<<13)
}

// External is tag 0: the space header on a root page, else the page's key prefix.
func (p Page) External() []byte {
	off, n, _ := p.tag(0)
	return p[off : off+n : off+n]
}

// prefix is the key prefix nodes may refer to.
func (p Page) prefix() []byte {
	if p.Root() {
		return nil
	}
	return p.External()
}

// keyMask leaves the size in a node's size words; large pages keep the node's flags above it.
const keyMask = 0x1fff

// Node is a decoded node. The slices lie in the page.
type Node struct {
	Prefix int    // bytes of the key taken from the page's prefix
	Suffix []byte // the rest of the key
	Data   []byte
	Flags  NodeFlags
}

// Node returns node i, from 0 to Len()-1.
func (p Page) Node(i int) Node {
	off, n, f := p.tag(i + 1)
	b := p[off : off+n : off+n]
	nd := Node{Flags: f}
	if f&NodeCompressed != 0 {
		nd.Prefix = int(binary.LittleEndian.Uint16(b) & keyMask)
		b = b[2:]
	}
	ns := int(binary.LittleEndian.Uint16(b) & keyMask)
	nd.Suffix, nd.Data = b[2:2+ns], b[2+ns:]
	return nd
}

// Row returns node i's data and flags: what a scan wants of a leaf.
func (p Page) Row(i int) (data []byte, f NodeFlags) {
	off, n, f := p.tag(i + 1)
	b := p[off : off+n : off+n]
	at := 2
	if f&NodeCompressed != 0 {
		at = 4
	}
	return b[at+int(binary.LittleEndian.Uint16(b[at-2:])&keyMask):], f
}

// AppendKey appends node i's key. In a tree of non-unique keys the data belongs to it
// (docs/format-edb.md, "Non-unique trees").
func (p Page) AppendKey(dst []byte, i int) []byte {
	nd := p.Node(i)
	dst = append(dst, p.prefix()[:nd.Prefix]...)
	dst = append(dst, nd.Suffix...)
	if p.NonUnique() && p.Leaf() {
		dst = append(dst, nd.Data...)
	}
	return dst
}

// Child is the page an internal node points at.
func (p Page) Child(i int) No {
	nd := p.Node(i)
	return No(binary.LittleEndian.Uint32(nd.Data))
}

// NodeSize is the space a node takes, its tag included, in bytes.
func NodeSize(prefix, suffix, data int) int {
	n := 4 + 2 + suffix + data
	if prefix > 0 {
		n += 2
	}
	return n
}

// HasPrefix tells whether a node may take n bytes of its key from the page's prefix.
func (p Page) HasPrefix(n int) bool { return n <= len(p.prefix()) }

// PrefixLen is how much of key the page's prefix can stand for: 0 unless it pays (over two
// bytes). key is the key without the data part.
func (p Page) PrefixLen(key []byte) int {
	n := commonPrefix(p.prefix(), key)
	if n <= 2 {
		return 0
	}
	return n
}

func commonPrefix(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// errStructure is the base of what Check reports.
var errStructure = errors.New("page structure")

// Check proves that every tag and node lies inside the page and that the sums agree
// (invariants 1 and 2). It does not look at key order: that is the tree's.
func (p Page) Check() error {
	n := p.tags()
	if n < 1 || p.header()+4*n > len(p) {
		return fmt.Errorf("%w: %d tags", errStructure, n)
	}
	mic := p.header() + p.micFree()
	if mic > len(p)-4*n {
		return fmt.Errorf("%w: used area ends at %d, tags begin at %d", errStructure, mic, len(p)-4*n)
	}
	used := 0
	for i := range n {
		off, size, _ := p.tag(i)
		if off+size > mic {
			return fmt.Errorf("%w: tag %d ends at %d, past %d", errStructure, i, off+size, mic)
		}
		used += size
		if i == 0 {
			continue
		}
		if err := p.checkNode(i, off, size); err != nil {
			return err
		}
	}
	if free := len(p) - p.header() - 4*n - used; free != p.Free() {
		return fmt.Errorf("%w: %d bytes free, header says %d", errStructure, free, p.Free())
	}
	return nil
}

func (p Page) checkNode(i, off, size int) error {
	_, _, f := p.tag(i)
	b := p[off : off+size]
	need := 2
	if f&NodeCompressed != 0 {
		need = 4
		if size < need {
			return fmt.Errorf("%w: node %d has %d bytes", errStructure, i, size)
		}
		if cb := int(binary.LittleEndian.Uint16(b) & keyMask); cb > len(p.prefix()) {
			return fmt.Errorf("%w: node %d uses %d prefix bytes of %d", errStructure, i, cb, len(p.prefix()))
		}
		b = b[2:]
	}
	if size < need {
		return fmt.Errorf("%w: node %d has %d bytes", errStructure, i, size)
	}
	ns := int(binary.LittleEndian.Uint16(b) & keyMask)
	if need+ns > size {
		return fmt.Errorf("%w: node %d: key of %d in %d bytes", errStructure, i, ns, size)
	}
	if !p.Leaf() && size-need-ns < 4 {
		return fmt.Errorf("%w: node %d has no child page", errStructure, i)
	}
	return nil
}
