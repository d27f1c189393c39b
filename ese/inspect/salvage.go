package inspect

import (
	"fmt"
	"slices"

	"pillarbox/ese/internal/dbheader"
	"pillarbox/ese/internal/page"
	"pillarbox/ese/internal/record"
	"pillarbox/ese/vfs"
)

// CatalogTable tells which table a catalog row describes, and of what type and id the row is.
type CatalogTable struct {
	Table page.ObjID
	Type  uint32 // 1 table, 2 column, 3 index, 4 long values
	ID    uint32
}

// ParseCatalogRow reads what tells catalog rows apart.
func ParseCatalogRow(data []byte, largePages bool) (CatalogTable, error) {
	rec, err := record.Parse(data, largePages)
	if err != nil {
		return CatalogTable{}, err
	}
	layout := catalogLayout()
	r := catalogRow{rec, layout}
	return CatalogTable{
		Table: page.ObjID(r.number(colTableID)), Type: r.number(colType), ID: r.number(colID),
	}, nil
}

// SetCatalogRoot changes the root page that a catalog row of a table, an index or long values
// names.
func SetCatalogRoot(data []byte, root page.No) {
	at := catalogLayout().Start(colRoot)
	for i := range 4 {
		data[at+i] = byte(root >> (8 * i))
	}
}

// FromCatalog makes a Database of catalog rows, in key order, that somebody else has read: for
// files whose catalog is damaged. Tables that the rows do not describe well are left out, each
// with an error.
func FromCatalog(f vfs.File, h dbheader.Header, last page.No, rows [][]byte) (*Database, []error) {
	d := &Database{
		Header: h, file: f, pageSize: int(h.PageSize), lastPage: last,
		cache: map[page.No]page.Page{}, byName: map[string]*Table{},
	}
	var bad []error
	tables, broken := map[page.ObjID]*Table{}, map[page.ObjID]bool{}
	layout := catalogLayout()
	for _, data := range rows {
		rec, err := record.Parse(data, d.LargePages())
		if err != nil {
			bad = append(bad, fmt.Errorf("catalog row: %w", err))
			continue
		}
		r := catalogRow{rec, layout}
		if err := d.addCatalogRow(tables, r, 0); err != nil {
			bad = append(bad, err)
			broken[page.ObjID(r.number(colTableID))] = true
		}
	}
	for id, t := range tables {
		if !broken[id] {
			d.tables = append(d.tables, t)
			d.byName[t.Name] = t
		}
	}
	d.tables = slices.DeleteFunc(d.tables, func(t *Table) bool {
		err := t.finish()
		if err == nil && (len(t.Columns) == 0 || t.Primary() == nil) {
			err = &CorruptError{Table: t.Name, Reason: "the catalog has no columns or no key of it"}
		}
		if err != nil {
			bad = append(bad, err)
			delete(d.byName, t.Name)
		}
		return err != nil
	})
	slices.SortFunc(d.tables, func(a, b *Table) int { return int(a.ObjID) - int(b.ObjID) })
	return d, bad
}

// ParseRow reads a row of the table from the data of its node.
func (t *Table) ParseRow(key, data []byte, no page.No) (Row, error) {
	rec, err := record.Parse(data, t.db.LargePages())
	if err == nil && !rec.Fits(t.layout) {
		err = record.ErrCorrupt
	}
	if err != nil {
		return Row{}, &CorruptError{Page: no, Table: t.Name, Reason: fmt.Sprintf("row: %v", err)}
	}
	return Row{Key: key, Page: no, table: t, rec: rec}, nil
}

// EachLongValue calls fn for the ids of the long values the row refers to, as often as it does.
func (r Row) EachLongValue(fn func(id uint64)) error {
	return r.eachLongValue(func(id lid) { fn(uint64(id)) })
}

// Without is the row's record with NULL in the columns that refer to a long value that is bad.
// It returns the names of those columns.
func (r Row) Without(bad func(id uint64) bool) (data []byte, lost []string, err error) {
	var fields []record.Field
	for i := range r.table.Columns {
		c := &r.table.Columns[i]
		if !r.rec.Present(c.ID) {
			continue
		}
		f := record.Field{ID: c.ID, Null: true}
		switch {
		case c.ID.IsFixed():
			if b, ok := r.rec.Fixed(r.table.layout, c.ID); ok {
				f = record.Field{ID: c.ID, Data: b}
			}
		case c.ID.IsVar():
			if b, ok := r.rec.Var(c.ID); ok {
				f = record.Field{ID: c.ID, Data: b}
			}
		default:
			tag, _ := r.rec.Tagged(c.ID)
			var gone bool
			if f, gone, err = taggedField(c.ID, tag, bad); err != nil {
				return nil, nil, err
			}
			if gone {
				lost = append(lost, c.Name)
			}
		}
		fields = append(fields, f)
	}
	data, err = r.table.layout.Encode(nil, fields, r.table.db.LargePages())
	return data, lost, err
}

// taggedField is a tagged column as it is, or NULL where one of its values is bad.
func taggedField(
	id record.ColumnID, tag record.Tagged, bad func(uint64) bool,
) (f record.Field, gone bool, err error) {
	values, err := tag.Values()
	if err != nil {
		return f, false, err
	}
	f = record.Field{ID: id, LongValue: tag.LongValue, Null: len(values) == 0}
	for _, v := range values {
		if v.Separated {
			n, err := longValueID(v.Data)
			if err != nil {
				return f, false, err
			}
			if bad(uint64(n)) {
				return record.Field{ID: id, LongValue: tag.LongValue, Null: true}, true, nil
			}
		}
		f.Data, f.Separated, f.Compressed = v.Data, v.Separated, v.Compressed
		f.Values = append(f.Values, record.FieldValue{Data: v.Data, Separated: v.Separated})
	}
	if len(f.Values) < 2 {
		f.Values = nil
	}
	return f, false, nil
}

// EncodeRow makes the data of a new row of the table; the fields are in order of their ids.
func (t *Table) EncodeRow(fields []record.Field) ([]byte, error) {
	return t.layout.Encode(nil, fields, t.db.LargePages())
}

// Keys returns a function that computes the keys of a row's entries in an index of the table.
// It fails for keys that only Windows can compute.
func (t *Table) Keys(x *Index) (func(Row) ([][]byte, error), error) {
	k, err := newKeyMaker(t, x)
	if err != nil {
		return nil, err
	}
	if k.partial && x.Building() {
		k.opaque, k.partial = false, false // its rows have entries like those of others
	}
	if k.opaque || x.Conditional || x.Tuple || x.Flags&(IndexCrossProduct|IndexNestedTable) != 0 {
		return nil, fmt.Errorf("index %s of table %s: %w", x.Name, t.Name, errOpaqueKey)
	}
	return k.keys, nil
}

// ParseLongValueKey splits the key of a node of a long value tree.
func ParseLongValueKey(key []byte) (id uint64, offset uint32, root, ok bool) {
	n, offset, root, ok := parseLongKey(key)
	return uint64(n), offset, root, ok
}

// CheckChunk proves that a stored chunk is the bytes [at,end) of a long value with that root.
func CheckChunk(stored []byte, at, end uint32, root []byte) error {
	r, err := parseLongRoot(root)
	if err != nil {
		return err
	}
	_, err = expandChunk(stored, at, end, r)
	return err
}

// SpaceRoots tells where the owned and the available extents of the tree with that root page
// are; ok is false for a tree without trees of extents.
func SpaceRoots(root page.Page) (oe, ae page.No, ok bool) {
	h, ok := parseSpaceHeader(root.External())
	if !ok || h.flags&spaceMultiple == 0 {
		return 0, 0, false
	}
	return page.No(h.space), page.No(h.space) + 1, true
}
