package store

import (
	"context"
	"errors"
	"fmt"

	"pillarbox/ese"
)

const versionKey = "schema_version"

// openDatabase makes the tables, columns and indexes that are missing and resolves them. An
// older store gets what is new in one transaction that touches none of its rows: those show
// NULL, which every new column takes for what there was before.
func openDatabase(
	ctx context.Context, in *ese.Instance, db *ese.Database, order int,
) (*database, error) {
	d := &database{db: db, order: order}
	if err := d.refuseNewer(in); err != nil {
		return nil, err
	}
	err := d.upgrade(ctx, in)
	if err != nil && !errors.Is(err, ese.ErrReadOnly) {
		return nil, fmt.Errorf("make the store's tables: %w", err)
	}
	if err := d.resolve(); err != nil {
		return nil, fmt.Errorf("open the store's tables: %w", err)
	}
	return d, nil
}

// refuseNewer refuses a store of a later version before anything is changed.
func (d *database) refuseNewer(in *ese.Instance) error {
	t, err := d.db.Table("Global")
	if errors.Is(err, ese.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	r := &resolver{t: t}
	d.resolveTable("Global", r)
	if r.err != nil {
		return r.err
	}
	return in.View(func(tx *ese.Tx) error {
		version, err := d.globalNum(tx, versionKey)
		if err == nil && version > schemaVersion {
			err = ErrNewer
		}
		return err
	})
}

// upgrade makes what is missing.
func (d *database) upgrade(ctx context.Context, in *ese.Instance) error {
	if whole, err := d.complete(); err != nil || whole {
		return err
	}
	var made []*ese.Index
	err := in.Update(ctx, func(tx *ese.Tx) error {
		made = nil
		for _, def := range tableDefs() {
			t, err := tx.Table(d.db, def.Name)
			if errors.Is(err, ese.ErrNotFound) {
				t, err = tx.CreateTable(d.db, def)
			}
			if err != nil {
				return err
			}
			added, err := addMissing(tx, t, &def)
			if err != nil {
				return err
			}
			made = append(made, added...)
			if def.Name == "Global" {
				r := &resolver{t: t}
				if d.resolveTable(def.Name, r); r.err != nil {
					return r.err
				}
			}
		}
		return d.setGlobal(tx, versionKey, schemaVersion)
	})
	for _, x := range made {
		if err == nil {
			err = in.BuildIndex(ctx, x)
		}
	}
	return err
}

// addMissing adds the columns and indexes that a table lacks.
func addMissing(tx *ese.Tx, t *ese.Table, def *ese.TableDef) (made []*ese.Index, err error) {
	for _, c := range def.Columns {
		if _, err := tx.Column(t, c.Name); err == nil {
			continue
		}
		if _, err := tx.AddColumn(t, c); err != nil {
			return nil, err
		}
	}
	for _, x := range def.Indexes {
		if _, err := tx.Index(t, x.Name); err == nil {
			continue
		}
		index, err := tx.AddIndex(t, x)
		if err != nil {
			return nil, err
		}
		made = append(made, index)
	}
	return made, nil
}

// complete tells that nothing is missing.
func (d *database) complete() (bool, error) {
	for _, def := range tableDefs() {
		t, err := d.db.Table(def.Name)
		if errors.Is(err, ese.ErrNotFound) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		for _, c := range def.Columns {
			if _, err := t.Column(c.Name); err != nil {
				return false, nil
			}
		}
		for _, x := range def.Indexes {
			if _, err := t.Index(x.Name); err != nil {
				return false, nil
			}
		}
	}
	return true, nil
}
