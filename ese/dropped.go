package ese

import (
	"errors"
	"slices"

	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/page"
	"pillarbox/ese/internal/version"
	"pillarbox/ese/internal/wal"
)

// droppedTable lists the trees that are dropped but still hold their pages, since an older
// snapshot may be reading them. Its rows are part of the transaction that drops; the pages
// come back in one record with the end of the row, so that a crash neither leaks nor frees
// them twice.
const droppedTable = "MSysPillarboxDropped"

func droppedDef() TableDef {
	return TableDef{
		Name: droppedTable,
		Columns: []ColumnDef{
			{Name: "Objid", Type: Long, NotNull: true},
			{Name: "Root", Type: Long, NotNull: true},
			{Name: "Parent", Type: Long, NotNull: true},
		},
		Indexes: []IndexDef{{Name: "Objid", Primary: true, Columns: indexColumns("Objid")}},
	}
}

// droppedTree is a row of the list.
type droppedTree struct {
	obj          page.ObjID
	root, parent page.No
	life
}

// systemTable finds one of the engine's tables that are made at first use.
func (tx *Tx) systemTable(db *Database, def TableDef) (*Table, error) {
	t, err := tx.Table(db, def.Name)
	if errors.Is(err, ErrNotFound) {
		return tx.CreateTable(db, def)
	}
	return t, err
}

// dropTree puts a tree on the list.
func (tx *Tx) dropTree(db *Database, obj page.ObjID, root, parent page.No, mark int) error {
	t, err := tx.systemTable(db, droppedDef())
	if err != nil {
		return err
	}
	r := t.NewRow().Set(t.col("Objid"), Int(obj))
	r.Set(t.col("Root"), Int(root)).Set(t.col("Parent"), Int(parent))
	if err := tx.Insert(r); err != nil {
		return err
	}
	d := &droppedTree{obj: obj, root: root, parent: parent}
	d.dropped.Store(&tx.v)
	db.addDropped(d)
	tx.undo = append(tx.undo, undoHook{mark, func() { db.removeDropped(d) }})
	return nil
}

func (db *Database) addDropped(d *droppedTree) {
	db.tableMu.Lock()
	defer db.tableMu.Unlock()
	db.dropped = append(db.dropped, d)
}

func (db *Database) removeDropped(d *droppedTree) {
	db.tableMu.Lock()
	defer db.tableMu.Unlock()
	db.dropped = slices.DeleteFunc(db.dropped, func(o *droppedTree) bool { return o == d })
}

// loadDropped reads the list of an attached database: no snapshot is older.
func (db *Database) loadDropped(tx *Tx) error {
	t, err := db.Table(droppedTable)
	if err != nil {
		return nil // nothing was ever dropped
	}
	c := tx.Cursor(t.primary)
	ok, err := c.First()
	for ; ok && err == nil; ok, err = c.Next() {
		v := c.Row()
		d := &droppedTree{
			obj: page.ObjID(v.Int(t.col("Objid"))), root: page.No(v.Int(t.col("Root"))),
			parent: page.No(v.Int(t.col("Parent"))),
		}
		d.dropped.Store(&version.Tx{})
		db.addDropped(d)
		db.lastObj.Store(max(db.lastObj.Load(), uint32(d.obj)))
	}
	return err
}

// freeDropped gives back the pages of dropped trees that no snapshot sees any more. rounds
// bounds the work; below 0 all is done.
func (in *Instance) freeDropped(rounds int) error {
	for _, db := range in.databases() {
		for ; rounds != 0; rounds-- {
			d := db.nextDropped(in.versions.Oldest())
			if d == nil {
				break
			}
			err := in.freeDroppedTree(db, d)
			if errors.Is(err, wal.ErrTooLarge) { // it stays on the list for larger log files
				in.o.Logger.Warn("dropped tree keeps its pages: raise GenerationBytes and open again",
					"database", db.name, "object", uint32(d.obj), "error", err)
			} else if err != nil {
				return err
			}
			db.removeDropped(d)
		}
		db.forgetDropped(in.versions.Oldest())
	}
	return nil
}

// nextDropped chooses a tree whose pages may come back, one inside another tree first.
func (db *Database) nextDropped(oldest version.Seq) *droppedTree {
	db.tableMu.RLock()
	defer db.tableMu.RUnlock()
	var best *droppedTree
	for _, d := range db.dropped {
		by := d.dropped.Load()
		restored := by.ID == 0 // on the list since before the instance was opened
		if (restored || d.goneFor(oldest)) && (best == nil || d.parent != 1) {
			best = d
		}
	}
	return best
}

// freeDroppedTree frees one tree, in a transaction of its own.
func (in *Instance) freeDroppedTree(db *Database, d *droppedTree) error {
	tx := in.Begin()
	if err := tx.freeListed(db, d); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	_, err := tx.CommitLazy()
	return err
}

// freeListed frees one tree and ends its row. That is one step to recovery: the record of the
// pages is a compensation that names nothing before it, so undo passes the row by. Behind it
// the transaction must not be rolled back.
func (tx *Tx) freeListed(db *Database, d *droppedTree) error {
	t, err := db.Table(droppedTable)
	if err == nil {
		err = tx.Delete(t, Int(d.obj))
	}
	if err != nil {
		return err
	}
	in := tx.in
	in.trees.Delete(version.MakeTreeID(db.id, uint32(d.obj))) // nobody cleans up in it any more
	pos, err := in.freeTree(&logrec.TreeRec{
		Tx: tx.v.ID, Prev: tx.v.Last, CLR: true, DB: db.id, Obj: d.obj, Root: d.root, Parent: d.parent,
	}, false)
	if err == nil {
		tx.v.Last = max(tx.v.Last, pos)
	}
	return err
}

// forgetDropped lets go what no transaction sees any more.
func (db *Database) forgetDropped(oldest version.Seq) {
	db.tableMu.Lock()
	defer db.tableMu.Unlock()
	for _, l := range db.names {
		for _, n := range slices.Clone(l) {
			if n.goneFor(oldest) {
				db.forget(n)
				if n.t.goneFor(oldest) {
					db.closeTrees(n.t)
				}
				continue
			}
			s := n.t.s.Load()
			for _, x := range s.second {
				if x.goneFor(oldest) {
					n.t.s.Store(n.t.s.Load().withoutIndex(x))
				}
			}
		}
	}
}

// closeTrees closes the trees of a table that is gone.
func (db *Database) closeTrees(t *Table) {
	db.in.trees.Delete(t.tree.ID())
	for _, x := range t.s.Load().second {
		db.in.trees.Delete(x.tree.ID())
	}
	if lv := t.lv.Load(); lv != nil {
		db.in.trees.Delete(lv.ID())
	}
}
