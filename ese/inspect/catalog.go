package inspect

import (
	"encoding/binary"
	"fmt"
	"slices"

	"pillarbox/ese/internal/page"
	"pillarbox/ese/internal/record"
)

// The fixed places of every database (docs/format-edb.md, "Fresh database").
const (
	rootPage    page.No    = 1
	catalogPage page.No    = 4
	shadowPage  page.No    = 24
	databaseID  page.ObjID = 1
	catalogID   page.ObjID = 2
	shadowID    page.ObjID = 3
)

// The types of catalog rows.
const (
	rowTable     = 1
	rowColumn    = 2
	rowIndex     = 3
	rowLongValue = 4
)

// Column flags, index flags and segment flags that matter for reading.
const (
	ColumnMultiValued = 0x8
	ColumnCompressed  = 0x1000

	IndexUnique         = 0x1
	IndexAllowAllNulls  = 0x2
	IndexAllowFirstNull = 0x4
	IndexAllowSomeNulls = 0x8
	IndexPrimary        = 0x20
	IndexMultiValued    = 0x80
	IndexLocalizedText  = 0x400
	IndexNullsHigh      = 0x800
	IndexCrossProduct   = 0x2000
	IndexNestedTable    = 0x8000
	indexExtended       = 0x10000
	indexBuilding       = 0x40000 // entries of rows may be missing
	indexDotNetGUID     = 0x20000

	segmentDescending = 0x40
)

const (
	codePageUnicode = 1200
	defaultKeyMost  = 255
)

// Table is a table as the catalog describes it.
type Table struct {
	Name     string
	ObjID    page.ObjID
	Root     page.No
	Pages    uint32 // asked for at creation
	Density  uint32
	Flags    uint32
	Template string
	Columns  []Column
	Indexes  []Index
	// LongValueRoot is the root of the table's long values, 0 for none.
	LongValueRoot  page.No
	LongValueObjID page.ObjID
	LongValueChunk uint32 // bytes of a chunk, 0 when the catalog does not say

	db      *Database
	layout  *record.Layout
	offsets map[record.ColumnID]int
}

// Column is a column as the catalog describes it.
type Column struct {
	ID       record.ColumnID
	Name     string
	Type     record.ColumnType
	Size     int // most bytes, 0 for no limit
	Flags    uint32
	CodePage uint32
	Default  []byte
}

// Index is an index as the catalog describes it. The primary index has the table's root.
type Index struct {
	Name        string
	ObjID       page.ObjID
	Root        page.No
	Flags       uint32
	Density     uint32
	KeyMost     int
	VarMost     int // most bytes of a variable segment, 0 for no limit of its own
	Segments    []Segment
	Conditional bool // rows are left out by conditions on columns
	Tuple       bool // substrings are indexed
}

// Segment is one column of an index key.
type Segment struct {
	Column     record.ColumnID
	Descending bool
}

// Primary returns the primary index, or nil when rows are in order of insertion.
func (t *Table) Primary() *Index {
	for i := range t.Indexes {
		if t.Indexes[i].Flags&IndexPrimary != 0 {
			return &t.Indexes[i]
		}
	}
	return nil
}

// Building tells that entries of rows may be missing.
func (x *Index) Building() bool { return x.Flags&indexBuilding != 0 }

// Column returns a column by id, or nil.
func (t *Table) Column(id record.ColumnID) *Column {
	for i := range t.Columns {
		if t.Columns[i].ID == id {
			return &t.Columns[i]
		}
	}
	return nil
}

// catalogLayout is the layout of the catalog's rows, which the catalog itself is read with.
func catalogLayout() *record.Layout {
	return record.NewLayout([]int{4, 2, 4, 4, 4, 4, 4, 1, 2, 4, 2, 4, 8})
}

// catalogRow reads the columns of one catalog row.
type catalogRow struct {
	rec    record.Record
	layout *record.Layout
}

func (r catalogRow) number(id record.ColumnID) uint32 {
	data, ok := r.rec.Fixed(r.layout, id)
	if !ok {
		return 0
	}
	var v uint32
	for i, b := range data[:min(4, len(data))] {
		v |= uint32(b) << (8 * i)
	}
	return v
}

func (r catalogRow) bytes(id record.ColumnID) []byte {
	data, _ := r.rec.Var(id)
	return slices.Clone(data)
}

// The columns of the catalog.
const (
	colTableID     = 1
	colType        = 2
	colID          = 3
	colRoot        = 4 // of columns: the type
	colSpace       = 5 // of columns: the size
	colFlags       = 6
	colPages       = 7 // of columns: the code page
	colOffset      = 9
	colKeyMost     = 11
	colChunk       = 12
	colName        = 128
	colTemplate    = 130
	colDefault     = 131
	colSegments    = 132
	colVarMost     = 133
	colConditional = 134
	colTuple       = 135
)

// loadCatalog reads the catalog, or its shadow when the catalog cannot be read.
func (d *Database) loadCatalog() error {
	err := d.loadCatalogFrom(catalogPage)
	if err == nil {
		return nil
	}
	d.tables, d.byName = nil, map[string]*Table{}
	if d.loadCatalogFrom(shadowPage) == nil {
		return nil
	}
	return err
}

func (d *Database) loadCatalogFrom(root page.No) error {
	tables := map[page.ObjID]*Table{}
	layout := catalogLayout()
	err := d.walk(root, func(n node) error {
		if n.deleted {
			return nil
		}
		rec, err := record.Parse(n.data, d.LargePages())
		if err != nil {
			return corruptPage(n.page, "catalog row: %v", err)
		}
		return d.addCatalogRow(tables, catalogRow{rec, layout}, n.page)
	})
	if err != nil {
		return err
	}
	for _, t := range tables {
		d.tables = append(d.tables, t)
		d.byName[t.Name] = t
	}
	slices.SortFunc(d.tables, func(a, b *Table) int { return int(a.ObjID) - int(b.ObjID) })
	for _, t := range d.tables {
		if err := t.finish(); err != nil {
			return err
		}
	}
	if d.byName["MSysObjects"] == nil {
		return &CorruptError{Reason: "the catalog does not describe itself"}
	}
	return nil
}

func (d *Database) addCatalogRow(tables map[page.ObjID]*Table, r catalogRow, at page.No) error {
	id := page.ObjID(r.number(colTableID))
	t := tables[id]
	kind := r.number(colType)
	// A table's own row comes first, since its type sorts lowest.
	if (t == nil) != (kind == rowTable) {
		return corruptPage(at, "catalog row of type %d of table object %d", kind, id)
	}
	switch kind {
	case rowTable:
		tables[id] = &Table{
			Name: string(r.bytes(colName)), ObjID: id, Root: page.No(r.number(colRoot)),
			Pages: r.number(colPages), Density: r.number(colSpace), Flags: r.number(colFlags),
			Template: string(r.bytes(colTemplate)), LongValueChunk: r.number(colChunk),
			db: d, offsets: map[record.ColumnID]int{},
		}
	case rowColumn:
		c := Column{
			ID: record.ColumnID(r.number(colID)), Name: string(r.bytes(colName)),
			Type: record.ColumnType(r.number(colRoot)), Size: int(r.number(colSpace)),
			Flags: r.number(colFlags), CodePage: r.number(colPages), Default: r.bytes(colDefault),
		}
		t.Columns = append(t.Columns, c)
		if c.ID.IsFixed() {
			t.offsets[c.ID] = int(r.number(colOffset))
		}
	case rowIndex:
		t.Indexes = append(t.Indexes, newIndex(r))
	case rowLongValue:
		t.LongValueRoot, t.LongValueObjID = page.No(r.number(colRoot)), page.ObjID(r.number(colID))
		if n := r.number(colChunk); n != 0 {
			t.LongValueChunk = n
		}
	}
	return nil
}

func newIndex(r catalogRow) Index {
	x := Index{
		Name: string(r.bytes(colName)), ObjID: page.ObjID(r.number(colID)),
		Root: page.No(r.number(colRoot)), Flags: r.number(colFlags), Density: r.number(colSpace),
		KeyMost:     int(r.number(colKeyMost)),
		Conditional: len(r.bytes(colConditional)) > 0, Tuple: len(r.bytes(colTuple)) > 0,
	}
	if x.KeyMost == 0 {
		x.KeyMost = defaultKeyMost
	}
	if b := r.bytes(colVarMost); len(b) >= 2 {
		x.VarMost = int(binary.LittleEndian.Uint16(b))
	}
	b := r.bytes(colSegments)
	if x.Flags&indexExtended != 0 {
		for ; len(b) >= 4; b = b[4:] {
			id := record.ColumnID(binary.LittleEndian.Uint16(b[2:]))
			x.Segments = append(x.Segments, Segment{id, b[0]&segmentDescending != 0})
		}
		return x
	}
	// The older form: a signed column id, negative for descending.
	for ; len(b) >= 2; b = b[2:] {
		id := int16(binary.LittleEndian.Uint16(b))
		if id < 0 {
			x.Segments = append(x.Segments, Segment{record.ColumnID(-id), true})
		} else {
			x.Segments = append(x.Segments, Segment{record.ColumnID(id), false})
		}
	}
	return x
}

// finish adds the columns of the template table and computes the record layout.
func (t *Table) finish() error {
	if t.Template != "" {
		base := t.db.byName[t.Template]
		if base == nil {
			return &CorruptError{Table: t.Name, Reason: "no template table " + t.Template}
		}
		for _, c := range base.Columns {
			if t.Column(c.ID) == nil {
				t.Columns = append(t.Columns, c)
				if c.ID.IsFixed() {
					t.offsets[c.ID] = base.offsets[c.ID]
				}
			}
		}
	}
	slices.SortFunc(t.Columns, func(a, b Column) int { return int(a.ID) - int(b.ID) })
	if err := t.makeLayout(); err != nil {
		return err
	}
	// A dropped column leaves its row behind, to keep its id and place.
	t.Columns = slices.DeleteFunc(t.Columns, func(c Column) bool { return c.Type == 0 })
	return nil
}

// makeLayout places the fixed columns where the catalog says. The place of a deleted column
// goes to its number, so that the others stay where they are.
func (t *Table) makeLayout() error {
	const firstOffset = 4
	var sizes []int
	end := firstOffset
	for i := range t.Columns {
		c := &t.Columns[i]
		if !c.ID.IsFixed() {
			continue
		}
		size := c.Type.FixedSize()
		if size == 0 {
			size = c.Size
		}
		offset := t.offsets[c.ID]
		if offset < end {
			offset = end // older catalogs do not store it, and for itself the catalog has always 4
		}
		gap := int(c.ID) - 1 - len(sizes)
		if gap < 0 || (gap == 0 && offset != end) || offset+size > 1<<15 {
			return &CorruptError{Table: t.Name, Reason: fmt.Sprintf(
				"column %d at byte %d after %d bytes", c.ID, offset, end)}
		}
		for ; gap > 0; gap-- {
			sizes = append(sizes, offset-end)
			end = offset
		}
		sizes = append(sizes, size)
		end = offset + size
	}
	t.layout = record.NewLayout(sizes)
	return nil
}
