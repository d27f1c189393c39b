package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"pillarbox/ese"
)

// boxKind is what a row of Mailbox is.
type boxKind uint8

const (
	kindPrivate boxKind = 0
	// kindArriving is the copy that a move is filling: nobody sees it.
	kindArriving boxKind = 4
	// kindMoved is what a move has left and is removing.
	kindMoved boxKind = 5
)

// mounted returns the databases that are mounted.
func (s *Store) mounted() (dbs []*database) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.dbs {
		if d != nil {
			dbs = append(dbs, d)
		}
	}
	return dbs
}

// named finds a mounted database.
func (s *Store) named(name string) (*database, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.names, name)
	if i < 0 || s.dbs[i] == nil {
		return nil, fmt.Errorf("database %s: %w", name, ErrUnmounted)
	}
	return s.dbs[i], nil
}

// at finds the database with an index in Options.Databases.
func (s *Store) at(i int) (*database, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i < 0 || i >= len(s.dbs) {
		return nil, ErrNoMessage
	}
	if s.dbs[i] == nil {
		return nil, fmt.Errorf("database %s: %w", s.names[i], ErrUnmounted)
	}
	return s.dbs[i], nil
}

// home is the database in which a mailbox lives.
func (s *Store) home(id MailboxID) (*database, error) {
	name, err := s.o.Home(id)
	if err != nil {
		return nil, err
	}
	return s.named(name)
}

// lives tells whether a mailbox whose row stands in a database lives there.
func (s *Store) lives(id MailboxID, d *database) bool {
	if s.o.Home == nil {
		return true
	}
	name, err := s.o.Home(id)
	return err == nil && name == d.db.Name()
}

// Mount opens a database of the store, which is made when it is not there. A name that the store
// does not know is added behind the others. One that is mounted stays so.
func (s *Store) Mount(ctx context.Context, name string) error {
	s.mountMu.Lock()
	defer s.mountMu.Unlock()
	s.mu.Lock()
	i := slices.Index(s.names, name)
	if i < 0 {
		i = len(s.names)
		s.names, s.dbs = append(s.names, name), append(s.dbs, nil)
	}
	there := s.dbs[i] != nil
	s.mu.Unlock()
	if there {
		return nil
	}
	db, err := s.in.OpenDatabase(name)
	if err != nil {
		return err
	}
	d, err := openDatabase(ctx, s.in, db, i)
	if err == nil {
		err = s.prepare(ctx, d)
	}
	if err != nil {
		return fmt.Errorf("mount %s: %w", name, err)
	}
	s.mu.Lock()
	s.dbs[i] = d
	s.mu.Unlock()
	return nil
}

// prepare makes a database that was opened fit to serve.
func (s *Store) prepare(ctx context.Context, d *database) error {
	if err := s.settleMoves(ctx, d); err != nil {
		return err
	}
	if err := s.incarnate(ctx, d); err != nil {
		return err
	}
	return s.findNextCID(d)
}

// Dismount brings a database to Clean Shutdown while the others go on. Handles to its mailboxes
// get ErrUnmounted. It waits for transactions as long as ctx lets; on an error the database is
// mounted as before.
func (s *Store) Dismount(ctx context.Context, name string) error {
	s.mountMu.Lock()
	defer s.mountMu.Unlock()
	d, err := s.named(name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.dbs[d.order] = nil
	var boxes []*box
	for id, b := range s.boxes {
		if b.d == d {
			boxes = append(boxes, b)
			delete(s.boxes, id)
		}
	}
	s.mu.Unlock()
	for _, b := range boxes {
		b.write.Lock()
		b.end(fmt.Errorf("database %s: %w", name, ErrUnmounted))
		b.write.Unlock()
	}
	if err := s.in.CloseDatabase(ctx, d.db); err != nil {
		s.mu.Lock()
		s.dbs[d.order] = d
		s.mu.Unlock()
		return fmt.Errorf("dismount %s: %w", name, err)
	}
	return nil
}

// Unavailable tells that an error says that the mailbox cannot be reached now, for which nobody
// is to blame who asked for it.
func Unavailable(err error) bool {
	for _, e := range []error{
		ErrUnmounted, ErrElsewhere, ErrMoved, ese.ErrDetached, ese.ErrLogDead, ese.ErrDismounted,
		ese.ErrClosed,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Mounted is nil when a database is mounted.
func (s *Store) Mounted(database string) error {
	_, err := s.named(database)
	return err
}

// Reachable is nil when the database of a mailbox is mounted.
func (s *Store) Reachable(id MailboxID) error {
	if s.o.Home == nil {
		return nil
	}
	_, err := s.home(id)
	if errors.Is(err, ErrNoMailbox) {
		return nil // without an owner it is where it was
	}
	return err
}

// Where finds the database that has a mailbox's rows, wherever it should live; "" when none of
// those that are mounted has.
func (s *Store) Where(id MailboxID) (database string, err error) {
	err = s.in.View(func(tx *ese.Tx) error {
		for _, d := range s.mounted() {
			_, ok, err := d.lookup(tx, id)
			if err != nil {
				return err
			}
			if ok {
				database = d.db.Name()
				return nil
			}
		}
		return nil
	})
	return database, err
}

// Has tells whether a database has a mailbox.
func (s *Store) Has(database string, id MailboxID) (has bool, err error) {
	d, err := s.named(database)
	if err != nil {
		return false, err
	}
	err = s.in.View(func(tx *ese.Tx) error {
		_, has, err = d.lookup(tx, id)
		return err
	})
	return has, err
}

// Forget ends all handles with an error, before the instance is closed.
func (s *Store) Forget(why error) {
	s.mu.Lock()
	boxes := s.boxes
	s.boxes = make(map[MailboxID]*box)
	s.mu.Unlock()
	for _, b := range boxes {
		b.write.Lock()
		b.end(why)
		b.write.Unlock()
	}
}

// Traces are the databases, of those that are mounted, that have any row of a mailbox: one that
// lives there, is arriving, or is being removed.
func (s *Store) Traces(id MailboxID) (databases []string, err error) {
	err = s.in.View(func(tx *ese.Tx) error {
		databases = nil
		for _, d := range s.mounted() {
			_, _, ok, err := d.lookupAny(tx, id)
			if err != nil {
				return err
			}
			if ok {
				databases = append(databases, d.db.Name())
			}
		}
		return nil
	})
	return databases, err
}
