package offline

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"pillarbox/ese/internal/page"
	"pillarbox/ese/vfs"
)

// The fixed places of every database (docs/format-edb.md, "Fresh database").
const (
	rootPage    page.No    = 1
	catalogPage page.No    = 4
	shadowPage  page.No    = 24
	databaseID  page.ObjID = 1
	minPages    page.No    = 254
	sparePages  page.No    = 32
	spaceBytes             = 16 // of a space header, and of an empty split buffer
)

// output is a new database file that is written tree by tree, each from its first leaf on.
type output struct {
	f      vfs.File
	size   int
	next   page.No
	dbtime page.DBTime
}

// alloc takes the next n pages, in one piece. The three of the shadow catalog have their place.
func (o *output) alloc(n page.No) page.No {
	if o.next < shadowPage+3 && o.next+n > shadowPage {
		o.next = shadowPage + 3
	}
	no := o.next
	o.next += n
	return no
}

func (o *output) write(no page.No, p page.Page) error {
	p.SetDBTime(o.dbtime)
	p.Seal(no)
	_, err := o.f.WriteAt(p, no.Offset(o.size))
	return err
}

// entry is a node of a page being gathered.
type entry struct {
	key, data []byte
}

func (e *entry) size() int { return page.NodeSize(0, len(e.key), len(e.data)) }

// level is the page being gathered at one height of a tree.
type level struct {
	entries []entry
	bytes   int // of the nodes without prefix
	prefix  int // bytes that all keys have in common
}

// tree writes one B+ tree bottom up. Its root, OE and AE pages come first.
type tree struct {
	out    *output
	obj    page.ObjID
	kind   page.Flags
	root   page.No
	parent page.No
	owned  []page.No // pages, in order, those of trees inside of it too
	free   []page.No

	levels  []*level
	leaf    page.Page // the last one, whose right neighbour is not known yet
	leafNo  page.No
	entries int64
}

// begin makes a tree. root is its place, 0 for the next that is free.
func (o *output) begin(obj page.ObjID, kind page.Flags, root, parent page.No) *tree {
	if root == 0 {
		root = o.alloc(3)
	}
	return &tree{
		out: o, obj: obj, kind: kind, root: root, parent: parent,
		owned: []page.No{root, root + 1, root + 2},
	}
}

// whole is the part of an entry that makes the order.
func (t *tree) whole(e *entry) []byte {
	if t.kind&page.FlagNonUnique != 0 {
		return slices.Concat(e.key, e.data)
	}
	return e.key
}

// add puts an entry behind the others. It keeps key and data.
func (t *tree) add(key, data []byte) error {
	t.entries++
	return t.put(0, entry{key, data})
}

func (t *tree) level(h int) *level {
	for len(t.levels) <= h {
		t.levels = append(t.levels, &level{})
	}
	return t.levels[h]
}

// room is what the nodes of a page may take.
func (t *tree) room() int { return t.out.size - page.HeaderSize(t.out.size) - 4 - spaceBytes }

func (t *tree) put(h int, e entry) error {
	l := t.level(h)
	if n := len(l.entries); n > 0 {
		prefix := min(l.prefix, common(l.entries[0].key, e.key))
		total := l.bytes + e.size()
		if prefix > 2 {
			total += (n+1)*(2-prefix) + prefix
		}
		// A sixteenth stays free for rows that grow.
		if total > t.room()-t.out.size/16 {
			if err := t.flush(h, &e); err != nil {
				return err
			}
		} else {
			l.prefix = prefix
		}
	}
	if len(l.entries) == 0 {
		l.prefix = len(e.key)
	}
	l.entries = append(l.entries, e)
	l.bytes += e.size()
	return nil
}

func common(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// flush writes the page gathered at a height and enters it above. next is the entry behind it,
// nil for the last page.
func (t *tree) flush(h int, next *entry) error {
	l := t.levels[h]
	no := t.out.alloc(1)
	t.owned = append(t.owned, no)
	last := &l.entries[len(l.entries)-1]
	var sep []byte
	switch {
	case next == nil:
	case h == 0:
		sep = separator(t.whole(last), t.whole(next))
	default:
		sep, last.key = last.key, nil
	}
	p := t.page(h, l)
	if h > 0 {
		if err := t.out.write(no, p); err != nil {
			return err
		}
	} else {
		p.SetPrev(t.leafNo)
		if err := t.endLeaf(no); err != nil {
			return err
		}
		t.leaf, t.leafNo = p, no
	}
	*l = level{}
	return t.put(h+1, entry{sep, binary.LittleEndian.AppendUint32(nil, uint32(no))})
}

// endLeaf writes the leaf that waits for its right neighbour.
func (t *tree) endLeaf(next page.No) error {
	if t.leaf == nil {
		return nil
	}
	t.leaf.SetNext(next)
	err := t.out.write(t.leafNo, t.leaf)
	t.leaf = nil
	return err
}

// separator is the shortest key above a and not above b.
func separator(a, b []byte) []byte {
	return bytes.Clone(b[:min(common(a, b)+1, len(b))])
}

func (t *tree) flags(h int) page.Flags {
	switch h {
	case 0:
		return t.kind | page.FlagLeaf
	case 1:
		return t.kind | page.FlagParentOfLeaf
	}
	return t.kind
}

// page makes a page of what was gathered.
func (t *tree) page(h int, l *level) page.Page {
	p := make(page.Page, t.out.size)
	page.Init(p, t.obj, t.flags(h))
	prefix := l.prefix
	if prefix <= 2 || len(l.entries) < 2 {
		prefix = 0
	}
	if prefix > 0 {
		p.SetExternal(l.entries[0].key[:prefix])
	}
	for i, e := range l.entries {
		n := prefix
		if len(e.key) < prefix {
			n = 0 // the last one of an inner page
		}
		p.Insert(i, 0, n, e.key[n:], e.data)
	}
	return p
}

// end writes the root and the space trees. The root is in its place before anything refers to
// the tree.
func (t *tree) end() error {
	if err := t.endLevels(); err != nil {
		return err
	}
	h := len(t.levels) - 1
	p := make(page.Page, t.out.size)
	page.Init(p, t.obj, t.flags(h)|page.FlagRoot)
	slices.Sort(t.owned)
	owned := extents(t.owned)
	header := make([]byte, 0, spaceBytes)
	header = binary.LittleEndian.AppendUint32(header, owned[0].pages)
	header = binary.LittleEndian.AppendUint32(header, uint32(t.parent))
	header = binary.LittleEndian.AppendUint32(header, 1)
	header = binary.LittleEndian.AppendUint32(header, uint32(t.root+1))
	p.SetExternal(header)
	for i, e := range t.levels[h].entries {
		p.Insert(i, 0, 0, e.key, e.data)
	}
	if err := t.out.write(t.root, p); err != nil {
		return err
	}
	if err := t.space(t.root+1, owned); err != nil {
		return err
	}
	slices.Sort(t.free)
	return t.space(t.root+2, extents(t.free))
}

// endLevels writes what was gathered, but for what goes into the root.
func (t *tree) endLevels() error {
	for h := 0; ; h++ {
		l := t.level(h)
		if h == len(t.levels)-1 && l.bytes <= t.room() && (h > 0 || t.leaf == nil) {
			return t.endLeaf(0)
		}
		if len(l.entries) == 0 {
			continue // ended before
		}
		if err := t.flush(h, nil); err != nil {
			return err
		}
	}
}

// extent is a row of pages.
type extent struct {
	last  page.No
	pages uint32
}

func extents(pages []page.No) []extent {
	var out []extent
	for _, no := range pages {
		if n := len(out); n > 0 && out[n-1].last+1 == no {
			out[n-1].last, out[n-1].pages = no, out[n-1].pages+1
			continue
		}
		out = append(out, extent{no, 1})
	}
	return out
}

// space writes a tree of extents, which is always one page: what is written in one go lies
// together.
func (t *tree) space(no page.No, list []extent) error {
	p := make(page.Page, t.out.size)
	kind := t.kind&^page.FlagNonUnique | page.FlagSpaceTree
	page.Init(p, t.obj, page.FlagRoot|page.FlagLeaf|kind)
	p.SetExternal(make([]byte, spaceBytes))
	for i, x := range list {
		key := binary.BigEndian.AppendUint32(nil, uint32(x.last))
		data := binary.LittleEndian.AppendUint32(nil, x.pages)
		if page.NodeSize(0, len(key), len(data)) > p.Free() {
			return fmt.Errorf("object %d has %d extents, more than a page holds", t.obj, len(list))
		}
		p.Insert(i, 0, 0, key, data)
	}
	return t.out.write(no, p)
}

// finish writes the database's own root: everything up to next is in use. It returns the last
// page that the root owns.
func (o *output) finish() (page.No, error) {
	last := max(o.next-1, minPages)
	t := &tree{out: o, obj: databaseID, root: rootPage}
	for no := rootPage; no <= last; no++ {
		t.owned = append(t.owned, no)
		if no >= o.next {
			t.free = append(t.free, no)
		}
	}
	if err := o.f.Allocate((last + sparePages + 1).Offset(o.size)); err != nil {
		return 0, err
	}
	return last, t.end()
}
