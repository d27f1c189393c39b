package store

import (
	"context"
	"fmt"
	"time"

	"pillarbox/ese"
)

// mailboxRow is the part of a Mailbox row that operations read and change.
type mailboxRow struct {
	nextUIDValidity, nextKeyword uint32
	nextID                       int64
	nextCN                       CN
	quotaBytes, quotaMessages    int64
	count, size                  int64
	tombsFloor                   CN
	keeping
}

func (r *mailboxRow) read(t *mailboxTable, v *ese.RowView) {
	r.nextUIDValidity = uint32(v.Int(t.nextUIDValidity))
	r.nextKeyword = uint32(v.Int(t.nextKeyword))
	r.nextID = v.Int(t.nextID)
	r.nextCN = CN(v.Int(t.nextCN))
	r.quotaBytes, r.quotaMessages = v.Int(t.quotaBytes), v.Int(t.quotaMessages)
	r.count, r.size = v.Int(t.count), v.Int(t.size)
	r.tombsFloor = CN(v.Int(t.tombsFloor))
	r.keeping.read(t, v)
}

// counters sets the columns that every operation may change.
func (r *mailboxRow) counters(t *mailboxTable, row *ese.Row) {
	row.Set(t.nextUIDValidity, ese.Int(r.nextUIDValidity)).
		Set(t.nextKeyword, ese.Int(r.nextKeyword)).
		Set(t.nextID, ese.Int(r.nextID)).
		Set(t.nextCN, ese.Int(r.nextCN)).
		Set(t.quotaBytes, ese.Int(r.quotaBytes)).
		Set(t.quotaMessages, ese.Int(r.quotaMessages)).
		Set(t.count, ese.Int(r.count)).
		Set(t.size, ese.Int(r.size))
}

// room tells whether messages of so many bytes may be added (mail.md 25).
func (r *mailboxRow) room(messages, bytes int64) bool {
	return (r.quotaBytes == 0 || r.size+bytes <= r.quotaBytes) &&
		(r.quotaMessages == 0 || r.count+messages <= r.quotaMessages)
}

// Mailbox is a handle to one mailbox. It holds nothing open and is safe for concurrent use.
type Mailbox struct {
	s *Store
	b *box
}

// ID is the mailbox's GUID.
func (m *Mailbox) ID() MailboxID { return m.b.id }

// Mailbox finds a mailbox. ErrNoMailbox when it was never made.
func (s *Store) Mailbox(id MailboxID) (*Mailbox, error) {
	b, err := s.find(id)
	if err != nil {
		return nil, fmt.Errorf("find mailbox %s: %w", id, err)
	}
	if b == nil {
		return nil, ErrNoMailbox
	}
	return &Mailbox{s, b}, nil
}

// OpenMailbox finds a mailbox and makes it, empty and with the standard folders, when it is
// missing.
func (s *Store) OpenMailbox(ctx context.Context, id MailboxID) (*Mailbox, error) {
	b, err := s.open(ctx, id)
	if err != nil {
		return nil, err
	}
	return &Mailbox{s, b}, nil
}

func (s *Store) open(ctx context.Context, id MailboxID) (*box, error) {
	b, err := s.find(id)
	if err != nil {
		return nil, fmt.Errorf("find mailbox %s: %w", id, err)
	}
	if b != nil {
		return b, nil
	}
	d, err := s.at(0)
	if s.o.Home != nil {
		d, err = s.home(id)
	}
	if err == nil {
		err = s.createIn(ctx, d, []MailboxID{id}, false)
	}
	if err != nil {
		return nil, err
	}
	if b, err = s.find(id); err == nil && b == nil {
		err = ErrNoMailbox
	}
	return b, err
}

// CreateMailboxes makes those of the mailboxes that are missing, in one transaction and in
// the database with this place in Options.Databases.
func (s *Store) CreateMailboxes(ctx context.Context, database int, ids []MailboxID) error {
	d, err := s.at(database)
	if err != nil {
		return err
	}
	return s.createIn(ctx, d, ids, false)
}

// CreateAnew makes mailboxes in a database, by the engine's name, that lived before and of which
// nothing is left: they are a new incarnation.
func (s *Store) CreateAnew(ctx context.Context, database string, ids []MailboxID) error {
	d, err := s.named(database)
	for err == nil && len(ids) > 0 {
		n := min(incarnateBatch, len(ids))
		err = s.createIn(ctx, d, ids[:n], true)
		ids = ids[n:]
	}
	return err
}

func (s *Store) createIn(ctx context.Context, d *database, ids []MailboxID, anew bool) error {
	o := &op{s: s}
	pos, err := func() (ese.LogPos, error) {
		s.createMu.Lock()
		defer s.createMu.Unlock()
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return o.run(nil, func(o *op) error {
			for _, id := range ids {
				// Asked again inside, where what another has just made can be seen.
				_, kind, ok, err := d.lookupAny(o.tx, id)
				if err == nil && ok && kind != kindPrivate {
					err = fmt.Errorf("a former move is not finished: %w", ErrUnmounted)
				}
				if err == nil && !ok {
					err = o.createMailbox(d, id, anew)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}()
	if err == nil {
		err = s.in.WaitDurable(pos)
	}
	if err != nil {
		return fmt.Errorf("create mailbox: %w", err)
	}
	return nil
}

// createMailbox inserts the mailbox, its standard folders and their subscriptions.
func (o *op) createMailbox(d *database, id MailboxID, anew bool) error {
	mbx, err := d.nextMailbox(o.tx)
	if err != nil {
		return err
	}
	now := o.s.o.Now()
	st := &boxState{box: &box{id: id, d: d, mbx: mbx}}
	st.row = mailboxRow{
		// Seconds since 1970 keep a mailbox that is made again under the same name apart.
		nextUIDValidity: max(uint32(now.Unix()), 1), nextKeyword: 1,
		nextID: firstID, nextCN: 1,
		quotaBytes: o.s.o.QuotaBytes, quotaMessages: o.s.o.QuotaMessages,
	}
	incarnation := int64(1)
	if anew {
		incarnation = now.Unix()
		st.row.pass(now)
	}
	if err := o.insertStandardFolders(st, now); err != nil {
		return err
	}
	t := &d.mailbox
	row := t.t.NewRow().Set(t.mbx, ese.Int(mbx)).Set(t.guid, ese.Bytes(id[:])).
		Set(t.kind, ese.Int(kindPrivate)).Set(t.created, ese.Int(millis(now))).
		Set(t.incarnation, ese.Int(incarnation)).Set(t.tombsFloor, ese.Int(0))
	st.row.counters(t, row)
	return o.tx.Insert(row)
}

// nextMailbox is a row number that no mailbox ever had: a handle to one that was removed must
// not come to mean another.
func (d *database) nextMailbox(tx *ese.Tx) (uint32, error) {
	removed, err := d.globalNum(tx, lastRemovedKey)
	if err != nil {
		return 0, err
	}
	c := tx.Cursor(d.mailbox.t.Primary())
	ok, err := c.Last()
	if ok && err == nil {
		removed = max(removed, c.Row().Int(d.mailbox.mbx))
	}
	return uint32(removed) + 1, err
}

func (o *op) insertStandardFolders(st *boxState, now time.Time) error {
	hidden := []folderRow{
		{fid: rootFolder, name: "root", bits: folderHidden},
		{fid: ipmFolder, parent: rootFolder, name: "ipm", bits: folderHidden},
	}
	for i := range hidden {
		if err := o.insertFolder(st, &hidden[i], now); err != nil {
			return err
		}
	}
	for _, f := range standardFolders() {
		row := &folderRow{fid: f.fid, parent: ipmFolder, name: f.name, role: f.role}
		if err := o.insertFolder(st, row, now); err != nil {
			return err
		}
		if err := o.subscribe(st.d, st.id, f.name); err != nil {
			return err
		}
	}
	return nil
}

// MailboxInfo is the state of a mailbox.
type MailboxInfo struct {
	// Messages and Size are what the quota counts.
	Messages, Size            int64
	QuotaBytes, QuotaMessages int64
	// HighestCN is the last change of any kind.
	HighestCN CN
	// Recoverable and RecoverableSize are messages that were deleted and are kept; no quota
	// counts them.
	Recoverable, RecoverableSize int64
	// Hold: nothing that was deleted is purged.
	Hold bool
	// KeepDeleted is how long deleted messages are kept, Own whether the mailbox itself says so.
	KeepDeleted time.Duration
	Own         bool
}

// Info reads the mailbox's counters.
func (m *Mailbox) Info() (MailboxInfo, error) {
	var r mailboxRow
	var kept counts
	err := m.view("read", func(r2 *reader) error {
		ok, err := r2.tx.Get(m.b.d.mailbox.t, &r2.row, &r2.buf, ese.Int(m.b.mbx))
		if err == nil && !ok {
			err = ErrNoMailbox
		}
		if err != nil {
			return err
		}
		r.read(&m.b.d.mailbox, &r2.row)
		kept, err = m.b.d.recoverable(r2.tx, m.b.mbx)
		return err
	})
	return MailboxInfo{
		Messages: r.count, Size: r.size, HighestCN: r.nextCN - 1,
		QuotaBytes: r.quotaBytes, QuotaMessages: r.quotaMessages,
		Recoverable: kept.count, RecoverableSize: kept.size,
		Hold: r.hold(), KeepDeleted: r.keepFor(&m.s.o), Own: r.own,
	}, err
}

// Room tells with ErrQuota that a message of so many bytes would not fit, as RCPT asks.
func (m *Mailbox) Room(bytes int64) error {
	i, err := m.Info()
	if err != nil {
		return err
	}
	r := mailboxRow{
		count: i.Messages, size: i.Size, quotaBytes: i.QuotaBytes, quotaMessages: i.QuotaMessages,
	}
	if !r.room(1, bytes) {
		return ErrQuota
	}
	return nil
}

// SetQuota changes the limits; 0 is none.
func (m *Mailbox) SetQuota(ctx context.Context, bytes, messages int64) error {
	return m.s.write(ctx, []*box{m.b}, func(o *op) error {
		st := o.state(m.b)
		st.row.quotaBytes, st.row.quotaMessages, st.dirty = bytes, messages, true
		return nil
	})
}

// reader is one read-only transaction on durable state.
type reader struct {
	m   *Mailbox
	tx  *ese.Tx
	row ese.RowView
	buf []byte
}

// view runs fn on a durable snapshot. fn must not wait for anything.
func (m *Mailbox) view(what string, fn func(*reader) error) error {
	err := m.b.usable()
	if err == nil {
		err = m.s.in.View(func(tx *ese.Tx) error { return fn(&reader{m: m, tx: tx}) })
	}
	if err != nil {
		return fmt.Errorf("%s mailbox: %w", what, err)
	}
	return nil
}
