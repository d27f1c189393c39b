package ese

import (
	"cmp"
	"fmt"
	"slices"
)

// tableName is a name that a table has for the transactions that see it.
type tableName struct {
	name string
	t    *Table
	life
}

// addName gives a table a name, and takes it back with the transaction.
func (db *Database) addName(tx *Tx, name string, t *Table, mark int) {
	n := &tableName{name: name, t: t, life: life{made: &tx.v}}
	db.tableMu.Lock()
	defer db.tableMu.Unlock()
	db.names[name] = append(db.names[name], n)
	tx.undo = append(tx.undo, undoHook{mark, func() {
		db.tableMu.Lock()
		defer db.tableMu.Unlock()
		db.forget(n)
	}})
}

// forget removes a name; tableMu is held.
func (db *Database) forget(n *tableName) {
	left := slices.DeleteFunc(db.names[n.name], func(o *tableName) bool { return o == n })
	if len(left) == 0 {
		delete(db.names, n.name)
		return
	}
	db.names[n.name] = left
}

// nameOf finds the entry of a table's name that the transaction sees, nil when there is none.
func (tx *Tx) nameOf(db *Database, name string) *tableName {
	db.tableMu.RLock()
	defer db.tableMu.RUnlock()
	for _, n := range slices.Backward(db.names[name]) {
		if n.seen(&tx.v) {
			return n
		}
	}
	return nil
}

// Table finds a table by the name it has in the transaction's snapshot, tables that the
// transaction made included.
func (tx *Tx) Table(db *Database, name string) (*Table, error) {
	if n := tx.nameOf(db, name); n != nil {
		return n.t, nil
	}
	return nil, fmt.Errorf("table %s in %s: %w", name, db.name, ErrNotFound)
}

// Tables returns the names of the tables in the transaction's snapshot.
func (tx *Tx) Tables(db *Database) []string {
	return db.eachName(func(n *tableName) bool { return n.seen(&tx.v) })
}

// Table finds a table by the name it has for transactions that begin now.
func (db *Database) Table(name string) (*Table, error) {
	db.tableMu.RLock()
	defer db.tableMu.RUnlock()
	for _, n := range slices.Backward(db.names[name]) {
		if n.current() {
			return n.t, nil
		}
	}
	return nil, fmt.Errorf("table %s in %s: %w", name, db.name, ErrNotFound)
}

// Tables returns the names of all tables but the catalog's, as transactions that begin now
// see them.
func (db *Database) Tables() []string {
	return db.eachName(func(n *tableName) bool { return n.current() })
}

func (db *Database) eachName(want func(*tableName) bool) []string {
	db.tableMu.RLock()
	defer db.tableMu.RUnlock()
	var out []string
	for name, l := range db.names {
		if slices.ContainsFunc(l, want) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// allTables returns all tables that any transaction may see, by their numbers.
func (db *Database) allTables() []*Table {
	db.tableMu.RLock()
	defer db.tableMu.RUnlock()
	var out []*Table
	for _, l := range db.names {
		for _, n := range l {
			if !slices.Contains(out, n.t) {
				out = append(out, n.t)
			}
		}
	}
	slices.SortFunc(out, func(a, b *Table) int { return cmp.Compare(a.obj, b.obj) })
	return out
}

// sees refuses a table that is not in the transaction's snapshot.
func (tx *Tx) sees(t *Table) error {
	if t.seen(&tx.v) {
		return nil
	}
	return fmt.Errorf("table %s is not in the transaction's snapshot: %w", t.Name(), ErrNotFound)
}
