package store

import (
	"errors"
	"slices"

	"pillarbox/ese"
)

// op is one writing transaction with the rows of the mailboxes it may change.
type op struct {
	s     *Store
	tx    *ese.Tx
	boxes []*boxState
	row   ese.RowView
	buf   []byte
	// remover: mailboxes that are being removed are taken too.
	remover bool
}

// boxState is a mailbox as the transaction sees and changes it.
type boxState struct {
	*box
	row     mailboxRow
	dirty   bool
	folders []*folderRow // loaded ones
	words   []string     // keywords by number; nil until they are needed
}

// run locks the boxes, runs fn and pre-commits. pos is what must be durable before the
// outcome may be told.
func (o *op) run(boxes []*box, fn func(*op) error) (pos ese.LogPos, err error) {
	for _, b := range boxes {
		b.write.Lock()
	}
	defer func() {
		for _, b := range slices.Backward(boxes) {
			b.write.Unlock()
		}
	}()
	for _, b := range boxes {
		if err := b.usable(); err != nil {
			return 0, err
		}
	}
	o.tx = o.s.in.Begin()
	if err = o.load(boxes); err == nil {
		err = fn(o)
	}
	if err == nil {
		err = o.flush()
	}
	if err == nil {
		if pos, err = o.tx.CommitLazy(); err == nil {
			return pos, nil
		}
	}
	pos = o.tx.Horizon()
	if rerr := o.tx.Rollback(); rerr != nil {
		// The instance is dead; there is nothing to wait for.
		return 0, errors.Join(err, rerr)
	}
	return pos, err
}

func (o *op) load(boxes []*box) error {
	for _, b := range boxes {
		st := &boxState{box: b}
		ok, err := o.tx.Get(b.d.mailbox.t, &o.row, &o.buf, ese.Int(b.mbx))
		if err != nil {
			return err
		}
		if !ok {
			return ErrNoMailbox
		}
		st.row.read(&b.d.mailbox, &o.row)
		if st.row.removing() && !o.remover {
			return ErrRemoving
		}
		o.boxes = append(o.boxes, st)
	}
	return nil
}

// state finds the state of a box of the operation.
func (o *op) state(b *box) *boxState {
	for _, st := range o.boxes {
		if st.box == b {
			return st
		}
	}
	panic("store: operation on a mailbox that is not locked")
}

// flush writes the rows that changed.
func (o *op) flush() error {
	for _, st := range o.boxes {
		for _, f := range st.folders {
			if f.dirty {
				if err := o.writeFolder(st, f); err != nil {
					return err
				}
			}
		}
		if st.dirty {
			r := st.d.mailbox.t.NewRow()
			st.row.counters(&st.d.mailbox, r)
			if err := o.tx.Update(r, ese.Int(st.mbx)); err != nil {
				return err
			}
		}
	}
	return nil
}

// publish tells those who wait what changed, after the commit is durable.
func (o *op) publish() {
	for _, st := range o.boxes {
		if !st.dirty {
			continue
		}
		st.mu.Lock()
		for _, f := range st.folders {
			if f.dirty {
				st.published[f.fid] = max(st.published[f.fid], f.highest)
			}
		}
		st.published[0] = max(st.published[0], st.row.nextCN-1)
		close(st.wake)
		st.wake = make(chan struct{})
		st.mu.Unlock()
	}
}

// nextCN takes the next change number: one for each object that changes.
func (st *boxState) nextCN() CN {
	cn := st.row.nextCN
	st.row.nextCN++
	st.dirty = true
	return cn
}

// nextID takes the next identifier of a folder, e-mail or thread.
func (st *boxState) nextID() int64 {
	id := st.row.nextID
	st.row.nextID++
	st.dirty = true
	return id
}

// nextUIDValidity takes the next value; it only rises (mail.md 14).
func (st *boxState) nextUIDValidity() uint32 {
	v := st.row.nextUIDValidity
	st.row.nextUIDValidity++
	st.dirty = true
	return v
}

// folder loads a folder once and returns its state in the operation.
func (o *op) folder(st *boxState, fid FolderID) (*folderRow, error) {
	for _, f := range st.folders {
		if f.fid == fid {
			if f.gone {
				return nil, ErrNoFolder
			}
			return f, nil
		}
	}
	ok, err := o.tx.Get(st.d.folder.t, &o.row, &o.buf, ese.Int(st.mbx), ese.Int(fid))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, ErrNoFolder
	}
	f := &folderRow{}
	f.read(&st.d.folder, &o.row)
	st.folders = append(st.folders, f)
	return f, nil
}

// messageFolder is folder for one that may hold messages.
func (o *op) messageFolder(st *boxState, fid FolderID) (*folderRow, error) {
	f, err := o.folder(st, fid)
	if err == nil && f.bits&(folderHidden|folderNoSelect) != 0 {
		return nil, ErrNoFolder
	}
	return f, err
}
