package btree

import (
	"fmt"

	"pillarbox/ese/internal/cache"
	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/page"
	"pillarbox/ese/internal/version"
)

// Insert adds a node. ErrKeyExists when the key (in a non-unique tree: key and data) is
// there, version.ErrConflict when another transaction stands in the way.
func (t *Tree) Insert(tx *version.Tx, key, data []byte) error {
	if len(key)+len(data) > MaxNode(t.File.PageSize()) {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooBig, len(key)+len(data), MaxNode(t.File.PageSize()))
	}
	full := key
	var kb [256]byte
	if t.joined {
		full = append(append(kb[:0], key...), data...)
	}
	for {
		fr, err := t.leaf(full, cache.Exclusive)
		if err != nil {
			return err
		}
		i, exact := fr.P.Search(full)
		var need int
		var again bool
		if exact {
			need, again, err = t.insertOver(tx, fr, i, full, data)
		} else {
			need, again, err = t.insertNew(tx, fr, i, key, full, data)
		}
		run := fr.Run(i, !again && err == nil)
		fr.Unlock()
		if !again {
			return err
		}
		if err := t.split(full, need, run, false); err != nil {
			return err
		}
	}
}

// insertNew puts a node where none is. again asks for a split of need bytes.
func (t *Tree) insertNew(tx *version.Tx, fr *cache.Frame, i int, key, full, data []byte) (need int, again bool, err error) {
	p := fr.P
	pre := p.PrefixLen(key)
	need = page.NodeSize(pre, len(key)-pre, len(data))
	if need > p.Free() {
		if !t.purgeLatched(fr) || need > p.Free() {
			return need + 4, true, nil
		}
		i, _ = p.Search(full)
	}
	rec := logrec.NodeRec{Op: logrec.NodeInsert, Item: i, Prefix: pre, Key: key, Data: data}
	return 0, false, t.log(tx, fr, &rec, version.Change{Key: full})
}

// insertOver brings a deleted node back to life with new data.
func (t *Tree) insertOver(tx *version.Tx, fr *cache.Frame, i int, full, data []byte) (need int, again bool, err error) {
	if err := t.env.Versions.Conflict(tx, t.id, full, logrec.NodeUndelete); err != nil {
		return 0, false, err
	}
	nd := fr.P.Node(i)
	if nd.Flags&page.NodeDeleted == 0 {
		return 0, false, ErrKeyExists
	}
	if t.joined {
		data = nd.Data
	}
	if len(data)-len(nd.Data) > fr.P.Free() {
		return t.roomFor(fr, i, len(data)), true, nil
	}
	rec := logrec.NodeRec{Op: logrec.NodeUndelete, Item: i, Key: full}
	rec.Diff(nd.Data, data)
	return 0, false, t.log(tx, fr, &rec, version.Change{Key: full, Before: nd.Data})
}

// roomFor is the free space that a split must leave so that node i can grow to n bytes of
// data on its page.
func (t *Tree) roomFor(fr *cache.Frame, i, n int) int {
	return n - len(fr.P.Node(i).Data) + 4
}

// Replace gives a node other data. The tree's keys are unique.
func (t *Tree) Replace(tx *version.Tx, key, data []byte) error {
	if len(key)+len(data) > MaxNode(t.File.PageSize()) {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooBig, len(key)+len(data), MaxNode(t.File.PageSize()))
	}
	return t.update(tx, key, logrec.NodeReplace, func(fr *cache.Frame, i int) (bool, error) {
		nd := fr.P.Node(i)
		if len(data)-len(nd.Data) > fr.P.Free() {
			return true, nil
		}
		rec := logrec.NodeRec{Op: logrec.NodeReplace, Item: i, Key: key}
		rec.Diff(nd.Data, data)
		return false, t.log(tx, fr, &rec, version.Change{Key: key, Existed: true, Before: nd.Data})
	}, len(data))
}

// Delete flags a node deleted. It leaves the page when no snapshot can see it.
func (t *Tree) Delete(tx *version.Tx, key []byte) error {
	return t.update(tx, key, logrec.NodeFlagDelete, func(fr *cache.Frame, i int) (bool, error) {
		nd := fr.P.Node(i)
		rec := logrec.NodeRec{Op: logrec.NodeFlagDelete, Item: i, Key: key}
		return false, t.log(tx, fr, &rec, version.Change{Key: key, Existed: true, Before: nd.Data})
	}, 0)
}

// Add adds to a number in a node's data. Other open transactions may do so too.
func (t *Tree) Add(tx *version.Tx, key []byte, d logrec.Delta) error {
	return t.update(tx, key, logrec.NodeDelta, func(fr *cache.Frame, i int) (bool, error) {
		if !d.Fits(fr.P.Node(i).Data) {
			return false, fmt.Errorf("%w: no number of %d bytes at %d", logrec.ErrPageMismatch, d.Width, d.Off)
		}
		rec := logrec.NodeRec{Op: logrec.NodeDelta, Item: i, Key: key, Delta: d}
		return false, t.log(tx, fr, &rec, version.Change{Key: key, Existed: true, Delta: &d})
	}, 0)
}

// Lock keeps others from changing a node until tx has ended, and changes nothing itself.
func (t *Tree) Lock(tx *version.Tx, key []byte) error {
	return t.update(tx, key, version.OpLock, func(*cache.Frame, int) (bool, error) {
		c := version.Change{Tree: t.id, Op: version.OpLock, Key: key, Existed: true}
		if err := t.env.Versions.Reserve(tx, &c); err != nil {
			return false, err
		}
		t.env.Versions.Add(tx, &c)
		return false, nil
	}, 0)
}

// update finds a live node to which tx may do op and runs fn under its page's latch; fn reports
// true when the page lacks room for size bytes of data.
func (t *Tree) update(tx *version.Tx, key []byte, op logrec.NodeOp, fn func(fr *cache.Frame, i int) (bool, error), size int) error {
	for {
		fr, err := t.leaf(key, cache.Exclusive)
		if err != nil {
			return err
		}
		i, exact := fr.P.Search(key)
		full, need := false, 0
		switch {
		case !exact:
			err = ErrNotFound
		default:
			err = t.env.Versions.Conflict(tx, t.id, key, op)
			if err == nil && fr.P.Node(i).Flags&page.NodeDeleted != 0 {
				err = ErrNotFound
			}
		}
		if err == nil {
			full, err = fn(fr, i)
			if full && t.purgeLatched(fr) {
				i, _ = fr.P.Search(key)
				full, err = fn(fr, i)
			}
			if full {
				need = t.roomFor(fr, i, size)
			}
		}
		fr.Unlock()
		if !full || err != nil {
			return err
		}
		if err := t.split(key, need, false, false); err != nil {
			return err
		}
	}
}

// log appends the record of one node change, applies it, and keeps the state before in the
// version store. The frame's exclusive latch is held. c's Key is set, and Existed and Before.
func (t *Tree) log(tx *version.Tx, fr *cache.Frame, rec *logrec.NodeRec, c version.Change) error {
	c.Tree, c.Op, c.Prev = t.id, rec.Op, tx.Last
	if err := t.env.Versions.Reserve(tx, &c); err != nil {
		return err
	}
	start, end, err := t.write(tx, fr, rec)
	if err != nil {
		t.env.Versions.Unreserve(&c)
		return err
	}
	// The store copies key and before-image, which may lie in the page.
	c.Pos = start
	t.env.Versions.Add(tx, &c)
	return t.apply(tx, fr, rec, start, end)
}

// write logs rec. The page still shows the state before.
func (t *Tree) write(tx *version.Tx, fr *cache.Frame, rec *logrec.NodeRec) (start, end logrec.LogPos, err error) {
	rec.Tx, rec.Prev = tx.ID, tx.Last
	rec.DB, rec.Obj, rec.Root = t.File.DB, t.Obj, t.Root
	rec.Page, rec.Before = fr.No(), fr.P.DBTime()
	if rec.After, err = t.File.NextDBTime(rec.Page, rec.Before); err != nil {
		return 0, 0, t.wrap("change", err)
	}
	pos := t.env.Log.End()
	tx.Logged(pos)
	announced := fr.Dirty(pos)
	tx.Record = rec.Append(tx.Record[:0])
	start, end, err = t.append(tx, rec, tx.Record)
	if err != nil && announced {
		fr.Undirty(pos) // a page is not written with another flush type that no record tells of
	}
	return start, end, err
}

// apply does on the page what rec, logged from start to end, says.
func (t *Tree) apply(tx *version.Tx, fr *cache.Frame, rec *logrec.NodeRec, start, end logrec.LogPos) error {
	if err := rec.Apply(fr.P); err != nil {
		return t.wrap("change", err)
	}
	fr.Logged(end)
	tx.Last = start
	return nil
}

// append logs a change with what taking it back may need of the log, or takes from that.
func (t *Tree) append(tx *version.Tx, rec *logrec.NodeRec, b []byte) (start, end logrec.LogPos, err error) {
	size := int64(logrec.FrameSize(len(b)))
	if rec.CLR {
		size = min(size, tx.Reserved)
		start, end, err = t.env.Log.PutReserved(size, rec.Prev, rec.Type(), b)
		size = -size
	} else {
		size += undoSlack
		if shrunk := len(rec.Old) - len(rec.New); shrunk > 0 {
			// Others may fill the space meanwhile: bringing it back can take a split.
			size += int64(4*shrunk + t.File.PageSize()/4)
		}
		if tx.Reserved == 0 {
			size += undoSlack // the record of its end
		}
		start, end, err = t.env.Log.PutChange(size, rec.Prev, rec.Type(), b)
	}
	if err == nil {
		tx.Reserved += size
	}
	return start, end, err
}

// undoSlack is by how much a compensation may be longer than the record it takes back.
const undoSlack = 64

// UndoChange takes back the newest change of a running transaction and logs the
// compensation. The caller pops it from the transaction.
func (t *Tree) UndoChange(tx *version.Tx, c *version.Change) error {
	drop := func() { t.env.Versions.Drop(c) }
	switch c.Op {
	case version.OpLock:
		drop()
		return nil
	case logrec.NodeDelta:
		return t.compensate(tx, c.Key, c.Prev, addBack(c.Delta.Inverse()), drop)
	}
	return t.compensate(tx, c.Key, c.Prev,
		putBack(c.Op, func([]byte) ([]byte, error) { return t.env.Versions.Before(c) }), drop)
}

// UndoRecord takes back a change that recovery found in the log.
func (t *Tree) UndoRecord(tx *version.Tx, rec *logrec.NodeRec) error {
	return t.undoRecord(tx, rec, nil)
}

// UndoLogged is UndoChange by the log record of the change, where the state before cannot be
// read from the version store.
func (t *Tree) UndoLogged(tx *version.Tx, c *version.Change, rec *logrec.NodeRec) error {
	return t.undoRecord(tx, rec, func() { t.env.Versions.Drop(c) })
}

func (t *Tree) undoRecord(tx *version.Tx, rec *logrec.NodeRec, done func()) error {
	if rec.Op == logrec.NodeDelta {
		return t.compensate(tx, rec.Key, rec.Prev, addBack(rec.Delta.Inverse()), done)
	}
	key := rec.Key
	if rec.Op == logrec.NodeInsert && t.joined {
		key = append(append([]byte(nil), key...), rec.Data...)
	}
	return t.compensate(tx, key, rec.Prev, putBack(rec.Op, func(now []byte) ([]byte, error) {
		if rec.Head+len(rec.New) > len(now) {
			return nil, fmt.Errorf("%w: undo of %d bytes at %d in %d", logrec.ErrPageMismatch, len(rec.New), rec.Head, len(now))
		}
		old := append([]byte(nil), now[:rec.Head]...)
		old = append(old, rec.Old...)
		return append(old, now[rec.Head+len(rec.New):]...), nil
	}), done)
}

// inverse makes rec undo a change of a node whose data is now. It returns by how many bytes
// the data grows.
type inverse func(rec *logrec.NodeRec, now []byte) (int, error)

// addBack is the inverse of an addition, given by its own inverse.
func addBack(by logrec.Delta) inverse {
	return func(rec *logrec.NodeRec, _ []byte) (int, error) {
		rec.Op, rec.Delta = logrec.NodeDelta, by
		return 0, nil
	}
}

// putBack is the inverse of all other operations. before gives the data to restore from the
// data now.
func putBack(op logrec.NodeOp, before func([]byte) ([]byte, error)) inverse {
	return func(rec *logrec.NodeRec, now []byte) (int, error) {
		switch op {
		case logrec.NodeInsert:
			rec.Op = logrec.NodeRemove
			return 0, nil
		case logrec.NodeReplace:
			rec.Op = logrec.NodeReplace
		case logrec.NodeFlagDelete:
			rec.Op = logrec.NodeUndelete
		case logrec.NodeUndelete:
			rec.Op = logrec.NodeFlagDelete
		}
		data, err := before(now)
		if err != nil {
			return 0, err
		}
		rec.Diff(now, data)
		return len(data) - len(now), nil
	}
}

// compensate applies an inverse to the node with key.
func (t *Tree) compensate(tx *version.Tx, key []byte, undoNext logrec.LogPos, inv inverse, done func()) error {
	for {
		fr, err := t.leaf(key, cache.Exclusive)
		if err != nil {
			return err
		}
		i, exact := fr.P.Search(key)
		if !exact {
			fr.Unlock()
			return t.wrap("undo", fmt.Errorf("%w: key %x is not there", logrec.ErrPageMismatch, key))
		}
		rec := logrec.NodeRec{CLR: true, UndoNext: undoNext, Item: i, Key: key}
		need, err := inv(&rec, fr.P.Node(i).Data)
		full := err == nil && need > fr.P.Free() && (!t.purgeLatched(fr) || need > fr.P.Free())
		if err == nil && !full {
			rec.Item, _ = fr.P.Search(key)
			var start, end logrec.LogPos
			if start, end, err = t.write(tx, fr, &rec); err == nil {
				err = t.apply(tx, fr, &rec, start, end)
			}
			if err == nil && done != nil {
				done()
			}
		}
		fr.Unlock()
		if !full {
			return err
		}
		if err := t.split(key, need+4, false, true); err != nil {
			return err
		}
	}
}

// Get appends the data that tx sees under key to dst; in a non-unique tree key holds both
// parts.
func (t *Tree) Get(tx *version.Tx, key, dst []byte) ([]byte, bool, error) {
	fr, err := t.leaf(key, cache.Shared)
	if err != nil {
		return dst, false, err
	}
	defer fr.RUnlock()
	i, exact := fr.P.Search(key)
	if !exact {
		return dst, false, nil
	}
	nd := fr.P.Node(i)
	exists, data := nd.Flags&page.NodeDeleted == 0, nd.Data
	if nd.Flags&page.NodeVersioned != 0 && !fr.Quiet(t.env.Versions.KeptFrom()) {
		if exists, data, err = t.env.Versions.Visible(tx, t.id, key, exists, data); err != nil {
			return dst, false, t.wrap("read", err)
		}
	}
	if !exists {
		return dst, false, nil
	}
	return append(dst, data...), true, nil
}
