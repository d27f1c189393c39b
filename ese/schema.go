package ese

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"pillarbox/ese/internal/btree"
	"pillarbox/ese/internal/page"
	"pillarbox/ese/internal/record"
)

// ColumnDef describes a column of a new table.
type ColumnDef struct {
	Name string // at most 64 bytes
	Type ColumnType
	// Tagged keeps the column among the tagged ones: it then costs nothing where it is NULL or
	// has its default. LongBinary and LongText are always tagged.
	Tagged  bool
	NotNull bool
	// MultiValued lets a row have several values in a tagged or long column (Row.SetValues). An
	// index has an entry for each value of its first such column.
	MultiValued bool
	// Compressed stores the values of a LongBinary or LongText compressed where that takes less:
	// 7 bits a character when all are ASCII (also in UTF-16), and XPRESS from 1 KiB on. What is
	// in an index, or is changed often in small pieces, is better left as it is.
	Compressed bool
	// Escrow makes an integer of 4 or 8 bytes a sum that many transactions may add to at the
	// same time (Tx.Add). It is never NULL, 0 when not set, and in no index.
	Escrow bool
	// AutoIncrement gives each inserted row the next number of an integer of 4 or 8 bytes:
	// unique, rising, never used again. Row.Assigned tells it. At most one column of a table.
	AutoIncrement bool
	// Default is what rows have that do not set the column, also those that were there before
	// it. At most 255 bytes.
	Default Value
}

// IndexColumn is one segment of an index key.
type IndexColumn struct {
	Name       string
	Descending bool
}

// IndexDef describes an index of a new table.
type IndexDef struct {
	Name    string
	Columns []IndexColumn
	// Primary makes it the clustered index: rows lie in its order. It is unique and its
	// columns must not be NULL. Every table has one.
	Primary bool
	Unique  bool
	// Sparse leaves out rows where any of the columns is NULL.
	Sparse bool
}

// TableDef describes a new table.
type TableDef struct {
	Name    string
	Columns []ColumnDef
	Indexes []IndexDef
}

// Column is a column of a table. A handle stays good as long as the instance is open; using
// it in a transaction that does not see the column is an error.
type Column struct {
	id     record.ColumnID
	typ    ColumnType
	name   string
	pos    int // in schema.cols
	notNil bool
	escrow bool
	auto   bool
	multi  bool
	packed bool   // values are compressed where that saves space
	def    []byte // what rows without the column have; nil: NULL
	life
}

// Name is the column's name.
func (c *Column) Name() string { return c.name }

// Type is the column's type.
func (c *Column) Type() ColumnType { return c.typ }

func (c *Column) long() bool { return c.typ == LongBinary || c.typ == LongText }

// fixedBytes tells a binary column that has its place among the fixed ones.
func (c *Column) fixedBytes() bool { return c.id.IsFixed() }

// Index is an index of a table.
type Index struct {
	table  *Table
	name   string
	obj    page.ObjID
	root   page.No
	cols   []*Column
	desc   []bool
	unique bool
	sparse bool
	prim   bool
	multi  bool // a row can have several entries
	tree   *btree.Tree
	life
	build *build // nil: its entries were there from the beginning
}

// Name is the index's name.
func (x *Index) Name() string { return x.name }

// Table is the table it belongs to.
func (x *Index) Table() *Table { return x.table }

// Table is a table of a database. It is safe for concurrent use. A handle stays good while
// columns and indexes come and go, and when the table is renamed.
type Table struct {
	db      *Database
	label   atomic.Pointer[string]
	obj     page.ObjID
	root    page.No
	primary *Index
	tree    *btree.Tree
	s       atomic.Pointer[schema]
	lv      atomic.Pointer[btree.Tree] // long values; nil when the table never had a long column
	nextLID atomic.Uint32
	lvOrder sync.Mutex // of small long values in the making; taken before any latch
	numbers numbers    // of the auto-increment column
	life
}

// schema is all columns and indexes that any transaction may still see. It is never changed,
// only replaced under Database.tableMu.
type schema struct {
	cols   []*Column // by position: in the order they were made
	byID   []*Column
	last   [3]record.ColumnID // highest id of a fixed, variable, tagged column, dropped ones too
	sizes  []int              // of the fixed columns from 1 on, dropped ones too
	layout *record.Layout
	second []*Index
}

// Name is the table's name.
func (t *Table) Name() string { return *t.label.Load() }

// Database is where the table lies.
func (t *Table) Database() *Database { return t.db }

// Primary is the clustered index.
func (t *Table) Primary() *Index { return t.primary }

// Columns returns the columns, as transactions that begin now see them.
func (t *Table) Columns() []*Column {
	var out []*Column
	for _, c := range t.s.Load().cols {
		if c.current() {
			out = append(out, c)
		}
	}
	return out
}

// Column finds a column by name, as transactions that begin now see it.
func (t *Table) Column(name string) (*Column, error) {
	if c := t.col(name); c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("column %s of table %s: %w", name, t.Name(), ErrNotFound)
}

// col is Column for names that are known to be there.
func (t *Table) col(name string) *Column {
	for _, c := range t.s.Load().cols {
		if c.name == name && c.current() {
			return c
		}
	}
	return nil
}

// Indexes returns the indexes, as transactions that begin now see them; the primary first.
func (t *Table) Indexes() []*Index {
	out := []*Index{t.primary}
	for _, x := range t.s.Load().second {
		if x.current() {
			out = append(out, x)
		}
	}
	return out
}

// Index finds an index by name, as transactions that begin now see it.
func (t *Table) Index(name string) (*Index, error) {
	for _, x := range t.Indexes() {
		if x.name == name {
			return x, nil
		}
	}
	return nil, fmt.Errorf("index %s of table %s: %w", name, t.Name(), ErrNotFound)
}

// classOf tells the class of a column's id: fixed, variable or tagged.
func classOf(id record.ColumnID) int {
	switch {
	case id.IsFixed():
		return 0
	case id.IsVar():
		return 1
	}
	return 2
}

// column finds a column by its id.
func (s *schema) column(id record.ColumnID) *Column {
	i, _ := slices.BinarySearchFunc(s.byID, id, func(c *Column, id record.ColumnID) int {
		return cmp.Compare(c.id, id)
	})
	return s.byID[i]
}

// newSchema is the schema of a table without columns.
func newSchema() *schema {
	return &schema{
		last:   [3]record.ColumnID{record.FirstFixed - 1, record.FirstVar - 1, record.FirstTagged - 1},
		layout: record.NewLayout(nil),
	}
}

// nextID is the id of a further column. Ids are never used again: old rows hold values of
// dropped columns.
func (s *schema) nextID(d *ColumnDef) (record.ColumnID, error) {
	class := 2
	switch {
	case d.Type.IsLong() || d.Tagged:
	case d.Type.FixedSize() > 0:
		class = 0
	case d.Type == Binary || d.Type == Text:
		class = 1
	default:
		return 0, fmt.Errorf("%w: column %s has type %d", ErrSchema, d.Name, d.Type)
	}
	id := s.last[class] + 1
	if id == record.FirstVar && class == 0 || id == record.FirstTagged && class == 1 || id > lastTagged {
		return 0, fmt.Errorf("%w: a table has at most 127 fixed and 128 variable columns, dropped ones counted", ErrSchema)
	}
	return id, nil
}

// lastTagged is the highest column id (ESE: ccolTaggedMost).
const lastTagged record.ColumnID = 0xfee0

// with is the schema with further columns, whose ids are set.
func (s *schema) with(cols ...*Column) *schema {
	n := *s
	n.cols = append(s.cols[:len(s.cols):len(s.cols)], cols...)
	for i, c := range n.cols {
		if c.pos != i { // others may be reading those that were there
			c.pos = i
		}
	}
	n.byID = slices.Clone(n.cols)
	slices.SortFunc(n.byID, func(a, b *Column) int { return cmp.Compare(a.id, b.id) })
	n.sizes = s.sizes[:len(s.sizes):len(s.sizes)]
	for _, c := range cols {
		n.reserve(c.id, c.typ.FixedSize())
	}
	n.layout = record.NewLayout(n.sizes)
	return &n
}

// reserve keeps a column's id and place for ever.
func (s *schema) reserve(id record.ColumnID, size int) {
	class := classOf(id)
	s.last[class] = max(s.last[class], id)
	if class == 0 {
		for len(s.sizes) < int(id) {
			s.sizes = append(s.sizes, 0)
		}
		s.sizes[id-1] = size
	}
}

// withIndexes is the schema with other secondary indexes.
func (s *schema) withIndexes(second []*Index) *schema {
	n := *s
	n.second = second
	return &n
}

const maxName = 64
