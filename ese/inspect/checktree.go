package inspect

import (
	"bytes"
	"encoding/binary"
	"slices"

	"pillarbox/ese/internal/page"
)

// treeCheck is the check of one B-tree.
type treeCheck struct {
	*checker
	root   page.No
	id     page.ObjID
	kind   page.Flags  // the flags that all pages of the tree share
	depth  int         // of the leaves, 0 until the first
	last   []byte      // the last key seen in a leaf
	any    bool        // whether there was one
	leaf   page.No     // the last leaf seen
	nextTo page.No     // its right sibling
	tags   [][2]uint16 // of the page being checked: start and size
}

const kindMask = page.FlagSpaceTree | page.FlagIndex | page.FlagLongValue | page.FlagNonUnique

// checkTrees checks every tree and then looks for leaked pages.
func (c *checker) checkTrees() error {
	var run func(f *family) error
	run = func(f *family) error {
		c.table = f.name
		if f.dropped {
			return nil
		}
		if err := c.checkFamily(f); err != nil {
			return err
		}
		for _, child := range f.children {
			if err := run(child); err != nil {
				return err
			}
		}
		return nil
	}
	if err := run(c.families()); err != nil {
		return err
	}
	c.checkLeaks()
	return nil
}

// checkFamily checks a tree and its two space trees.
func (c *checker) checkFamily(f *family) error {
	p, err := c.db.Page(f.root)
	if err != nil {
		return c.note(err)
	}
	if err := c.checkTree(f.root, f.id, f.kind); err != nil {
		return err
	}
	h, ok := parseSpaceHeader(p.External())
	if !ok || h.flags&spaceMultiple == 0 {
		return nil
	}
	for _, root := range []page.No{page.No(h.space), page.No(h.space) + 1} {
		if err := c.checkTree(root, f.id, f.kind&^page.FlagNonUnique|page.FlagSpaceTree); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) checkTree(root page.No, id page.ObjID, kind page.Flags) error {
	t := &treeCheck{checker: c, root: root, id: id, kind: kind}
	if err := t.page(root, 1, nil, nil); err != nil {
		return c.note(err)
	}
	if t.nextTo != 0 {
		c.find(t.leaf, "last leaf has a right sibling, page %d", t.nextTo)
	}
	return nil
}

// page checks one page and what is below it. Keys are not below low and below high; nil is
// no limit.
func (t *treeCheck) page(no page.No, depth int, low, high []byte) error {
	if err := t.ctx.Err(); err != nil {
		return err
	}
	if !t.use(no, t.id) {
		return nil // a second visit could be a circle
	}
	t.step()
	p, err := t.db.Page(no)
	if err != nil {
		return t.note(err)
	}
	t.checkHeader(no, p)
	if depth > maxDepth {
		return corruptPage(no, "depth %d", depth)
	}
	if p.Leaf() {
		t.checkLeaf(no, p, depth, low, high)
		return nil
	}
	return t.checkInner(no, p, depth, low, high)
}

func (t *treeCheck) checkHeader(no page.No, p page.Page) {
	switch {
	case p.ObjID() != t.id:
		t.find(no, "object id %d, should be %d", p.ObjID(), t.id)
	case p.Flags()&kindMask != t.kind:
		t.find(no, "flags %#x do not have the tree's kind %#x", p.Flags(), t.kind)
	case p.Root() != (no == t.root):
		t.find(no, "flags %#x: root flag is wrong", p.Flags())
	case p.Leaf() && p.Flags()&page.FlagParentOfLeaf != 0:
		t.find(no, "flags %#x: both leaf and parent of leaves", p.Flags())
	case p.Flags()&page.FlagEmpty != 0:
		t.find(no, "flags %#x: an empty page is in the tree", p.Flags())
	case p.Len() == 0 && no != t.root && !p.Leaf():
		// An empty leaf is whole: it waits for its merge.
		t.find(no, "no nodes")
	}
	if p.DBTime() > t.db.Header.DBTime {
		t.find(no, "dbtime %d is above the header's %d", p.DBTime(), t.db.Header.DBTime)
	}
	t.checkTags(no, p)
	t.report.HighestDBTime = max(t.report.HighestDBTime, p.DBTime())
}

// checkTags proves that no two tags share a byte. It reads the tag array itself, apart from
// the code that wrote it.
func (t *treeCheck) checkTags(no page.No, p page.Page) {
	mask := uint16(0x1fff)
	if t.db.LargePages() {
		mask = 0x7fff
	}
	t.tags = t.tags[:0]
	for i := range p.Len() + 1 {
		b := p[len(p)-4*(i+1):]
		size := binary.LittleEndian.Uint16(b) & mask
		start := binary.LittleEndian.Uint16(b[2:]) & mask
		if size > 0 {
			t.tags = append(t.tags, [2]uint16{start, size})
		}
	}
	slices.SortFunc(t.tags, func(a, b [2]uint16) int { return int(a[0]) - int(b[0]) })
	end := 0
	for _, tag := range t.tags {
		if int(tag[0]) < end {
			t.find(no, "tags overlap at byte %d", tag[0])
			return
		}
		end = int(tag[0]) + int(tag[1])
	}
}

// checkInner checks an internal page and goes down.
func (t *treeCheck) checkInner(no page.No, p page.Page, depth int, low, high []byte) error {
	parentOfLeaf := p.Flags()&page.FlagParentOfLeaf != 0
	for i := range p.Len() {
		nd := p.Node(i)
		key := nodeKey(nil, p, nd)
		bound := key
		switch last := i == p.Len()-1; {
		case len(key) == 0 && !last:
			t.find(no, "node %d has no key and is not the last", i)
			return nil
		case len(key) == 0:
			bound = high
		case last:
			t.find(no, "the last node has a key")
		}
		if len(key) > 0 {
			if bytes.Compare(key, low) <= 0 && low != nil {
				t.find(no, "separator %d, %x, is not above %x", i, key, low)
			}
			if high != nil && bytes.Compare(key, high) > 0 {
				t.find(no, "separator %d, %x, is above the parent's %x", i, key, high)
			}
		}
		child := p.Child(i)
		if cp, err := t.db.Page(child); err == nil && cp.Leaf() != parentOfLeaf {
			t.find(no, "parent-of-leaf flag is wrong for page %d", child)
		}
		if err := t.page(child, depth+1, low, bound); err != nil {
			return err
		}
		low = bound
	}
	return nil
}

// checkLeaf checks the order of keys and the links to the siblings.
func (t *treeCheck) checkLeaf(no page.No, p page.Page, depth int, low, high []byte) {
	switch {
	case t.depth == 0:
		t.depth = depth
		if p.Prev() != 0 {
			t.find(no, "first leaf has a left sibling, page %d", p.Prev())
		}
	case depth != t.depth:
		t.find(no, "leaf at depth %d, others at %d", depth, t.depth)
	default:
		if t.nextTo != no {
			t.find(t.leaf, "right sibling is page %d, should be %d", t.nextTo, no)
		}
		if p.Prev() != t.leaf {
			t.find(no, "left sibling is page %d, should be %d", p.Prev(), t.leaf)
		}
	}
	t.leaf, t.nextTo = no, p.Next()
	for i := range p.Len() {
		key := p.AppendKey(nil, i)
		if t.any && bytes.Compare(key, t.last) <= 0 {
			t.find(no, "node %d: key %x after %x", i, key, t.last)
		}
		if bytes.Compare(key, low) < 0 {
			t.find(no, "node %d: key %x is below the separator %x", i, key, low)
		}
		if high != nil && bytes.Compare(key, high) >= 0 {
			t.find(no, "node %d: key %x is not below the separator %x", i, key, high)
		}
		t.last, t.any = key, true
	}
}
