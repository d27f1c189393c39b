package transport

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pillarbox/ese"
	"pillarbox/mail/address"
)

// Entry is a message in the queue.
type Entry struct {
	ID         QueueID
	Created    time.Time
	Size       int64
	Sender     address.Address
	Recipients []EntryRecipient
}

// EntryRecipient is a recipient still to serve.
type EntryRecipient struct {
	Address  address.Address
	Attempts int
	// Next is the next attempt, Expire the last one.
	Next, Expire time.Time
	// LastHost and LastReply tell why the last attempt did not succeed.
	LastHost, LastReply string
	// Held: mail for other domains is not sent (Options.Outbound), or Unmounted.
	Held bool
	// Unmounted: the database of the mailbox is not mounted.
	Unmounted bool
}

// listBatch is how many messages one snapshot of List reads: the caller may be slow.
const listBatch = 100

// List calls fn for each message of the queue, oldest first. No transaction is open meanwhile.
func (t *Transport) List(fn func(*Entry) error) error {
	var after QueueID
	for {
		batch, err := t.listAfter(after)
		if err != nil || len(batch) == 0 {
			return err
		}
		for _, e := range batch {
			if err := fn(e); err != nil {
				return err
			}
		}
		after = batch[len(batch)-1].ID
	}
}

func (t *Transport) listAfter(after QueueID) (batch []*Entry, err error) {
	err = t.o.Instance.View(func(tx *ese.Tx) error {
		rs := &rows{t: t, tx: tx}
		cur := tx.Cursor(t.queue.t.Primary())
		// No id ends in NUL, so this is the first place behind it.
		ok, err := cur.Seek(ese.String(string(after) + "\x00"))
		for ; ok && err == nil && len(batch) < listBatch; ok, err = cur.Next() {
			m, err := rs.readMessage(cur.Row())
			if err != nil {
				return err
			}
			e := &Entry{ID: m.id, Created: m.created, Size: m.size, Sender: m.sender}
			if err := rs.recipients(m.id, func(c *recipient) bool {
				e.Recipients = append(e.Recipients, EntryRecipient{
					Address: c.address, Attempts: c.attempts, Next: c.next, Expire: c.expire,
					LastHost: c.lastHost, LastReply: c.reply,
					Held:      t.destination(c) == "",
					Unmounted: c.kind == rcptMailbox && !t.reachable(c.mailbox),
				})
				return true
			}); err != nil {
				return err
			}
			batch = append(batch, e)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list queue: %w", err)
	}
	return batch, nil
}

// Counts is the state of the queue in figures.
type Counts struct {
	// Messages and Recipients are what is queued.
	Messages, Recipients int
	// Sending is the number of jobs under way.
	Sending int
	// Oldest is when the oldest message came; zero without one.
	Oldest time.Time
}

// Counts reads the figures.
func (t *Transport) Counts() (Counts, error) {
	var n Counts
	err := t.o.Instance.View(func(tx *ese.Tx) error {
		cur := tx.Cursor(t.queue.t.Primary())
		ok, err := cur.First()
		for ; ok && err == nil; ok, err = cur.Next() {
			if n.Messages == 0 {
				n.Oldest = fromMillis(cur.Row().Int(t.queue.created))
			}
			n.Messages++
			n.Recipients += int(cur.Row().Int(t.queue.pending))
		}
		return err
	})
	if err != nil {
		return Counts{}, fmt.Errorf("count queue: %w", err)
	}
	t.mu.Lock()
	n.Sending = t.jobs
	t.mu.Unlock()
	return n, nil
}

// Retry makes the next attempt of a message due now. ErrNotQueued when there is none.
func (t *Transport) Retry(ctx context.Context, id QueueID) error {
	return t.change(ctx, "retry", id, func(r *rows, cs []*recipient) error {
		now := t.o.Now()
		for _, c := range cs {
			c.next = now
			if _, err := r.updateRecipient(c); err != nil {
				return err
			}
		}
		return nil
	})
}

// Drop takes a message out of the queue; nobody is told. What is being sent at this moment may
// still arrive.
func (t *Transport) Drop(ctx context.Context, id QueueID) error {
	err := t.change(ctx, "drop", id, func(r *rows, cs []*recipient) error {
		_, err := r.remove(id, cs)
		return err
	})
	if err == nil {
		t.o.Logger.Info("dropped", "id", string(id))
	}
	return err
}

// change runs fn on the rows of a message and wakes the runner.
func (t *Transport) change(
	ctx context.Context, what string, id QueueID, fn func(*rows, []*recipient) error,
) error {
	err := t.o.Instance.Update(ctx, func(tx *ese.Tx) error {
		r := &rows{t: t, tx: tx}
		if _, err := r.message(id); err != nil {
			return err
		}
		var cs []*recipient
		err := r.recipients(id, func(c *recipient) bool {
			cs = append(cs, c)
			return true
		})
		if err != nil {
			return err
		}
		return fn(r, cs)
	})
	switch {
	case errors.Is(err, ErrNotQueued):
		return ErrNotQueued
	case err != nil:
		return fmt.Errorf("%s %s: %w", what, id, err)
	}
	t.wakeUp()
	return nil
}
