package transport

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"pillarbox/directory"
	"pillarbox/ese"
	"pillarbox/mail/address"
	"pillarbox/protocol/smtp"
	"pillarbox/store"
)

// Recipient is one recipient of an envelope.
type Recipient struct {
	Address address.Address
	// Never and NoDelay suppress notifications (RFC 3461 4.1).
	Never, NoDelay bool
	// Original is ORCPT, "type;address" (RFC 3461 4.2).
	Original string
}

// Envelope is a message that arrives, but for its bytes.
type Envelope struct {
	From       address.Address // zero is <>
	Recipients []Recipient
	// HeadersOnly is RET=HDRS, EnvelopeID is ENVID (RFC 3461 4.3, 4.4).
	HeadersOnly bool
	EnvelopeID  string
	// UTF8 is SMTPUTF8 of MAIL.
	UTF8  bool
	Trace Trace
	// Submission says that a user sends it: Bcc goes, Date and Message-ID are added when they
	// are missing (RFC 6409 8).
	Submission bool
	// Unverified says that the sender claims an address of ours and did not log in: the copies
	// here get the keyword $Unverified (mail.md 5).
	Unverified bool
	// CheckFrom sees the From field of a submission before it is accepted, unfolded and whole,
	// which the message's map need not hold; its error refuses the message.
	CheckFrom func(from string) error
}

// Accept takes the message that r yields, whose lines end in CRLF, and answers when it is on
// disk: delivered to the mailboxes here, queued for the rest. An error of r leaves nothing
// behind. A refusal for the sender is an *smtp.Error.
func (t *Transport) Accept(ctx context.Context, e *Envelope, r io.Reader) (QueueID, error) {
	if t.closed() {
		return "", ErrClosed
	}
	now := t.o.Now()
	m := &message{id: t.newID(), created: now, sender: e.From, envelopeID: e.EnvelopeID}
	if e.HeadersOnly {
		m.bits |= msgHeadersOnly
	}
	if e.Unverified {
		m.bits |= msgUnverified
	}
	c, err := t.receive(m, e, r)
	if err != nil {
		return "", err
	}
	defer c.Discard()
	p, err := t.plan(e, now)
	if err != nil {
		return "", err
	}
	if p.unknown > 0 && len(p.mailboxes)+len(p.queued) == p.unknown {
		return "", &smtp.Error{Code: 550, Enhanced: [3]int{5, 1, 1}, Message: "no such user here"}
	}
	if err := t.place(ctx, m, p, c, nil); err != nil {
		return "", fmt.Errorf("accept message: %w", err)
	}
	t.o.Logger.Info("accepted", "id", string(m.id), "from", e.From.String(), "to", e.toList(),
		"size", c.Size(), "mailboxes", len(p.mailboxes), "queued", len(p.queued),
		"peer", remoteIP(e.Trace.Remote))
	t.wakeFor(p)
	return m.id, nil
}

// toList names the recipients in a log line, the first few of many.
func (e *Envelope) toList() string {
	const most = 5
	var b strings.Builder
	for i := range e.Recipients {
		if i == most {
			_, _ = fmt.Fprintf(&b, " and %d more", len(e.Recipients)-most)
			break
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(e.Recipients[i].Address.String())
	}
	return b.String()
}

// placement is the delivery to a recipient's mailbox.
func (m *message) placement(c *recipient) store.Recipient {
	r := store.Recipient{Mailbox: c.mailbox}
	if m.bits&msgUnverified != 0 {
		r.Keywords = []string{"$Unverified"}
	}
	return r
}

// receive reads the message behind its trace block into a content. No transaction is open.
func (t *Transport) receive(m *message, e *Envelope, r io.Reader) (*store.Content, error) {
	w, err := t.o.Store.NewContent(t.firstMailbox(e))
	if err != nil {
		return nil, fmt.Errorf("accept message: %w", err)
	}
	defer w.Abort()
	block, returnPathLen := e.block(m.id, t.o.Hostname, m.created)
	if _, err := w.Write(block); err != nil {
		return nil, fmt.Errorf("accept message: %w", err)
	}
	h := &headerPass{
		edit: e.Submission, date: m.created.Format("Mon, 2 Jan 2006 15:04:05 -0700"),
		messageID: "<" + string(m.id) + "@" + t.o.Hostname + ">",
	}
	br, _ := t.buffers.Get().(*bufio.Reader)
	br.Reset(r)
	err = h.copy(w, br)
	br.Reset(nil)
	t.buffers.Put(br)
	if err != nil {
		return nil, fmt.Errorf("receive message: %w", err)
	}
	if h.received > maxReceived {
		return nil, &smtp.Error{
			Code: 554, Enhanced: [3]int{5, 4, 6}, Message: "too many hops: a mail loop",
		}
	}
	if e.CheckFrom != nil {
		from, err := h.fromField()
		if err == nil {
			err = e.CheckFrom(from)
		}
		if err != nil {
			return nil, err
		}
	}
	return t.finish(m, e.UTF8, w, len(block), returnPathLen)
}

// firstMailbox is that of the first recipient here: large content goes to its database at once.
func (t *Transport) firstMailbox(e *Envelope) (id store.MailboxID) {
	for i := range e.Recipients {
		who, err := t.o.Directory.Resolve(e.Recipients[i].Address)
		if err == nil && who.Kind == directory.KindUser && t.here(store.MailboxID(who.ID)) {
			return store.MailboxID(who.ID)
		}
	}
	return id
}

// finish ends a content and notes in m what sending it will need. A header with raw bytes, as
// old programs write it, asks for SMTPUTF8 only when its sender did.
func (t *Transport) finish(
	m *message, utf8 bool, w *store.ContentWriter, trace, returnPath int,
) (*store.Content, error) {
	c, err := w.Finish()
	if err != nil {
		return nil, fmt.Errorf("accept message: %w", err)
	}
	c.TraceLen, c.ReturnPathLen = trace, returnPath
	m.size = c.Size()
	s := c.Structure()
	if s.Header8Bit || s.Body8Bit {
		m.bits |= msgEightBit
	}
	if s.Header8Bit && utf8 {
		m.bits |= msgUTF8
	}
	return c, nil
}

// plan is what is to be done for the recipients of a message.
type plan struct {
	mailboxes []*recipient // one for each mailbox
	queued    []*recipient // for other domains, and the unknown
	// unknown counts those of our domains that are not there. They were when RCPT asked, or an
	// alias names them; the queue reports them.
	unknown int
	// elsewhere counts mailboxes of other storage groups.
	elsewhere int
	seen      map[string]bool
}

// add takes up the mailbox of a recipient: one of another storage group, or that cannot be reached
// now, gets its copy from the queue (mail.md 2).
func (p *plan) add(c *recipient, here bool) {
	if here {
		p.mailboxes = append(p.mailboxes, c)
		return
	}
	p.elsewhere++
	p.queued = append(p.queued, c)
}

// again divides the mailboxes anew: some are not here any more.
func (p *plan) again(here func(store.MailboxID) bool) {
	all := p.mailboxes
	p.mailboxes = nil
	for _, c := range all {
		p.add(c, here(c.mailbox))
	}
}

const maxForwards = 10 // of an address to another one

// plan resolves the recipients. A mailbox or address that comes twice gets one copy (mail.md 7).
func (t *Transport) plan(e *Envelope, now time.Time) (*plan, error) {
	p := &plan{seen: make(map[string]bool)}
	for i := range e.Recipients {
		if err := t.resolve(p, &e.Recipients[i], e.Recipients[i].Address, now, nil); err != nil {
			return nil, fmt.Errorf("resolve %s: %w", e.Recipients[i].Address, err)
		}
	}
	return p, nil
}

// resolve adds what an address leads to; via are the addresses that led to it.
func (t *Transport) resolve(
	p *plan, from *Recipient, a address.Address, now time.Time, via []string,
) error {
	key := a.Key()
	loop := slices.Contains(via, key) || len(via) > maxForwards
	if !loop && p.seen[key] {
		return nil
	}
	p.seen[key] = true
	c := &recipient{
		address: a, original: from.Original, next: now, expire: now.Add(t.o.Expire),
	}
	if from.Never {
		c.bits |= rcptNever
	}
	if from.NoDelay {
		c.bits |= rcptNoDelay
	}
	who, err := t.o.Directory.Resolve(a)
	switch {
	case errors.Is(err, directory.ErrNotLocal):
		p.queued = append(p.queued, c)
	case errors.Is(err, directory.ErrNotFound) || err == nil && loop:
		c.kind = rcptUnknown
		p.unknown++
		p.queued = append(p.queued, c)
	case err != nil:
		return err
	case who.Kind == directory.KindUser:
		c.kind, c.mailbox = rcptMailbox, store.MailboxID(who.ID)
		if box := "mailbox " + c.mailbox.String(); !p.seen[box] {
			p.seen[box] = true
			p.add(c, t.here(c.mailbox))
		}
	case who.Kind == directory.KindRemote:
		target, err := address.Parse(who.Target)
		if err != nil {
			return err
		}
		return t.resolve(p, from, target, now, append(via, key))
	default:
		return fmt.Errorf("recipient of kind %d is of a newer version", who.Kind)
	}
	return nil
}

// errHold asks for another run of the transaction in which the queue holds the content.
var errHold = errors.New("content must be held")

// place puts the message where the plan says, in one durable transaction that also runs extra,
// which may run more than once. A mailbox without room gets its copy later, from the queue;
// when nobody can take the message, and extra is nil, the error refuses it.
func (t *Transport) place(
	ctx context.Context, m *message, p *plan, c *store.Content, extra func(*rows) error,
) error {
	hold := len(p.queued) > 0
	for try := 0; ; try++ {
		err := t.deliver(ctx, m, p, c, hold, extra)
		switch {
		case errors.Is(err, errHold):
		case store.Unavailable(err) && len(p.mailboxes) > 0 && try < 2*len(p.mailboxes)+4:
			p.again(t.here) // a mailbox has moved meanwhile, or was dismounted
		default:
			return err
		}
		hold = hold || errors.Is(err, errHold) || len(p.queued) > 0
	}
}

func (t *Transport) deliver(
	ctx context.Context, m *message, p *plan, c *store.Content, hold bool, extra func(*rows) error,
) error {
	req := &store.DeliverRequest{Content: c, QueueID: string(m.id), Received: m.created}
	if hold {
		req.Hold = 1
	}
	for _, r := range p.mailboxes {
		req.Recipients = append(req.Recipients, m.placement(r))
	}
	req.Extra = func(tx *ese.Tx, d *store.Delivered) error {
		queued := append([]*recipient(nil), p.queued...)
		var full error
		for i, placed := range d.Placed {
			if placed.Err != nil {
				full = placed.Err
				queued = append(queued, p.mailboxes[i])
			}
		}
		if full != nil && len(queued) == len(p.mailboxes)+len(p.queued) && len(p.queued) == 0 &&
			extra == nil {
			return full
		}
		if len(queued) > 0 && !hold {
			return errHold
		}
		rs := &rows{t: t, tx: tx}
		if err := rs.enqueue(m, queued, d.Held, hold); err != nil {
			return err
		}
		if extra != nil {
			return extra(rs)
		}
		return nil
	}
	_, err := t.o.Store.Deliver(ctx, req)
	return err
}

// enqueue writes the rows of a message, or gives its content back when there are none.
func (r *rows) enqueue(m *message, queued []*recipient, held store.ContentID, hold bool) error {
	if len(queued) == 0 {
		if hold {
			return r.t.o.Store.Release(r.tx, held)
		}
		return nil
	}
	m.content, m.pending = held, len(queued)
	if err := r.insertMessage(m); err != nil {
		return err
	}
	for i, c := range queued {
		c.id, c.n = m.id, i+1
		if err := r.insertRecipient(c); err != nil {
			return err
		}
	}
	return nil
}
