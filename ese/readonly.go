package ese

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"pillarbox/ese/internal/dbheader"
	"pillarbox/ese/internal/stream"
)

// openReadOnly opens a clean database without changing it. Its double-write file is of no
// interest: everything is in place.
func (in *Instance) openReadOnly(name, path string) (*Database, error) {
	id, err := in.freeDBID()
	if err != nil {
		return nil, err
	}
	db := &Database{in: in, id: id, name: name, path: path, names: make(map[string][]*tableName)}
	if db.f, err = in.o.FS.OpenFile(path, os.O_RDONLY, 0); err != nil {
		return nil, err
	}
	stm := sidePath(path, ".stm")
	sf, err := in.o.FS.OpenFile(stm, os.O_RDONLY, 0)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("stream file of %s: %w", path, err), db.f.Close())
	}
	db.stream = stream.NewFile(filepath.Base(stm), id, sf, in.late, in.o.StreamBytes)
	db.streams.init(db)
	if err := db.beginReading(); err != nil {
		return nil, errors.Join(err, db.closeFiles())
	}
	if err := db.checkSize(); err != nil {
		return nil, errors.Join(err, db.drop())
	}
	if err := db.loadCatalog(); err != nil {
		return nil, errors.Join(err, db.drop())
	}
	return db, nil
}

// beginReading checks the header and makes the pages reachable.
func (db *Database) beginReading() error {
	if err := db.readHeader(); err != nil {
		return err
	}
	if db.header.State != dbheader.CleanShutdown {
		return fmt.Errorf("%s: %w: open it for writing once, with its log in place, to recover it",
			db.path, ErrDirtyShutdown)
	}
	if err := db.in.register(db); err != nil {
		return err
	}
	db.openFlushMap(func(h *flushHead) bool { return h.clean(&db.header) })
	return nil
}
