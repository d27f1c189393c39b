package ese

import (
	"fmt"
	"slices"
)

// typeNil stands in the catalog for the type of a dropped column. Its row keeps the id and,
// of a fixed column, the place, since old rows still hold its values.
const typeNil = 0

// seenColumn finds a column of the transaction's snapshot by name.
func (tx *Tx) seenColumn(t *Table, name string) *Column {
	for _, c := range t.s.Load().cols {
		if c.name == name && c.seen(&tx.v) {
			return c
		}
	}
	return nil
}

// Column finds a column by name, as the transaction sees the table.
func (tx *Tx) Column(t *Table, name string) (*Column, error) {
	if c := tx.seenColumn(t, name); c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("column %s of table %s: %w", name, t.Name(), ErrNotFound)
}

// Index finds an index by name, as the transaction sees the table.
func (tx *Tx) Index(t *Table, name string) (*Index, error) {
	if t.primary.name == name {
		return t.primary, nil
	}
	for _, x := range t.s.Load().second {
		if x.name == name && x.seen(&tx.v) {
			return x, nil
		}
	}
	return nil, fmt.Errorf("index %s of table %s: %w", name, t.Name(), ErrNotFound)
}

// replace puts another schema in the place of the table's, and the old one back when the
// transaction takes the change back.
func (tx *Tx) replace(t *Table, mark int, change, back func(*schema) *schema) {
	t.db.tableMu.Lock()
	defer t.db.tableMu.Unlock()
	t.s.Store(change(t.s.Load()))
	tx.undo = append(tx.undo, undoHook{mark, func() {
		t.db.tableMu.Lock()
		defer t.db.tableMu.Unlock()
		t.s.Store(back(t.s.Load()))
	}})
}

// AddColumn adds a column to a table. Rows are not touched: those that do not have the column
// show its default. One that must not be NULL needs a default. An auto-increment column numbers
// the rows that are inserted from then on; those there are stay without a number, NULL.
func (tx *Tx) AddColumn(t *Table, def ColumnDef) (*Column, error) {
	if err := checkColumn(&def); err != nil {
		return nil, err
	}
	var c *Column
	return c, tx.alter("add column", t, func(mark int) (err error) {
		s := t.s.Load()
		if tx.seenColumn(t, def.Name) != nil {
			return fmt.Errorf("column %s: %w", def.Name, ErrKeyExists)
		}
		if c, err = def.column(s); err != nil {
			return err
		}
		if c.auto {
			if tx.numbered(t) {
				return fmt.Errorf("%w: column %s: another numbers the rows", ErrSchema, c.name)
			}
			c.notNil = def.NotNull
		}
		if c.notNil && c.def == nil {
			return fmt.Errorf("%w: column %s: the rows there are have no value for it", ErrSchema, c.name)
		}
		c.made = &tx.v
		s = s.with(c)
		if err := tx.usesColumn(t.db, c); err != nil {
			return err
		}
		if err := tx.storeColumn(t, s, c); err != nil {
			return err
		}
		tx.replace(t, mark,
			func(now *schema) *schema { return s.withIndexes(now.second) },
			func(now *schema) *schema { return now.without(c) })
		if c.auto {
			return tx.addNumbers(t)
		}
		return nil
	})
}

// numbered tells that a column of the table counts its rows.
func (tx *Tx) numbered(t *Table) bool {
	return slices.ContainsFunc(t.s.Load().cols, func(c *Column) bool {
		return c.auto && c.seen(&tx.v)
	})
}

// storeColumn writes a new column to the catalog, with the table's first long-value tree where
// it takes one.
func (tx *Tx) storeColumn(t *Table, s *schema, c *Column) error {
	db := t.db
	if c.long() && t.lv.Load() == nil {
		mark := tx.v.Mark()
		tx.undo = append(tx.undo, undoHook{mark, func() { t.lv.Store(nil) }})
		if err := tx.makeLong(t); err != nil {
			return err
		}
		if err := db.put(tx, lvRow(t, t.lv.Load())); err != nil {
			return err
		}
		chunk := map[string]Value{"LVChunkMax": Int(chunkSize(db.in.o.PageSize))}
		if err := db.changeRow(tx, t.obj, catTable, uint32(t.obj), chunk); err != nil {
			return err
		}
	}
	return db.put(tx, c.row(t, s))
}

// without is the schema without a column whose making was taken back: its last.
func (s *schema) without(c *Column) *schema {
	n := newSchema()
	n.last, n.sizes = s.last, slices.Clone(s.sizes)
	n.last[classOf(c.id)]--
	if c.id.IsFixed() {
		n.sizes = n.sizes[:c.id-1]
	}
	n = n.with(s.cols[:c.pos]...)
	n.second = s.second
	return n
}

// DropColumn removes a column that no index uses. Rows are not touched: its values go when a
// row is written next.
func (tx *Tx) DropColumn(t *Table, name string) error {
	return tx.alter("drop column", t, func(mark int) error {
		c := tx.seenColumn(t, name)
		if c == nil {
			return fmt.Errorf("column %s: %w", name, ErrNotFound)
		}
		for _, x := range append([]*Index{t.primary}, t.s.Load().second...) {
			if x.seen(&tx.v) && slices.Contains(x.cols, c) {
				return fmt.Errorf("%w: index %s uses column %s: drop it first", ErrSchema, x.name, name)
			}
		}
		if c.auto {
			return fmt.Errorf("%w: column %s numbers the rows", ErrSchema, name)
		}
		size := max(c.typ.FixedSize(), 0)
		if err := t.db.changeRow(tx, t.obj, catColumn, uint32(c.id), map[string]Value{
			"Name":            String(fmt.Sprintf("JetStub_%d_%d", t.obj, c.id)),
			"ColtypOrPgnoFDP": Int(typeNil), "SpaceUsage": Int(size), "Flags": Int(0),
			"PagesOrLocale": Int(0), "DefaultValue": Null(),
		}); err != nil {
			return err
		}
		c.drop(tx, mark)
		return nil
	})
}

// AddIndex adds a secondary index. From the commit on every writer keeps it up to date; its
// entries for the rows there are are built in the background, or by Instance.BuildIndex, and
// only then do transactions that begin see it ready.
func (tx *Tx) AddIndex(t *Table, def IndexDef) (*Index, error) {
	var x *Index
	return x, tx.alter("add index", t, func(mark int) error {
		find := func(name string) *Column { return tx.seenColumn(t, name) }
		if err := checkIndex(t.Name(), &def, find); err != nil {
			return err
		}
		if _, err := tx.Index(t, def.Name); err == nil {
			return fmt.Errorf("index %s: %w", def.Name, ErrKeyExists)
		}
		if def.Primary || t.system() {
			return fmt.Errorf("%w: index %s: a table has one primary index from the beginning", ErrSchema, def.Name)
		}
		x = newIndex(t, &def, find)
		x.made = &tx.v
		x.build = newBuild(x)
		if err := tx.makeIndexTree(t, x); err != nil {
			return err
		}
		x.tree = t.db.openTree(x.obj, x.root, !x.unique)
		if err := t.db.put(tx, x.row(t)); err != nil {
			return err
		}
		tx.replace(t, mark,
			func(s *schema) *schema { return s.withIndexes(append(slices.Clone(s.second), x)) },
			func(s *schema) *schema { return s.withoutIndex(x) })
		return nil
	})
}

func (s *schema) withoutIndex(x *Index) *schema {
	return s.withIndexes(slices.DeleteFunc(slices.Clone(s.second), func(o *Index) bool { return o == x }))
}

// DropIndex removes a secondary index. Its pages come back when no older snapshot is left.
func (tx *Tx) DropIndex(t *Table, name string) error {
	return tx.alter("drop index", t, func(mark int) error {
		x, err := tx.Index(t, name)
		if err != nil {
			return err
		}
		if x.prim || t.system() {
			return fmt.Errorf("%w: index %s holds the table together", ErrSchema, name)
		}
		for _, c := range []*Table{t.db.catalog, t.db.shadow} {
			if err := tx.Delete(c, Int(t.obj), Int(catIndex), Int(x.obj)); err != nil {
				return err
			}
		}
		if err := tx.dropTree(t.db, x.obj, x.root, t.root, mark); err != nil {
			return err
		}
		x.drop(tx, mark)
		return nil
	})
}
