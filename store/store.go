package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"pillarbox/ese"
)

// Options configures a Store. The zero value is usable.
type Options struct {
	// Databases are the names of the databases it spans, in the order in which they were
	// added to the storage group. Default: "priv1.edb".
	Databases []string
	// Dismounted leaves all databases to Mount.
	Dismounted bool
	// Home tells in which of the databases a mailbox lives, made or not: ErrElsewhere when it
	// is one of another store, ErrNoMailbox when nobody has it. Default: where it is found,
	// else in the first.
	Home func(MailboxID) (database string, err error)
	// QuotaBytes and QuotaMessages are given to new mailboxes; 0 is no limit.
	QuotaBytes, QuotaMessages int64
	// BatchMessages bounds how many messages one transaction of STORE, EXPUNGE or MOVE
	// changes. Default: 256.
	BatchMessages int
	// KeepDeleted is how long deleted messages can be recovered where the mailbox says nothing
	// else. Default: not at all.
	KeepDeleted time.Duration
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Logger receives state changes. Default: discard.
	Logger *slog.Logger
}

func (o *Options) setDefaults() {
	if len(o.Databases) == 0 {
		o.Databases = []string{"priv1.edb"}
	}
	if o.BatchMessages <= 0 {
		o.BatchMessages = PurgeBatch
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Store is the Information Store on one instance. It is safe for concurrent use.
type Store struct {
	in *ese.Instance
	o  Options

	mountMu  sync.Mutex // one mount or dismount at a time
	createMu sync.Mutex // held while a mailbox is made, until its pre-commit
	nextCID  atomic.Int64
	gather   gathering

	mu    sync.Mutex
	names []string    // of all databases
	dbs   []*database // by the same index; nil where it is not mounted
	boxes map[MailboxID]*box
}

// Open opens the store in the databases of an instance, which the caller closes after the
// last use of the Store. Databases and tables that are missing are made.
func Open(ctx context.Context, in *ese.Instance, o Options) (*Store, error) {
	o.setDefaults()
	s := &Store{
		in: in, o: o, boxes: make(map[MailboxID]*box), names: slices.Clone(o.Databases),
		dbs: make([]*database, len(o.Databases)),
	}
	if o.Dismounted {
		return s, nil
	}
	for _, name := range o.Databases {
		if err := s.Mount(ctx, name); err != nil {
			return nil, fmt.Errorf("open the store: %w", err)
		}
	}
	return s, nil
}

// findNextCID makes content ids go on after the highest. A number that a crash took back or
// whose content is gone may come again: no client ever sees one (mail.md 17).
func (s *Store) findNextCID(d *database) error {
	return s.in.View(func(tx *ese.Tx) error {
		c := tx.Cursor(d.content.t.Primary())
		ok, err := c.Last()
		if err == nil && ok {
			s.raiseCID(c.Row().Int(d.content.cid))
		}
		return err
	})
}

func (s *Store) raiseCID(to int64) {
	for {
		now := s.nextCID.Load()
		if now >= to || s.nextCID.CompareAndSwap(now, to) {
			return
		}
	}
}

// box is what memory holds of a mailbox: its lock and what was last published.
type box struct {
	id  MailboxID
	d   *database
	mbx uint32

	// gone is why the box is of no use any more: its database was dismounted, or the mailbox
	// has moved. It is set under write.
	gone atomic.Pointer[error]

	// write is held from the beginning of a transaction that changes the mailbox to its
	// pre-commit: counters are read and raised under it, so they never conflict.
	write sync.Mutex

	mu        sync.Mutex
	published map[FolderID]CN // highest change since the start; 0 stands for all folders
	wake      chan struct{}   // closed and replaced when published changes
	maildrop  bool            // a POP3 session has it
	keywords  []string        // durable keywords, by number
	threads   []threadRow     // made since a move began; nil while there is none
}

// usable is nil while the box may be used.
func (b *box) usable() error {
	if p := b.gone.Load(); p != nil {
		return *p
	}
	return nil
}

// end makes the box useless and wakes all who wait for a change of it. write is held.
func (b *box) end(why error) {
	b.gone.Store(&why)
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.wake)
	b.wake = make(chan struct{})
}

func compareBoxes(a, b *box) int {
	return cmp.Or(cmp.Compare(a.d.order, b.d.order), cmp.Compare(a.mbx, b.mbx))
}

// find returns the mailbox in memory, or nil if none is stored.
func (s *Store) find(id MailboxID) (*box, error) {
	dbs := s.mounted()
	if s.o.Home != nil {
		d, err := s.home(id)
		switch {
		case errors.Is(err, ErrNoMailbox): // without an owner it is where it was
		case err != nil:
			return nil, err
		default:
			dbs = []*database{d}
		}
	}
	s.mu.Lock()
	b := s.boxes[id]
	s.mu.Unlock()
	if b != nil && b.usable() == nil && slices.Contains(dbs, b.d) {
		return b, nil
	}
	b = nil
	err := s.in.View(func(tx *ese.Tx) error {
		for _, d := range dbs {
			mbx, ok, err := d.lookup(tx, id)
			if err != nil {
				return err
			}
			if ok {
				b = s.remember(d, id, mbx)
				return nil
			}
		}
		return nil
	})
	return b, err
}

// remember makes the one box of a mailbox whose row is durable or will be before it is used.
func (s *Store) remember(d *database, id MailboxID, mbx uint32) *box {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.boxes[id]
	if b == nil || b.d != d || b.usable() != nil {
		b = &box{
			id: id, d: d, mbx: mbx,
			published: make(map[FolderID]CN), wake: make(chan struct{}),
		}
		s.boxes[id] = b
	}
	return b
}

// lookup finds the row number of a mailbox.
func (d *database) lookup(tx *ese.Tx, id MailboxID) (mbx uint32, ok bool, err error) {
	mbx, kind, ok, err := d.lookupAny(tx, id)
	return mbx, ok && kind == kindPrivate, err
}

// lookupAny also finds what is no mailbox yet, or no more.
func (d *database) lookupAny(
	tx *ese.Tx, id MailboxID,
) (mbx uint32, kind boxKind, ok bool, err error) {
	c := tx.Cursor(d.mailbox.byGUID)
	if ok, err = c.Find(ese.Bytes(id[:])); err != nil || !ok {
		return 0, 0, false, err
	}
	return uint32(c.Row().Int(d.mailbox.mbx)), boxKind(c.Row().Int(d.mailbox.kind)), true, nil
}

// write runs fn in a transaction that may change the boxes, commits it, waits until it is on
// disk and publishes its changes. On a write conflict, which only rows shared between
// mailboxes can give, it starts again. A mailbox that is being removed is refused.
func (s *Store) write(ctx context.Context, boxes []*box, fn func(*op) error) error {
	return s.writeAs(ctx, op{s: s}, boxes, fn)
}

// writeAs is write for an operation of some kind.
func (s *Store) writeAs(ctx context.Context, kind op, boxes []*box, fn func(*op) error) error {
	slices.SortFunc(boxes, compareBoxes)
	boxes = slices.Compact(boxes)
	for try := 0; ; try++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		fresh := kind
		o := &fresh
		s.gather.enter()
		pos, err := o.run(boxes, fn)
		s.gather.leave()
		if err == nil {
			s.gather.wait()
		}
		// What fn learned may be told only when it is durable, also where it failed.
		if pos != 0 {
			err = errors.Join(err, s.in.WaitDurable(pos))
		}
		if err == nil {
			o.publish()
			return nil
		}
		if !errors.Is(err, ese.ErrWriteConflict) {
			return err
		}
		pause := min(time.Duration(try)*100*time.Microsecond, 5*time.Millisecond)
		time.Sleep(pause)
	}
}

// Mailboxes calls fn with the id of each mailbox of the store.
func (s *Store) Mailboxes(fn func(MailboxID) error) error {
	for _, d := range s.mounted() {
		boxes, err := s.boxesOf(d)
		if err != nil {
			return err
		}
		for _, b := range boxes {
			if !s.lives(b.id, d) {
				continue
			}
			if err := fn(b.id); err != nil {
				return err
			}
		}
	}
	return nil
}
