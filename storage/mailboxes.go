package storage

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"pillarbox/ese/offline"
	"pillarbox/store"
)

// The Set shows the stores of all groups as one.

// stores are those of the groups that are mounted.
func (s *Set) stores() (list []*store.Store) {
	for _, g := range s.Groups() {
		if st, _, err := g.parts(); err == nil {
			list = append(list, st)
		}
	}
	return list
}

// Mailbox finds a mailbox. store.ErrNoMailbox when it was never made, store.ErrUnmounted when it
// cannot be reached now.
func (s *Set) Mailbox(id store.MailboxID) (*store.Mailbox, error) {
	st, err := s.storeOf(id)
	if err != nil {
		return nil, err
	}
	return st.Mailbox(id)
}

// OpenMailbox finds a mailbox and makes it when it is missing.
func (s *Set) OpenMailbox(ctx context.Context, id store.MailboxID) (*store.Mailbox, error) {
	st, err := s.storeOf(id)
	if err != nil {
		return nil, err
	}
	return st.OpenMailbox(ctx, id)
}

// Mailboxes calls fn with the id of each mailbox that is mounted.
func (s *Set) Mailboxes(fn func(store.MailboxID) error) error {
	for _, st := range s.stores() {
		if err := st.Mailboxes(fn); err != nil {
			return err
		}
	}
	return nil
}

// Disconnect marks a mailbox whose owner goes.
func (s *Set) Disconnect(ctx context.Context, d store.Disconnected) error {
	st, err := s.storeOf(d.ID)
	if errors.Is(err, store.ErrNoMailbox) {
		return nil
	}
	if err != nil {
		return err
	}
	return st.Disconnect(ctx, d.ID, d.Address, d.At)
}

// Reconnect takes the mark off.
func (s *Set) Reconnect(ctx context.Context, id store.MailboxID) error {
	st, err := s.storeOf(id)
	if err != nil {
		return err
	}
	return st.Reconnect(ctx, id)
}

// RemoveMailbox removes a disconnected mailbox for good.
func (s *Set) RemoveMailbox(ctx context.Context, id store.MailboxID) error {
	st, err := s.storeOf(id)
	if err != nil {
		return err
	}
	return st.RemoveMailbox(ctx, id)
}

// Disconnected lists the mailboxes without an owner, the latest first.
func (s *Set) Disconnected() (list []store.Disconnected, err error) {
	for _, st := range s.stores() {
		part, err := st.Disconnected()
		if err != nil {
			return nil, err
		}
		list = append(list, part...)
	}
	slices.SortStableFunc(list, func(a, b store.Disconnected) int { return b.At.Compare(a.At) })
	return list, nil
}

// Check recounts the stores of all groups that are mounted.
func (s *Set) Check(ctx context.Context) (found []store.Finding, err error) {
	for _, st := range s.stores() {
		part, err := st.Check(ctx)
		found = append(found, part...)
		if err != nil {
			return found, err
		}
	}
	wrong, err := s.dir.CheckCopies()
	for _, name := range wrong {
		found = append(found, store.Finding{
			Table: "DirCopyRecipient", Place: "storage group " + name, Reason: "differs from the directory",
		})
	}
	return found, err
}

// CheckIntegrity checks all groups that are mounted.
func (s *Set) CheckIntegrity(
	ctx context.Context, o store.IntegrityOptions,
) (*store.IntegrityReport, error) {
	var all *store.IntegrityReport
	for _, st := range s.stores() {
		part, err := st.CheckIntegrity(ctx, o)
		if all == nil {
			all = part
		} else if part != nil {
			all.Add(part)
		}
		if err != nil {
			return all, err
		}
	}
	if all == nil {
		return nil, store.ErrUnmounted
	}
	return all, nil
}

// LossReport tells what a repair of a database of one of the groups lost.
func (s *Set) LossReport(ctx context.Context, loss *offline.Loss) ([]store.LossItem, error) {
	g, err := s.repaired(loss.File)
	if err != nil {
		return nil, err
	}
	st, _, err := g.parts()
	if err != nil {
		return nil, err
	}
	return st.LossReport(ctx, loss)
}

// repaired is the group with the database that a repair's report names by its file: the one that
// lies there. A report from elsewhere, or one with part of a path, leads to the only database of
// that name, or the only one in a folder of that name.
func (s *Set) repaired(file string) (*Group, error) {
	var named, near []*Group
	for _, g := range s.Groups() {
		for _, d := range g.databases() {
			path := g.path(&d)
			if path == file {
				return g, nil
			}
			if filepath.Base(path) != filepath.Base(file) {
				continue
			}
			named = append(named, g)
			if filepath.Base(filepath.Dir(path)) == filepath.Base(filepath.Dir(file)) {
				near = append(near, g)
			}
		}
	}
	switch {
	case len(named) == 0:
		return nil, fmt.Errorf("the report is of %s, which is no database of this server: "+
			"pillarbox database list shows them", file)
	case len(named) == 1:
		return named[0], nil
	case len(near) == 1:
		return near[0], nil
	}
	return nil, fmt.Errorf("the report is of %s, and several databases have that name: write the "+
		"whole path of the right one into the report (\"file\")", file)
}

// Kept is what all groups keep of what was deleted.
func (s *Set) Kept() (all store.Kept, err error) {
	for _, st := range s.stores() {
		part, err := st.Kept()
		if err != nil {
			return all, err
		}
		all.Add(part)
	}
	return all, nil
}

// Purge is a store.Purge over all groups.
type Purge struct {
	s     *Set
	o     store.PurgeOptions
	parts map[*store.Store]*store.Purge
	todo  []*store.Store // of this pass
	begun bool
	done  store.Purged // of stores that are closed
}

// NewPurge makes a Purge that begins with the first mailbox.
func (s *Set) NewPurge(o store.PurgeOptions) *Purge {
	return &Purge{s: s, o: o, parts: make(map[*store.Store]*store.Purge)}
}

// Purged is what it has removed so far.
func (p *Purge) Purged() store.Purged {
	sum := p.done
	for _, part := range p.parts {
		sum.Add(part.Purged())
	}
	return sum
}

// Step is that of store.Purge.
func (p *Purge) Step(ctx context.Context) (did, done bool, err error) {
	if !p.begun {
		p.begin()
	}
	if len(p.todo) == 0 {
		p.begun = false
		return false, true, nil
	}
	did, over, err := p.parts[p.todo[0]].Step(ctx)
	if err != nil && store.Unavailable(err) {
		over, err = true, nil // dismounted meanwhile
	}
	if over {
		p.todo = p.todo[1:]
	}
	return did, false, err
}

// begin starts a pass with the stores that are mounted.
func (p *Purge) begin() {
	p.todo, p.begun = p.s.stores(), true
	for st, part := range p.parts {
		if !slices.Contains(p.todo, st) {
			p.done.Add(part.Purged())
			delete(p.parts, st)
		}
	}
	for _, st := range p.todo {
		if p.parts[st] == nil {
			p.parts[st] = st.NewPurge(p.o)
		}
	}
}
