package ese

import (
	"context"
	"errors"
	"fmt"

	"pillarbox/ese/internal/btree"
	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/page"
	"pillarbox/ese/internal/version"
)

// Tx is a transaction: a snapshot, and the changes made on top of it. It is for one
// goroutine and must end with Commit or Rollback.
type Tx struct {
	in      *Instance
	v       version.Tx
	done    bool
	made    []madeTree
	regions []*region // stream space held until the end
	undo    []undoHook
	saves   []savepoint // open ones, outermost first
	saved   int         // savepoints made so far

	onCommit []func() // run once it is committed, in order

	cursors []*btree.Cursor // they lend memory until the end

	pk, ik []byte // memory for the keys of the row being changed
}

// undoHook takes back in memory what the transaction did after mark changes.
type undoHook struct {
	mark int
	fn   func()
}

// madeTree is a tree that the transaction made, after mark changes.
type madeTree struct {
	mark int
	rec  logrec.TreeRec
}

// Begin starts a read-write transaction. It sees all commits so far, durable or not.
func (in *Instance) Begin() *Tx {
	tx := &Tx{in: in}
	in.versions.Begin(&tx.v, in.o.ReadOnly, true)
	return tx
}

// BeginRead starts a read-only transaction at the durable horizon: it never shows what a
// crash could take back, and waits for nothing.
func (in *Instance) BeginRead() *Tx {
	tx := &Tx{in: in}
	in.versions.Begin(&tx.v, true, false)
	return tx
}

// BeginReadLatest starts a read-only transaction that also sees commits not yet durable.
// What it shows must reach no client before WaitDurable(Horizon()).
func (in *Instance) BeginReadLatest() *Tx {
	tx := &Tx{in: in}
	in.versions.Begin(&tx.v, true, true)
	return tx
}

// Horizon is the log position that must be durable before anything this transaction has read
// may reach a client (engine.md rule 1).
func (tx *Tx) Horizon() LogPos { return tx.v.Horizon }

// alive refuses a transaction that has ended, or was open for too long: that can only commit or
// roll back.
func (tx *Tx) alive() error {
	switch {
	case tx.done:
		return ErrTxDone
	case tx.v.TooLong():
		return ErrTxTooLong
	}
	return nil
}

// writable refuses changes where none may be made.
func (tx *Tx) writable() error {
	if err := tx.alive(); err != nil {
		return err
	}
	if tx.v.ReadOnly {
		return ErrReadOnly
	}
	if err := tx.in.usable(); err != nil {
		return err
	}
	return tx.in.log.TryFull()
}

// Commit makes the transaction durable and returns the position of its commit record. It
// returns after the log is on disk up to there; pages are written later. After an error
// other than ErrOutcomeUnknown nothing has happened. An empty transaction waits for what it
// has read.
func (tx *Tx) Commit() (LogPos, error) {
	pos, err := tx.CommitLazy()
	if err != nil {
		return 0, err
	}
	return pos, tx.in.WaitDurable(pos)
}

// CommitLazy commits without waiting for the disk; WaitDurable with the position returned
// makes up for it. Other transactions see the changes at once, clients must not.
func (tx *Tx) CommitLazy() (LogPos, error) {
	if tx.done {
		return 0, ErrTxDone
	}
	if !tx.v.HasLogged() && tx.v.Mark() == 0 {
		tx.end()
		return tx.v.Horizon, nil
	}
	if err := tx.in.usable(); err != nil {
		tx.abandon()
		return 0, err
	}
	end, err := tx.in.versions.Commit(&tx.v, func() (logrec.LogPos, error) {
		c := logrec.CommitRec{Tx: tx.v.ID, Prev: tx.v.Last, TimeMS: tx.in.nowMS()}
		_, end, err := tx.in.log.AppendReserved(tx.v.Reserved, c.Prev, logrec.TypeCommit, c.Append(nil))
		return end, err
	})
	if err != nil {
		// The log takes nothing any more; recovery will undo what it holds.
		tx.abandon()
		return 0, fmt.Errorf("commit: %w", err)
	}
	tx.finish()
	tx.releaseRegions()
	for _, fn := range tx.onCommit {
		fn()
	}
	return end, nil
}

// Rollback undoes the transaction. It may be called after Commit, and then does nothing.
func (tx *Tx) Rollback() error {
	if tx.done {
		return nil
	}
	err := tx.rollbackTo(0)
	if err != nil {
		tx.abandon()
		return fmt.Errorf("rollback: %w", err)
	}
	if tx.v.HasLogged() {
		c := logrec.CommitRec{Tx: tx.v.ID, Prev: tx.v.Last, TimeMS: tx.in.nowMS()}
		_, end, err := tx.in.log.AppendReserved(tx.v.Reserved, c.Prev, logrec.TypeRollback, c.Append(nil))
		if err != nil {
			tx.abandon()
			return fmt.Errorf("rollback: %w", err)
		}
		tx.in.versions.RolledBack(&tx.v, end)
		tx.in.stats.undone.Add(1)
	}
	tx.end()
	return nil
}

func (tx *Tx) rollbackTo(mark int) error {
	tx.forgetRuns()
	for n := len(tx.undo); n > 0 && tx.undo[n-1].mark >= mark; n-- {
		tx.undo[n-1].fn()
		tx.undo = tx.undo[:n-1]
	}
	for {
		if n := len(tx.made); n > 0 && tx.made[n-1].mark >= tx.v.Mark() && tx.made[n-1].mark >= mark {
			if err := tx.unmake(tx.made[n-1].rec); err != nil {
				return err
			}
			tx.made = tx.made[:n-1]
			continue
		}
		if tx.v.Mark() <= mark {
			return nil
		}
		c := tx.v.Newest()
		t := tx.in.treeByID(c.Tree)
		if t == nil && c.Op == version.OpLock {
			// A lock alone keeps no database from being dismounted, and there is nothing to undo.
			tx.in.versions.Drop(c)
			tx.v.Pop()
			continue
		}
		if t == nil {
			return fmt.Errorf("tree %x: %w", c.Tree, ErrNotFound)
		}
		if err := tx.undoChange(t, c); err != nil {
			return err
		}
		tx.v.Pop()
		if c.Op == logrec.NodeInsert || c.Op == logrec.NodeUndelete {
			// Its leaf may be empty now, or the node is a deleted one again that the cleaner
			// has passed by.
			tx.in.addDeletes([]version.Deleted{{Tree: c.Tree, Key: c.Key}})
		}
	}
}

// undoChange takes back the newest change: by the state before it, or by the log where that
// cannot be read.
func (tx *Tx) undoChange(t *btree.Tree, c *version.Change) error {
	err := t.UndoChange(&tx.v, c)
	if !errors.Is(err, ErrVersionFile) {
		return err
	}
	rec, rerr := tx.in.log.ReadAt(c.Pos)
	if rerr != nil {
		return errors.Join(err, rerr)
	}
	var n logrec.NodeRec
	if derr := n.Decode(rec.Payload, rec.Back); derr != nil {
		return errors.Join(err, derr)
	}
	return t.UndoLogged(&tx.v, c, &n)
}

// finish makes the transaction and its cursors unusable.
func (tx *Tx) finish() {
	tx.done = true
	for _, c := range tx.cursors {
		c.Release()
	}
	clear(tx.cursors)
	tx.cursors = tx.cursors[:0]
}

// end forgets the transaction.
func (tx *Tx) end() {
	tx.finish()
	tx.in.versions.End(&tx.v)
	tx.releaseRegions()
}

// abandon leaves an unfinished transaction to recovery: the instance is dead. It stays among
// the running ones, so that no checkpoint passes it.
func (tx *Tx) abandon() {
	tx.finish()
	tx.v.Abandon()
	if !tx.in.closed.Load() {
		tx.in.fail(ErrLogDead)
	}
}

// treeReserve is the log set aside for giving a tree's pages back: some 20 bytes an extent.
const treeReserve = 4096

// makeTree makes an empty tree as part of the transaction.
func (tx *Tx) makeTree(db *Database, parent page.No, obj page.ObjID, f page.Flags, pages int) (page.No, error) {
	db.space.Lock()
	defer db.space.Unlock()
	m := tx.in.env.NewMtr()
	root, err := db.space.NewTree(m, parent, obj, f, pages)
	if err != nil {
		m.Abort()
		return 0, err
	}
	rec := logrec.TreeRec{Tx: tx.v.ID, Prev: tx.v.Last, DB: db.id, Obj: obj, Root: root, Parent: parent}
	m.Tree, m.Reserve = &rec, treeReserve
	tx.v.Logged(tx.in.log.End())
	if err := m.Commit(); err != nil {
		return 0, err
	}
	tx.v.Last = m.Pos
	tx.v.Reserved += treeReserve
	tx.made = append(tx.made, madeTree{tx.v.Mark(), rec})
	return root, nil
}

// unmake gives a tree's pages back.
func (tx *Tx) unmake(rec logrec.TreeRec) error {
	clr := rec
	clr.CLR, clr.UndoNext, clr.Prev = true, rec.Prev, tx.v.Last
	pos, err := tx.in.freeTree(&clr, true)
	if err == nil {
		tx.v.Last = max(tx.v.Last, pos)
		tx.in.trees.Delete(version.MakeTreeID(rec.DB, uint32(rec.Obj)))
	}
	return err
}

// Update runs fn in a read-write transaction and commits it. On a write conflict it rolls
// back and runs fn again. When it returns, whatever fn learned is durable, also where fn
// failed.
func (in *Instance) Update(ctx context.Context, fn func(*Tx) error) error {
	for {
		tx := in.Begin()
		err := tx.attempt(fn)
		if err == nil {
			return nil
		}
		horizon := tx.Horizon()
		if rerr := tx.Rollback(); rerr != nil {
			return errors.Join(err, rerr)
		}
		if !errors.Is(err, ErrWriteConflict) {
			if werr := in.WaitDurable(horizon); werr != nil {
				return errors.Join(err, werr)
			}
			return err
		}
		tx.v.AwaitBlocker(ctx.Done())
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// attempt runs fn and commits. Where fn panics the transaction is rolled back, so that it
// does not hold its rows and the checkpoint for ever.
func (tx *Tx) attempt(fn func(*Tx) error) error {
	returned := false
	defer func() {
		if !returned {
			_ = tx.Rollback() // the panic goes on
		}
	}()
	err := fn(tx)
	returned = true
	if err != nil {
		return err
	}
	_, err = tx.Commit()
	return err
}

// View runs fn in a read-only transaction, which fn must not keep: it is used again.
func (in *Instance) View(fn func(*Tx) error) error {
	tx, _ := in.views.Get().(*Tx)
	if tx == nil {
		tx = &Tx{in: in}
	}
	tx.done = false
	in.versions.Begin(&tx.v, true, false)
	defer func() {
		if !tx.done {
			tx.end()
		}
		tx.v.Renew()
		in.views.Put(tx)
	}()
	return fn(tx)
}

// WaitDurable waits until the log is on disk up to pos.
func (in *Instance) WaitDurable(pos LogPos) error {
	if pos == 0 || in.o.ReadOnly {
		return nil
	}
	if in.log.Durable() < pos {
		if err := in.log.FlushTo(pos); err != nil {
			if in.closed.Load() {
				return fmt.Errorf("%w: %w", ErrClosed, err)
			}
			in.fail(err)
			return err
		}
	}
	// The log may have reported its sync before the commit was on the list of those waiting
	// for one: read-only transactions that begin after this must see it.
	in.versions.Durable(in.log.Durable())
	return nil
}

// ReadOnly tells whether the transaction may not change anything.
func (tx *Tx) ReadOnly() bool { return tx.v.ReadOnly }
