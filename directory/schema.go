package directory

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"pillarbox/ese"
)

// tables are the directory's tables with their columns.
type tables struct {
	domain struct {
		t             *ese.Table
		name, created *ese.Column
	}
	recipient struct {
		t                                               *ese.Table
		guid, kind, bits, created, address, key, target *ese.Column
		home                                            *ese.Column
	}
	alias struct {
		t                  *ese.Table
		key, address, guid *ese.Column
	}
	credential struct {
		t                                     *ese.Table
		guid, number, changed, iterations     *ese.Column
		hash, scramSalt, storedKey, serverKey *ese.Column
	}
	// state is nil where a read-only instance shows an older directory.
	state struct {
		t           *ese.Table
		id, version *ese.Column
	}
}

// The tables of the directory and those of a copy of it differ by the beginning of their names.
const (
	ownTables  = "Dir"
	copyTables = "DirCopy"
)

func column(t ese.ColumnType, name string) ese.ColumnDef {
	return ese.ColumnDef{Name: name, Type: t}
}

func primary(cols ...string) ese.IndexDef {
	x := ese.IndexDef{Name: "pk", Primary: true}
	for _, c := range cols {
		x.Columns = append(x.Columns, ese.IndexColumn{Name: c})
	}
	return x
}

func tableDefs(names string) []ese.TableDef {
	byKey := ese.IndexDef{Name: "by_key", Unique: true, Columns: []ese.IndexColumn{{Name: "key"}}}
	return []ese.TableDef{
		{Name: names + "Domain", Columns: []ese.ColumnDef{
			column(ese.LongLong, "created"), column(ese.Binary, "name"),
		}, Indexes: []ese.IndexDef{primary("name")}},
		{Name: names + "Recipient", Columns: []ese.ColumnDef{
			column(ese.GUID, "guid"), column(ese.UnsignedByte, "kind"),
			column(ese.UnsignedLong, "bits"), column(ese.LongLong, "created"),
			column(ese.Binary, "address"), column(ese.Binary, "key"),
			column(ese.Binary, "target"), column(ese.LongBinary, "props"),
			column(ese.Binary, "home"),
		}, Indexes: []ese.IndexDef{primary("guid"), byKey}},
		{Name: names + "Alias", Columns: []ese.ColumnDef{
			column(ese.GUID, "guid"), column(ese.Binary, "key"), column(ese.Binary, "address"),
		}, Indexes: []ese.IndexDef{primary("key")}},
		{Name: names + "Credential", Columns: []ese.ColumnDef{
			column(ese.GUID, "guid"), column(ese.UnsignedLong, "number"),
			column(ese.UnsignedLong, "iterations"), column(ese.LongLong, "changed"),
			column(ese.Binary, "hash"), column(ese.Binary, "scram_salt"),
			column(ese.Binary, "stored_key"), column(ese.Binary, "server_key"),
		}, Indexes: []ese.IndexDef{primary("guid", "number")}},
		{Name: names + "State", Columns: []ese.ColumnDef{
			column(ese.UnsignedByte, "id"), column(ese.LongLong, "version"),
		}, Indexes: []ese.IndexDef{primary("id")}},
	}
}

// In tells whether a database holds a directory.
func In(db *ese.Database) bool { return holds(db, ownTables) }

// CopyIn tells whether a database holds a copy of a directory.
func CopyIn(db *ese.Database) bool { return holds(db, copyTables) }

func holds(db *ese.Database, names string) bool {
	_, err := db.Table(names + "Domain")
	return err == nil
}

// open makes the tables that are missing and resolves them.
func (ts *tables) open(
	ctx context.Context, in *ese.Instance, db *ese.Database, names string,
) error {
	if err := makeTables(ctx, in, db, tableDefs(names)); err != nil {
		return fmt.Errorf("create the directory's tables: %w", err)
	}
	for _, def := range tableDefs(names) {
		t, err := db.Table(def.Name)
		if errors.Is(err, ese.ErrNotFound) && def.Name == names+"State" {
			continue
		}
		if err == nil {
			err = addColumns(ctx, in, t, def.Columns)
		}
		if err != nil {
			return err
		}
		if err := ts.resolve(t, strings.TrimPrefix(def.Name, names)); err != nil {
			return err
		}
	}
	return nil
}

// makeTables makes those that are missing, in one transaction. A read-only instance shows an older
// directory as it is.
func makeTables(
	ctx context.Context, in *ese.Instance, db *ese.Database, defs []ese.TableDef,
) error {
	var missing []ese.TableDef
	for _, def := range defs {
		if _, err := db.Table(def.Name); errors.Is(err, ese.ErrNotFound) {
			missing = append(missing, def)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	err := in.Update(ctx, func(tx *ese.Tx) error {
		for _, def := range missing {
			if _, err := tx.CreateTable(db, def); err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, ese.ErrReadOnly) && len(missing) < len(defs) {
		return nil
	}
	return err
}

// addColumns adds the columns that a table of an older version lacks.
func addColumns(
	ctx context.Context, in *ese.Instance, t *ese.Table, defs []ese.ColumnDef,
) error {
	for _, def := range defs {
		_, err := t.Column(def.Name)
		if errors.Is(err, ese.ErrNotFound) {
			err = in.Update(ctx, func(tx *ese.Tx) error {
				_, err := tx.AddColumn(t, def)
				return err
			})
		}
		if err != nil && !errors.Is(err, ese.ErrReadOnly) {
			return err
		}
	}
	return nil
}

func (ts *tables) resolve(t *ese.Table, name string) (err error) {
	c := func(name string) *ese.Column {
		col, cerr := t.Column(name)
		if err == nil {
			err = cerr
		}
		return col
	}
	switch name {
	case "Domain":
		d := &ts.domain
		d.t, d.name, d.created = t, c("name"), c("created")
	case "Recipient":
		r := &ts.recipient
		r.t, r.guid, r.kind, r.bits = t, c("guid"), c("kind"), c("bits")
		r.created, r.address, r.key, r.target = c("created"), c("address"), c("key"), c("target")
		// nil where a read-only instance shows an older directory
		r.home, _ = t.Column("home")
	case "Alias":
		a := &ts.alias
		a.t, a.key, a.address, a.guid = t, c("key"), c("address"), c("guid")
	case "Credential":
		r := &ts.credential
		r.t, r.guid, r.number, r.changed = t, c("guid"), c("number"), c("changed")
		r.iterations, r.hash, r.scramSalt = c("iterations"), c("hash"), c("scram_salt")
		r.storedKey, r.serverKey = c("stored_key"), c("server_key")
	case "State":
		ts.state.t, ts.state.id, ts.state.version = t, c("id"), c("version")
	}
	return err
}
