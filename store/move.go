package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"pillarbox/ese"
)

// A mailbox moves between two databases, of one store or of two, while it is used:
//
//	Mailbox row in the target, kind arriving            nobody sees it
//	copy of all rows; contents joined by hash           batches, each a transaction
//	catching up by change numbers, while it is changed
//	the mailbox is locked; what is left is copied; all is counted
//	MoveRequest.Switch                                  the one moment: old before, new after
//	kind private in the target; kind moved in the source, whose rows go in batches
//
// The note in the target's row tells a later opening what is unfinished.

// MoveRequest says which mailbox goes where.
type MoveRequest struct {
	Mailbox MailboxID
	// From has it in the database FromDatabase, To gets it in ToDatabase. They may be the same.
	From, To                 *Store
	FromDatabase, ToDatabase string
	// Origin is the caller's name for where it comes from (Unfinished).
	Origin string
	// Switch makes the target its home, durably and at once. An error means that it did not,
	// but ErrOutcomeUnknown and the like leave the mailbox unusable until it is known.
	Switch func(ctx context.Context) error
	// Progress is told how many messages were copied, of how many.
	Progress func(done, total int64)
}

// Limits of a move.
const (
	moveBatch      = 128     // rows of a transaction
	moveFolders    = 1 << 20 // all at once: they may have exchanged their names
	moveBatchBytes = 4 << 20 // of contents held in memory for it
	moveNearly     = 64      // changes that are caught up with under the lock
	moveChases     = 20      // of a mailbox that changes faster than it is copied
)

// moveNote is kept in the props of the target's row until the source is removed.
type moveNote struct {
	Origin string `json:"move_from"`
}

// move is one that is being made.
type move struct {
	MoveRequest
	ctx    context.Context
	src    *box
	dst    *database
	mbx    uint32 // in the target
	tables []*movedTable
	since  CN // the target has all changes up to it
	done   int64
	total  int64
}

// MoveMailbox moves a mailbox; it goes on where an earlier try was interrupted. Until the switch
// an error leaves the mailbox as it was, with the copy there for the next try.
func MoveMailbox(ctx context.Context, r MoveRequest) error {
	m := &move{MoveRequest: r, ctx: ctx}
	if err := m.begin(); err != nil {
		return fmt.Errorf("move mailbox %s: %w", r.Mailbox, err)
	}
	defer m.end()
	err := m.copyAll()
	if err == nil {
		err = m.chase()
	}
	if err == nil {
		err = m.hand()
	}
	if err == nil {
		err = FinishMove(ctx, r)
	}
	if err != nil {
		return fmt.Errorf("move mailbox %s: %w", r.Mailbox, err)
	}
	return nil
}

// begin finds the source and makes or finds the target's row.
func (m *move) begin() (err error) {
	from, err := m.From.named(m.FromDatabase)
	if err != nil {
		return err
	}
	if m.dst, err = m.To.named(m.ToDatabase); err != nil {
		return err
	}
	if from == m.dst {
		return fmt.Errorf("%w: it is in that database", ErrExists)
	}
	if m.src, err = m.From.find(m.Mailbox); err != nil {
		return err
	}
	if m.src == nil || m.src.d != from {
		return ErrNoMailbox
	}
	if m.tables, err = movedTables(from, m.dst); err != nil {
		return err
	}
	if err := m.track(); err != nil {
		return err
	}
	if err := m.target(); err != nil {
		m.end()
		return err
	}
	return nil
}

// track makes the mailbox note what a move cannot find by change numbers.
func (m *move) track() error {
	m.src.write.Lock()
	defer m.src.write.Unlock()
	m.src.mu.Lock()
	defer m.src.mu.Unlock()
	if m.src.threads != nil {
		return fmt.Errorf("it is being moved already: %w", ErrInUse)
	}
	m.src.threads = []threadRow{}
	return nil
}

// end lets the mailbox forget about the move.
func (m *move) end() {
	m.src.mu.Lock()
	m.src.threads = nil
	m.src.mu.Unlock()
}

// target makes the row of the copy, or finds that of an earlier try.
func (m *move) target() error {
	note, err := json.Marshal(moveNote{m.Origin})
	if err != nil {
		return err
	}
	for {
		stale := false
		err := m.To.write(m.ctx, nil, func(o *op) error {
			mbx, kind, ok, err := m.dst.lookupAny(o.tx, m.Mailbox)
			if err != nil {
				return err
			}
			if ok && kind == kindPrivate {
				return fmt.Errorf("%w: another copy of it is there, made live by a restore?", ErrExists)
			}
			if ok {
				m.mbx = mbx
				old, err := m.dst.readNote(o.tx, mbx)
				stale = kind == kindMoved || old.Origin != m.Origin
				return err
			}
			return m.insertTarget(o, note)
		})
		if err != nil || !stale {
			return err
		}
		if err := m.To.purge(m.ctx, m.dst, m.Mailbox); err != nil {
			return err
		}
	}
}

// insertTarget makes a new row with the next number.
func (m *move) insertTarget(o *op, note []byte) error {
	t := &m.dst.mailbox
	var err error
	if m.mbx, err = m.dst.nextMailbox(o.tx); err != nil {
		return err
	}
	row := t.t.NewRow().Set(t.mbx, ese.Int(m.mbx)).Set(t.guid, ese.Bytes(m.Mailbox[:])).
		Set(t.kind, ese.Int(kindArriving)).Set(t.props, ese.Bytes(note))
	return o.tx.Insert(row)
}

// readNote reads what a mailbox's row says of a move.
func (d *database) readNote(tx *ese.Tx, mbx uint32) (n moveNote, err error) {
	var v ese.RowView
	var buf []byte
	ok, err := tx.Get(d.mailbox.t, &v, &buf, ese.Int(mbx))
	if err != nil || !ok {
		return n, err
	}
	return d.noteOf(&v)
}

func (d *database) noteOf(v *ese.RowView) (n moveNote, err error) {
	text, err := v.Blob(d.mailbox.props, nil)
	if err != nil || len(text) == 0 {
		return n, err
	}
	if err := json.Unmarshal(text, &n); err != nil {
		return n, &Damage{"Mailbox", "props", err.Error()}
	}
	return n, nil
}

// hand locks the mailbox, copies what is left, and switches.
func (m *move) hand() error {
	b := m.src
	b.write.Lock()
	defer b.write.Unlock()
	if err := b.usable(); err != nil {
		return err
	}
	if err := m.settle(); err != nil {
		return err
	}
	if err := m.Switch(m.ctx); err != nil {
		if outcomeUnknown(err) {
			// Old or new: whoever reads the directory anew knows.
			b.end(fmt.Errorf("whether the mailbox has moved is not known: %w", ErrUnmounted))
		}
		return err
	}
	b.end(ErrMoved)
	return nil
}

// outcomeUnknown tells that a commit may have happened although it failed.
func outcomeUnknown(err error) bool {
	return errors.Is(err, ese.ErrOutcomeUnknown) || errors.Is(err, ese.ErrLogDead)
}

// FinishMove completes a move whose switch has happened: the copy becomes the mailbox, and what
// the source still holds goes.
func FinishMove(ctx context.Context, r MoveRequest) error {
	dst, err := r.To.named(r.ToDatabase)
	if err != nil {
		return err
	}
	if err := r.To.enliven(ctx, dst, r.Mailbox); err != nil {
		return err
	}
	src, err := r.From.named(r.FromDatabase)
	if err != nil {
		return err
	}
	if err := r.From.purge(ctx, src, r.Mailbox); err != nil {
		return err
	}
	return r.To.write(ctx, nil, func(o *op) error {
		mbx, _, ok, err := dst.lookupAny(o.tx, r.Mailbox)
		if err != nil || !ok {
			return err
		}
		return o.tx.Update(dst.mailbox.t.NewRow().Set(dst.mailbox.props, ese.Null()), ese.Int(mbx))
	})
}

// enliven makes a copy that has arrived the mailbox.
func (s *Store) enliven(ctx context.Context, d *database, id MailboxID) error {
	return s.write(ctx, nil, func(o *op) error {
		mbx, kind, ok, err := d.lookupAny(o.tx, id)
		if err != nil || !ok || kind != kindArriving {
			return err
		}
		row := d.mailbox.t.NewRow().Set(d.mailbox.kind, ese.Int(kindPrivate))
		return o.tx.Update(row, ese.Int(mbx))
	})
}

// settleMoves makes copies the mailbox whose home is this database: a crash came between the
// switch and that.
func (s *Store) settleMoves(ctx context.Context, d *database) error {
	list, err := s.unfinished(d)
	for _, u := range list {
		if err == nil && u.Arriving && s.o.Home != nil && s.lives(u.Mailbox, d) {
			err = s.enliven(ctx, d, u.Mailbox)
		}
	}
	return err
}

// Unfinished is a move that did not come to its end.
type Unfinished struct {
	Mailbox MailboxID
	// Origin is that of the MoveRequest, Database where the copy is.
	Origin, Database string
	// Arriving tells that the switch has not happened.
	Arriving bool
}

// Unfinished lists the moves to this store that did not come to their end, or are under way.
func (s *Store) Unfinished() (list []Unfinished, err error) {
	for _, d := range s.mounted() {
		part, err := s.unfinished(d)
		if err != nil {
			return nil, fmt.Errorf("list moves: %w", err)
		}
		list = append(list, part...)
	}
	return list, nil
}

func (s *Store) unfinished(d *database) (list []Unfinished, err error) {
	err = s.in.View(func(tx *ese.Tx) error {
		t := &d.mailbox
		c := tx.Cursor(t.t.Primary())
		ok, err := c.First()
		for ; ok && err == nil; ok, err = c.Next() {
			if c.Row().IsNull(t.props) {
				continue
			}
			n, err := d.noteOf(c.Row())
			if err != nil {
				return err
			}
			if n.Origin == "" {
				continue
			}
			list = append(list, Unfinished{
				Mailbox: MailboxID(c.Row().Bytes(t.guid)), Origin: n.Origin, Database: d.db.Name(),
				Arriving: boxKind(c.Row().Int(t.kind)) == kindArriving,
			})
		}
		return err
	})
	return list, err
}

// DropArriving removes the copy of a move that will not be finished.
func (s *Store) DropArriving(ctx context.Context, database string, id MailboxID) error {
	d, err := s.named(database)
	if err != nil {
		return err
	}
	if s.lives(id, d) && s.o.Home != nil {
		return fmt.Errorf("drop the copy of mailbox %s: %w: it lives there", id, ErrReserved)
	}
	return s.purge(ctx, d, id)
}

// purge removes a mailbox's rows from a database in batches, its contents' references with them.
// The first one makes it useless.
func (s *Store) purge(ctx context.Context, d *database, id MailboxID) error {
	var mbx uint32
	found := false
	err := s.write(ctx, nil, func(o *op) error {
		var kind boxKind
		var err error
		mbx, kind, found, err = d.lookupAny(o.tx, id)
		if err != nil || !found || kind == kindMoved {
			return err
		}
		row := d.mailbox.t.NewRow().Set(d.mailbox.kind, ese.Int(kindMoved))
		return o.tx.Update(row, ese.Int(mbx))
	})
	if err != nil || !found {
		return err
	}
	tables, err := movedTables(d, d)
	if err != nil {
		return err
	}
	for _, t := range tables {
		for more := true; more; {
			err := s.write(ctx, nil, func(o *op) (err error) {
				more, err = o.purgeRows(d, t, id, mbx)
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	return s.write(ctx, nil, func(o *op) error { return o.removeRow(d, mbx) })
}

// purgeRows removes some rows of a table.
func (o *op) purgeRows(
	d *database, t *movedTable, id MailboxID, mbx uint32,
) (more bool, err error) {
	var rows []movedRow
	c := o.tx.Cursor(t.dst.Primary())
	if err := c.Prefix(t.owner(id, mbx)); err != nil {
		return false, err
	}
	ok, err := c.First()
	for ; ok && err == nil && len(rows) < moveBatch; ok, err = c.Next() {
		var r movedRow
		if r, err = t.read(t.to, c.Row()); err == nil {
			rows = append(rows, r)
		}
	}
	for i := range rows {
		if err == nil {
			err = o.dropMoved(d, t, &rows[i])
		}
	}
	return ok, err
}

// dropMoved deletes a row of the target, with its reference.
func (o *op) dropMoved(d *database, t *movedTable, r *movedRow) error {
	if t.cid >= 0 && !r.cells[t.cid].null {
		if err := d.changeRefs(o.tx, r.cells[t.cid].n, -1, 0); err != nil {
			return err
		}
	}
	return o.tx.Delete(t.dst, t.keyOf(r)...)
}

// owner is the first value of the keys of a mailbox's rows.
func (t *movedTable) owner(id MailboxID, mbx uint32) ese.Value {
	if t.mbx < 0 {
		return ese.Bytes(id[:])
	}
	return ese.Int(mbx)
}
