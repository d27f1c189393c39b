package ese

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pillarbox/ese/internal/btree"
	"pillarbox/ese/internal/dbheader"
	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/redo"
	"pillarbox/ese/internal/wal"
)

// A lost database comes back to a group that is open in two steps. SettleLost opens the restored
// file where it lies, under the number that the log knows it by, and takes back what was open when
// it was lost, in the group's log. Then the file is clean and takes its place, and OpenDatabase
// logs the detachment of the old number and attaches it. Until then the database stays lost:
// whatever a crash leaves, a file that is whole lies in its place or none, and it can be restored
// again over the log that has grown.

// ErrNotOfLoss: the file is not that of the database at the end of the log.
var ErrNotOfLoss = errors.New("the file is not that of the database at the end of its group's log: " +
	"restore it again")

// SettleLost makes a file of RestoreDatabase clean that is to take the place of a lost database.
// Where the database is not lost there is nothing to do: the file is clean. It waits for the end of
// a backup, and of transactions with the numbers of those that are to be taken back, as long as ctx
// lets (ErrBackupRunning, ErrInUse); while it works no backup begins and no other database is opened.
func (in *Instance) SettleLost(ctx context.Context, name, file string) error {
	if err := in.awaitBackup(ctx); err != nil {
		return fmt.Errorf("settle database %s: %w", name, err)
	}
	defer in.backupMu.Unlock()
	in.openMu.Lock()
	defer in.openMu.Unlock()
	err := in.usable()
	if err == nil {
		err = in.settleLost(ctx, name, file)
	}
	if err != nil {
		return fmt.Errorf("settle database %s: %w", name, err)
	}
	return nil
}

// awaitBackup locks backupMu.
func (in *Instance) awaitBackup(ctx context.Context) error {
	for !in.backupMu.TryLock() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", ErrBackupRunning, context.Cause(ctx))
		case <-in.closing.Done():
			return ErrClosed
		case <-time.After(detachTick):
		}
	}
	return nil
}

func (in *Instance) settleLost(ctx context.Context, name, file string) error {
	h, err := in.o.readHeader(file)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	id, a := in.lostAs(name)
	switch {
	case a == nil && h.State != dbheader.CleanShutdown:
		return fmt.Errorf("%s: %w", file, ErrDirtyShutdown)
	case a == nil:
		return in.refuseOlder(name, &h)
	case h.Signature != a.Sign || h.LogSignature != in.logSign:
		return fmt.Errorf("%s: %w: %w", file, ErrNotOfLoss, ErrWrongSignature)
	case h.State == dbheader.CleanShutdown && in.settledAt(id) == h.Consistent:
		return nil // it was interrupted afterwards
	case !restored(&h):
		return fmt.Errorf("%s: %w", file, ErrNotOfLoss)
	}
	open, bytes, err := in.openIn(id, &h)
	if err != nil {
		return err
	}
	if err := in.awaitNumbers(ctx, open); err != nil {
		return err
	}
	in.backMu.Lock() // what runs in the background meets whole databases only
	defer in.backMu.Unlock()
	db, err := in.openFiles(id, name, file, 0)
	if err != nil {
		return err
	}
	if err = db.readHeader(); err == nil {
		err = db.emptyDouble()
	}
	if err == nil {
		err = in.register(db)
	}
	if err != nil {
		return errors.Join(err, db.closeFiles())
	}
	return db.settle(open, bytes)
}

// refuseOlder refuses a clean file when the database was open after that, as far as the log tells.
func (in *Instance) refuseOlder(name string, h *header) error {
	if h.LogSignature != in.logSign {
		return nil
	}
	if err := in.log.Roll(); err != nil {
		return err
	}
	err := in.log.Each(h.Consistent.Generation(), func(rec wal.Record) error {
		if rec.Type != logrec.TypeAttach && rec.Type != logrec.TypeCreateDB || rec.Pos < h.Consistent {
			return nil
		}
		var d logrec.DBRec
		if err := d.Decode(rec.Payload); err != nil {
			return err
		}
		if d.Path == name {
			return ErrNotOfLoss
		}
		return nil
	})
	if errors.Is(err, ErrMissingLog) {
		return nil // it was closed long ago
	}
	return err
}

// lostAs is the number that a lost database had, and what is known of it; nil when it is not lost.
func (in *Instance) lostAs(name string) (logrec.DBID, *wal.Attachment) {
	in.stepMu.Lock()
	defer in.stepMu.Unlock()
	for id, a := range in.lost {
		if a.Path == name {
			return id, a
		}
	}
	return 0, nil
}

func (in *Instance) settledAt(id logrec.DBID) LogPos {
	in.stepMu.Lock()
	defer in.stepMu.Unlock()
	return in.settled[id]
}

// openIn reads the log from where the header says to its end, and returns the transactions with
// changes of the lost database that are not taken back, with the log that this may need. A record
// behind the end of redo says that the database was there again meanwhile.
func (in *Instance) openIn(id logrec.DBID, h *header) (open []*redo.Loser, bytes int64, err error) {
	if err := in.log.Roll(); err != nil {
		return nil, 0, err
	}
	var r redo.Redo
	err = in.log.Each(h.MinRequired, func(rec wal.Record) error {
		if rec.Pos >= h.CurrentBackup.Mark {
			if yes, err := redo.Concerns(rec, id); yes || err != nil {
				return errors.Join(ErrNotOfLoss, err)
			}
		}
		return r.Follow(rec)
	})
	if err != nil {
		return nil, 0, err
	}
	return redo.Changed(in.log.ReadAt, r.All(), id)
}

// awaitNumbers waits until no running transaction has the number of one of the losers, whose
// records would be taken for its own.
func (in *Instance) awaitNumbers(ctx context.Context, open []*redo.Loser) error {
	for _, l := range open {
		in.versions.SetNextID(l.Tx + 1)
		for in.versions.Running(l.Tx) {
			select {
			case <-ctx.Done():
				return fmt.Errorf("%w (%w)", ErrInUse, context.Cause(ctx))
			case <-in.closing.Done():
				return ErrClosed
			case <-time.After(detachTick):
			}
		}
	}
	return nil
}

// settle takes back what is open and lets the files go. On an error they are of no use any more.
func (db *Database) settle(open []*redo.Loser, bytes int64) error {
	in := db.in
	err := in.log.SetAside(bytes)
	if err == nil {
		err = in.undoIn(db, open)
		in.log.GiveBack(bytes)
	}
	if err == nil {
		err = db.stream.WriteAll()
	}
	// Also after an error: the cache lets clean pages go only.
	if werr := in.cache.WriteFile(db.file); err == nil {
		err = werr
	}
	at := in.log.End()
	if err == nil {
		err = in.WaitDurable(at)
	}
	if err == nil {
		err = db.markClean(at, logrec.Signature{})
	}
	if err == nil {
		in.noteSettled(db.id, at)
	}
	in.emit(Event{ID: EventDetached, Database: db.name})
	if derr := db.drop(); derr != nil {
		in.fail(derr) // it would stay among those that are open
		err = errors.Join(err, derr)
	}
	return err
}

func (in *Instance) noteSettled(id logrec.DBID, at LogPos) {
	in.stepMu.Lock()
	defer in.stepMu.Unlock()
	if in.settled == nil {
		in.settled = make(map[logrec.DBID]LogPos)
	}
	in.settled[id] = at
}

// undoIn takes the changes of one database back, and ends the losers that have none of another lost
// one. Those of the others were taken back when the group was opened.
func (in *Instance) undoIn(db *Database, open []*redo.Loser) error {
	in.env.Recovering.Store(true)
	defer in.env.Recovering.Store(false)
	lost := in.lostIDs()
	u := &redo.Undoer{
		Log: in.log, Read: in.log.ReadAt, NowMS: in.nowMS,
		Lost: func(id logrec.DBID) bool { return id != db.id && lost[id] },
		Tree: func(rec *logrec.NodeRec) (*btree.Tree, error) {
			if rec.DB != db.id {
				return nil, nil
			}
			return in.treeOfRecord(rec)
		},
		FreeTree: func(rec *logrec.TreeRec) (LogPos, error) {
			if rec.DB != db.id {
				return 0, nil
			}
			return in.freeTree(rec, true)
		},
	}
	if err := u.Resume(open); err != nil {
		return err
	}
	return u.Undo(open)
}

// takeBack logs that a lost database is detached, now that its settled file lies in its place, so
// that it can be attached again. The checkpoint forgets the old number first. What else lies there
// attach judges, but for a file that was closed before the loss: redo has to meet that.
func (in *Instance) takeBack(name, path string) error {
	id, a := in.lostAs(name)
	if a == nil {
		return nil
	}
	h, err := in.o.readHeader(path)
	if err != nil || h.Signature != a.Sign || h.State != dbheader.CleanShutdown {
		return nil //nolint:nilerr // attach says what is wrong
	}
	in.stepMu.Lock()
	defer in.stepMu.Unlock()
	if in.settled[id] != h.Consistent {
		return fmt.Errorf("%s was closed before the database was lost, the log since then was not replayed "+
			"for it: %w: open the storage group again", path, ErrDirtyShutdown)
	}
	db := &Database{in: in, id: id, name: name, header: h}
	if _, err := in.logDB(logrec.TypeDetach, db); err != nil {
		return err
	}
	delete(in.lost, id)
	if err := in.writeCheckpoint(LogPos(in.checkpoint.Load())); err != nil {
		in.lost[id] = a
		return err
	}
	delete(in.settled, id)
	return nil
}
