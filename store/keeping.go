package store

import (
	"context"
	"time"

	"pillarbox/ese"
)

// mailboxBits are states of a mailbox.
type mailboxBits uint32

const (
	mailboxHold     mailboxBits = 1 << iota // nothing that was deleted is purged
	mailboxRemoving                         // its rows are being removed, for good
)

// keeping is what a mailbox says about what was deleted, and whether it was deleted itself.
type keeping struct {
	bits         mailboxBits
	disconnected int64         // when it lost its owner; 0: it has one
	keep         time.Duration // of deleted messages
	own          bool          // keep is meant, not the store's
}

func (k *keeping) read(t *mailboxTable, v *ese.RowView) {
	*k = keeping{
		bits: mailboxBits(later(v, t.bits)), disconnected: later(v, t.disconnected),
		keep: time.Duration(later(v, t.keepDeleted)) * time.Millisecond,
		own:  t.keepDeleted != nil && !v.IsNull(t.keepDeleted),
	}
}

func (k *keeping) hold() bool     { return k.bits&mailboxHold != 0 }
func (k *keeping) removing() bool { return k.bits&mailboxRemoving != 0 }

// keepFor is how long deleted messages are kept.
func (k *keeping) keepFor(o *Options) time.Duration {
	if k.own {
		return k.keep
	}
	return o.KeepDeleted
}

// keeps tells whether what is deleted becomes recoverable.
func (k *keeping) keeps(o *Options) bool { return k.hold() || k.keepFor(o) > 0 }

// SetHold stops or allows purging of what was deleted, and of the mailbox itself.
func (m *Mailbox) SetHold(ctx context.Context, hold bool) error {
	err := m.s.write(ctx, []*box{m.b}, func(o *op) error {
		st := o.state(m.b)
		bits := st.row.bits &^ mailboxHold
		if hold {
			bits |= mailboxHold
		}
		return o.setKeeping(st, func(t *mailboxTable, row *ese.Row) { row.Set(t.bits, ese.Int(bits)) })
	})
	if err == nil {
		m.s.o.Logger.Info("mailbox hold changed", "mailbox", m.b.id.String(), "hold", hold)
	}
	return err
}

// SetKeepDeleted says how long the mailbox's deleted messages are kept; a negative time gives
// that back to the store's Options.
func (m *Mailbox) SetKeepDeleted(ctx context.Context, keep time.Duration) error {
	v := ese.Null()
	if keep >= 0 {
		v = ese.Int(keep.Milliseconds())
	}
	return m.s.write(ctx, []*box{m.b}, func(o *op) error {
		return o.setKeeping(o.state(m.b), func(t *mailboxTable, row *ese.Row) { row.Set(t.keepDeleted, v) })
	})
}

// setKeeping changes columns that other operations leave alone.
func (o *op) setKeeping(st *boxState, set func(*mailboxTable, *ese.Row)) error {
	t := &st.d.mailbox
	row := t.t.NewRow()
	set(t, row)
	return o.tx.Update(row, ese.Int(st.mbx))
}
