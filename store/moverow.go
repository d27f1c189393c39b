package store

import (
	"bytes"
	"slices"

	"pillarbox/ese"
)

// cell is the value of a column. A row that moves is carried whole, whatever columns it has.
type cell struct {
	null bool
	n    int64
	b    []byte
}

// movedRow is a row of a mailbox on its way: its cells in the order of movedTable.from.
type movedRow struct {
	cells []cell
	// hash and size are those of its content, where the table has a cid.
	hash []byte
	size int64
}

// movedTable is a table with rows of mailboxes, in the database they leave and in that they go to.
type movedTable struct {
	name     string
	src, dst *ese.Table
	from, to []*ese.Column
	key      []int // columns of the primary key
	mbx, cid int   // the columns of these names; -1 where there is none
	batch    int   // rows of a transaction
}

// movedTables finds the tables whose rows belong to a mailbox: those whose key begins with its
// number, and those whose key begins with its owner. Mailbox itself is not among them.
func movedTables(from, to *database) (list []*movedTable, err error) {
	for _, def := range tableDefs() {
		first := def.Indexes[0].Columns[0].Name
		if def.Name == "Mailbox" || first != "mbx" && first != "user" {
			continue
		}
		t, err := newMovedTable(def, from, to)
		if err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	return list, nil
}

func newMovedTable(def ese.TableDef, from, to *database) (t *movedTable, err error) {
	t = &movedTable{name: def.Name, mbx: -1, cid: -1, batch: moveBatch}
	if def.Name == "Folder" {
		t.batch = moveFolders
	}
	if t.src, err = from.db.Table(def.Name); err != nil {
		return nil, err
	}
	if t.dst, err = to.db.Table(def.Name); err != nil {
		return nil, err
	}
	for i, c := range def.Columns {
		src, err := t.src.Column(c.Name)
		if err != nil {
			return nil, err
		}
		dst, err := t.dst.Column(c.Name)
		if err != nil {
			return nil, err
		}
		t.from, t.to = append(t.from, src), append(t.to, dst)
		switch c.Name {
		case "mbx":
			t.mbx = i
		case "cid":
			t.cid = i
		}
	}
	for _, k := range def.Indexes[0].Columns {
		t.key = append(t.key, slices.IndexFunc(t.from, func(c *ese.Column) bool {
			return c.Name() == k.Name
		}))
	}
	return t, nil
}

// read takes the cells of a row.
func (t *movedTable) read(cols []*ese.Column, v *ese.RowView) (r movedRow, err error) {
	r.cells = make([]cell, len(cols))
	for i, c := range cols {
		x := &r.cells[i]
		if x.null = v.IsNull(c); x.null {
			continue
		}
		switch c.Type() {
		case ese.Binary, ese.GUID:
			x.b = bytes.Clone(v.Bytes(c))
		case ese.LongBinary:
			if x.b, err = v.Blob(c, nil); err != nil {
				return r, err
			}
		default:
			x.n = v.Int(c)
		}
	}
	return r, nil
}

func (c *cell) value(t ese.ColumnType) ese.Value {
	switch {
	case c.null:
		return ese.Null()
	case t == ese.Binary || t == ese.GUID || t == ese.LongBinary:
		return ese.Bytes(c.b)
	}
	return ese.Int(c.n)
}

// row is the row as the target takes it.
func (t *movedTable) row(r *movedRow) *ese.Row {
	row := t.dst.NewRow()
	for i, c := range t.to {
		row.Set(c, r.cells[i].value(c.Type()))
	}
	return row
}

// keyOf is the row's primary key.
func (t *movedTable) keyOf(r *movedRow) (key []ese.Value) {
	for _, i := range t.key {
		key = append(key, r.cells[i].value(t.to[i].Type()))
	}
	return key
}

// compareKeys orders rows of one mailbox as the primary index does.
func (t *movedTable) compareKeys(a, b *movedRow) int {
	for _, i := range t.key {
		if i == t.mbx {
			continue
		}
		x, y := &a.cells[i], &b.cells[i]
		switch {
		case x.n < y.n:
			return -1
		case x.n > y.n:
			return 1
		}
		if n := bytes.Compare(x.b, y.b); n != 0 {
			return n
		}
	}
	return 0
}

// same tells whether two rows are equal but for the numbers that only their database knows.
func (t *movedTable) same(a, b *movedRow) bool {
	for i := range a.cells {
		x, y := &a.cells[i], &b.cells[i]
		if i == t.mbx || i == t.cid {
			continue
		}
		if x.null != y.null || x.n != y.n || !bytes.Equal(x.b, y.b) {
			return false
		}
	}
	return true
}
