package storage

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	"pillarbox/directory"
	"pillarbox/store"
	"pillarbox/transport"
)

// Queue is the queues of all groups as one.
type Queue struct{ s *Set }

// Queue is the queues of the groups.
func (s *Set) Queue() *Queue { return &Queue{s} }

// queues are those of the groups that are mounted.
func (s *Set) queues() (list []*transport.Transport) {
	for _, g := range s.Groups() {
		if _, q, err := g.parts(); err == nil {
			list = append(list, q)
		}
	}
	return list
}

// wake makes all queues look for mailboxes that can be reached again.
func (s *Set) wake() {
	for _, q := range s.queues() {
		q.Wake()
	}
}

// Accept takes a message into the group of its first recipient here, else of its sender, else
// into the first one: of those that are mounted (mail.md 2).
func (q *Queue) Accept(
	ctx context.Context, e *transport.Envelope, r io.Reader,
) (transport.QueueID, error) {
	t, err := q.s.accepting(e)
	if err != nil {
		return "", err
	}
	return t.Accept(ctx, e, r)
}

func (s *Set) accepting(e *transport.Envelope) (*transport.Transport, error) {
	var groups []*Group
	add := func(who directory.Recipient, err error) {
		if err != nil || who.Kind != directory.KindUser {
			return
		}
		if p, err := s.place(store.MailboxID(who.ID)); err == nil {
			if g := s.group(p.Group()); g != nil {
				groups = append(groups, g)
			}
		}
	}
	for i := range e.Recipients {
		add(s.dir.Resolve(e.Recipients[i].Address))
	}
	if !e.From.IsZero() {
		add(s.dir.Resolve(e.From))
	}
	groups = append(groups, s.Groups()...)
	var first error
	for _, g := range groups {
		_, t, err := g.parts()
		if err == nil {
			return t, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// List calls fn for each message of the queues, oldest first in each.
func (q *Queue) List(fn func(*transport.Entry) error) error {
	var all []*transport.Entry
	queues := q.s.queues()
	if len(queues) == 1 {
		return queues[0].List(fn)
	}
	for _, t := range queues {
		n := 0
		err := t.List(func(e *transport.Entry) error {
			all = append(all, e)
			if n++; n == mostListed {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			return err
		}
	}
	// Ids sort by age.
	slices.SortStableFunc(all, func(a, b *transport.Entry) int {
		return strings.Compare(string(a.ID), string(b.ID))
	})
	for _, e := range all {
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

// mostListed bounds what is held of each queue to sort them.
const mostListed = 10_000

var errEnough = errors.New("enough")

// Retry makes the next attempt of a message due now.
func (q *Queue) Retry(ctx context.Context, id transport.QueueID) error {
	return q.each(func(t *transport.Transport) error { return t.Retry(ctx, id) })
}

// Drop takes a message out of the queue.
func (q *Queue) Drop(ctx context.Context, id transport.QueueID) error {
	return q.each(func(t *transport.Transport) error { return t.Drop(ctx, id) })
}

// each calls fn for the queues until one has the message. One that fails may have it.
func (q *Queue) each(fn func(*transport.Transport) error) error {
	var failed error
	for _, t := range q.s.queues() {
		err := fn(t)
		if err == nil {
			return nil
		}
		if !errors.Is(err, transport.ErrNotQueued) {
			failed = errors.Join(failed, err)
		}
	}
	if failed != nil {
		return failed
	}
	return transport.ErrNotQueued
}

// Counts reads the figures of all queues.
func (q *Queue) Counts() (sum transport.Counts, err error) {
	for _, t := range q.s.queues() {
		n, err := t.Counts()
		if err != nil {
			return sum, err
		}
		sum.Messages += n.Messages
		sum.Recipients += n.Recipients
		sum.Sending += n.Sending
		if sum.Oldest.IsZero() || !n.Oldest.IsZero() && n.Oldest.Before(sum.Oldest) {
			sum.Oldest = n.Oldest
		}
	}
	return sum, nil
}
