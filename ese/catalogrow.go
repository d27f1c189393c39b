package ese

import (
	"encoding/binary"

	"pillarbox/ese/internal/btree"
	"pillarbox/ese/internal/page"
)

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
		col := t.col
		r := t.NewRow()
		r.Set(col("ObjidTable"), Int(c.table)).Set(col("Type"), Int(c.typ)).Set(col("Id"), Int(c.id))
		r.Set(col("ColtypOrPgnoFDP"), Int(c.pgno)).Set(col("SpaceUsage"), Int(c.usage))
		r.Set(col("Flags"), Int(c.flags)).Set(col("PagesOrLocale"), Int(c.pages))
		r.Set(col("Name"), String(c.name))
		if c.root {
			r.Set(col("RootFlag"), Bool(true))
		}
		if c.offset >= 0 {
			r.Set(col("RecordOffset"), Int(c.offset))
		}
		if c.keyMost > 0 {
			r.Set(col("KeyMost"), Int(c.keyMost))
		}
		if c.lvChunk > 0 {
			r.Set(col("LVChunkMax"), Int(c.lvChunk))
		}
		if c.def != nil {
			r.Set(col("DefaultValue"), Bytes(c.def))
		}
		if c.keys != nil {
			r.Set(col("KeyFldIDs"), Bytes(c.keys))
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
	lv := t.lv.Load()
	if lv != nil {
		chunk = chunkSize(db.in.o.PageSize)
	}
	if err := db.put(tx, catRow{
		table: t.obj, typ: catTable, id: uint32(t.obj), pgno: uint32(t.root), usage: tableDensity,
		flags: flags, pages: 4, root: true, offset: -1, lvChunk: chunk, name: t.Name(),
	}); err != nil {
		return err
	}
	s := t.s.Load()
	for _, c := range s.byID {
		if err := db.put(tx, c.row(t, s)); err != nil {
			return err
		}
	}
	for _, x := range append([]*Index{t.primary}, s.second...) {
		if err := db.put(tx, x.row(t)); err != nil {
			return err
		}
	}
	if lv == nil {
		return nil
	}
	return db.put(tx, lvRow(t, lv))
}

// lvRow is the catalog row of a table's long values.
func lvRow(t *Table, lv *btree.Tree) catRow {
	return catRow{
		table: t.obj, typ: catLV, id: uint32(lv.Obj), pgno: uint32(lv.Root),
		usage: tableDensity, pages: 4, offset: -1, name: "LV",
	}
}

// row is the column's catalog row.
func (c *Column) row(t *Table, s *schema) catRow {
	r := catRow{
		table: t.obj, typ: catColumn, id: uint32(c.id), pgno: uint32(c.typ),
		usage: uint32(c.typ.FixedSize()), offset: -1, name: c.name, def: c.def,
	}
	if c.id.IsFixed() {
		r.offset = s.layout.Start(c.id)
	}
	if c.typ == Text || c.typ == LongText {
		r.pages = codePageText
	}
	if c.typ == Text || c.typ == Binary {
		r.usage = 255
	}
	for flag, set := range map[uint32]bool{
		colNotNull: c.notNil, colAuto: c.auto, colMulti: c.multi, colDefault: c.def != nil, colEscrow: c.escrow,
		colCompressed: c.packed,
	} {
		if set {
			r.flags |= flag
		}
	}
	return r
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
	if x.multi {
		r.flags |= idxMulti
	}
	if x.build != nil {
		r.flags |= idxBuilding
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
