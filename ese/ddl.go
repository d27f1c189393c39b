package ese

import (
	"fmt"

	"pillarbox/ese/internal/page"
)

// Changes of the schema are part of a transaction like changes of rows: others see them from
// its commit on, and older snapshots go on as if nothing had happened (engine.md rule 4). One
// transaction at a time may change a table's schema; another gets ErrWriteConflict.

// CreateTable makes a table.
func (tx *Tx) CreateTable(db *Database, def TableDef) (*Table, error) {
	if err := tx.writable(); err != nil {
		return nil, err
	}
	if err := checkDef(&def); err != nil {
		return nil, err
	}
	if tx.nameOf(db, def.Name) != nil {
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
	t.made = &tx.v
	db.addName(tx, def.Name, t, mark)
	return t, nil
}

func (tx *Tx) makeTable(t *Table) error {
	var err error
	t.obj = t.db.newObj()
	if t.root, err = tx.makeTree(t.db, 1, t.obj, 0, 0); err != nil {
		return err
	}
	s := t.s.Load()
	for _, x := range s.second {
		if err := tx.makeIndexTree(t, x); err != nil {
			return err
		}
	}
	if s.hasLong() {
		if err := tx.makeLong(t); err != nil {
			return err
		}
	}
	t.openTrees()
	if err := t.db.describe(tx, t, 0); err != nil {
		return err
	}
	for _, c := range s.cols {
		if c.auto {
			if err := tx.addNumbers(t); err != nil {
				return err
			}
		}
		if c.def != nil || c.auto {
			if err := tx.uses(t.db, featureSchema); err != nil {
				return err
			}
		}
		if err := tx.usesColumn(t.db, c); err != nil {
			return err
		}
	}
	return nil
}

// newObj is the id of a new tree. Ids are not used again while the instance is open.
func (db *Database) newObj() page.ObjID { return page.ObjID(db.lastObj.Add(1)) }

func (tx *Tx) makeIndexTree(t *Table, x *Index) (err error) {
	f := page.FlagIndex
	if !x.unique {
		f |= page.FlagNonUnique
	}
	x.obj = t.db.newObj()
	x.root, err = tx.makeTree(t.db, t.root, x.obj, f, 0)
	return err
}

// makeLong makes a table's long-value tree.
func (tx *Tx) makeLong(t *Table) error {
	obj := t.db.newObj()
	root, err := tx.makeTree(t.db, t.root, obj, page.FlagLongValue, 0)
	if err == nil {
		t.lv.Store(t.db.openTree(obj, root, false))
	}
	return err
}

// alter runs a change of a table's schema: it keeps others from changing it too, and takes
// back what a failed one has done.
func (tx *Tx) alter(what string, t *Table, fn func(mark int) error) error {
	if err := tx.writable(); err != nil {
		return err
	}
	mark := tx.v.Mark()
	err := tx.sees(t)
	if err == nil {
		err = tx.Lock(t.db.catalog, Int(t.obj), Int(catTable), Int(t.obj))
	}
	if err == nil {
		err = tx.uses(t.db, featureSchema)
	}
	if err == nil {
		err = fn(mark)
	}
	if err != nil {
		return fmt.Errorf("%s of table %s: %w", what, t.Name(), tx.fallBack(mark, err))
	}
	return nil
}

// DropTable removes a table. Its pages come back when no older snapshot is left.
func (tx *Tx) DropTable(db *Database, name string) error {
	n := tx.nameOf(db, name)
	if n == nil {
		return fmt.Errorf("drop table %s: %w", name, ErrNotFound)
	}
	if n.t.system() {
		return fmt.Errorf("drop table %s: %w: the engine's own", name, ErrSchema)
	}
	return tx.alter("drop", n.t, func(mark int) error {
		t := n.t
		if err := db.removeRows(tx, t.obj); err != nil {
			return err
		}
		if err := tx.dropNumbers(t); err != nil {
			return err
		}
		if err := tx.dropTree(db, t.obj, t.root, 1, mark); err != nil {
			return err
		}
		n.drop(tx, mark)
		t.drop(tx, mark)
		return nil
	})
}

// system tells the engine's own tables.
func (t *Table) system() bool {
	for _, def := range systemTables() {
		if def.Name == t.Name() {
			return true
		}
	}
	return t == t.db.catalog || t == t.db.shadow || t.Name() == droppedTable || t.Name() == numberTable
}

// removeRows deletes all catalog rows of a table.
func (db *Database) removeRows(tx *Tx, obj page.ObjID) error {
	for _, t := range []*Table{db.catalog, db.shadow} {
		c := tx.Cursor(t.primary)
		if err := c.Prefix(Int(obj)); err != nil {
			return err
		}
		ok, err := c.First()
		for ; ok && err == nil; ok, err = c.Next() {
			if err := c.Delete(); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// RenameTable gives a table another name.
func (tx *Tx) RenameTable(db *Database, from, to string) error {
	n := tx.nameOf(db, from)
	if n == nil {
		return fmt.Errorf("rename table %s: %w", from, ErrNotFound)
	}
	if n.t.system() || to == "" || len(to) > maxName {
		return fmt.Errorf("rename table %s to %q: %w", from, to, ErrSchema)
	}
	if tx.nameOf(db, to) != nil {
		return fmt.Errorf("rename table %s to %s: %w", from, to, ErrKeyExists)
	}
	return tx.alter("rename", n.t, func(mark int) error {
		t := n.t
		if err := db.changeRow(tx, t.obj, catTable, uint32(t.obj), map[string]Value{"Name": String(to)}); err != nil {
			return err
		}
		n.drop(tx, mark)
		db.addName(tx, to, t, mark)
		tx.onCommit = append(tx.onCommit, func() {
			if tx.nameOf(db, to) != nil { // it was not taken back again
				t.label.Store(&to)
			}
		})
		return nil
	})
}

// changeRow changes columns of a catalog row, in the shadow too.
func (db *Database) changeRow(tx *Tx, obj page.ObjID, typ int, id uint32, vals map[string]Value) error {
	for _, t := range []*Table{db.catalog, db.shadow} {
		r := t.NewRow()
		for name, v := range vals {
			r.Set(t.col(name), v)
		}
		if err := tx.Update(r, Int(obj), Int(typ), Int(id)); err != nil {
			return err
		}
	}
	return nil
}
