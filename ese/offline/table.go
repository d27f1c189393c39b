package offline

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"pillarbox/ese/inspect"
	"pillarbox/ese/internal/page"
	"pillarbox/ese/internal/record"
)

// tableCopy copies one table.
type tableCopy struct {
	r        *rebuild
	t        *inspect.Table
	tree     *tree
	loss     *Table
	primary  func(inspect.Row) ([][]byte, error)
	indexes  []*indexCopy
	long     map[uint64]*longValue
	expected map[string][]inspect.KeyValue // keys in gaps that indexes name, with what these tell
	orphans  *orphanRows
	last     []byte
	leaves   []leaf // of the rows, in order; none of the catalog
	// dropped are rows that a unique index has no place for, with the reason; doubles are those
	// that were found while the indexes were written.
	dropped, doubles map[string]string
}

// indexCopy gathers the entries of a secondary index.
type indexCopy struct {
	x       *inspect.Index
	keys    func(inspect.Row) ([][]byte, error)
	entries *sorter
}

// longValue is what is known of a long value.
type longValue struct {
	whole bool
	refs  uint32
}

func indexKind(x *inspect.Index) page.Flags {
	if x.Flags&inspect.IndexUnique != 0 {
		return page.FlagIndex
	}
	return page.FlagIndex | page.FlagNonUnique
}

func (r *rebuild) begin(t *inspect.Table, root page.No) (*tableCopy, error) {
	c := &tableCopy{
		r: r, t: t, tree: r.out.begin(t.ObjID, 0, root, rootPage),
		loss: &Table{Name: t.Name}, long: make(map[uint64]*longValue), expected: make(map[string][]inspect.KeyValue),
		doubles: make(map[string]string),
	}
	r.roots[t.ObjID] = c.tree.root
	for i := range t.Indexes {
		x := &t.Indexes[i]
		keys, err := t.Keys(x)
		if err != nil {
			return nil, err
		}
		if x.Flags&inspect.IndexPrimary != 0 {
			c.primary = keys
		} else {
			c.indexes = append(c.indexes, &indexCopy{x: x, keys: keys})
		}
	}
	for _, x := range c.indexes {
		x.entries = &sorter{spill: r.spill, limit: r.sortBytes / len(c.indexes), order: byKey}
		if indexKind(x.x)&page.FlagNonUnique != 0 {
			x.entries.order = byWhole
		}
	}
	return c, nil
}

// expect finds the keys in gaps that secondary indexes name, and what these tell of orphans.
// complete tells that one of them names all rows.
func (c *tableCopy) expect(f *forest) (complete bool, err error) {
	c.orphans = c.orphansOf(f)
	if len(f.gaps) == 0 && c.orphans == nil {
		return true, nil
	}
	for i := range c.indexes {
		all, err := c.expectOf(i, f.gaps)
		if err != nil {
			return false, err
		}
		complete = complete || all
	}
	return complete || len(f.gaps) == 0, nil
}

// expectOf looks into one index. It tells whether that names all rows.
func (c *tableCopy) expectOf(i int, gaps []gap) (all bool, err error) {
	x := c.indexes[i].x
	f := c.r.src.forest(x.Root, x.ObjID, indexKind(x))
	if c.orphans != nil {
		c.orphans.indexes[i].gaps = f.gaps
	}
	for _, l := range f.leaves {
		err := c.r.src.each(l.no, func(n node) error {
			if inGaps(gaps, n.data) {
				c.expected[string(n.data)] = known(c.expected[string(n.data)], c.t.KeyValues(x, n.key))
			}
			if c.orphans != nil && c.orphans.holds(n.data) {
				c.orphans.meet(i, n, c.t.KeyValues(x, n.key))
			}
			return nil
		})
		if err != nil {
			return false, err
		}
	}
	nulls := uint32(inspect.IndexAllowAllNulls | inspect.IndexAllowFirstNull | inspect.IndexAllowSomeNulls)
	return len(f.gaps) == 0 && x.Flags&nulls == nulls && !x.Building(), nil
}

// known adds what an index tells of a row to what is known of it.
func known(have, more []inspect.KeyValue) []inspect.KeyValue {
	for _, v := range more {
		if !slices.Contains(have, v) {
			have = append(have, v)
		}
	}
	return have
}

// copyRows copies the rows that are whole.
func (c *tableCopy) copyRows(rows rowSource) error {
	return rows(func(n node) error {
		if c.stale(n) {
			values, named := c.orphans.known[string(n.key)]
			if named && bytes.Compare(n.key, c.last) > 0 {
				c.expected[string(n.key)] = values // an older row of this key: the newer one is lost
			}
			return nil
		}
		delete(c.expected, string(n.key))
		if reason, err := c.row(n); err != nil || reason != "" {
			if reason != "" {
				c.loss.key(n, reason, c.t.KeyValues(c.t.Primary(), n.key))
			}
			return err
		}
		return nil
	})
}

// row copies a row, or says why it cannot.
func (c *tableCopy) row(n node) (reason string, err error) {
	if c.last != nil && bytes.Compare(n.key, c.last) <= 0 {
		return "it is not in the order of the keys", nil
	}
	row, err := c.t.ParseRow(n.key, n.data, n.page)
	if err != nil {
		return err.Error(), nil
	}
	data := bytes.Clone(n.data)
	var ids []uint64
	missing := false
	if err := row.EachLongValue(func(id uint64) {
		ids = append(ids, id)
		missing = missing || c.lacks(id)
	}); err != nil {
		return err.Error(), nil
	}
	var columns []string
	if missing {
		if data, columns, err = row.Without(c.lacks); err == nil {
			row, err = c.t.ParseRow(n.key, data, n.page)
		}
		if err != nil {
			return err.Error(), nil
		}
	}
	if reason := c.dropped[string(n.key)]; reason != "" {
		return reason, nil
	}
	entries, reason := c.entries(n.key, row)
	if reason != "" {
		return reason, nil
	}
	for _, name := range columns {
		c.loss.Columns = append(c.loss.Columns, Column{fmt.Sprintf("%x", n.key), name})
	}
	ids = ids[:0]
	if err := row.EachLongValue(func(id uint64) { ids = append(ids, id) }); err != nil {
		return err.Error(), nil
	}
	for _, id := range ids {
		c.long[id].refs++
	}
	for i, keys := range entries {
		for _, k := range keys {
			if err := c.indexes[i].entries.add(entry{k, n.key}); err != nil {
				return "", err
			}
		}
	}
	c.last = n.key
	return "", c.tree.add(n.key, data)
}

func (c *tableCopy) lacks(id uint64) bool {
	v := c.long[id]
	return v == nil || !v.whole
}

// entries are the keys of a row in each secondary index, after its own key was proved.
func (c *tableCopy) entries(key []byte, row inspect.Row) ([][][]byte, string) {
	own, err := c.primary(row)
	if err != nil {
		return nil, err.Error()
	}
	if len(own) != 1 || !bytes.Equal(own[0], key) {
		return nil, "its columns make another key"
	}
	out := make([][][]byte, len(c.indexes))
	for i, x := range c.indexes {
		if out[i], err = x.keys(row); err != nil {
			return nil, err.Error()
		}
	}
	return out, ""
}

// longScan proves each long value in turn.
type longScan struct {
	c    *tableCopy
	id   uint64
	v    *longValue
	root []byte
	at   uint32 // where the chunk that waits begins
	have []byte // nil: none
	end  uint32
}

// scanLong finds the long values that are whole.
func (c *tableCopy) scanLong() error {
	if c.t.LongValueRoot == 0 {
		return nil
	}
	s := &longScan{c: c}
	f := c.r.src.forest(c.t.LongValueRoot, c.t.LongValueObjID, page.FlagLongValue)
	for _, l := range f.leaves {
		if err := c.r.ctx.Err(); err != nil {
			return err
		}
		if err := c.r.src.each(l.no, s.node); err != nil {
			return err
		}
	}
	s.finish()
	return nil
}

func (s *longScan) node(n node) error {
	id, offset, root, ok := inspect.ParseLongValueKey(n.key)
	switch {
	case !ok:
		return nil
	case root:
		s.finish()
		if len(n.data) < 8 || s.c.long[id] != nil {
			s.v = nil
			return nil
		}
		s.id, s.root, s.have, s.end = id, bytes.Clone(n.data), nil, 0
		s.v = &longValue{whole: true}
		s.c.long[id] = s.v
	case s.v == nil || id != s.id:
		return nil // a chunk without its root
	default:
		s.chunk(offset)
		s.have, s.at = bytes.Clone(n.data), offset
	}
	return nil
}

// chunk proves the chunk that waits, which reaches to end.
func (s *longScan) chunk(end uint32) {
	if s.have == nil {
		s.v.whole = s.v.whole && end == 0
		return
	}
	if s.at != s.end || inspect.CheckChunk(s.have, s.at, end, s.root) != nil {
		s.v.whole = false
	}
	s.end = end
}

func (s *longScan) finish() {
	if s.v == nil {
		return
	}
	s.chunk(binary.LittleEndian.Uint32(s.root[4:]))
	s.v = nil
}

// copyLong copies the long values that rows refer to, with the count of these.
func (c *tableCopy) copyLong() error {
	if c.t.LongValueRoot == 0 {
		return nil
	}
	t := c.r.out.begin(c.t.LongValueObjID, page.FlagLongValue, 0, c.tree.root)
	c.r.roots[t.obj] = t.root
	f := c.r.src.forest(c.t.LongValueRoot, c.t.LongValueObjID, page.FlagLongValue)
	var last []byte
	for _, l := range f.leaves {
		err := c.r.src.each(l.no, func(n node) error {
			id, _, root, ok := inspect.ParseLongValueKey(n.key)
			if v := c.long[id]; !ok || v == nil || !v.whole || v.refs == 0 ||
				last != nil && bytes.Compare(n.key, last) <= 0 {
				return nil
			}
			data := bytes.Clone(n.data)
			if root {
				binary.LittleEndian.PutUint32(data, c.long[id].refs)
			}
			last = n.key
			return t.add(n.key, data)
		})
		if err != nil {
			return err
		}
	}
	return c.inside(t)
}

// inside ends a tree that lies in the table's space.
func (c *tableCopy) inside(t *tree) error {
	err := t.end()
	c.tree.owned = append(c.tree.owned, t.owned...)
	return err
}

// finishIndexes writes the secondary indexes.
func (c *tableCopy) finishIndexes() error {
	for _, x := range c.indexes {
		t := c.r.out.begin(x.x.ObjID, indexKind(x.x), 0, c.tree.root)
		c.r.roots[t.obj] = t.root
		unique := t.kind&page.FlagNonUnique == 0
		var last entry
		err := x.entries.each(func(e entry) error {
			if unique && last.key != nil && bytes.Equal(e.key, last.key) {
				last = c.double(x, last, e)
				return nil
			}
			last = e
			return t.add(e.key, e.data)
		})
		if err != nil {
			return err
		}
		x.entries = nil
		if err := c.inside(t); err != nil {
			return err
		}
	}
	if len(c.doubles) > 0 {
		return errDoubles
	}
	return nil
}

// errDoubles: rows have the same key in a unique index; the table is written again without some.
var errDoubles = errors.New("rows with the same unique key")

// double chooses between two rows with the same key in a unique index: the one whose page was
// changed last stays, as the other can only be left over from before. It returns the entry of
// that one.
func (c *tableCopy) double(x *indexCopy, a, b entry) entry {
	if c.changed(b.data) > c.changed(a.data) {
		a, b = b, a
	}
	c.doubles[string(b.data)] = fmt.Sprintf("its key in the unique index %s is that of the row %x, which was changed later",
		x.x.Name, a.data)
	return a
}

// changed is the time of the leaf that a row lies in.
func (c *tableCopy) changed(key []byte) page.DBTime {
	i, found := slices.BinarySearchFunc(c.leaves, key, func(l leaf, key []byte) int {
		return bytes.Compare(l.first, key)
	})
	if !found {
		i--
	}
	if i < 0 {
		return 0
	}
	return c.leaves[i].dbtime
}

// addVersion makes the row of MSysPillarbox that was lost: all features that this version knows
// may be in use.
func (c *tableCopy) addVersion() error {
	var fields []record.Field
	for i := range c.t.Columns {
		col := &c.t.Columns[i]
		b := make([]byte, col.Type.FixedSize())
		switch col.Name {
		case "Key", "FormatVersion":
			b[0] = 1
		case "Incompatible":
			b[0] = 7 // docs/format-edb.md, MSysPillarbox
		}
		fields = append(fields, record.Field{ID: col.ID, Data: b})
	}
	data, err := c.t.EncodeRow(fields)
	if err != nil {
		return err
	}
	return c.addMade(data)
}

// addMade adds a row that was made here.
func (c *tableCopy) addMade(data []byte) error {
	row, err := c.t.ParseRow(nil, data, 0)
	if err != nil {
		return err
	}
	keys, err := c.primary(row)
	if err != nil || len(keys) != 1 {
		return fmt.Errorf("row of %s: %w", c.t.Name, err)
	}
	return c.tree.add(keys[0], data)
}
