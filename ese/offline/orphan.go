package offline

import (
	"bytes"
	"slices"

	"pillarbox/ese/inspect"
	"pillarbox/ese/internal/page"
)

// A leaf that nothing leads to may be one of the table, or one that was freed and still holds rows
// that were deleted or moved since. Where the database was closed clean, indexes and rows were
// written to the same moment: a row whose entry an index ought to have, and has not, is none.

// maxOrphans bounds the leaves whose rows are looked up in indexes, since their entries are kept in
// memory. Where more are left without a way to them most of the tree above is lost.
const maxOrphans = 4096

// orphanRows are the leaves of a table that nothing leads to, and what its indexes tell of them.
type orphanRows struct {
	leaves  []leaf
	pages   map[page.No]bool
	indexes []orphanIndex // as those of the table
	known   map[string][]inspect.KeyValue
}

// orphanIndex is what one index has of the rows in orphans.
type orphanIndex struct {
	gaps    []gap
	entries map[string]bool // key of the index and of the row, one behind the other
}

// orphansOf are those of a table; nil where nothing tells their rows from deleted ones.
func (c *tableCopy) orphansOf(f *forest) *orphanRows {
	o := &orphanRows{pages: make(map[page.No]bool), known: make(map[string][]inspect.KeyValue)}
	for _, l := range f.leaves {
		if l.orphan {
			o.leaves = append(o.leaves, l)
			o.pages[l.no] = true
		}
	}
	if !c.r.clean || len(o.leaves) == 0 || len(o.leaves) > maxOrphans {
		return nil
	}
	o.indexes = make([]orphanIndex, len(c.indexes))
	return o
}

// holds tells whether a key lies between the first and the last of one of the leaves.
func (o *orphanRows) holds(key []byte) bool {
	i, found := slices.BinarySearchFunc(o.leaves, key, func(l leaf, key []byte) int {
		return bytes.Compare(l.first, key)
	})
	return found || i > 0 && bytes.Compare(key, o.leaves[i-1].last) <= 0
}

// meet notes the entry of an index, which is of a row in an orphan.
func (o *orphanRows) meet(i int, n node, values []inspect.KeyValue) {
	x := &o.indexes[i]
	if x.entries == nil {
		x.entries = make(map[string]bool)
	}
	x.entries[string(n.key)+string(n.data)] = true
	o.known[string(n.data)] = known(o.known[string(n.data)], values)
}

// stale tells whether the row was deleted, or is an older one of its key.
func (c *tableCopy) stale(n node) bool {
	o := c.orphans
	if o == nil || !o.pages[n.page] {
		return false
	}
	row, err := c.t.ParseRow(n.key, n.data, n.page)
	if err != nil {
		return false // told for itself
	}
	for i, x := range c.indexes {
		keys, err := x.keys(row)
		if err != nil || x.x.Building() {
			continue
		}
		for _, k := range keys {
			whole := append(bytes.Clone(k), n.key...)
			at := k
			if indexKind(x.x)&page.FlagNonUnique != 0 {
				at = whole
			}
			if !o.indexes[i].entries[string(whole)] && !inGaps(o.indexes[i].gaps, at) {
				return true
			}
		}
	}
	return false
}
