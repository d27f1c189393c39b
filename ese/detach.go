package ese

import (
	"context"
	"fmt"
	"slices"
	"time"

	"pillarbox/ese/internal/dbheader"
	"pillarbox/ese/internal/logrec"
)

// Databases are the databases that are open.
func (in *Instance) Databases() []*Database { return in.databases() }

// detachTick is how often the end of what uses a database is looked for.
const detachTick = 5 * time.Millisecond

// CloseDatabase brings a database to Clean Shutdown and lets it go while the others of the
// storage group go on. The caller begins nothing more with it: transactions that have changes
// of it are waited for, as long as ctx lets, then ErrInUse tells that it is open as before. Who
// still reads gets ErrDetached. OpenDatabase opens it again.
func (in *Instance) CloseDatabase(ctx context.Context, db *Database) error {
	in.openMu.Lock()
	defer in.openMu.Unlock()
	if !in.backupMu.TryLock() {
		return fmt.Errorf("close database %s: %w", db.name, ErrBackupRunning)
	}
	defer in.backupMu.Unlock()
	for {
		if err := in.usable(); err != nil {
			return err
		}
		if !slices.Contains(in.databases(), db) {
			return nil
		}
		done, err := in.tryDetach(db)
		if err != nil {
			return fmt.Errorf("close database %s: %w", db.name, err)
		}
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("close database %s: %w", db.name, ErrInUse)
		case <-time.After(detachTick):
		}
	}
}

// tryDetach closes the database if nothing of it is kept for a transaction. openMu is held.
func (in *Instance) tryDetach(db *Database) (done bool, err error) {
	in.backMu.Lock()
	defer in.backMu.Unlock()
	if err := in.WaitDurable(in.log.End()); err != nil {
		return false, err
	}
	// Without log for it dead rows stay for the scrub to find.
	if err := in.cleanVersions(-1); err != nil && !noSpace(err) {
		return false, err
	}
	if in.versions.Keeps(db.id) {
		return false, nil
	}
	in.cache.Still(db.file, true)
	if in.versions.Keeps(db.id) {
		// Somebody was faster, and must be able to end.
		in.cache.Still(db.file, false)
		return false, nil
	}
	if err := db.detach(); err != nil {
		in.cache.Still(db.file, false)
		return false, err
	}
	return true, nil
}

// coveredMeanwhile is what the mark of the last incremental backup is of a database that was closed for
// a time or was restored: that of the others, where it is higher. The log of that time has nothing of
// it, so the incremental backups made meanwhile lead on from the full one that holds it.
func (in *Instance) coveredMeanwhile(db *Database) dbheader.Backup {
	db.headerMu.Lock()
	full, inc := db.header.FullBackup, db.header.IncBackup
	db.headerMu.Unlock()
	if full.GenHigh == 0 {
		return inc
	}
	for _, other := range in.databases() {
		other.headerMu.Lock()
		h := other.header
		other.headerMu.Unlock()
		if h.FullBackup == full && h.IncBackup.GenHigh > inc.GenHigh {
			inc = h.IncBackup
		}
	}
	return inc
}

// logDB logs the attachment or detachment of a database, durably.
func (in *Instance) logDB(typ logrec.Type, db *Database) (LogPos, error) {
	rec := logrec.DBRec{DB: db.id, Path: db.name, PageSize: in.o.PageSize, Signature: make([]byte, logrec.SignatureSize)}
	db.headerMu.Lock()
	db.header.Signature.Encode(rec.Signature)
	db.headerMu.Unlock()
	add := in.log.Append
	if typ == logrec.TypeDetach { // space is set aside for it
		add = func(typ logrec.Type, parts ...[]byte) (start, end LogPos, err error) {
			return in.log.AppendReserved(0, 0, typ, parts...)
		}
	}
	pos, end, err := add(typ, rec.Append(nil))
	if err == nil {
		err = in.WaitDurable(end)
	}
	return pos, err
}
