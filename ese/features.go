package ese

import (
	"errors"
	"fmt"
)

// Features that a version without them must not open a file with (MSysPillarbox,
// Incompatible).
const (
	// featureSchema: column defaults, escrow and auto-increment columns, dropped columns,
	// indexes being built, trees waiting to be given back.
	featureSchema = 1 << 0

	// featureMulti: multi-valued columns.
	featureMulti = 1 << 1

	// featureCompressed: columns whose values are compressed.
	featureCompressed = 1 << 2

	knownFeatures = featureSchema | featureMulti | featureCompressed
)

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
	if v.Int(t.col("FormatVersion")) > formatVersion || v.Int(t.col("Incompatible"))&^knownFeatures != 0 ||
		v.Int(t.col("ReadOnlyCompatible")) != 0 {
		return fmt.Errorf("%s: %w", db.name, ErrNewerFormat)
	}
	return nil
}

// usesColumn notes in the file what older versions do not know of a column.
func (tx *Tx) usesColumn(db *Database, c *Column) error {
	var features int64
	if c.multi {
		features |= featureMulti
	}
	if c.packed {
		features |= featureCompressed
	}
	if features == 0 {
		return nil
	}
	return tx.uses(db, features)
}

// uses notes in the file that it holds what older versions do not know.
func (tx *Tx) uses(db *Database, feature int64) error {
	t, err := tx.Table(db, versionTable)
	if err != nil {
		return err
	}
	var v RowView
	var buf []byte
	ok, err := tx.Get(t, &v, &buf, Int(1))
	if err != nil || !ok {
		return errors.Join(err, fmt.Errorf("%s: no format version: %w", db.name, ErrNewerFormat))
	}
	has := v.Int(t.col("Incompatible"))
	if has&feature == feature {
		return nil
	}
	return tx.Update(t.NewRow().Set(t.col("Incompatible"), Int(has|feature)), Int(1))
}
