package ese

import (
	"encoding/binary"
	"errors"
	"fmt"

	"pillarbox/ese/internal/btree"
	"pillarbox/ese/internal/page"
	"pillarbox/ese/internal/record"
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
	colNotNull      = 0x1
	colDefault      = 0x10
	colEscrow       = 0x20
	idxUnique       = 0x1
	idxAllowNulls   = 0x2 | 0x4 | 0x8
	idxPrimary      = 0x20
	idxExtended     = 0x10000
	tableSystem     = 0xc0000000
	segDescending   = 0x40
	formatVersion   = 1
	compatFeatures  = 0
	readOnlyCompat  = 0
	incompatPresent = 0
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
	ids, err := assignIDs(def.Columns)
	if err != nil {
		return nil, err
	}
	cols := make([]*Column, len(ids))
	for i, d := range def.Columns {
		cols[i] = &Column{id: ids[i], typ: d.Type, name: d.Name, notNil: d.NotNull || d.Escrow, escrow: d.Escrow}
	}
	t := db.tableOf(def.Name, cols)
	for _, x := range def.Indexes {
		ix := &Index{table: t, name: x.Name, unique: x.Unique || x.Primary, sparse: x.Sparse, prim: x.Primary}
		for _, c := range x.Columns {
			ix.cols = append(ix.cols, t.byName[c.Name])
			ix.desc = append(ix.desc, c.Descending)
		}
		t.addIndex(ix)
	}
	return t, nil
}

// tableOf makes a table of columns in any order.
func (db *Database) tableOf(name string, cols []*Column) *Table {
	t := &Table{db: db, name: name, byName: make(map[string]*Column)}
	sizes := []int{}
	byID := make(map[record.ColumnID]*Column)
	for _, c := range cols {
		t.byName[c.name] = c
		byID[c.id] = c
	}
	for _, r := range [][2]record.ColumnID{
		{record.FirstFixed, record.LastFixed},
		{record.FirstVar, record.LastVar},
		{record.FirstTagged, record.FirstTagged + record.ColumnID(len(cols))},
	} {
		for id := r[0]; id <= r[1]; id++ {
			c := byID[id]
			if c == nil {
				continue
			}
			c.pos = len(t.cols)
			t.cols = append(t.cols, c)
			if id.IsFixed() {
				sizes = append(sizes, c.typ.FixedSize())
			}
		}
	}
	t.layout = record.NewLayout(sizes)
	return t
}

func (t *Table) addIndex(x *Index) {
	if x.prim {
		t.primary = x
		return
	}
	t.second = append(t.second, x)
}

func (t *Table) hasLong() bool {
	for _, c := range t.cols {
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
	for _, x := range t.second {
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
	cat.second[0].obj, cat.second[1].obj = objNameIndex, objRootIndex
	type tree struct {
		root   *page.No
		parent page.No
		obj    page.ObjID
		flags  page.Flags
		pages  int
	}
	for _, t := range []tree{
		{&cat.root, 1, objCatalog, 0, catalogPages},
		{&cat.second[0].root, catalogRoot, objNameIndex, page.FlagIndex, 0},
		{&cat.second[1].root, catalogRoot, objRootIndex, page.FlagIndex, 0},
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
	t, err := db.Table(versionTable)
	if err != nil {
		return err
	}
	r := t.NewRow()
	r.Set(t.byName["Key"], Int(1)).Set(t.byName["FormatVersion"], Int(formatVersion))
	r.Set(t.byName["Compatible"], Int(compatFeatures)).Set(t.byName["ReadOnlyCompatible"], Int(readOnlyCompat))
	r.Set(t.byName["Incompatible"], Int(incompatPresent))
	return tx.Insert(r)
}

// catRow is one row of the catalog being written.
type catRow struct {
	table                  page.ObjID
	typ                    int
	id, pgno, usage, flags uint32
	pages                  int
	root                   bool
	offset                 int // -1: NULL
	keyMost, lvChunk       int // 0: NULL
	name                   string
	keys                   []byte
	def                    []byte // nil: NULL
}

// put writes a row to the catalog and its shadow.
func (db *Database) put(tx *Tx, c catRow) error {
	for _, t := range []*Table{db.catalog, db.shadow} {
		col := t.byName
		r := t.NewRow()
		r.Set(col["ObjidTable"], Int(c.table)).Set(col["Type"], Int(c.typ)).Set(col["Id"], Int(c.id))
		r.Set(col["ColtypOrPgnoFDP"], Int(c.pgno)).Set(col["SpaceUsage"], Int(c.usage))
		r.Set(col["Flags"], Int(c.flags)).Set(col["PagesOrLocale"], Int(c.pages))
		r.Set(col["Name"], String(c.name))
		if c.root {
			r.Set(col["RootFlag"], Bool(true))
		}
		if c.offset >= 0 {
			r.Set(col["RecordOffset"], Int(c.offset))
		}
		if c.keyMost > 0 {
			r.Set(col["KeyMost"], Int(c.keyMost))
		}
		if c.lvChunk > 0 {
			r.Set(col["LVChunkMax"], Int(c.lvChunk))
		}
		if c.def != nil {
			r.Set(col["DefaultValue"], Bytes(c.def))
		}
		if c.keys != nil {
			r.Set(col["KeyFldIDs"], Bytes(c.keys))
		}
		if err := tx.Insert(r); err != nil {
			return err
		}
	}
	return nil
}

// describe writes the catalog rows of a table.
func (db *Database) describe(tx *Tx, t *Table, flags uint32) error {
	chunk := 0
	if t.lv != nil {
		chunk = chunkSize(db.in.o.PageSize)
	}
	if err := db.put(tx, catRow{
		table: t.obj, typ: catTable, id: uint32(t.obj), pgno: uint32(t.root), usage: tableDensity,
		flags: flags, pages: 4, root: true, offset: -1, lvChunk: chunk, name: t.name,
	}); err != nil {
		return err
	}
	offset := 4
	for _, c := range t.cols {
		row := catRow{
			table: t.obj, typ: catColumn, id: uint32(c.id), pgno: uint32(c.typ),
			usage: uint32(c.typ.FixedSize()), offset: -1, name: c.name,
		}
		if c.id.IsFixed() {
			row.offset = offset
			offset += c.typ.FixedSize()
		}
		if c.typ == Text || c.typ == LongText {
			row.pages = codePageText
		}
		if c.typ == Text || c.typ == Binary {
			row.usage = 255
		}
		if c.notNil {
			row.flags |= colNotNull
		}
		if c.escrow {
			row.flags |= colEscrow | colDefault
			row.def = make([]byte, c.typ.FixedSize())
		}
		if err := db.put(tx, row); err != nil {
			return err
		}
	}
	for _, x := range append([]*Index{t.primary}, t.second...) {
		if err := db.put(tx, x.row(t)); err != nil {
			return err
		}
	}
	if t.lv == nil {
		return nil
	}
	return db.put(tx, catRow{
		table: t.obj, typ: catLV, id: uint32(t.lv.Obj), pgno: uint32(t.lv.Root),
		usage: tableDensity, pages: 4, offset: -1, name: "LV",
	})
}

// row is the index's catalog row.
func (x *Index) row(t *Table) catRow {
	r := catRow{
		table: t.obj, typ: catIndex, id: uint32(x.obj), pgno: uint32(x.root), usage: tableDensity,
		flags: idxExtended, pages: localeInvarian, offset: -1, keyMost: keyLimit(t.db.in.o.PageSize),
		name: x.name,
	}
	if x.prim {
		r.id, r.pgno = uint32(t.obj), uint32(t.root)
		r.flags |= idxPrimary | idxUnique
	} else if x.unique {
		r.flags |= idxUnique
	}
	if !x.sparse {
		r.flags |= idxAllowNulls
	}
	for i, c := range x.cols {
		seg := [4]byte{}
		if x.desc[i] {
			seg[0] = segDescending
		}
		binary.LittleEndian.PutUint16(seg[2:], uint16(c.id))
		r.keys = append(r.keys, seg[:]...)
	}
	return r
}

// CreateTable makes a table. Others see it once the transaction has committed, and must not
// use it before.
func (tx *Tx) CreateTable(db *Database, def TableDef) (*Table, error) {
	if err := tx.writable(); err != nil {
		return nil, err
	}
	if err := checkDef(&def); err != nil {
		return nil, err
	}
	if _, err := db.Table(def.Name); err == nil {
		return nil, fmt.Errorf("table %s: %w", def.Name, ErrKeyExists)
	}
	t, err := db.newTable(&def)
	if err != nil {
		return nil, err
	}
	mark := tx.v.Mark()
	if err := tx.makeTable(t); err != nil {
		return nil, fmt.Errorf("create table %s: %w", def.Name, tx.fallBack(mark, err))
	}
	db.tableMu.Lock()
	db.tables[def.Name] = t
	db.tableMu.Unlock()
	tx.undo = append(tx.undo, undoHook{mark, func() {
		db.tableMu.Lock()
		delete(db.tables, def.Name)
		db.tableMu.Unlock()
	}})
	return t, nil
}

func (tx *Tx) makeTable(t *Table) error {
	db := t.db
	newObj := func() page.ObjID { return page.ObjID(db.lastObj.Add(1)) }
	var err error
	t.obj = newObj()
	if t.root, err = tx.makeTree(db, 1, t.obj, 0, 0); err != nil {
		return err
	}
	for _, x := range t.second {
		f := page.FlagIndex
		if !x.unique {
			f |= page.FlagNonUnique
		}
		x.obj = newObj()
		if x.root, err = tx.makeTree(db, t.root, x.obj, f, 0); err != nil {
			return err
		}
	}
	if t.hasLong() {
		obj := newObj()
		root, err := tx.makeTree(db, t.root, obj, page.FlagLongValue, 0)
		if err != nil {
			return err
		}
		t.lv = db.openTree(obj, root, false)
	}
	t.openTrees()
	return db.describe(tx, t, 0)
}

// Table finds a table by name.
func (db *Database) Table(name string) (*Table, error) {
	db.tableMu.RLock()
	defer db.tableMu.RUnlock()
	if t := db.tables[name]; t != nil {
		return t, nil
	}
	return nil, fmt.Errorf("table %s in %s: %w", name, db.name, ErrNotFound)
}

// Tables returns the names of all tables but the catalog's.
func (db *Database) Tables() []string {
	db.tableMu.RLock()
	defer db.tableMu.RUnlock()
	var out []string
	for n := range db.tables {
		out = append(out, n)
	}
	return out
}

// loadCatalog reads the catalog of an attached database.
func (db *Database) loadCatalog() error {
	def := catalogDef(catalogName)
	cat, err := db.newTable(&def)
	if err != nil {
		return err
	}
	cat.obj, cat.root = objCatalog, catalogRoot
	cat.second = nil
	cat.openTrees()
	tx := db.in.BeginReadLatest()
	defer func() { _ = tx.Rollback() }()
	rows, err := db.readCatalog(tx, cat)
	if err != nil {
		return fmt.Errorf("catalog of %s: %w", db.name, err)
	}
	tables := make(map[string]*Table)
	for _, c := range rows {
		t, err := db.assemble(tx, c)
		if err != nil {
			return fmt.Errorf("catalog of %s: %w", db.name, err)
		}
		tables[t.name] = t
		db.sawObj(t)
	}
	db.catalog, db.shadow = tables[catalogName], tables[shadowName]
	if db.catalog == nil || db.shadow == nil || tables[versionTable] == nil {
		db.catalog = nil
		return fmt.Errorf("catalog of %s: %w: system tables are missing", db.name, ErrNotFound)
	}
	delete(tables, catalogName)
	delete(tables, shadowName)
	db.tableMu.Lock()
	db.tables = tables
	db.tableMu.Unlock()
	if err := db.checkVersion(tx); err != nil {
		return err
	}
	return db.streams.load(tx)
}

// sawObj raises the last object id: the header's may be older than the catalog.
func (db *Database) sawObj(t *Table) {
	last := max(uint32(t.obj), db.lastObj.Load())
	for _, x := range t.second {
		last = max(last, uint32(x.obj))
	}
	if t.lv != nil {
		last = max(last, uint32(t.lv.Obj))
	}
	db.lastObj.Store(last)
}

// checkVersion refuses a file with features that this version lacks.
func (db *Database) checkVersion(tx *Tx) error {
	t, err := db.Table(versionTable)
	if err != nil {
		return err
	}
	var v RowView
	var buf []byte
	ok, err := tx.Get(t, &v, &buf, Int(1))
	if err != nil || !ok {
		return errors.Join(err, fmt.Errorf("%s: no format version: %w", db.name, ErrNewerFormat))
	}
	if v.Int(t.byName["FormatVersion"]) > formatVersion || v.Int(t.byName["Incompatible"]) != 0 ||
		v.Int(t.byName["ReadOnlyCompatible"]) != 0 {
		return fmt.Errorf("%s: %w", db.name, ErrNewerFormat)
	}
	return nil
}

// storedTable is what the catalog says of one table.
type storedTable struct {
	row  catRow
	cols []catRow
	idx  []catRow
	lv   *catRow
}

// readCatalog reads all rows, table by table.
func (db *Database) readCatalog(tx *Tx, cat *Table) ([]*storedTable, error) {
	col := cat.byName
	byObj := make(map[page.ObjID]*storedTable)
	var out []*storedTable
	c := tx.Cursor(cat.primary)
	ok, err := c.First()
	for ; ok && err == nil; ok, err = c.Next() {
		v := c.Row()
		r := catRow{
			table: page.ObjID(v.Int(col["ObjidTable"])), typ: int(v.Int(col["Type"])),
			id: uint32(v.Int(col["Id"])), pgno: uint32(v.Int(col["ColtypOrPgnoFDP"])),
			flags: uint32(v.Int(col["Flags"])), name: v.String(col["Name"]),
			keys: append([]byte(nil), v.Bytes(col["KeyFldIDs"])...),
		}
		t := byObj[r.table]
		if t == nil {
			t = &storedTable{}
			byObj[r.table] = t
			out = append(out, t)
		}
		switch r.typ {
		case catTable:
			t.row = r
		case catColumn:
			t.cols = append(t.cols, r)
		case catIndex:
			t.idx = append(t.idx, r)
		case catLV:
			t.lv = &r
		}
	}
	return out, err
}

// assemble makes a table of its catalog rows.
func (db *Database) assemble(tx *Tx, s *storedTable) (*Table, error) {
	var cols []*Column
	byID := make(map[record.ColumnID]*Column)
	for _, r := range s.cols {
		c := &Column{id: record.ColumnID(r.id), typ: ColumnType(r.pgno), name: r.name, notNil: r.flags&colNotNull != 0, escrow: r.flags&colEscrow != 0}
		cols = append(cols, c)
		byID[c.id] = c
	}
	t := db.tableOf(s.row.name, cols)
	t.obj, t.root = page.ObjID(s.row.id), page.No(s.row.pgno)
	for _, r := range s.idx {
		x := &Index{
			table: t, name: r.name, obj: page.ObjID(r.id), root: page.No(r.pgno),
			unique: r.flags&idxUnique != 0, prim: r.flags&idxPrimary != 0,
			sparse: r.flags&idxAllowNulls == 0,
		}
		for k := r.keys; len(k) >= 4; k = k[4:] {
			c := byID[record.ColumnID(binary.LittleEndian.Uint16(k[2:]))]
			if c == nil {
				return nil, fmt.Errorf("index %s of %s names a column that is not there", r.name, t.name)
			}
			x.cols = append(x.cols, c)
			x.desc = append(x.desc, k[0]&segDescending != 0)
		}
		t.addIndex(x)
	}
	if t.name == "" || t.primary == nil || len(t.cols) == 0 {
		return nil, fmt.Errorf("table %q (object %d) is incomplete", t.name, t.obj)
	}
	t.openTrees()
	if s.lv != nil {
		t.lv = db.openTree(page.ObjID(s.lv.id), page.No(s.lv.pgno), false)
		if err := t.loadLID(tx); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// loadLID finds the highest long-value id in use.
func (t *Table) loadLID(tx *Tx) error {
	c := t.lv.NewCursor(&tx.v)
	defer c.Release()
	ok, err := c.SeekBelow(nil)
	if err == nil && ok && len(c.Key()) >= 4 {
		t.nextLID.Store(binary.BigEndian.Uint32(c.Key()))
	}
	return err
}
