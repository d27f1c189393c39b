package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"pillarbox/ese"
)

// A mailbox whose owner is gone from the directory is disconnected: it stays as it is until its
// time is over, and can be given to an owner of the same GUID again. The directory decides; the
// mark in the mailbox says when and who, and is set right by the purge.

// Disconnected is a mailbox without an owner.
type Disconnected struct {
	ID MailboxID
	// Address is the last of its owner's, "" where it is not known.
	Address string
	// At is when it lost its owner.
	At time.Time
	// Messages and Size count recoverable ones too.
	Messages, Size int64
	Hold           bool
	// Removing: the purge has begun to remove it.
	Removing bool
}

// Disconnect marks a mailbox whose owner goes.
func (s *Store) Disconnect(ctx context.Context, id MailboxID, address string, at time.Time) error {
	b, err := s.find(id)
	if err != nil || b == nil {
		return err // who never got mail leaves nothing behind
	}
	err = s.write(ctx, []*box{b}, func(o *op) error {
		return o.setKeeping(o.state(b), func(t *mailboxTable, row *ese.Row) {
			row.Set(t.disconnected, ese.Int(millis(at))).Set(t.address, ese.String(promoted(address)))
		})
	})
	if err != nil {
		return fmt.Errorf("disconnect mailbox: %w", err)
	}
	s.o.Logger.Info("mailbox disconnected", "mailbox", id.String(), "address", address)
	return nil
}

// Reconnect takes the mark off a mailbox that gets an owner again. ErrRemoving when the purge has
// begun with it.
func (s *Store) Reconnect(ctx context.Context, id MailboxID) error {
	b, err := s.find(id)
	if err == nil && b == nil {
		err = ErrNoMailbox
	}
	if err == nil {
		err = s.write(ctx, []*box{b}, func(o *op) error {
			return o.setKeeping(o.state(b), func(t *mailboxTable, row *ese.Row) {
				row.Set(t.disconnected, ese.Null()).Set(t.address, ese.Null())
			})
		})
	}
	if err != nil {
		return fmt.Errorf("reconnect mailbox: %w", err)
	}
	s.o.Logger.Info("mailbox reconnected", "mailbox", id.String())
	return nil
}

// Disconnected lists the mailboxes without an owner, the latest first.
func (s *Store) Disconnected() (list []Disconnected, err error) {
	for _, d := range s.mounted() {
		err := s.in.View(func(tx *ese.Tx) error {
			c := checker{ctx: context.Background(), tx: tx}
			return c.each(d.mailbox.t, func(v *ese.RowView) error {
				var r mailboxRow
				if r.read(&d.mailbox, v); r.disconnected == 0 {
					return nil
				}
				kept, err := d.recoverable(tx, uint32(v.Int(d.mailbox.mbx)))
				list = append(list, Disconnected{
					ID: MailboxID(v.Bytes(d.mailbox.guid)), Address: v.String(d.mailbox.address),
					At: fromMillis(r.disconnected), Messages: r.count + kept.count,
					Size: r.size + kept.size, Hold: r.hold(), Removing: r.removing(),
				})
				return err
			})
		})
		if err != nil {
			return nil, fmt.Errorf("list disconnected mailboxes: %w", err)
		}
	}
	slices.SortFunc(list, func(a, b Disconnected) int { return -cmp.Compare(a.At.UnixMilli(), b.At.UnixMilli()) })
	return list, nil
}

// RemoveMailbox removes a disconnected mailbox with all that is in it, before its time: in many
// transactions, and for good. ErrHold when it is on hold, ErrConnected when it has an owner.
func (s *Store) RemoveMailbox(ctx context.Context, id MailboxID) error {
	b, err := s.find(id)
	if err == nil && b == nil {
		err = ErrNoMailbox
	}
	for done := false; err == nil && !done; {
		done, err = s.removeBatch(ctx, b, func(r *mailboxRow) error {
			switch {
			case r.disconnected == 0:
				return ErrConnected
			case r.hold():
				return ErrHold
			}
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("remove mailbox: %w", err)
	}
	return nil
}

// removeBatch removes some rows of a mailbox, which may is asked about before the first.
func (s *Store) removeBatch(
	ctx context.Context, b *box, may func(*mailboxRow) error,
) (done bool, err error) {
	err = s.writeAs(ctx, op{s: s, remover: true}, []*box{b}, func(o *op) error {
		st := o.state(b)
		if !st.row.removing() {
			if err := may(&st.row); err != nil {
				return err
			}
			st.row.bits |= mailboxRemoving
			bits := ese.Int(st.row.bits)
			err := o.setKeeping(st, func(t *mailboxTable, row *ese.Row) { row.Set(t.bits, bits) })
			if err != nil {
				return err
			}
		}
		done, err = o.removeSome(st)
		return err
	})
	if errors.Is(err, ErrNoMailbox) {
		s.forget(b)
		return true, nil // another has removed it
	}
	if err == nil && done {
		s.forget(b)
		s.o.Logger.Info("mailbox removed", "mailbox", b.id.String())
	}
	return done, err
}

// forget drops the handle of a mailbox that is gone.
func (s *Store) forget(b *box) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.boxes[b.id] == b {
		delete(s.boxes, b.id)
	}
}

// removeSome removes up to a batch of the mailbox's rows, in the end its own.
func (o *op) removeSome(st *boxState) (done bool, err error) {
	left := o.s.o.BatchMessages
	if left, err = o.removeMessages(st, left); err != nil || left == 0 {
		return false, err
	}
	d := st.d
	mbx, user := ese.Int(st.mbx), ese.Bytes(st.id[:])
	for _, part := range []struct {
		t     *ese.Table
		first ese.Value
		key   func(*ese.RowView) []ese.Value
	}{
		{d.tomb.t, mbx, func(v *ese.RowView) []ese.Value {
			return []ese.Value{mbx, ese.Int(v.Int(d.tomb.cn))}
		}},
		{d.gone.t, mbx, func(v *ese.RowView) []ese.Value {
			return []ese.Value{mbx, ese.Int(v.Int(d.gone.fid))}
		}},
		{d.thread.t, mbx, func(v *ese.RowView) []ese.Value {
			return []ese.Value{mbx, ese.Int(v.Int(d.thread.key))}
		}},
		{d.keyword.t, mbx, func(v *ese.RowView) []ese.Value {
			return []ese.Value{mbx, ese.Int(v.Int(d.keyword.kw))}
		}},
		{d.folder.t, mbx, func(v *ese.RowView) []ese.Value {
			return []ese.Value{mbx, ese.Int(v.Int(d.folder.fid))}
		}},
		{d.sub.t, user, func(v *ese.RowView) []ese.Value {
			return []ese.Value{user, ese.String(v.String(d.sub.name))}
		}},
	} {
		if left, err = o.removeRows(part.t, left, part.key, part.first); err != nil || left == 0 {
			return false, err
		}
	}
	return true, o.removeRow(d, st.mbx)
}

// removeRow deletes a mailbox's row. Its number is not given again.
func (o *op) removeRow(d *database, mbx uint32) error {
	last, err := d.globalNum(o.tx, lastRemovedKey)
	if err == nil && int64(mbx) > last {
		err = d.setGlobal(o.tx, lastRemovedKey, int64(mbx))
	}
	if err == nil {
		err = o.tx.Delete(d.mailbox.t, ese.Int(mbx))
	}
	return err
}

// lastRemovedKey in Global is the highest row number of a mailbox that was removed.
const lastRemovedKey = "last_removed_mailbox"

// removeMessages removes messages with their references. Counters are not kept: the mailbox is
// nobody's any more.
func (o *op) removeMessages(st *boxState, limit int) (left int, err error) {
	t := &st.d.msg
	type place struct{ fid, uid, cid int64 }
	var some []place
	c := o.tx.Cursor(t.t.Primary())
	if err := c.Prefix(ese.Int(st.mbx)); err != nil {
		return 0, err
	}
	ok, err := c.First()
	for ; ok && err == nil && len(some) < limit; ok, err = c.Next() {
		some = append(some, place{c.Row().Int(t.fid), c.Row().Int(t.uid), c.Row().Int(t.cid)})
	}
	for _, p := range some {
		if err != nil {
			return 0, err
		}
		if err = o.tx.Delete(t.t, ese.Int(st.mbx), ese.Int(p.fid), ese.Int(p.uid)); err == nil {
			err = st.d.changeRefs(o.tx, p.cid, -1, 0)
		}
		var lost *Damage
		if errors.As(err, &lost) {
			err = nil // a content that is missing needs no release
		}
	}
	return limit - len(some), err
}

// removeRows removes rows that begin with a key column's value.
func (o *op) removeRows(
	t *ese.Table, limit int, key func(*ese.RowView) []ese.Value, first ese.Value,
) (left int, err error) {
	var keys [][]ese.Value
	c := o.tx.Cursor(t.Primary())
	if err := c.Prefix(first); err != nil {
		return 0, err
	}
	ok, err := c.First()
	for ; ok && err == nil && len(keys) < limit; ok, err = c.Next() {
		keys = append(keys, key(c.Row()))
	}
	for _, k := range keys {
		if err != nil {
			return 0, err
		}
		err = o.tx.Delete(t, k...)
	}
	return limit - len(keys), err
}
