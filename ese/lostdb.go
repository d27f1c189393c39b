package ese

import (
	"errors"
	"slices"

	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/wal"
)

// A database whose file is missing when its group is recovered is lost, with Options.IgnoreMissing:
// the others go on. It stays in the checkpoint with its number, which nobody else gets, and no log is
// removed, so that both ways back stay open: the file is there again when the group is opened next, and
// redo begins where its header says; or RestoreDatabase brings one of a backup to the end of the log, and
// the recovery of the group, or SettleLost while it is open, does the rest.
// A transaction that had changes of it and was taken back in the others gets no end in the log, so that
// either of them takes its changes back there too.

// ErrDatabaseLost: the file of a database was missing when its group was opened.
var ErrDatabaseLost = errors.New("the database was missing when its storage group was opened: " +
	"restore it, or put its file back and open the group again")

// Lost are the names of the databases that are lost.
func (in *Instance) Lost() (names []string) {
	in.stepMu.Lock()
	defer in.stepMu.Unlock()
	for _, a := range in.lost {
		names = append(names, a.Path)
	}
	slices.Sort(names)
	return names
}

// ForgetLost gives a lost database up, or takes note that it is back from a backup: log is removed
// again as before.
func (in *Instance) ForgetLost(name string) {
	in.stepMu.Lock()
	defer in.stepMu.Unlock()
	for id, a := range in.lost {
		if a.Path == name {
			delete(in.lost, id)
		}
	}
}

// lostIDs are the numbers that lost databases keep.
func (in *Instance) lostIDs() map[logrec.DBID]bool {
	in.stepMu.Lock()
	defer in.stepMu.Unlock()
	ids := make(map[logrec.DBID]bool, len(in.lost))
	for id := range in.lost {
		ids[id] = true
	}
	return ids
}

// lose notes that an attached database is missing.
func (in *Instance) lose(rec logrec.DBRec) {
	if in.lost == nil {
		in.lost = make(map[logrec.DBID]*wal.Attachment)
	}
	in.lost[rec.DB] = &wal.Attachment{
		DBID: uint8(rec.DB), Sign: logrec.DecodeSignature(rec.Signature), Path: rec.Path,
	}
	in.emit(Event{ID: EventDatabaseLost, Database: rec.Path})
}

// keepLost keeps what the checkpoint says of a database that is lost.
func (in *Instance) keepLost(a *wal.Attachment) {
	if in.lost[logrec.DBID(a.DBID)] != nil {
		kept := *a
		kept.Pages = 0 // says that redo from the checkpoint on will not do for it
		in.lost[logrec.DBID(a.DBID)] = &kept
	}
}

// startForReturned is where redo begins when a database is there again that was lost: where it was
// left.
func (in *Instance) startForReturned(c *wal.Checkpoint) LogPos {
	pos := c.Pos
	for i := range c.Attachments {
		a := &c.Attachments[i]
		db := in.dbs[logrec.DBID(a.DBID)]
		if db != nil && a.Pages == 0 && db.header.MinRequired != 0 {
			pos = min(pos, logrec.MakePos(db.header.MinRequired, logrec.SectorSize))
		}
	}
	if pos < c.Pos {
		in.late.pos.Store(uint64(pos))
		in.attachedAt = make(map[logrec.DBID]LogPos)
		for _, db := range in.databases() {
			in.attachedAt[db.id] = db.header.Attach
		}
	}
	return pos
}

// before tells that a record is of an attachment before that of the database which has the number
// now. Between the checkpoint and an earlier begin of redo numbers may have changed hands.
func (in *Instance) before(id logrec.DBID, pos LogPos) bool { return pos < in.attachedAt[id] }

// openAlready tells whether a database is open under another number than the log says here.
func (in *Instance) openAlready(name string) bool {
	if in.attachedAt == nil {
		return false
	}
	return slices.ContainsFunc(in.databases(), func(db *Database) bool { return db.name == name })
}
