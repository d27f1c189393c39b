package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"pillarbox/ese"
	"pillarbox/mail"
	"pillarbox/mail/dsn"
	"pillarbox/store"
)

// verdict is what the outcomes of an attempt change.
type verdict struct {
	gone   []*recipient // rows to remove
	later  []*recipient // rows to try again
	report []dsn.Recipient
	sent   bool // to one recipient at least
}

// judge applies the outcomes to the rows in memory.
func (t *Transport) judge(m *message, rcpts []*recipient, out []*outcome) *verdict {
	v := &verdict{}
	now := t.o.Now()
	for i, c := range rcpts {
		o := out[i]
		c.attempts++
		c.lastAt, c.lastHost, c.status, c.reply = now, o.host, o.status, o.text
		log := t.o.Logger.With("id", string(m.id), "from", m.sender.String(),
			"to", c.address.String(), "host", o.host, "attempt", c.attempts)
		if o.state == stateSent {
			log.Info("sent", "size", m.size, "reply", o.text)
			v.gone, v.sent = append(v.gone, c), true
			continue
		}
		if o.state == stateDeferred && now.Before(c.expire) {
			t.postpone(c, now)
			log.Info("deferred", "reason", o.text, "next", c.next)
			v.later = append(v.later, c)
			if t.delayed(m, c, now) {
				c.bits |= rcptWarned
				v.report = append(v.report, reportOf(c, o, dsn.Delayed))
			}
			continue
		}
		v.gone = append(v.gone, c)
		notify := !m.sender.IsZero() && c.bits&rcptNever == 0
		log.Warn("failed", "reason", o.text, "notify", notify)
		if notify {
			v.report = append(v.report, reportOf(c, o, dsn.Failed))
		}
	}
	return v
}

// postpone sets the next attempt; the last one is made when the message expires.
func (t *Transport) postpone(c *recipient, now time.Time) {
	c.next = now.Add(t.o.Retry[min(c.attempts, len(t.o.Retry))-1])
	if c.next.After(c.expire) {
		c.next = c.expire
	}
}

// delayed tells whether the sender is to be told now that it takes longer.
func (t *Transport) delayed(m *message, c *recipient, now time.Time) bool {
	return !m.sender.IsZero() && c.bits&(rcptNever|rcptNoDelay|rcptWarned) == 0 &&
		!now.Before(m.created.Add(t.o.DelayNotice))
}

func reportOf(c *recipient, o *outcome, action dsn.Action) dsn.Recipient {
	r := dsn.Recipient{
		Final: c.address, Original: c.original, Action: action, Status: o.status,
		RemoteMTA: o.host, Diagnostic: o.text, LastAttempt: c.lastAt,
	}
	if action == dsn.Delayed {
		r.WillRetryUntil = c.expire
	} else if o.state == stateDeferred {
		// A temporary trouble that lasted is a permanent one: expired (RFC 3463 3.5, X.4.7).
		r.Status = "5.4.7"
	}
	return r
}

// record writes what came of an attempt: one transaction, with the notification if one is due.
func (t *Transport) record(
	ctx context.Context, m *message, rcpts []*recipient, out []*outcome, held *store.Held,
) error {
	v := t.judge(m, rcpts, out)
	err := t.settle(ctx, m, v, held)
	// What was sent would be sent again by another attempt, so while it cannot be written, as
	// on a full disk, the job keeps its lease and only the writing is repeated.
	for err != nil && v.sent && !t.o.Manual && t.ctx.Err() == nil {
		t.o.Logger.Error("sent, but not recorded: tried again", "id", string(m.id), "error", err)
		t.sleep(t.ctx, retryRecord)
		err = t.settle(ctx, m, v, held)
	}
	return err
}

// retryRecord is the pause before what came of an attempt is written again.
const retryRecord = 2 * time.Second

// settle is the transaction of record.
func (t *Transport) settle(
	ctx context.Context, m *message, v *verdict, held *store.Held,
) error {
	apply := func(r *rows) error { return r.apply(m.id, v) }
	var err error
	if len(v.report) > 0 {
		err = t.notify(ctx, m, v.report, held, apply)
	}
	if len(v.report) == 0 || errors.Is(err, errNoNotice) {
		err = t.o.Instance.Update(ctx, func(tx *ese.Tx) error {
			return apply(&rows{t: t, tx: tx})
		})
	}
	if err != nil && !errors.Is(err, errDropped) {
		return fmt.Errorf("record the attempt: %w", err)
	}
	return nil
}

// errDropped ends the transaction of a notification about rows that are there no more.
var errDropped = errors.New("message was dropped")

// apply changes the rows.
func (r *rows) apply(id QueueID, v *verdict) error {
	n := 0
	for _, c := range v.later {
		ok, err := r.updateRecipient(c)
		if err != nil {
			return err
		}
		if ok {
			n++
		}
	}
	removed, err := r.remove(id, v.gone)
	if err == nil && n+removed == 0 {
		// An administrator dropped the message while it was tried: nobody wants the report.
		err = errDropped
	}
	return err
}

// errNoNotice: the sender cannot be told.
var errNoNotice = errors.New("no notification possible")

// headersOnlyAbove is the size from which on a notification returns no more than the header.
const headersOnlyAbove = 1 << 20

// notify accepts a DSN to the sender in the transaction that also runs apply (RFC 3464).
func (t *Transport) notify(
	ctx context.Context, m *message, report []dsn.Recipient, held *store.Held,
	apply func(*rows) error,
) error {
	now := t.o.Now()
	notice := &message{id: t.newID(), created: now}
	e := &Envelope{Recipients: []Recipient{{Address: m.sender}}}
	p, err := t.plan(e, now)
	if err != nil {
		return err
	}
	if len(p.mailboxes)+len(p.queued) == p.unknown {
		t.o.Logger.Warn("notification not deliverable", "id", string(m.id), "to", m.sender.String())
		return errNoNotice
	}
	c, err := t.writeNotice(notice, e, m, report, held)
	if err != nil {
		return err
	}
	defer c.Discard()
	if err := t.place(ctx, notice, p, c, apply); err != nil {
		return err
	}
	t.o.Logger.Info("notification", "id", string(notice.id), "about", string(m.id),
		"to", m.sender.String(), "recipients", len(report))
	t.wakeFor(p)
	return nil
}

// writeNotice makes the content of a DSN.
func (t *Transport) writeNotice(
	notice *message, e *Envelope, m *message, report []dsn.Recipient, held *store.Held,
) (*store.Content, error) {
	s, err := mail.Decode(held.Structure)
	if err != nil {
		return nil, fmt.Errorf("read queued message: %w", err)
	}
	from := int64(held.ReturnPathLen)
	r := &dsn.Report{
		ReportingMTA: t.o.Hostname, To: m.sender, EnvelopeID: m.envelopeID,
		Arrival: m.created, Now: notice.created,
		MessageID:   string(notice.id) + "@" + t.o.Hostname,
		Recipients:  report,
		Original:    io.NewSectionReader(held, from, m.size-from),
		HeadersOnly: m.bits&msgHeadersOnly != 0 || m.size > headersOnlyAbove,
		Header8Bit:  s.Header8Bit, Body8Bit: s.Body8Bit,
	}
	w, err := t.o.Store.NewContent(store.MailboxID{})
	if err != nil {
		return nil, err
	}
	defer w.Abort()
	block, returnPathLen := e.block(notice.id, t.o.Hostname, notice.created)
	if _, err := w.Write(block); err != nil {
		return nil, err
	}
	utf8 := r.NeedsUTF8()
	if _, err := r.WriteTo(w); err != nil {
		return nil, err
	}
	return t.finish(notice, utf8, w, len(block), returnPathLen)
}

// fill does the internal deliveries of a job: copies for mailboxes that had no room when the
// message came, and reports for users that are not there.
func (t *Transport) fill(ctx context.Context, m *message, j *job, held *store.Held) error {
	var errs error
	var tried []*recipient
	var out []*outcome
	for _, c := range j.rcpts {
		if ctx.Err() != nil {
			break
		}
		why := failed("5.1.1", "no such user here")
		if c.kind != rcptUnknown {
			var err error
			if why, err = t.fillMailbox(ctx, m, c, held); err != nil || why == nil {
				errs = errors.Join(errs, err)
				continue
			}
		}
		tried, out = append(tried, c), append(out, why)
	}
	if len(tried) > 0 {
		errs = errors.Join(errs, t.record(ctx, m, tried, out, held))
	}
	return errs
}

// fillMailbox copies the message into a mailbox. why tells that the mailbox cannot take it now. In
// the transport's own store the row goes in the same transaction; otherwise it goes after the
// delivery, which is known by its queue id when a crash makes it happen again (mail.md 2).
func (t *Transport) fillMailbox(
	ctx context.Context, m *message, c *recipient, held *store.Held,
) (why *outcome, err error) {
	to, own := t.o.Store, true
	if t.o.Mailboxes != nil {
		if to, err = t.o.Mailboxes.Holder(c.mailbox); err != nil {
			return nil, t.waits(err) // the row stays due, and is held meanwhile
		}
		own = to == t.o.Store
	}
	content, err := copyHeld(to, c.mailbox, held)
	if err != nil {
		return nil, t.waits(err)
	}
	defer content.Discard()
	why, err = t.deliverHeld(ctx, to, own, m, c, content)
	if why != nil || err != nil || own {
		return why, t.waits(err)
	}
	err = t.o.Instance.Update(ctx, func(tx *ese.Tx) error {
		_, err := (&rows{t: t, tx: tx}).remove(m.id, []*recipient{c})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("delivered to another storage group, not recorded: %w", err)
	}
	return nil, nil
}

// retryReach is the pause after a mailbox could not be reached although it seemed so.
const retryReach = 100 * time.Millisecond

// waits takes an error for none that only says that the mailbox cannot be reached now.
func (t *Transport) waits(err error) error {
	if !store.Unavailable(err) {
		return err
	}
	if !t.o.Manual {
		t.sleep(t.ctx, retryReach)
	}
	return nil
}

// copyHeld copies a queued message to the database of a mailbox.
func copyHeld(to Deliverer, id store.MailboxID, held *store.Held) (*store.Content, error) {
	w, err := to.NewContent(id)
	if err != nil {
		return nil, err
	}
	defer w.Abort()
	if _, err := io.Copy(w, io.NewSectionReader(held, 0, held.Size())); err != nil {
		return nil, fmt.Errorf("copy queued message: %w", err)
	}
	content, err := w.Finish()
	if err != nil {
		return nil, err
	}
	content.TraceLen, content.ReturnPathLen = held.TraceLen, held.ReturnPathLen
	return content, nil
}

// deliverHeld places a queued message in a mailbox, and in the own store removes its row.
func (t *Transport) deliverHeld(
	ctx context.Context, to Deliverer, own bool, m *message, c *recipient, content *store.Content,
) (why *outcome, err error) {
	var full error
	_, err = to.Deliver(ctx, &store.DeliverRequest{
		Content: content, Recipients: []store.Recipient{m.placement(c)},
		QueueID: string(m.id), Received: m.created,
		Extra: func(tx *ese.Tx, d *store.Delivered) error {
			if full = d.Placed[0].Err; full != nil || !own {
				return full
			}
			n, err := (&rows{t: t, tx: tx}).remove(m.id, []*recipient{c})
			if err == nil && n == 0 {
				err = errDropped
			}
			return err
		},
	})
	switch {
	case full != nil && errors.Is(err, full):
		return deferred("4.2.2", "mailbox is full"), nil
	case errors.Is(err, errDropped):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("deliver queued message: %w", err)
	}
	t.o.Logger.Info("delivered", "id", string(m.id), "to", c.address.String())
	return nil, nil
}

// load reads a message of the queue.
func (t *Transport) load(id QueueID) (m *message, err error) {
	err = t.o.Instance.View(func(tx *ese.Tx) error {
		m, err = (&rows{t: t, tx: tx}).message(id)
		return err
	})
	return m, err
}
