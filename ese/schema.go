package ese

import (
	"fmt"
	"sync/atomic"

	"pillarbox/ese/internal/btree"
	"pillarbox/ese/internal/page"
	"pillarbox/ese/internal/record"
)

// ColumnDef describes a column of a new table.
type ColumnDef struct {
	Name string // at most 64 bytes
	Type ColumnType
	// Tagged keeps a Binary or Text column among the tagged ones: it then costs nothing where
	// it is NULL. LongBinary and LongText are always tagged.
	Tagged  bool
	NotNull bool
	// Escrow makes an integer of 4 or 8 bytes a sum that many transactions may add to at the
	// same time (Tx.Add). It is never NULL, 0 when not set, and in no index.
	Escrow bool
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

// Column is a column of a table.
type Column struct {
	id     record.ColumnID
	typ    ColumnType
	name   string
	pos    int // in Table.cols
	notNil bool
	escrow bool
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
	tree   *btree.Tree
}

// Name is the index's name.
func (x *Index) Name() string { return x.name }

// Table is the table it belongs to.
func (x *Index) Table() *Table { return x.table }

// Table is a table of a database. It is safe for concurrent use.
type Table struct {
	db      *Database
	name    string
	obj     page.ObjID
	root    page.No
	cols    []*Column // by id
	byName  map[string]*Column
	layout  *record.Layout
	primary *Index
	second  []*Index
	tree    *btree.Tree
	lv      *btree.Tree // long values; nil when the table has no long column
	nextLID atomic.Uint32
}

// Name is the table's name.
func (t *Table) Name() string { return t.name }

// Database is where the table lies.
func (t *Table) Database() *Database { return t.db }

// Primary is the clustered index.
func (t *Table) Primary() *Index { return t.primary }

// Columns returns the columns by id.
func (t *Table) Columns() []*Column { return t.cols }

// Column finds a column by name.
func (t *Table) Column(name string) (*Column, error) {
	if c := t.byName[name]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("column %s of table %s: %w", name, t.name, ErrNotFound)
}

// Index finds an index by name.
func (t *Table) Index(name string) (*Index, error) {
	if t.primary.name == name {
		return t.primary, nil
	}
	for _, x := range t.second {
		if x.name == name {
			return x, nil
		}
	}
	return nil, fmt.Errorf("index %s of table %s: %w", name, t.name, ErrNotFound)
}

// assignIDs gives each column its id by type.
func assignIDs(defs []ColumnDef) ([]record.ColumnID, error) {
	fixed, variable, tagged := record.FirstFixed, record.FirstVar, record.FirstTagged
	ids := make([]record.ColumnID, len(defs))
	for i, d := range defs {
		switch {
		case d.Type.FixedSize() > 0:
			ids[i] = fixed
			fixed++
		case d.Type.IsLong() || d.Tagged:
			ids[i] = tagged
			tagged++
		case d.Type == Binary || d.Type == Text:
			ids[i] = variable
			variable++
		default:
			return nil, fmt.Errorf("%w: column %s has type %d", ErrSchema, d.Name, d.Type)
		}
	}
	if fixed > record.LastFixed+1 || variable > record.LastVar+1 {
		return nil, fmt.Errorf("%w: at most 127 fixed and 128 variable columns", ErrSchema)
	}
	return ids, nil
}

// checkColumn refuses columns that cannot be stored.
func checkColumn(c *ColumnDef) error {
	if !c.Escrow {
		return nil
	}
	switch c.Type {
	case Long, UnsignedLong, LongLong, UnsignedLongLong, Currency:
		return nil
	}
	return fmt.Errorf("%w: escrow column %s is no integer of 4 or 8 bytes", ErrSchema, c.Name)
}

// checkDef refuses definitions that cannot be stored.
func checkDef(def *TableDef) error {
	if def.Name == "" || len(def.Name) > maxName {
		return fmt.Errorf("%w: table name %q", ErrSchema, def.Name)
	}
	names, sums := make(map[string]bool), make(map[string]bool)
	for _, c := range def.Columns {
		if c.Name == "" || len(c.Name) > maxName || names[c.Name] {
			return fmt.Errorf("%w: column name %q of table %s", ErrSchema, c.Name, def.Name)
		}
		names[c.Name], sums[c.Name] = true, c.Escrow
		if err := checkColumn(&c); err != nil {
			return fmt.Errorf("table %s: %w", def.Name, err)
		}
	}
	primaries := 0
	for _, x := range def.Indexes {
		if x.Name == "" || len(x.Name) > maxName || len(x.Columns) == 0 || len(x.Columns) > 12 {
			return fmt.Errorf("%w: index %q of table %s", ErrSchema, x.Name, def.Name)
		}
		for _, c := range x.Columns {
			if !names[c.Name] {
				return fmt.Errorf("%w: index %s of table %s: no column %s", ErrSchema, x.Name, def.Name, c.Name)
			}
			if sums[c.Name] {
				return fmt.Errorf("%w: index %s of table %s: escrow column %s cannot be a key", ErrSchema, x.Name, def.Name, c.Name)
			}
		}
		if x.Primary {
			primaries++
		}
	}
	if primaries != 1 {
		return fmt.Errorf("%w: table %s needs one primary index", ErrSchema, def.Name)
	}
	return nil
}

const maxName = 64
