package inspect

import (
	"encoding/binary"
	"errors"
	"slices"

	"pillarbox/ese/internal/page"
)

// spaceMap knows of each page who owns it and what it is used for.
type spaceMap struct {
	owner []page.ObjID // by page number; the innermost tree that owns the page
	state []pageState
}

type pageState uint8

const (
	stateNone pageState = iota
	stateUsed
	stateAvailable
)

func newSpaceMap(last page.No) *spaceMap {
	return &spaceMap{owner: make([]page.ObjID, last+1), state: make([]pageState, last+1)}
}

func (m *spaceMap) has(no page.No) bool { return no > 0 && int(no) < len(m.owner) }

func (m *spaceMap) count() (used, available int) {
	for _, s := range m.state {
		switch s {
		case stateUsed:
			used++
		case stateAvailable:
			available++
		}
	}
	return used, available
}

// spaceFlags of a space header.
const spaceMultiple = 0x1

// spaceHeader is tag 0 of the root of a tree with its own space.
type spaceHeader struct {
	primary uint32 // pages at creation
	parent  page.No
	flags   uint32
	space   uint32 // page of the OE tree, or the bitmap of a single extent
}

// parseSpaceHeader decodes the plain form and the one with tagged fields (revision 30 on).
func parseSpaceHeader(b []byte) (h spaceHeader, ok bool) {
	const size, tagSpace = 16, 1
	if len(b) > size {
		at := slices.Index(b, tagSpace)
		if at < 0 || len(b)-at-1 < size {
			return h, false
		}
		b = b[len(b)-size:]
	}
	if len(b) < size {
		return h, false
	}
	le := binary.LittleEndian
	h = spaceHeader{
		primary: le.Uint32(b), parent: page.No(le.Uint32(b[4:])), flags: le.Uint32(b[8:]),
		space: le.Uint32(b[12:]),
	}
	return h, true
}

// family is a tree with its own space, and the trees in its space.
type family struct {
	name     string
	root     page.No
	id       page.ObjID
	kind     page.Flags // the flags that all its pages have
	children []*family
	dropped  bool // its pages are nobody's, but not yet free
}

// families returns the tree of trees, from the database root on.
func (c *checker) families() *family {
	top := &family{root: rootPage, id: databaseID}
	for _, t := range c.db.tables {
		f := &family{name: t.Name, root: t.Root, id: t.ObjID}
		for i := range t.Indexes {
			if x := &t.Indexes[i]; x.Root != t.Root {
				kind := page.FlagIndex
				if x.Flags&IndexUnique == 0 {
					kind |= page.FlagNonUnique
				}
				f.children = append(f.children,
					&family{name: t.Name, root: x.Root, id: x.ObjID, kind: kind})
			}
		}
		if t.LongValueRoot != 0 {
			f.children = append(f.children, &family{
				name: t.Name, root: t.LongValueRoot, id: t.LongValueObjID, kind: page.FlagLongValue,
			})
		}
		top.children = append(top.children, f)
	}
	c.addDropped(top)
	return top
}

// droppedTable is where Pillarbox lists dropped trees that still hold their pages.
const droppedTable = "MSysPillarboxDropped"

// addDropped adds the dropped trees to the families they lie in.
func (c *checker) addDropped(top *family) {
	t := c.db.byName[droppedTable]
	if t == nil || len(t.Columns) < 3 {
		return
	}
	// Damage of the table itself is found when its rows are checked.
	_ = t.Rows(func(r Row) error {
		var v [3]uint32
		for i := range v {
			vals, err := r.Values(&t.Columns[i], 4)
			if err != nil || len(vals) != 1 || len(vals[0].Data) != 4 {
				return err
			}
			v[i] = binary.LittleEndian.Uint32(vals[0].Data)
		}
		f := &family{name: t.Name, id: page.ObjID(v[0]), root: page.No(v[1]), dropped: true}
		for _, p := range append([]*family{top}, top.children...) {
			if p.root == page.No(v[2]) {
				p.children = append(p.children, f)
			}
		}
		return nil
	})
}

// checkSpace works out the owner of every page, parents before their children.
func (c *checker) checkSpace() error {
	return c.claim(c.families(), 0, 0)
}

// claim marks what a family owns and has available, then its children.
func (c *checker) claim(f *family, parent page.ObjID, parentRoot page.No) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	c.table = f.name
	if err := c.note(c.claimOne(f, parent, parentRoot)); err != nil {
		return err
	}
	for _, child := range f.children {
		if err := c.claim(child, f.id, f.root); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) claimOne(f *family, parent page.ObjID, parentRoot page.No) error {
	p, err := c.db.Page(f.root)
	if err != nil {
		return err
	}
	if !p.Root() {
		return corruptPage(f.root, "not a root page")
	}
	h, ok := parseSpaceHeader(p.External())
	switch {
	case !ok:
		return corruptPage(f.root, "space header of %d bytes", len(p.External()))
	case h.parent != parentRoot:
		c.find(f.root, "parent is page %d, should be %d", h.parent, parentRoot)
	}
	if h.flags&spaceMultiple == 0 {
		return c.claimSingle(f, h, parent)
	}
	oe, ae := page.No(h.space), page.No(h.space)+1
	owned := c.extents(oe, "OE", func(no page.No) {
		c.own(no, parent, f.id)
		if f.dropped && c.space.has(no) {
			c.space.state[no] = stateUsed
		}
	})
	if err := c.note(owned); err != nil || f.dropped {
		return err
	}
	if !c.space.has(f.root) || c.space.owner[f.root] != f.id {
		c.find(f.root, "the root is not in the owned extents")
	}
	available := func(no page.No) { c.makeAvailable(no, f.id) }
	if err := c.note(c.extents(ae, "AE", available)); err != nil {
		return err
	}
	return errors.Join(c.splitBuffer(oe, available), c.splitBuffer(ae, available))
}

// claimSingle claims the one extent that begins with the root; free pages are in a bitmap.
func (c *checker) claimSingle(f *family, h spaceHeader, parent page.ObjID) error {
	if h.primary == 0 || h.primary > uint32(len(c.space.owner)) {
		return corruptPage(f.root, "single extent of %d pages", h.primary)
	}
	for i := range h.primary {
		no := f.root + page.No(i)
		c.own(no, parent, f.id)
		if i > 0 && i <= 32 && h.space&(1<<(i-1)) != 0 {
			c.makeAvailable(no, f.id)
		}
	}
	if h.primary <= 32 && h.space>>(h.primary-1) != 0 {
		c.find(f.root, "available pages %#x beyond the extent of %d", h.space, h.primary)
	}
	return nil
}

// extents calls fn for every page in the extents of a space tree, and checks that they are in
// order and do not overlap.
func (c *checker) extents(root page.No, kind string, fn func(page.No)) error {
	var end page.No
	pool := -1
	return c.db.walk(root, func(n node) error {
		key, own := n.key, -1
		if len(key) == 5 && key[0]&0x80 != 0 {
			// A pool of its own (revision 0x0E on): a prefix byte, then the page.
			own, key = int(key[0]), key[1:]
		}
		if len(key) != 4 || len(n.data) < 4 {
			return corruptPage(n.page, "%s entry %x = %x", kind, n.key, n.data)
		}
		if n.deleted {
			return nil
		}
		last := page.No(binary.BigEndian.Uint32(key))
		size := page.No(binary.LittleEndian.Uint32(n.data))
		if own != pool {
			pool, end = own, 0
		}
		if size > last || (size > 0 && last-size < end) || !c.space.has(last) {
			return corruptPage(n.page, "%s extent of %d pages up to %d after %d, file has %d",
				kind, size, last, end, c.db.lastPage)
		}
		end = last
		for no := last - size + 1; no <= last; no++ {
			fn(no)
		}
		return nil
	})
}

// splitBuffer calls fn for the pages that the root of a space tree keeps for its own splits:
// two extents, each its last page and its number of pages. They are in no AE.
func (c *checker) splitBuffer(root page.No, fn func(page.No)) error {
	const buffer, extent = 16, 8
	p, err := c.db.Page(root)
	if err != nil {
		return err
	}
	b := p.External()
	if len(b) > buffer {
		b = b[len(b)-buffer:] // after the tag of the newer form
	}
	for ; len(b) >= extent; b = b[extent:] {
		last := page.No(binary.LittleEndian.Uint32(b))
		size := page.No(binary.LittleEndian.Uint32(b[4:]))
		if size > last || (size > 0 && !c.space.has(last)) {
			return corruptPage(root, "split buffer of %d pages up to %d", size, last)
		}
		for no := last - size + 1; size > 0 && no <= last; no++ {
			fn(no)
		}
	}
	return nil
}

// own gives a page from its parent to a tree.
func (c *checker) own(no page.No, parent, id page.ObjID) {
	switch {
	case !c.space.has(no):
		c.find(no, "owned by object %d but not in the file", id)
		return
	case c.space.owner[no] != parent:
		c.find(no, "owned by object %d, not by its parent %d: taken by object %d",
			id, parent, c.space.owner[no])
	case c.space.state[no] == stateAvailable:
		c.find(no, "owned by object %d and available in its parent %d", id, parent)
	}
	c.space.owner[no] = id
}

// makeAvailable notes that a tree may use a page.
func (c *checker) makeAvailable(no page.No, id page.ObjID) {
	switch {
	case !c.space.has(no) || c.space.owner[no] != id:
		c.find(no, "available to object %d but not owned by it", id)
		return
	case c.space.state[no] == stateAvailable:
		c.find(no, "available twice in object %d", id)
	}
	c.space.state[no] = stateAvailable
}

// use notes that a tree has a page.
func (c *checker) use(no page.No, id page.ObjID) (first bool) {
	switch {
	case !c.space.has(no):
		c.find(no, "used by object %d but not in the file", id)
		return false
	case c.space.owner[no] != id:
		c.find(no, "used by object %d but owned by object %d", id, c.space.owner[no])
	case c.space.state[no] == stateAvailable:
		c.find(no, "used by object %d and available", id)
	}
	if c.space.state[no] == stateUsed {
		c.find(no, "used twice, again by object %d", id)
		return false
	}
	c.space.state[no] = stateUsed
	return true
}

// checkLeaks finds the pages that are neither used nor available, in runs. Pages after the
// last one owned are the file's reserve: it grows in bigger steps than the root's extents.
func (c *checker) checkLeaks() {
	c.table = ""
	end := len(c.space.owner)
	for end > 1 && c.space.owner[end-1] == 0 {
		end--
	}
	c.report.Reserve = len(c.space.owner) - end
	for i := 1; i < end; {
		from, owner := i, c.space.owner[i]
		for i < end && c.space.owner[i] == owner && c.space.state[i] == stateNone {
			i++
		}
		switch n := i - from; {
		case n == 0:
			i++
		case owner == 0:
			c.find(page.No(from), "%d pages from here owned by nobody", n)
		default:
			c.find(page.No(from), "%d pages from here leaked: owned by object %d, "+
				"neither used nor available", n, owner)
		}
	}
}
