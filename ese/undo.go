package ese

import (
	"pillarbox/ese/internal/btree"
	"pillarbox/ese/internal/cache"
	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/redo"
	"pillarbox/ese/internal/version"
)

// undo takes back what was open at the end of the log.
func (in *Instance) undo(r *redo.Redo) error {
	losers := r.All()
	if len(losers) == 0 {
		return nil
	}
	in.env.Recovering.Store(true)
	defer in.env.Recovering.Store(false)
	u := &redo.Undoer{
		Log: in.log, Read: in.log.ReadAt, NowMS: in.nowMS,
		Tree:     func(rec *logrec.NodeRec) (*btree.Tree, error) { return in.treeOfRecord(rec) },
		Lost:     func(db logrec.DBID) bool { return in.lost[db] != nil },
		FreeTree: func(rec *logrec.TreeRec) (LogPos, error) { return in.freeTree(rec, true) },
	}
	if err := u.Undo(losers); err != nil {
		return err
	}
	// Trees that were undone are gone; their object ids may be used again.
	in.trees.Clear()
	return in.WaitDurable(in.log.End())
}

// treeOfRecord opens the tree a record changed, by what its root page says.
func (in *Instance) treeOfRecord(rec *logrec.NodeRec) (*btree.Tree, error) {
	in.dbMu.RLock()
	db := in.dbs[rec.DB]
	in.dbMu.RUnlock()
	if db == nil {
		return nil, nil
	}
	if t := in.treeByID(version.MakeTreeID(rec.DB, uint32(rec.Obj))); t != nil {
		return t, nil
	}
	fr, err := in.cache.Fetch(db.file, rec.Root, cache.Shared)
	if err != nil {
		return nil, err
	}
	nonUnique := fr.P.NonUnique()
	fr.RUnlock()
	return db.openTree(rec.Obj, rec.Root, nonUnique), nil
}

// freeTree gives a tree's pages back to its parent and logs rec with it. undo: a rollback
// needs it.
func (in *Instance) freeTree(rec *logrec.TreeRec, undo bool) (LogPos, error) {
	in.dbMu.RLock()
	db := in.dbs[rec.DB]
	in.dbMu.RUnlock()
	if db == nil {
		return 0, nil
	}
	db.space.Lock()
	defer db.space.Unlock()
	m := in.env.NewMtr()
	m.Tree, m.Undo = rec, undo
	if err := db.space.FreeTree(m, rec.Root, rec.Parent); err != nil {
		m.Abort()
		return 0, err
	}
	if err := m.Commit(); err != nil {
		return 0, err
	}
	return m.Pos, nil
}
