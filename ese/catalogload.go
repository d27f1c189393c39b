package ese

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"pillarbox/ese/internal/page"
	"pillarbox/ese/internal/record"
)

// loadCatalog reads the catalog of an attached database.
func (db *Database) loadCatalog() error {
	def := catalogDef(catalogName)
	cat, err := db.newTable(&def)
	if err != nil {
		return err
	}
	cat.obj, cat.root = objCatalog, catalogRoot
	cat.s.Store(cat.s.Load().withIndexes(nil))
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
		tables[t.Name()] = t
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
	db.names = make(map[string][]*tableName)
	for n, t := range tables {
		db.names[n] = []*tableName{{name: n, t: t}}
	}
	db.tableMu.Unlock()
	if err := db.checkVersion(tx); err != nil {
		return err
	}
	if err := db.loadDropped(tx); err != nil {
		return err
	}
	return db.streams.load(tx)
}

// sawObj raises the last object id: the header's may be older than the catalog.
func (db *Database) sawObj(t *Table) {
	last := max(uint32(t.obj), db.lastObj.Load())
	for _, x := range t.s.Load().second {
		last = max(last, uint32(x.obj))
	}
	if lv := t.lv.Load(); lv != nil {
		last = max(last, uint32(lv.Obj))
	}
	db.lastObj.Store(last)
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
	col := cat.col
	byObj := make(map[page.ObjID]*storedTable)
	var out []*storedTable
	c := tx.Cursor(cat.primary)
	ok, err := c.First()
	for ; ok && err == nil; ok, err = c.Next() {
		v := c.Row()
		r := catRow{
			table: page.ObjID(v.Int(col("ObjidTable"))), typ: int(v.Int(col("Type"))),
			id: uint32(v.Int(col("Id"))), pgno: uint32(v.Int(col("ColtypOrPgnoFDP"))),
			usage: uint32(v.Int(col("SpaceUsage"))),
			flags: uint32(v.Int(col("Flags"))), name: v.String(col("Name")),
			keys: bytes.Clone(v.Bytes(col("KeyFldIDs"))), def: bytes.Clone(v.Bytes(col("DefaultValue"))),
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
	t := db.tableOf(s.row.name)
	t.obj, t.root = page.ObjID(s.row.id), page.No(s.row.pgno)
	sch := newSchema()
	var cols []*Column
	byID := make(map[record.ColumnID]*Column)
	for _, r := range s.cols {
		id := record.ColumnID(r.id)
		if r.pgno == typeNil {
			sch.reserve(id, int(r.usage))
			continue
		}
		c := &Column{
			id: id, typ: ColumnType(r.pgno), name: r.name, notNil: r.flags&colNotNull != 0,
			escrow: r.flags&colEscrow != 0, auto: r.flags&colAuto != 0,
			multi: r.flags&colMulti != 0, packed: r.flags&colCompressed != 0,
		}
		if r.flags&colDefault != 0 {
			c.def = r.def
		}
		cols = append(cols, c)
		byID[c.id] = c
	}
	sch = sch.with(cols...)
	for _, r := range s.idx {
		x, err := t.indexOf(&r, byID)
		if err != nil {
			return nil, err
		}
		if x.prim {
			t.primary = x
		} else {
			sch.second = append(sch.second, x)
		}
	}
	t.s.Store(sch)
	if t.Name() == "" || t.primary == nil || len(cols) == 0 {
		return nil, fmt.Errorf("table %q (object %d) is incomplete", t.Name(), t.obj)
	}
	t.openTrees()
	if s.lv != nil {
		t.lv.Store(db.openTree(page.ObjID(s.lv.id), page.No(s.lv.pgno), false))
		if err := t.loadLID(tx); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// indexOf makes an index of its catalog row.
func (t *Table) indexOf(r *catRow, byID map[record.ColumnID]*Column) (*Index, error) {
	x := &Index{
		table: t, name: r.name, obj: page.ObjID(r.id), root: page.No(r.pgno),
		unique: r.flags&idxUnique != 0, prim: r.flags&idxPrimary != 0,
		sparse: r.flags&idxAllowNulls == 0,
	}
	if r.flags&idxBuilding != 0 {
		x.build = newBuild(x) // a crash or the end came between: it begins again
	}
	for k := r.keys; len(k) >= 4; k = k[4:] {
		c := byID[record.ColumnID(binary.LittleEndian.Uint16(k[2:]))]
		if c == nil {
			return nil, fmt.Errorf("index %s of %s names a column that is not there", r.name, t.Name())
		}
		x.cols = append(x.cols, c)
		x.multi = x.multi || c.multi
		x.desc = append(x.desc, k[0]&segDescending != 0)
	}
	return x, nil
}

// loadLID finds the highest long-value id in use.
func (t *Table) loadLID(tx *Tx) error {
	c := t.lv.Load().NewCursor(&tx.v)
	defer c.Release()
	ok, err := c.SeekBelow(nil)
	if err == nil && ok && len(c.Key()) >= 4 {
		t.nextLID.Store(binary.BigEndian.Uint32(c.Key()))
	}
	return err
}
