package transport

import (
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"pillarbox/ese"
	"pillarbox/mail/address"
	"pillarbox/store"
)

// QueueID names a message from its acceptance on, for ever: 48 bits of milliseconds and 32
// random bits, so that ids sort by age and no crash makes one come again.
type QueueID string

// newID makes the id of a message that arrives.
func (t *Transport) newID() QueueID {
	var b [10]byte
	binary.BigEndian.PutUint64(b[:], uint64(t.o.Now().UnixMilli())<<16)
	binary.BigEndian.PutUint32(b[6:], t.o.Rand())
	return QueueID(strings.ToLower(base32.HexEncoding.EncodeToString(b[:])))
}

// msgBits are properties of a queued message.
type msgBits uint32

const (
	msgHeadersOnly msgBits = 1 << iota // RET=HDRS
	msgEightBit                        // needs 8BITMIME
	msgUTF8                            // needs SMTPUTF8
	msgUnverified                      // Envelope.Unverified
)

// message is a row of Queue.
type message struct {
	id         QueueID
	created    time.Time
	content    store.ContentID
	size       int64
	pending    int
	bits       msgBits
	sender     address.Address
	envelopeID string
}

// rcptBits are properties of a recipient.
type rcptBits uint32

const (
	rcptNever   rcptBits = 1 << iota // no notification at all
	rcptNoDelay                      // none of a delay
	rcptWarned                       // that of the delay has been sent
)

// rcptKind says what is to be done for a recipient.
type rcptKind uint32

const (
	rcptRemote  rcptKind = iota // send it
	rcptMailbox                 // put it into a mailbox of ours
	rcptUnknown                 // report that there is no such user here
)

// recipient is a row of QueueRcpt.
type recipient struct {
	id       QueueID
	n        int
	kind     rcptKind
	bits     rcptBits
	next     time.Time
	expire   time.Time
	lastAt   time.Time
	attempts int
	mailbox  store.MailboxID
	address  address.Address
	original string
	lastHost string
	status   string
	reply    string
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// storedAddress is an address as rows hold it: the null path is empty.
func storedAddress(a address.Address) ese.Value {
	if a.IsZero() {
		return ese.Null()
	}
	return ese.String(a.Local + "@" + a.Domain)
}

// loadAddress undoes storedAddress. A domain holds no @, so the last one divides.
func loadAddress(s string) address.Address {
	i := strings.LastIndexByte(s, '@')
	if i < 0 {
		return address.Address{}
	}
	return address.Address{Local: s[:i], Domain: s[i+1:]}
}

// rows reads and writes the queue in one transaction.
type rows struct {
	t   *Transport
	tx  *ese.Tx
	v   ese.RowView
	buf []byte
}

func (r *rows) insertMessage(m *message) error {
	q := &r.t.queue
	row := q.t.NewRow().Set(q.id, ese.String(string(m.id))).
		Set(q.created, ese.Int(millis(m.created))).
		Set(q.database, ese.Int(m.content.Database)).Set(q.content, ese.Int(m.content.CID)).
		Set(q.size, ese.Int(m.size)).Set(q.pending, ese.Int(m.pending)).
		Set(q.bits, ese.Int(m.bits)).Set(q.sender, storedAddress(m.sender)).
		Set(q.envelopeID, ese.String(m.envelopeID))
	if err := r.tx.Insert(row); err != nil {
		return fmt.Errorf("queue message %s: %w", m.id, err)
	}
	return nil
}

func (r *rows) insertRecipient(c *recipient) error {
	t := &r.t.rcpt
	row := t.t.NewRow().Set(t.id, ese.String(string(c.id))).Set(t.n, ese.Int(c.n)).
		Set(t.kind, ese.Int(c.kind)).Set(t.expire, ese.Int(millis(c.expire))).
		Set(t.address, storedAddress(c.address)).Set(t.original, ese.String(c.original))
	if c.kind == rcptMailbox {
		row.Set(t.mailbox, ese.Bytes(c.mailbox[:]))
	}
	c.state(t, row)
	if err := r.tx.Insert(row); err != nil {
		return fmt.Errorf("queue recipient %s: %w", c.address, err)
	}
	return nil
}

// state sets the columns that change.
func (c *recipient) state(t *rcptTable, row *ese.Row) {
	row.Set(t.next, ese.Int(millis(c.next))).Set(t.lastAt, ese.Int(millis(c.lastAt))).
		Set(t.attempts, ese.Int(c.attempts)).Set(t.bits, ese.Int(c.bits)).
		Set(t.lastHost, ese.String(clip(c.lastHost, 255))).
		Set(t.status, ese.String(c.status)).Set(t.reply, ese.String(clip(c.reply, 500)))
}

func clip(s string, n int) string {
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "")
	}
	return s
}

// message reads a row of Queue. ErrNotQueued when it is not there.
func (r *rows) message(id QueueID) (*message, error) {
	ok, err := r.tx.Get(r.t.queue.t, &r.v, &r.buf, ese.String(string(id)))
	if err != nil {
		return nil, fmt.Errorf("read queue: %w", err)
	}
	if !ok {
		return nil, ErrNotQueued
	}
	return r.readMessage(&r.v)
}

func (r *rows) readMessage(v *ese.RowView) (*message, error) {
	q := &r.t.queue
	sender, err := v.Blob(q.sender, nil)
	if err != nil {
		return nil, fmt.Errorf("read queue: %w", err)
	}
	env, err := v.Blob(q.envelopeID, nil)
	if err != nil {
		return nil, fmt.Errorf("read queue: %w", err)
	}
	return &message{
		id: QueueID(v.String(q.id)), created: fromMillis(v.Int(q.created)),
		content: store.ContentID{Database: int(v.Int(q.database)), CID: v.Int(q.content)},
		size:    v.Int(q.size), pending: int(v.Int(q.pending)), bits: msgBits(v.Int(q.bits)),
		sender: loadAddress(string(sender)), envelopeID: string(env),
	}, nil
}

func (r *rows) readRecipient(v *ese.RowView) (*recipient, error) {
	t := &r.t.rcpt
	c := &recipient{
		id: QueueID(v.String(t.id)), n: int(v.Int(t.n)), kind: rcptKind(v.Int(t.kind)),
		bits: rcptBits(v.Int(t.bits)), next: fromMillis(v.Int(t.next)),
		expire: fromMillis(v.Int(t.expire)), lastAt: fromMillis(v.Int(t.lastAt)),
		attempts: int(v.Int(t.attempts)), lastHost: v.String(t.lastHost),
		status: v.String(t.status),
	}
	copy(c.mailbox[:], v.Bytes(t.mailbox))
	var text [3]string
	for i, col := range []*ese.Column{t.address, t.original, t.reply} {
		b, err := v.Blob(col, nil)
		if err != nil {
			return nil, fmt.Errorf("read queue: %w", err)
		}
		text[i] = string(b)
	}
	c.address, c.original, c.reply = loadAddress(text[0]), text[1], text[2]
	return c, nil
}

// recipients calls fn for the rows of a message until it returns false.
func (r *rows) recipients(id QueueID, fn func(*recipient) bool) error {
	cur := r.tx.Cursor(r.t.rcpt.t.Primary())
	if err := cur.Prefix(ese.String(string(id))); err != nil {
		return fmt.Errorf("read queue: %w", err)
	}
	ok, err := cur.First()
	for ; ok && err == nil; ok, err = cur.Next() {
		c, err := r.readRecipient(cur.Row())
		if err != nil {
			return err
		}
		if !fn(c) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("read queue: %w", err)
	}
	return nil
}

// updateRecipient changes a row; ok is false when it was dropped meanwhile.
func (r *rows) updateRecipient(c *recipient) (ok bool, err error) {
	t := &r.t.rcpt
	row := t.t.NewRow()
	c.state(t, row)
	err = r.tx.Update(row, ese.String(string(c.id)), ese.Int(c.n))
	switch {
	case errors.Is(err, ese.ErrNotFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("update queue: %w", err)
	}
	return true, nil
}

// remove deletes rows of one message, and the message with its last recipient. Rows that are
// gone already are passed over. n tells how many were there.
func (r *rows) remove(id QueueID, gone []*recipient) (n int, err error) {
	for _, c := range gone {
		err := r.tx.Delete(r.t.rcpt.t, ese.String(string(id)), ese.Int(c.n))
		switch {
		case err == nil:
			n++
		case !errors.Is(err, ese.ErrNotFound):
			return n, fmt.Errorf("update queue: %w", err)
		}
	}
	if n == 0 {
		return 0, nil
	}
	// The count makes two jobs of one message conflict, so that the last one knows it is.
	m, err := r.message(id)
	if err != nil {
		return n, err
	}
	if m.pending > n {
		q := &r.t.queue
		row := q.t.NewRow().Set(q.pending, ese.Int(m.pending-n))
		if err := r.tx.Update(row, ese.String(string(id))); err != nil {
			return n, fmt.Errorf("update queue: %w", err)
		}
		return n, nil
	}
	if err := r.tx.Delete(r.t.queue.t, ese.String(string(id))); err != nil {
		return n, fmt.Errorf("update queue: %w", err)
	}
	return n, r.t.o.Store.Release(r.tx, m.content)
}

// due calls fn for recipients in the order of their next attempt, up to now, until it returns
// false, and returns when the first one after now is due: zero when there is none.
func (r *rows) due(now time.Time, fn func(*recipient) bool) (next time.Time, err error) {
	cur := r.tx.Cursor(r.t.rcpt.byNext)
	ok, err := cur.First()
	for ; ok && err == nil; ok, err = cur.Next() {
		if at := fromMillis(cur.Row().Int(r.t.rcpt.next)); at.After(now) {
			return at, nil
		}
		c, err := r.readRecipient(cur.Row())
		if err != nil {
			return time.Time{}, err
		}
		if !fn(c) {
			return now, nil
		}
	}
	if err != nil {
		err = fmt.Errorf("read queue: %w", err)
	}
	return time.Time{}, err
}
