package offline

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"

	"pillarbox/ese/inspect"
	"pillarbox/ese/internal/page"
)

// The tables that a rebuild treats in a way of their own.
const (
	catalogName  = "MSysObjects"
	shadowName   = "MSysObjectsShadow"
	droppedTable = "MSysPillarboxDropped" // of trees that are not brought over
	streamTable  = "MSysStreams"
	spaceTable   = "MSysStreamSpace"
	versionTable = "MSysPillarbox"

	catalogObj page.ObjID = 2
	shadowObj  page.ObjID = 3
)

// ErrNoCatalog is returned when neither the catalog nor its shadow describes itself.
var ErrNoCatalog = errors.New("catalog and shadow catalog are both lost (-1206): restore from a backup")

// rebuild copies what can be read of a database into a new file.
type rebuild struct {
	ctx  context.Context
	src  *source
	db   *inspect.Database
	out  *output
	loss *Loss

	clean     bool                    // the database was closed clean
	pack      *packer                 // nil: the stream file stays
	packing   func() (*packer, error) // makes pack, once the catalog is known
	spill     *spillFile
	sortBytes int

	catalog [][2][]byte // key and data of the rows
	roots   map[page.ObjID]page.No
	done    int64 // leaves copied
	tell    func(done, total int64)
}

// run does everything but the header.
func (r *rebuild) run() (last page.No, err error) {
	for _, root := range []page.No{rootPage, catalogPage, shadowPage} {
		r.src.markFree(root)
	}
	if err := r.readCatalog(); err != nil {
		return 0, err
	}
	for _, t := range r.db.Tables() {
		r.src.markFree(t.Root)
		r.src.markFree(t.LongValueRoot)
		for i := range t.Indexes {
			r.src.markFree(t.Indexes[i].Root)
		}
	}
	r.unknownObjects()
	if r.packing != nil {
		if r.pack, err = r.packing(); err != nil {
			return 0, err
		}
	}
	r.out.next = catalogPage
	if err := r.writeCatalog(); err != nil {
		return 0, err
	}
	for _, t := range r.db.Tables() {
		if t.Name == catalogName || t.Name == shadowName {
			continue
		}
		if err := r.table(t); err != nil {
			return 0, fmt.Errorf("table %s: %w", t.Name, err)
		}
	}
	if last, err = r.out.finish(); err != nil {
		return 0, err
	}
	// Now that all roots are known the catalog is written again, to the same pages.
	end := r.out.next
	r.out.next = catalogPage
	if err := r.writeCatalog(); err != nil {
		return 0, err
	}
	r.out.next = end
	return last, nil
}

// readCatalog reads the catalog, and from its shadow what is missing in it.
func (r *rebuild) readCatalog() error {
	main, shadow := r.src.forest(catalogPage, catalogObj, 0), r.src.forest(shadowPage, shadowObj, 0)
	rows := make(map[string][]byte)
	if err := r.gather(shadow, rows, main.gaps); err != nil {
		return err
	}
	if err := r.gather(main, rows, nil); err != nil {
		return err
	}
	for _, g := range main.gaps {
		for _, h := range shadow.gaps {
			if both, ok := g.meet(h); ok {
				r.loss.Catalog = append(r.loss.Catalog, fmt.Sprintf(
					"rows with keys from %x on and below %x are lost in the catalog and in its shadow",
					both.low, both.high))
			}
		}
	}
	for _, k := range slices.Sorted(mapKeys(rows)) {
		r.catalog = append(r.catalog, [2][]byte{[]byte(k), rows[k]})
	}
	data := make([][]byte, 0, len(r.catalog))
	for _, c := range r.catalog {
		data = append(data, c[1])
	}
	db, bad := inspect.FromCatalog(r.src.f, r.src.header, r.src.last, data)
	for _, err := range bad {
		r.loss.Catalog = append(r.loss.Catalog, err.Error())
	}
	if db.Table(catalogName) == nil || db.Table(shadowName) == nil {
		return ErrNoCatalog
	}
	r.db = db
	return r.dropRows()
}

func mapKeys(m map[string][]byte) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// gather adds the rows of a catalog; those in the gaps only, unless these are nil.
func (r *rebuild) gather(f *forest, rows map[string][]byte, gaps []gap) error {
	if gaps == nil && f == nil {
		return nil
	}
	for _, l := range f.leaves {
		err := r.src.each(l.no, func(n node) error {
			if gaps == nil || inGaps(gaps, n.key) {
				rows[string(n.key)] = bytes.Clone(n.data)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func inGaps(gaps []gap, key []byte) bool {
	for _, g := range gaps {
		if bytes.Compare(key, g.low) >= 0 && (g.high == nil || bytes.Compare(key, g.high) < 0) {
			return true
		}
	}
	return false
}

// meet is the range that two gaps share.
func (g gap) meet(h gap) (gap, bool) {
	out := g
	if bytes.Compare(h.low, out.low) > 0 {
		out.low = h.low
	}
	if out.high == nil || h.high != nil && bytes.Compare(h.high, out.high) < 0 {
		out.high = h.high
	}
	return out, out.high == nil || bytes.Compare(out.low, out.high) < 0
}

// dropRows takes the rows of tables out of the catalog that cannot be brought over.
func (r *rebuild) dropRows() error {
	known := make(map[page.ObjID]bool)
	for _, t := range r.db.Tables() {
		known[t.ObjID] = true
	}
	var kept [][2][]byte
	for _, c := range r.catalog {
		row, err := inspect.ParseCatalogRow(c[1], r.db.LargePages())
		if err == nil && known[row.Table] {
			kept = append(kept, c)
		}
	}
	r.catalog = kept
	return nil
}

// unknownObjects names trees that hold rows and that the catalog does not know.
func (r *rebuild) unknownObjects() {
	if len(r.loss.Catalog) == 0 {
		return // what is not known then was dropped
	}
	known := map[page.ObjID]bool{databaseID: true}
	for _, t := range r.db.Tables() {
		known[t.ObjID], known[t.LongValueObjID] = true, true
		for _, x := range t.Indexes {
			known[x.ObjID] = true
		}
	}
	leaves := make(map[page.ObjID]int)
	for no, i := range r.src.info {
		if i.at != 0 && !known[i.obj] && !r.src.free[no] && i.flags&page.FlagLeaf != 0 &&
			i.flags&page.FlagSpaceTree == 0 {
			leaves[i.obj]++
		}
	}
	for obj, n := range leaves {
		r.loss.Objects = append(r.loss.Objects, Object{obj, n})
	}
	slices.SortFunc(r.loss.Objects, func(a, b Object) int { return int(a.ObjID) - int(b.ObjID) })
}

// writeCatalog writes the catalog and its shadow, with the roots that are known.
func (r *rebuild) writeCatalog() error {
	for _, c := range r.catalog {
		row, err := inspect.ParseCatalogRow(c[1], r.db.LargePages())
		if err != nil {
			return err
		}
		obj := page.ObjID(row.ID)
		if row.Type == 1 {
			obj = row.Table
		}
		if root := r.roots[obj]; root != 0 && row.Type != 2 {
			inspect.SetCatalogRoot(c[1], root)
		}
	}
	for _, name := range []string{catalogName, shadowName} {
		t := r.db.Table(name)
		rows := func(fn func(node) error) error {
			for _, c := range r.catalog {
				if err := fn(node{key: c[0], data: bytes.Clone(c[1])}); err != nil {
					return err
				}
			}
			return nil
		}
		root := catalogPage
		if name == shadowName {
			root = shadowPage
		}
		if err := r.catalogTable(t, root, rows); err != nil {
			return fmt.Errorf("table %s: %w", name, err)
		}
	}
	return nil
}

// catalogTable writes one of the catalogs at its place. The first owns all pages up to the
// second, as readers expect of a fresh database.
func (r *rebuild) catalogTable(t *inspect.Table, root page.No, rows rowSource) error {
	if root == catalogPage {
		r.out.next = catalogPage + 3
	}
	c, err := r.begin(t, root)
	if err != nil {
		return err
	}
	if err := c.copyRows(rows); err != nil {
		return err
	}
	if err := c.finishIndexes(); err != nil {
		return err
	}
	if root == catalogPage {
		// Leaves that wait may still take pages: those are owned when the tree ends.
		if err := c.tree.endLevels(); err != nil {
			return err
		}
		slices.Sort(c.tree.owned)
		for no := catalogPage; no < shadowPage; no++ {
			if _, used := slices.BinarySearch(c.tree.owned, no); !used {
				c.tree.free = append(c.tree.free, no)
			}
		}
		c.tree.owned = append(c.tree.owned, c.tree.free...)
	}
	if r.out.next < shadowPage {
		r.out.next = shadowPage + 3
	}
	return c.tree.end()
}

// rowSource calls a function for the rows of a table in key order.
type rowSource func(fn func(node) error) error

// forestRows are the rows of a table that can be found; what cannot goes into the loss.
func (r *rebuild) forestRows(t *inspect.Table) *foundRows {
	return &foundRows{r: r, f: r.src.forest(t.Root, t.ObjID, 0)}
}

// foundRows are the leaves of a table.
type foundRows struct {
	r *rebuild
	f *forest
}

func (s *foundRows) each(fn func(node) error) error {
	for _, l := range s.f.leaves {
		if err := s.r.ctx.Err(); err != nil {
			return err
		}
		s.r.done++
		s.r.tell(min(s.r.done, int64(s.r.src.last)), int64(s.r.src.last))
		if err := s.r.src.each(l.no, fn); err != nil {
			return err
		}
	}
	return nil
}

// table copies a table with its long values and makes its indexes. Where rows have the same key
// in a unique index it is written once more, to the same pages, with one of each.
func (r *rebuild) table(t *inspect.Table) error {
	found, at := r.forestRows(t), r.out.next
	dropped := make(map[string]string)
	for {
		c, err := r.begin(t, 0)
		if err != nil {
			return err
		}
		c.dropped = dropped
		for _, l := range found.f.leaves {
			if l.first != nil {
				c.leaves = append(c.leaves, l)
			}
		}
		err = r.copyTable(c, found)
		if err = errors.Join(err, r.spill.close()); !errors.Is(err, errDoubles) {
			return err
		}
		maps.Copy(dropped, c.doubles)
		r.out.next = at
	}
}

func (r *rebuild) copyTable(c *tableCopy, found *foundRows) error {
	t := c.t
	if err := c.scanLong(); err != nil {
		return err
	}
	complete, err := c.expect(found.f)
	if err != nil {
		return err
	}
	rows := found.each
	switch {
	case t.Name == droppedTable:
		rows = func(func(node) error) error { return nil }
	case t.Name == streamTable && r.pack != nil:
		rows = r.pack.rows(t, found)
	case t.Name == spaceTable && r.pack != nil:
		rows = func(fn func(node) error) error { return r.emitRegions(t, r.pack.maps, fn) }
	case t.Name == spaceTable && len(found.f.gaps) > 0:
		rows = r.streamSpace(t, found)
	}
	if err := c.copyRows(rows); err != nil {
		return err
	}
	if t.Name == versionTable && c.tree.entries == 0 {
		if err := c.addVersion(); err != nil {
			return err
		}
	}
	c.nameLost(found.f.gaps, complete)
	if err := c.copyLong(); err != nil {
		return err
	}
	if err := c.finishIndexes(); err != nil {
		return err
	}
	c.loss.Rows = c.tree.entries
	if c.loss.lost() {
		r.loss.Tables = append(r.loss.Tables, *c.loss)
	}
	return c.tree.end()
}

// nameLost puts the rows and ranges that are missing into the loss. Where an index names all
// rows of the table, a range without a lost row is no loss.
func (c *tableCopy) nameLost(gaps []gap, complete bool) {
	for _, k := range slices.Sorted(maps.Keys(c.expected)) {
		c.loss.Keys = append(c.loss.Keys, Key{
			Key: hex.EncodeToString([]byte(k)), Reason: "its page is damaged; an index names it",
			Known: known(c.t.KeyValues(c.t.Primary(), []byte(k)), c.expected[k]),
		})
	}
	if complete {
		return
	}
	for _, g := range gaps {
		c.loss.Ranges = append(c.loss.Ranges, Range{
			Low: hex.EncodeToString(g.low), High: hex.EncodeToString(g.high),
			From: c.t.KeyValues(c.t.Primary(), g.low), Below: c.t.KeyValues(c.t.Primary(), g.high),
		})
	}
}
