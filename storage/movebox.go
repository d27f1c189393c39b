package storage

import (
	"context"
	"errors"
	"fmt"

	"pillarbox/directory"
	"pillarbox/store"
)

// MoveMailbox moves a mailbox to another database while it is used. It goes on where an earlier
// try was interrupted.
func (s *Set) MoveMailbox(
	ctx context.Context, id store.MailboxID, to Place, progress func(done, total int64),
) error {
	if !s.beginMove(id, to) {
		return fmt.Errorf("move mailbox: %w: it is being moved", store.ErrInUse)
	}
	defer s.endMove(id)
	from, err := s.place(id)
	if err != nil {
		return err
	}
	if from == to { // it is to stay: what an interrupted move has copied goes
		return s.dropOthers(ctx, id, to)
	}
	if err := s.dir.Writable(); err != nil {
		return err // at the end of the copying it would be too late to find out
	}
	if err := s.CheckPlace(to); err != nil {
		return err
	}
	if err := s.finishEarlier(ctx, id, from); err != nil {
		return fmt.Errorf("finish an earlier move of mailbox %s first: %w", id, err)
	}
	if err := s.dropOthers(ctx, id, to); err != nil {
		return err
	}
	r, err := s.moveRequest(id, from, to)
	if err != nil {
		return err
	}
	r.Progress = progress
	// A mailbox that cannot be seen is not one that is not there.
	if err := r.From.Mounted(r.FromDatabase); err != nil {
		return fmt.Errorf("move mailbox from %s: %w", from, err)
	}
	// Who was never given mail might be at this moment: the mailbox is made, so that there is something
	// to be locked.
	if _, err := r.From.OpenMailbox(ctx, id); err != nil {
		return err
	}
	if err := store.MoveMailbox(ctx, r); err != nil {
		return err
	}
	s.wake()
	s.o.Logger.Info("mailbox moved", "mailbox", id.String(), "from", string(from), "to", string(to))
	return nil
}

// beginMove notes that a mailbox is on its way to a place. Only one move of it goes on at a time.
func (s *Set) beginMove(id store.MailboxID, to Place) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, moves := s.moving[id]; moves {
		return false
	}
	s.moving[id] = to
	return true
}

func (s *Set) endMove(id store.MailboxID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.moving, id)
}

// moveRequest says how a mailbox moves between two places.
func (s *Set) moveRequest(id store.MailboxID, from, to Place) (r store.MoveRequest, err error) {
	r = store.MoveRequest{Mailbox: id, Origin: string(from)}
	if r.From, r.FromDatabase, err = s.storeAt(from); err != nil {
		return r, err
	}
	if r.To, r.ToDatabase, err = s.storeAt(to); err != nil {
		return r, err
	}
	r.Switch = func(ctx context.Context) error {
		homes := map[directory.GUID]string{directory.GUID(id): string(to)}
		// The copy is durable and the mailbox locked: what is left is short.
		return s.dir.SetHome(context.WithoutCancel(ctx), homes)
	}
	return r, nil
}

// storeAt finds the store of a place and the engine's name of the database.
func (s *Set) storeAt(p Place) (*store.Store, string, error) {
	r, ok := s.record(p)
	if !ok {
		return nil, "", fmt.Errorf("%s: %w", p, ErrNoDatabase)
	}
	g, err := s.Group(p.Group())
	if err != nil {
		return nil, "", err
	}
	st, _, err := g.parts()
	return st, r.Engine, err
}

// dropOthers removes copies that earlier moves to other places have left.
func (s *Set) dropOthers(ctx context.Context, id store.MailboxID, to Place) error {
	for _, u := range s.unfinished() {
		if u.Mailbox != id || u.at == to || !u.Arriving {
			continue
		}
		if err := u.store.DropArriving(ctx, u.Database, id); err != nil {
			return err
		}
	}
	return nil
}

// finishEarlier finishes moves that have switched a mailbox to its present place: what the places
// before still have of it goes, or it would be in the way of a move back, and be forgotten by a
// move on.
func (s *Set) finishEarlier(ctx context.Context, id store.MailboxID, at Place) error {
	for _, u := range s.unfinished() {
		if u.Mailbox != id || u.at != at {
			continue
		}
		if _, ok := s.record(Place(u.Origin)); !ok {
			continue // the place was removed, and what it held with it
		}
		r, err := s.moveRequest(id, Place(u.Origin), at)
		if err == nil {
			err = store.FinishMove(ctx, r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unfinished is a move that did not come to its end.
type unfinished struct {
	store.Unfinished
	store *store.Store
	at    Place
}

// unfinished lists the moves of all groups that did not come to their end.
func (s *Set) unfinished() (list []unfinished) {
	for _, st := range s.Groups() {
		in, _, err := st.parts()
		if err != nil {
			continue
		}
		part, err := in.Unfinished()
		if err != nil {
			s.o.Logger.Warn("moves of mailboxes not listed", "group", st.name, "err", err)
			continue
		}
		for _, u := range part {
			list = append(list, unfinished{u, in, MakePlace(st.name, u.Database)})
		}
	}
	return list
}

// resumeMoves goes on with the moves that a crash or an end interrupted; while the directory cannot be
// changed they wait.
func (s *Set) resumeMoves(ctx context.Context) {
	if s.dir.Writable() != nil {
		return
	}
	for _, u := range s.unfinished() {
		if ctx.Err() != nil {
			return
		}
		if err := s.resume(ctx, &u); err != nil && ctx.Err() == nil && !store.Unavailable(err) {
			s.o.Logger.Warn("move of a mailbox not finished", "mailbox", u.Mailbox.String(),
				"from", u.Origin, "to", string(u.at), "err", err)
		}
	}
}

func (s *Set) resume(ctx context.Context, u *unfinished) error {
	home, err := s.place(u.Mailbox)
	if errors.Is(err, store.ErrNoMailbox) {
		return nil // the owner is gone, and the purge decides
	}
	if err != nil {
		return err
	}
	switch {
	case home == u.at: // switched: what the source still has must go
		if !s.beginMove(u.Mailbox, u.at) {
			return nil
		}
		defer s.endMove(u.Mailbox)
		return s.finishEarlier(ctx, u.Mailbox, u.at)
	case Place(u.Origin) == home:
		return s.MoveMailbox(ctx, u.Mailbox, u.at, nil)
	case u.Arriving:
		if !s.beginMove(u.Mailbox, u.at) {
			return nil
		}
		defer s.endMove(u.Mailbox)
		return u.store.DropArriving(ctx, u.Database, u.Mailbox)
	}
	return nil
}
