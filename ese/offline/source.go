package offline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"pillarbox/ese/inspect"
	"pillarbox/ese/internal/dbheader"
	"pillarbox/ese/internal/page"
	"pillarbox/ese/vfs"
)

// pageInfo is what is known of a page of the damaged file.
type pageInfo struct {
	at    page.No // where its bytes are: elsewhere for one written to another's place; 0: unreadable
	obj   page.ObjID
	flags page.Flags
}

// source is a database that may be damaged anywhere.
type source struct {
	f      vfs.File
	header dbheader.Header
	size   int
	last   page.No
	info   []pageInfo // by page number
	free   []bool     // by page number: some tree has it available
	bad    []page.No  // damaged, those among them that nothing needs too
	dbtime page.DBTime
	maxObj page.ObjID
}

const kindMask = page.FlagSpaceTree | page.FlagIndex | page.FlagLongValue | page.FlagNonUnique

// openSource reads the header, or guesses it from the pages when both copies are lost.
func openSource(f vfs.File) (*source, error) {
	bytes, err := f.Size()
	if err != nil {
		return nil, err
	}
	h, _, err := dbheader.Read(f)
	if err != nil {
		size, ok := guessPageSize(f, bytes)
		if !ok {
			return nil, fmt.Errorf("%w, and no page of it is whole: there is nothing to repair", err)
		}
		h = dbheader.New(size)
	}
	s := &source{f: f, header: h, size: int(h.PageSize), dbtime: h.DBTime, maxObj: h.LastObjID}
	if n := bytes/int64(s.size) - 2; n > 0 {
		s.last = page.No(min(n, 1<<31-64))
	}
	s.info, s.free = make([]pageInfo, s.last+1), make([]bool, s.last+1)
	return s, nil
}

// guessPageSize finds the size at which the first pages are whole.
func guessPageSize(f vfs.File, length int64) (int, bool) {
	best, most := 0, 0
	for _, size := range []int{4096, 8192, 16384, 32768} {
		good, p := 0, make(page.Page, size)
		for no := page.No(1); no <= 64 && no.Offset(size)+int64(size) <= length; no++ {
			if _, err := f.ReadAt(p, no.Offset(size)); err == nil && p.Verify(no) == page.Good {
				good++
			}
		}
		if good > most {
			best, most = size, good
		}
	}
	return best, most > 0
}

// scan looks at every page. A page whose place holds something else may be found elsewhere.
func (s *source) scan(ctx context.Context, progress func(done, total int64)) error {
	p := make(page.Page, s.size)
	moved := make(map[page.No]page.No)
	for no := page.No(1); no <= s.last; no++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if no%64 == 0 {
			progress(int64(no), int64(s.last))
		}
		if _, err := s.f.ReadAt(p, no.Offset(s.size)); err != nil && !errors.Is(err, io.EOF) {
			s.bad = append(s.bad, no) // a sector that cannot be read is damage like any other
			continue
		}
		status := p.Verify(no)
		if status == page.Blank {
			continue
		}
		if status == page.Correctable && !p.Repair(no) || status == page.Bad || p.Check() != nil {
			s.bad = append(s.bad, no)
			if own, ok := p.Number(s.last); ok && p.Check() == nil {
				moved[own] = no
			}
			continue
		}
		s.note(no, no, p)
	}
	for own, at := range moved {
		if s.info[own].at == 0 {
			if _, err := s.f.ReadAt(p, at.Offset(s.size)); err == nil {
				s.note(own, at, p)
			}
		}
	}
	return nil
}

func (s *source) note(no, at page.No, p page.Page) {
	s.info[no] = pageInfo{at, p.ObjID(), p.Flags()}
	s.dbtime = max(s.dbtime, p.DBTime())
	s.maxObj = max(s.maxObj, p.ObjID())
}

// page reads a page that can be read.
func (s *source) page(no page.No) (page.Page, bool) {
	if no == 0 || no > s.last || s.info[no].at == 0 {
		return nil, false
	}
	p := make(page.Page, s.size)
	if _, err := s.f.ReadAt(p, s.info[no].at.Offset(s.size)); err != nil {
		return nil, false
	}
	if p.Verify(no) != page.Good && !p.Repair(no) || p.Check() != nil {
		return nil, false
	}
	return p, true
}

// gap is a range of keys that may have been lost: from low on, below high (nil: no limit).
type gap struct{ low, high []byte }

// leaf is a leaf of a tree with the keys it may hold.
type leaf struct {
	no          page.No
	first, last []byte // its keys; nil when it is empty
	prev, next  page.No
	dbtime      page.DBTime
	orphan      bool // nothing leads to it
}

// forest is the leaves of one tree, in order, and what is missing between them.
type forest struct {
	leaves []leaf
	gaps   []gap
	parts  []part
}

// part is a leaf or a gap, in key order.
type part struct {
	leaf *leaf
	gap  gap
}

// treeWalk collects the leaves that can be reached from a root.
type treeWalk struct {
	s       *source
	obj     page.ObjID
	kind    page.Flags
	reached map[page.No]bool
	parts   []part
}

// forest finds the leaves of a tree: those that its inner pages lead to, and in what these miss
// those that say that they belong to it.
func (s *source) forest(root page.No, obj page.ObjID, kind page.Flags) *forest {
	w := &treeWalk{s: s, obj: obj, kind: kind, reached: make(map[page.No]bool)}
	w.walk(root, 0, nil, nil)
	f := &forest{}
	for i, p := range w.parts {
		if p.leaf != nil {
			f.parts = append(f.parts, p)
			continue
		}
		if i > 0 && w.parts[i-1].leaf == nil {
			f.parts[len(f.parts)-1].gap.high = p.gap.high // one with the gap before
			continue
		}
		f.parts = append(f.parts, p)
	}
	f.parts = w.fill(f.parts)
	for _, p := range f.parts {
		if p.leaf != nil {
			f.leaves = append(f.leaves, *p.leaf)
		} else {
			f.gaps = append(f.gaps, p.gap)
		}
	}
	return f
}

const maxDepth = 16

func (w *treeWalk) walk(no page.No, depth int, low, high []byte) {
	p, ok := w.s.page(no)
	if !ok || p.ObjID() != w.obj || p.Flags()&kindMask != w.kind || depth > maxDepth ||
		w.reached[no] || p.Root() != (depth == 0) {
		w.parts = append(w.parts, part{gap: gap{low, high}})
		return
	}
	w.reached[no] = true
	if p.Leaf() {
		w.parts = append(w.parts, part{leaf: describeLeaf(no, p)})
		return
	}
	for i := range p.Len() {
		bound := p.AppendKey([]byte{}, i)
		if len(bound) == 0 {
			bound = high
		}
		w.walk(p.Child(i), depth+1, low, bound)
		low = bound
	}
}

func describeLeaf(no page.No, p page.Page) *leaf {
	l := &leaf{no: no, prev: p.Prev(), next: p.Next(), dbtime: p.DBTime()}
	if n := p.Len(); n > 0 {
		l.first, l.last = p.AppendKey([]byte{}, 0), p.AppendKey([]byte{}, n-1)
	}
	return l
}

// fill puts leaves that nothing leads to into the gaps.
func (w *treeWalk) fill(parts []part) []part {
	var orphans []*leaf
	for i := range parts {
		if parts[i].leaf == nil {
			orphans = w.orphans()
			break
		}
	}
	var out []part
	for i, p := range parts {
		if p.leaf != nil {
			out = append(out, p)
			continue
		}
		var before, after *leaf
		if i > 0 {
			before = parts[i-1].leaf
		}
		if i+1 < len(parts) {
			after = parts[i+1].leaf
		}
		out = append(out, fillGap(p.gap, before, after, orphans)...)
	}
	return out
}

// orphans are the leaves that say they belong to the tree, are not in it, and are not free. A
// freed leaf keeps its bytes: the links of its neighbours tell.
func (w *treeWalk) orphans() []*leaf {
	var out []*leaf
	for no := page.No(1); no <= w.s.last; no++ {
		i := w.s.info[no]
		if i.at == 0 || i.obj != w.obj || i.flags&kindMask != w.kind || w.reached[no] || w.s.free[no] ||
			i.flags&page.FlagLeaf == 0 || i.flags&(page.FlagRoot|page.FlagEmpty) != 0 {
			continue
		}
		p, ok := w.s.page(no)
		if !ok || p.Len() == 0 {
			continue
		}
		l := describeLeaf(no, p)
		if w.links(l) {
			l.orphan = true
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b *leaf) int { return bytes.Compare(a.first, b.first) })
	return newest(out)
}

// links tells whether the neighbours that can be read know the leaf.
func (w *treeWalk) links(l *leaf) bool {
	if p, ok := w.s.page(l.prev); ok && p.ObjID() == w.obj && p.Leaf() && p.Next() != l.no {
		return false
	}
	p, ok := w.s.page(l.next)
	return !ok || p.ObjID() != w.obj || !p.Leaf() || p.Prev() == l.no
}

// newest leaves out the older of two leaves that hold the same keys.
func newest(sorted []*leaf) []*leaf {
	var out []*leaf
	for _, l := range sorted {
		keep := true
		for len(out) > 0 && bytes.Compare(l.first, out[len(out)-1].last) <= 0 {
			if out[len(out)-1].dbtime > l.dbtime {
				keep = false
				break
			}
			out = out[:len(out)-1]
		}
		if keep {
			out = append(out, l)
		}
	}
	return out
}

// fillGap is a gap with the orphans that fit into it, and the gaps left beside them. Leaves that
// name each other as neighbours have nothing between them.
func fillGap(g gap, before, after *leaf, orphans []*leaf) []part {
	var out []part
	low, left := g.low, before
	for _, l := range orphans {
		if bytes.Compare(l.first, g.low) < 0 || g.high != nil && bytes.Compare(l.last, g.high) >= 0 {
			continue
		}
		if !adjacent(left, l, before == nil && left == nil) {
			out = append(out, part{gap: gap{low, l.first}})
		}
		out = append(out, part{leaf: l})
		left, low = l, append(bytes.Clone(l.last), 0)
	}
	switch {
	case len(out) == 0 && before != nil && after != nil && before.next == after.no:
		return nil
	case len(out) > 0 && (after != nil && adjacent(left, after, false) ||
		after == nil && g.high == nil && left.next == 0):
		return out
	}
	return append(out, part{gap: gap{low, g.high}})
}

func adjacent(left, right *leaf, first bool) bool {
	if left == nil {
		return first && right.prev == 0
	}
	return left.next == right.no && right.prev == left.no
}

// markFree notes the pages that the tree with that root has available.
func (s *source) markFree(root page.No) {
	ae := s.availableRoot(root)
	if ae == 0 {
		return
	}
	i := s.info[ae]
	w := &treeWalk{s: s, obj: i.obj, kind: i.flags & kindMask, reached: make(map[page.No]bool)}
	w.walk(ae, 0, nil, nil)
	for _, part := range w.parts {
		if part.leaf == nil {
			continue
		}
		_ = s.each(part.leaf.no, func(n node) error {
			if len(n.key) == 4 && len(n.data) >= 4 {
				last := page.No(be32(n.key))
				for i := range min(page.No(le32(n.data)), last) {
					if last-i <= s.last {
						s.free[last-i] = true
					}
				}
			}
			return nil
		})
	}
}

// availableRoot finds the tree of what a tree has available, 0 where there is none. A root that is
// lost has it two pages on, as all trees do that the engine makes.
func (s *source) availableRoot(root page.No) page.No {
	if root == 0 {
		return 0 // a table without long values
	}
	ae := root + 2
	if p, ok := s.page(root); ok {
		if !p.Root() {
			return 0
		}
		if _, ae, ok = inspect.SpaceRoots(p); !ok {
			return 0
		}
	}
	if ae > s.last || s.info[ae].at == 0 || s.info[ae].flags&page.FlagSpaceTree == 0 ||
		s.info[ae].flags&page.FlagRoot == 0 {
		return 0
	}
	return ae
}

// node is an entry of a leaf of the source. The slices are the caller's.
type node struct {
	page      page.No
	key, data []byte
}

// each calls fn for the entries of a leaf, but for deleted ones.
func (s *source) each(no page.No, fn func(node) error) error {
	p, ok := s.page(no)
	if !ok {
		return fmt.Errorf("page %d was readable before", no)
	}
	for i := range p.Len() {
		nd := p.Node(i)
		if nd.Flags&page.NodeDeleted != 0 {
			continue
		}
		key := []byte{}
		if nd.Prefix > 0 && !p.Root() {
			key = append(key, p.External()[:nd.Prefix]...)
		}
		if err := fn(node{no, append(key, nd.Suffix...), nd.Data}); err != nil {
			return err
		}
	}
	return nil
}

func be32(b []byte) uint32 {
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

func le32(b []byte) uint32 {
	return uint32(b[3])<<24 | uint32(b[2])<<16 | uint32(b[1])<<8 | uint32(b[0])
}
