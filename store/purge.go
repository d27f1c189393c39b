package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pillarbox/ese"
)

// PurgeOptions says what a Purge removes. The zero value removes recoverable messages only.
type PurgeOptions struct {
	// KeepMailboxes is how long a mailbox without an owner stays. Default: for ever.
	KeepMailboxes time.Duration
	// KeepTombs is how long the mailbox can tell what is gone; who asks about more must read
	// anew (ErrTooOld). Default: for ever.
	KeepTombs time.Duration
	// RecoverableBytes bounds the recoverable messages of a mailbox: the oldest go before their
	// time. Default: no limit.
	RecoverableBytes int64
	// Owned tells whether the directory has the mailbox's owner. Default: it has all.
	Owned func(MailboxID) bool
}

// Purged counts what a Purge has removed.
type Purged struct {
	Messages, Bytes, Tombs, Mailboxes int64
}

// Add adds what another Purge has removed.
func (n *Purged) Add(o Purged) {
	n.Messages += o.Messages
	n.Bytes += o.Bytes
	n.Tombs += o.Tombs
	n.Mailboxes += o.Mailboxes
}

// Purge removes, step by step, what nobody can ask for any more: recoverable messages, tombstones
// and mailboxes without an owner whose time is over. Nothing of a mailbox on hold goes but its
// tombstones. It is for one goroutine.
type Purge struct {
	s     *Store
	o     PurgeOptions
	boxes []*box // still to be looked at
	begun bool
	total Purged
}

// NewPurge makes a Purge that begins with the first mailbox.
func (s *Store) NewPurge(o PurgeOptions) *Purge {
	if o.Owned == nil {
		o.Owned = func(MailboxID) bool { return true }
	}
	return &Purge{s: s, o: o}
}

// Purged is what it has removed so far.
func (p *Purge) Purged() Purged { return p.total }

// looksPerStep bounds the mailboxes that one step looks at in vain.
const looksPerStep = 256

// Step does at most one transaction of Options.BatchMessages rows. done tells that a pass over
// all mailboxes came to its end; the next step begins another.
func (p *Purge) Step(ctx context.Context) (did, done bool, err error) {
	if !p.begun {
		for _, d := range p.s.mounted() {
			boxes, err := p.s.boxesOf(d)
			if err != nil {
				return false, false, fmt.Errorf("purge: %w", err)
			}
			p.boxes = append(p.boxes, boxes...)
		}
		p.begun = true
	}
	for range looksPerStep {
		if len(p.boxes) == 0 {
			p.begun = false
			return false, true, nil
		}
		b := p.boxes[0]
		did, more, err := p.box(ctx, b)
		if errors.Is(err, ErrNoMailbox) {
			err = nil // removed meanwhile
		}
		if err != nil {
			// The next step goes on with the next mailbox: damage in one is not for all.
			p.boxes = p.boxes[1:]
			return false, false, fmt.Errorf("purge mailbox %s: %w", b.id, err)
		}
		if !more {
			p.boxes = p.boxes[1:]
		}
		if did {
			return true, false, nil
		}
	}
	return false, false, nil
}

// purgeTask is what is to be done with a mailbox, found on a snapshot.
type purgeTask struct {
	messages, tombs, gone, mark, unmark, remove bool
}

func (t *purgeTask) any() bool { return *t != purgeTask{} }

// box does one transaction on a mailbox that needs it. more tells that there may be more to do.
func (p *Purge) box(ctx context.Context, b *box) (did, more bool, err error) {
	if b.moving() {
		return false, false, nil // what goes without a tombstone would have to be looked for
	}
	var task purgeTask
	err = p.s.in.View(func(tx *ese.Tx) (err error) {
		task, err = p.task(tx, b)
		return err
	})
	if err != nil || !task.any() {
		return false, false, err
	}
	switch {
	case task.remove:
		done, err := p.s.removeBatch(ctx, b, p.mayRemove(b))
		if done && err == nil {
			p.total.Mailboxes++
		}
		if errors.Is(err, ErrConnected) {
			return false, false, nil // it has an owner again
		}
		return true, !done, err
	case task.mark:
		return true, true, p.s.Disconnect(ctx, b.id, "", p.s.o.Now())
	case task.unmark:
		return true, true, p.s.Reconnect(ctx, b.id)
	}
	var n Purged
	err = p.s.write(ctx, []*box{b}, func(o *op) error {
		n = Purged{}
		st := o.state(b)
		task, err := p.task(o.tx, b) // once more, under the lock
		if err != nil {
			return err
		}
		left := p.s.o.BatchMessages
		if task.messages {
			if left, err = p.messages(o, st, left, &n); err != nil || left == 0 {
				return err
			}
		}
		if task.tombs {
			if left, err = p.tombs(o, st, left, &n); err != nil || left == 0 {
				return err
			}
		}
		if task.gone {
			return p.gone(o, st, left)
		}
		return nil
	})
	if err == nil {
		p.total.Messages += n.Messages
		p.total.Bytes += n.Bytes
		p.total.Tombs += n.Tombs
	}
	return true, err == nil, err
}

// task looks what there is to do.
func (p *Purge) task(tx *ese.Tx, b *box) (t purgeTask, err error) {
	d := b.d
	var v ese.RowView
	var buf []byte
	ok, err := tx.Get(d.mailbox.t, &v, &buf, ese.Int(b.mbx))
	if err != nil || !ok {
		return t, err
	}
	var row mailboxRow
	row.read(&d.mailbox, &v)
	owned := v.Int(d.mailbox.kind) != 0 || p.o.Owned(b.id)
	t.remove = row.removing() || p.overdue(&row) && !owned
	t.mark, t.unmark = !owned && row.disconnected == 0, owned && row.disconnected != 0
	if t.remove || t.mark || t.unmark {
		return t, nil
	}
	c := tx.Cursor(d.msg.t.Primary())
	if err := c.Prefix(ese.Int(b.mbx), ese.Int(recoverableFolder)); err != nil {
		return t, err
	}
	if ok, err = c.First(); err != nil {
		return t, err
	}
	if ok {
		kept, err := d.recoverable(tx, b.mbx)
		if err != nil {
			return t, err
		}
		t.messages = p.expired(&row, c.Row().Int(d.msg.saved), kept.size)
	}
	return t, p.small(tx, b, &row, &t)
}

// small looks at tombstones and the paths of folders that are gone.
func (p *Purge) small(tx *ese.Tx, b *box, row *mailboxRow, t *purgeTask) error {
	c := tx.Cursor(b.d.tomb.t.Primary())
	if err := c.Prefix(ese.Int(b.mbx)); err != nil {
		return err
	}
	ok, err := c.First()
	if err != nil {
		return err
	}
	t.tombs = ok && p.oldTomb(c.Row().Int(b.d.tomb.at))
	c = tx.Cursor(b.d.gone.t.Primary())
	if err := c.Prefix(ese.Int(b.mbx)); err != nil {
		return err
	}
	for ok, err = c.First(); ok && err == nil && !t.gone; ok, err = c.Next() {
		t.gone = p.expired(row, c.Row().Int(b.d.gone.at), 0)
	}
	return err
}

// overdue tells that a mailbox has been without owner for its time.
func (p *Purge) overdue(r *mailboxRow) bool {
	return r.disconnected != 0 && !r.hold() && p.o.KeepMailboxes > 0 &&
		p.s.o.Now().Sub(fromMillis(r.disconnected)) > p.o.KeepMailboxes
}

// expired tells whether what was deleted at a time may go; size is what the mailbox keeps.
func (p *Purge) expired(r *mailboxRow, at, size int64) bool {
	if r.hold() {
		return false
	}
	return p.s.o.Now().Sub(fromMillis(at)) > r.keepFor(&p.s.o) ||
		p.o.RecoverableBytes > 0 && size > p.o.RecoverableBytes
}

func (p *Purge) oldTomb(at int64) bool {
	return p.o.KeepTombs > 0 && p.s.o.Now().Sub(fromMillis(at)) > p.o.KeepTombs
}

// mayRemove asks again under the mailbox's lock.
func (p *Purge) mayRemove(b *box) func(*mailboxRow) error {
	return func(r *mailboxRow) error {
		if p.o.Owned(b.id) || !p.overdue(r) {
			return ErrConnected
		}
		return nil
	}
}

// messages removes recoverable messages whose time is over: they lie in the order in which they
// were deleted.
func (p *Purge) messages(o *op, st *boxState, limit int, n *Purged) (left int, err error) {
	f, err := o.folder(st, recoverableFolder)
	if err != nil {
		return 0, err
	}
	all := []UIDRange{{1, ^UID(0)}}
	rows, _, err := o.messages(st, recoverableFolder, all, 0, limit)
	if err != nil {
		return 0, err
	}
	for i := range rows {
		r := &rows[i]
		if !p.expired(&st.row, r.saved, f.size) {
			break
		}
		if err := o.release(st, f, r); err != nil {
			return 0, err
		}
		if err := st.d.changeRefs(o.tx, r.cid, -1, 0); err != nil {
			return 0, err
		}
		n.Messages++
		n.Bytes += r.size
	}
	return limit - int(n.Messages), nil
}

// tombs forgets old tombstones, and notes up to where in mailbox and folders.
func (p *Purge) tombs(o *op, st *boxState, limit int, n *Purged) (left int, err error) {
	t := &st.d.tomb
	floors := make(map[FolderID]CN)
	var some []CN
	c := o.tx.Cursor(t.t.Primary())
	if err := c.Prefix(ese.Int(st.mbx)); err != nil {
		return 0, err
	}
	ok, err := c.First()
	for ; ok && err == nil && len(some) < limit && p.oldTomb(c.Row().Int(t.at)); ok, err = c.Next() {
		cn := CN(c.Row().Int(t.cn))
		some = append(some, cn)
		floors[FolderID(c.Row().Int(t.fid))] = cn
	}
	for _, cn := range some {
		if err != nil {
			return 0, err
		}
		err = o.tx.Delete(t.t, ese.Int(st.mbx), ese.Int(cn))
	}
	for fid, cn := range floors {
		if err != nil {
			return 0, err
		}
		var f *folderRow
		if f, err = o.folder(st, fid); errors.Is(err, ErrNoFolder) {
			err = nil
			continue
		}
		if err == nil {
			f.tombsFloor, f.dirty = max(f.tombsFloor, cn), true
		}
	}
	if err != nil || len(some) == 0 {
		return limit, err
	}
	floor := max(st.row.tombsFloor, some[len(some)-1])
	n.Tombs += int64(len(some))
	return limit - len(some), o.setKeeping(st, func(t *mailboxTable, row *ese.Row) {
		row.Set(t.tombsFloor, ese.Int(floor))
	})
}

// gone forgets the paths of folders from which nothing recoverable can be left.
func (p *Purge) gone(o *op, st *boxState, limit int) error {
	t := &st.d.gone
	var some []FolderID
	c := o.tx.Cursor(t.t.Primary())
	if err := c.Prefix(ese.Int(st.mbx)); err != nil {
		return err
	}
	ok, err := c.First()
	for ; ok && err == nil && len(some) < limit; ok, err = c.Next() {
		if p.expired(&st.row, c.Row().Int(t.at), 0) {
			some = append(some, FolderID(c.Row().Int(t.fid)))
		}
	}
	for _, fid := range some {
		if err != nil {
			return err
		}
		err = o.tx.Delete(t.t, ese.Int(st.mbx), ese.Int(fid))
	}
	return err
}
