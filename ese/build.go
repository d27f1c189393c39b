package ese

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"pillarbox/ese/internal/version"
)

// The building of an index that was added to a table with rows. It goes through the rows in
// primary order, in short transactions: each locks some rows and puts in their entries. All
// writers keep the index up to date meanwhile, so an entry may be there already, and one that
// a writer wants to remove may not be there yet. Rows that change under it are left to the
// next round. A crash loses only the place where it stood: beginning again finds the entries.

// buildRows is how many rows one step locks.
const buildRows = 128

// IndexState tells how far an index is.
type IndexState struct {
	Ready bool
	Rows  uint64 // gone through
	// Pages of the table have been gone through of Of there were when the building began: others
	// come and go meanwhile, so the end may be before or behind.
	Pages, Of uint64
	Err       error // why the building ended; the index is gone then
}

type build struct {
	x    *Index
	rows atomic.Uint64
	// pages of so many are done; of is 0 until the building begins
	pages, of atomic.Uint64
	// ready is the transaction that declared the index complete, seen as such from its commit.
	ready atomic.Pointer[version.Tx]
	err   atomic.Pointer[error]

	mu   sync.Mutex // one step at a time
	next []byte     // the primary key to go on at
}

func newBuild(x *Index) *build { return &build{x: x} }

// State tells how far the index is, for transactions that begin now.
func (x *Index) State() IndexState {
	b := x.build
	if b == nil {
		return IndexState{Ready: true}
	}
	s := IndexState{
		Ready: b.complete(), Rows: b.rows.Load(), Pages: b.pages.Load(), Of: b.of.Load(),
	}
	if p := b.err.Load(); p != nil {
		s.Err = *p
	}
	return s
}

// complete tells whether the index is ready for transactions that begin now.
func (b *build) complete() bool {
	r := b.ready.Load()
	return r != nil && r.Committed() != 0
}

// usable refuses an index that the transaction does not see, or not complete.
func (x *Index) usable(tx *Tx) error {
	if x.dropped.Load() == nil && x.made == nil && x.build == nil {
		return nil
	}
	if !x.seen(&tx.v) {
		return fmt.Errorf("index %s of %s is not in the transaction's snapshot: %w", x.name, x.table.Name(), ErrNotFound)
	}
	if b := x.build; b != nil {
		if r := b.ready.Load(); r == nil || !tx.v.Sees(r) {
			return fmt.Errorf("index %s of %s: %w", x.name, x.table.Name(), ErrBuilding)
		}
	}
	return nil
}

// kept tells whether the transaction keeps the index up to date: from its making's commit on,
// whether the snapshot shows it or not, as long as the snapshot does not show its dropping.
func (x *Index) kept(tx *Tx) bool {
	if x.made != nil && x.made != &tx.v && !x.published() {
		return false
	}
	d := x.dropped.Load()
	return d == nil || !tx.v.Sees(d)
}

// partial tells that entries of rows may be missing.
func (x *Index) partial() bool { return x.build != nil && !x.build.complete() }

// BuildIndex builds an index to its end, or waits for the background to do so.
func (in *Instance) BuildIndex(ctx context.Context, x *Index) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		s := x.State()
		if s.Ready || s.Err != nil {
			return s.Err
		}
		if !x.current() {
			return fmt.Errorf("build index %s: %w", x.name, ErrNotFound)
		}
		did, err := in.buildStep(x)
		if err != nil {
			return err
		}
		if !did {
			select { // older transactions must end first, or hold the rows
			case <-ctx.Done():
			case <-time.After(time.Millisecond):
			}
		}
	}
}

// buildIndexes does up to rounds steps of building.
func (in *Instance) buildIndexes(rounds int) error {
	for _, db := range in.databases() {
		for _, t := range db.allTables() {
			for _, x := range t.s.Load().second {
				for ; rounds > 0 && x.partial() && x.current(); rounds-- {
					did, err := in.buildStep(x)
					if err != nil {
						return err
					}
					if !did {
						break
					}
				}
			}
		}
	}
	return nil
}

// buildStep builds the entries of some rows. did is false when it must wait for others.
func (in *Instance) buildStep(x *Index) (did bool, err error) {
	if err := errors.Join(in.usable(), in.log.TryFull()); err != nil {
		return false, err
	}
	b := x.build
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.complete() {
		return true, nil
	}
	// Transactions that began before the index was published may not have kept it.
	if x.made != nil && in.versions.OldestWriter() < x.made.Committed() {
		return false, nil
	}
	if b.of.Load() == 0 {
		n, err := x.table.tree.Leaves()
		if err != nil {
			return false, err
		}
		b.of.Store(uint64(n))
	}
	tx := in.Begin()
	if !x.table.seen(&tx.v) || !x.seen(&tx.v) {
		return false, tx.Rollback() // its pages may be gone
	}
	did, err = b.step(tx)
	if err == nil {
		return did, nil
	}
	if rerr := tx.Rollback(); rerr != nil {
		return false, rerr
	}
	switch {
	case errors.Is(err, ErrWriteConflict):
		return false, nil
	case errors.Is(err, ErrKeyExists), errors.Is(err, ErrTooBig), errors.Is(err, ErrNotASCII):
		return true, b.fail(in, err)
	}
	return false, err
}

// builtRow is a row and the entries it must have.
type builtRow struct {
	pk   []byte
	keys [][]byte
}

// step does one batch in a transaction of its own, and declares the index ready behind the
// last.
func (b *build) step(tx *Tx) (did bool, err error) {
	rows, leaves, err := b.collect(tx)
	if err != nil {
		return false, err
	}
	for i, r := range rows {
		mark := tx.v.Mark()
		err := b.add(tx, r)
		if errors.Is(err, ErrWriteConflict) && i > 0 {
			// Somebody is at this row: keep what there is, and go on with it next time.
			if err := tx.rollbackTo(mark); err != nil {
				return false, err
			}
			rows, leaves = rows[:i], 1
			break
		}
		if err != nil {
			return false, err
		}
	}
	if len(rows) == 0 {
		if err := b.finish(tx); err != nil {
			return true, err
		}
		b.pages.Add(1)
		return true, nil
	}
	if _, err := tx.CommitLazy(); err != nil {
		return false, err
	}
	b.next = append(rows[len(rows)-1].pk, 0)
	b.rows.Add(uint64(len(rows)))
	b.pages.Add(uint64(leaves - 1)) // the next step begins in the last
	return true, nil
}

// collect reads the next rows, from so many leaves.
func (b *build) collect(tx *Tx) (rows []builtRow, leaves int, err error) {
	t := b.x.table
	v := RowView{t: t, tx: tx}
	c := t.tree.NewCursor(&tx.v)
	defer c.Release()
	ok, err := c.Seek(b.next)
	for ; ok && err == nil && len(rows) < buildRows; ok, err = c.Next() {
		if err := v.parse(c.Data()); err != nil {
			return nil, 0, err
		}
		keys, err := b.x.keys(&v)
		if err != nil {
			return nil, 0, err
		}
		rows = append(rows, builtRow{pk: append([]byte(nil), c.Key()...), keys: keys})
	}
	return rows, c.Leaves(), err
}

// add locks a row and puts in its entries, unless a writer has.
func (b *build) add(tx *Tx, r builtRow) error {
	x := b.x
	if err := x.table.tree.Lock(&tx.v, r.pk); err != nil {
		return err
	}
	for _, key := range r.keys {
		err := x.tree.Insert(&tx.v, key, r.pk)
		if errors.Is(err, ErrKeyExists) {
			own, oerr := x.owns(tx, key, r.pk)
			if err = oerr; !own && oerr == nil {
				err = fmt.Errorf("two rows have the key %x of index %s: %w", key, x.name, ErrKeyExists)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// owns tells whether the entry with the key is that of the row.
func (x *Index) owns(tx *Tx, key, pk []byte) (bool, error) {
	if !x.unique {
		return true, nil
	}
	data, ok, err := x.tree.Get(&tx.v, key, nil)
	return ok && string(data) == string(pk), err
}

// finish declares the index ready in the catalog.
func (b *build) finish(tx *Tx) error {
	x, t := b.x, b.x.table
	flags := x.row(t).flags &^ idxBuilding
	if err := t.db.changeRow(tx, t.obj, catIndex, uint32(x.obj), map[string]Value{"Flags": Int(flags)}); err != nil {
		return err
	}
	mark := tx.v.Mark() - 1
	b.ready.Store(&tx.v)
	tx.undo = append(tx.undo, undoHook{mark, func() { b.ready.Store(nil) }})
	_, err := tx.CommitLazy()
	return err
}

// fail drops an index that cannot be, and remembers why.
func (b *build) fail(in *Instance, cause error) error {
	x := b.x
	cause = fmt.Errorf("build index %s of %s: %w", x.name, x.table.Name(), cause)
	tx := in.Begin()
	err := tx.DropIndex(x.table, x.name)
	if err == nil {
		_, err = tx.CommitLazy()
	}
	if err != nil {
		if rerr := tx.Rollback(); rerr != nil {
			return rerr
		}
		if errors.Is(err, ErrWriteConflict) || errors.Is(err, ErrNotFound) {
			return nil // the next step comes here again
		}
		return err
	}
	b.err.Store(&cause)
	in.o.Logger.Warn("index dropped: it could not be built", "index", x.name, "table", x.table.Name(), "error", cause)
	return nil
}
