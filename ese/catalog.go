package ese

import (
	"errors"
	"fmt"

	"pillarbox/ese/internal/btree"
	"pillarbox/ese/internal/page"
)

// The catalog (docs/format-edb.md, "Catalog"): MSysObjects describes every table, column,
// index and long-value tree, itself included; MSysObjectsShadow holds the same rows.
const (
	objCatalog     page.ObjID = 2
	objShadow      page.ObjID = 3
	objNameIndex   page.ObjID = 4
	objRootIndex   page.ObjID = 5
	lastSystemObj  page.ObjID = 7
	catalogRoot    page.No    = 4
	shadowRoot     page.No    = 24
	catalogPages              = 20
	catalogName               = "MSysObjects"
	shadowName                = "MSysObjectsShadow"
	versionTable              = "MSysPillarbox"
	tableDensity              = 80
	localeInvarian            = 0x409
	codePageText              = 1252
)

// The types of catalog rows.
const (
	catTable  = 1
	catColumn = 2
	catIndex  = 3
	catLV     = 4
)

// Flags of catalog rows.
const (
	colNotNull    = 0x1
	colAuto       = 0x4
	colMulti      = 0x8
	colDefault    = 0x10
	colEscrow     = 0x20
	colCompressed = 0x1000
	idxUnique     = 0x1
	idxAllowNulls = 0x2 | 0x4 | 0x8
	idxPrimary    = 0x20
	idxMulti      = 0x80
	idxBuilding   = 0x40000
	idxExtended   = 0x10000
	tableSystem   = 0xc0000000
	segDescending = 0x40
	formatVersion = 1
)

// catalogDef is MSysObjects as Windows 8 and Exchange 2013 write it: 28 columns.
func catalogDef(name string) TableDef {
	long := func(n string, t ColumnType) ColumnDef { return ColumnDef{Name: n, Type: t} }
	d := TableDef{Name: name, Columns: []ColumnDef{
		{Name: "ObjidTable", Type: Long, NotNull: true},
		{Name: "Type", Type: Short, NotNull: true},
		{Name: "Id", Type: Long, NotNull: true},
		{Name: "ColtypOrPgnoFDP", Type: Long, NotNull: true},
		{Name: "SpaceUsage", Type: Long, NotNull: true},
		long("Flags", Long), long("PagesOrLocale", Long), long("RootFlag", Bit),
		long("RecordOffset", Short), long("LCMapFlags", Long), long("KeyMost", UnsignedShort),
		long("LVChunkMax", Long),
		long("Name", Text), long("Stats", Binary), long("TemplateTable", Text),
		long("DefaultValue", Binary), long("KeyFldIDs", Binary), long("VarSegMac", Binary),
		long("ConditionalColumns", Binary), long("TupleLimits", Binary), long("Version", Binary),
		long("SortID", Binary),
		long("CallbackData", LongBinary), long("CallbackDependencies", LongBinary),
		long("SeparateLV", LongBinary), long("SpaceHints", LongBinary),
		long("SpaceDeferredLVHints", LongBinary), long("LocaleName", LongBinary),
	}}
	d.Indexes = []IndexDef{{Name: "Id", Primary: true, Columns: indexColumns("ObjidTable", "Type", "Id")}}
	if name == catalogName {
		d.Indexes = append(d.Indexes,
			IndexDef{Name: "Name", Unique: true, Columns: indexColumns("ObjidTable", "Type", "Name")},
			IndexDef{Name: "RootObjects", Unique: true, Sparse: true, Columns: indexColumns("RootFlag", "Name")})
	}
	return d
}

func indexColumns(names ...string) []IndexColumn {
	var out []IndexColumn
	for _, n := range names {
		out = append(out, IndexColumn{Name: n})
	}
	return out
}

// newTable makes the in-memory table of a definition; roots are set by the caller.
func (db *Database) newTable(def *TableDef) (*Table, error) {
	s := newSchema()
	for i := range def.Columns {
		c, err := def.Columns[i].column(s)
		if err != nil {
			return nil, err
		}
		s = s.with(c)
	}
	t := db.tableOf(def.Name)
	for i := range def.Indexes {
		d := &def.Indexes[i]
		if err := checkIndex(def.Name, d, s.find); err != nil {
			return nil, err
		}
		if x := newIndex(t, d, s.find); x.prim {
			t.primary = x
		} else {
			s.second = append(s.second, x)
		}
	}
	t.s.Store(s)
	return t, nil
}

// find finds a column of a new table by name.
func (s *schema) find(name string) *Column {
	for _, c := range s.cols {
		if c.name == name {
			return c
		}
	}
	return nil
}

// newIndex makes the in-memory index of a definition that was checked.
func newIndex(t *Table, d *IndexDef, find func(string) *Column) *Index {
	x := &Index{table: t, name: d.Name, unique: d.Unique || d.Primary, sparse: d.Sparse, prim: d.Primary}
	for _, c := range d.Columns {
		x.cols = append(x.cols, find(c.Name))
		x.multi = x.multi || find(c.Name).multi
		x.desc = append(x.desc, c.Descending)
	}
	return x
}

// tableOf makes a table without columns.
func (db *Database) tableOf(name string) *Table {
	t := &Table{db: db}
	t.label.Store(&name)
	t.s.Store(newSchema())
	return t
}

func (s *schema) hasLong() bool {
	for _, c := range s.cols {
		if c.long() {
			return true
		}
	}
	return false
}

// openTree opens a tree once for the whole instance.
func (db *Database) openTree(obj page.ObjID, root page.No, nonUnique bool) *btree.Tree {
	t := btree.NewTree(db.in.env, db.file, obj, root, nonUnique, db.space)
	got, _ := db.in.trees.LoadOrStore(t.ID(), t)
	return got.(*btree.Tree)
}

// openTrees opens the trees of a table whose roots are known.
func (t *Table) openTrees() {
	t.tree = t.db.openTree(t.obj, t.root, false)
	t.primary.tree, t.primary.obj, t.primary.root = t.tree, t.obj, t.root
	for _, x := range t.s.Load().second {
		x.tree = t.db.openTree(x.obj, x.root, !x.unique)
	}
}

// bootstrap makes the catalog of a new database: space first, then the trees at the places
// where readers look for them, then the rows, in one transaction.
func (db *Database) bootstrap() error {
	db.space.Lock()
	m := db.in.env.NewMtr()
	err := db.space.Init(m)
	if err == nil {
		err = m.Commit()
	} else {
		m.Abort()
	}
	db.space.Unlock()
	if err != nil {
		return err
	}
	tx := db.in.Begin()
	if err := db.makeCatalog(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	_, err = tx.Commit()
	return err
}

func (db *Database) makeCatalog(tx *Tx) error {
	cdef, sdef := catalogDef(catalogName), catalogDef(shadowName)
	cat, err := db.newTable(&cdef)
	if err != nil {
		return err
	}
	shadow, err := db.newTable(&sdef)
	if err != nil {
		return err
	}
	cat.obj, shadow.obj = objCatalog, objShadow
	names := cat.s.Load().second
	names[0].obj, names[1].obj = objNameIndex, objRootIndex
	type tree struct {
		root   *page.No
		parent page.No
		obj    page.ObjID
		flags  page.Flags
		pages  int
	}
	for _, t := range []tree{
		{&cat.root, 1, objCatalog, 0, catalogPages},
		{&names[0].root, catalogRoot, objNameIndex, page.FlagIndex, 0},
		{&names[1].root, catalogRoot, objRootIndex, page.FlagIndex, 0},
		{&shadow.root, 1, objShadow, 0, 0},
	} {
		if *t.root, err = tx.makeTree(db, t.parent, t.obj, t.flags, t.pages); err != nil {
			return err
		}
	}
	if cat.root != catalogRoot || shadow.root != shadowRoot {
		return fmt.Errorf("catalog at page %d, its shadow at %d: a new database puts them at %d and %d",
			cat.root, shadow.root, catalogRoot, shadowRoot)
	}
	cat.openTrees()
	shadow.openTrees()
	db.catalog, db.shadow = cat, shadow
	db.lastObj.Store(uint32(lastSystemObj))
	for _, t := range []*Table{cat, shadow} {
		if err := db.describe(tx, t, tableSystem); err != nil {
			return err
		}
	}
	for _, def := range systemTables() {
		if _, err := tx.CreateTable(db, def); err != nil {
			return err
		}
	}
	return db.writeVersion(tx)
}

// systemTables are the engine's own tables.
func systemTables() []TableDef {
	return append([]TableDef{{
		Name: versionTable,
		Columns: []ColumnDef{
			{Name: "Key", Type: Long, NotNull: true},
			{Name: "FormatVersion", Type: Long},
			{Name: "Compatible", Type: LongLong},
			{Name: "ReadOnlyCompatible", Type: LongLong},
			{Name: "Incompatible", Type: LongLong},
		},
		Indexes: []IndexDef{{Name: "Key", Primary: true, Columns: indexColumns("Key")}},
	}}, streamTables()...)
}

// writeVersion writes the row that tells other versions what is used in the file.
func (db *Database) writeVersion(tx *Tx) error {
	t, err := tx.Table(db, versionTable)
	if err != nil {
		return err
	}
	r := t.NewRow()
	r.Set(t.col("Key"), Int(1)).Set(t.col("FormatVersion"), Int(formatVersion))
	r.Set(t.col("Compatible"), Int(0)).Set(t.col("ReadOnlyCompatible"), Int(0))
	r.Set(t.col("Incompatible"), Int(0))
	return tx.Insert(r)
}
