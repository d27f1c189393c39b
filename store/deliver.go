package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"pillarbox/ese"
)

// Recipient is a mailbox to deliver to.
type Recipient struct {
	Mailbox MailboxID
	// Folder is where to put it; 0, or a folder that is gone, means INBOX.
	Folder   FolderID
	Flags    Flags
	Keywords []string
}

// DeliverRequest is one delivery: one content, one transaction, any number of recipients.
type DeliverRequest struct {
	Content    *Content
	Recipients []Recipient
	// QueueID names the message for ever: a recipient that already has a message of this id
	// gets no second one. Empty means that the delivery is never repeated.
	QueueID string
	// Received is the internal date. Default: now.
	Received time.Time
	// Hold is the number of references that rows of the caller keep to the content, each to
	// be given back with Release.
	Hold int
	// Extra writes the caller's own rows in the same transaction. It may run more than once;
	// an error undoes everything.
	Extra func(tx *ese.Tx, d *Delivered) error
}

// Delivered tells what a delivery did.
type Delivered struct {
	// Placed has an element for each recipient, in order.
	Placed []Placed
	// Held names the content for the holder when Hold was not 0.
	Held ContentID
}

// Placed tells what became of one recipient.
type Placed struct {
	Folder      FolderID
	UIDValidity uint32
	UID         UID
	// Duplicate: the mailbox had the message already, or comes twice in the request.
	Duplicate bool
	// Err is ErrQuota or ErrLimit when this mailbox could not take it. The others have it.
	Err error
}

// Deliver stores a message in all mailboxes of the request, making those that are missing,
// and returns when it is on disk. What one mailbox cannot take is told in its Placed. The
// Content is used up where it was placed; its Discard frees what is left in any case.
func (s *Store) Deliver(ctx context.Context, req *DeliverRequest) (*Delivered, error) {
	boxes := make([]*box, len(req.Recipients))
	for i, r := range req.Recipients {
		b, err := s.open(ctx, r.Mailbox)
		if err != nil {
			return nil, fmt.Errorf("deliver: %w", err)
		}
		boxes[i] = b
	}
	keeper, err := s.keeper(req)
	if err != nil {
		return nil, fmt.Errorf("deliver: %w", err)
	}
	var dbs []*database
	for _, b := range boxes {
		dbs = append(dbs, b.d)
	}
	if req.Hold > 0 {
		dbs = append(dbs, keeper)
	}
	if err := req.Content.prepare(dbs); err != nil {
		return nil, fmt.Errorf("deliver: %w", err)
	}
	var d *delivery
	err = s.write(ctx, slices.Clone(boxes), func(o *op) error {
		d = &delivery{op: o, req: req, keeper: keeper, keys: threadKeys(req.Content.structure.Root.Envelope)}
		d.out.Placed = make([]Placed, len(boxes))
		for i, b := range boxes {
			if err := d.place(i, b); err != nil {
				return err
			}
		}
		return d.finish()
	})
	if err != nil {
		return nil, fmt.Errorf("deliver: %w", err)
	}
	for _, u := range d.used {
		if u.refs+u.held > 0 {
			req.Content.taken(u.d)
		}
	}
	return &d.out, nil
}

// delivery is one run of Deliver's transaction.
type delivery struct {
	*op
	req    *DeliverRequest
	keeper *database
	keys   []int64
	used   []*usedContent
	out    Delivered
}

// keeper is the database that keeps content for the caller's references: the first one, whose
// tables also hold the queue.
func (s *Store) keeper(req *DeliverRequest) (*database, error) {
	if req.Hold == 0 {
		return req.Content.home, nil
	}
	dbs := s.mounted()
	if len(dbs) == 0 {
		return nil, ErrUnmounted
	}
	return dbs[0], nil
}

// usedContent is the content in one database.
type usedContent struct {
	d          *database
	cid        int64
	refs, held int
}

func (d *delivery) content(db *database) *usedContent {
	for _, u := range d.used {
		if u.d == db {
			return u
		}
	}
	u := &usedContent{d: db, cid: d.s.nextCID.Add(1)}
	d.used = append(d.used, u)
	return u
}

// place puts the message into one mailbox.
func (d *delivery) place(i int, b *box) error {
	st, r, out := d.state(b), &d.req.Recipients[i], &d.out.Placed[i]
	dup, err := d.duplicate(i, st)
	if err != nil || dup {
		out.Duplicate = dup
		return err
	}
	if !st.row.room(1, d.req.Content.size) {
		out.Err = ErrQuota
		return nil
	}
	f, err := d.target(st, r.Folder)
	if err != nil {
		return err
	}
	p := &placement{flags: r.Flags, size: d.req.Content.size, received: d.received()}
	if p.keywords, err = d.keywords(st, r.Keywords, &p.flags, true); err != nil {
		return err
	}
	if p.thread, err = d.thread(st, d.keys); err != nil {
		return err
	}
	if d.req.QueueID != "" {
		p.queueID = []byte(d.req.QueueID)
	}
	u := d.content(st.d)
	p.cid = u.cid
	if err := d.insert(st, f, p); err != nil {
		if errors.Is(err, ErrLimit) {
			out.Err = ErrLimit
			return nil
		}
		return err
	}
	u.refs++
	out.Folder, out.UIDValidity, out.UID = f.fid, f.uidValidity, p.uid
	return nil
}

// duplicate tells whether the mailbox has the message: by an earlier delivery under the same
// queue id, or because the request names it twice (mail.md 7).
func (d *delivery) duplicate(i int, st *boxState) (bool, error) {
	for j, r := range d.req.Recipients[:i] {
		if r.Mailbox == st.id && d.out.Placed[j].Err == nil {
			d.out.Placed[i] = d.out.Placed[j]
			return true, nil
		}
	}
	if d.req.QueueID == "" {
		return false, nil
	}
	c := d.tx.Cursor(st.d.msg.byQueue)
	ok, err := c.Find(ese.Int(st.mbx), ese.String(d.req.QueueID))
	if err != nil || !ok {
		return false, err
	}
	fid, uid := FolderID(c.Row().Int(st.d.msg.fid)), UID(c.Row().Int(st.d.msg.uid))
	f, err := d.folder(st, fid)
	if err == nil {
		d.out.Placed[i] = Placed{Folder: fid, UIDValidity: f.uidValidity, UID: uid}
	}
	return true, err
}

// target finds the folder to deliver to.
func (d *delivery) target(st *boxState, fid FolderID) (*folderRow, error) {
	if fid != 0 {
		f, err := d.messageFolder(st, fid)
		if !errors.Is(err, ErrNoFolder) {
			return f, err
		}
	}
	fid, ok, err := st.d.childFolder(d.tx, st.mbx, ipmFolder, inboxName)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, &Damage{"Folder", st.id.String(), "INBOX is missing"}
	}
	return d.folder(st, fid)
}

func (d *delivery) received() int64 {
	if d.req.Received.IsZero() {
		return millis(d.s.o.Now())
	}
	return millis(d.req.Received)
}

// finish stores the content rows with their final references and runs the caller's part.
func (d *delivery) finish() error {
	if d.req.Hold > 0 {
		u := d.content(d.keeper)
		u.held = d.req.Hold
		d.out.Held = ContentID{u.d.order, u.cid}
	}
	for _, u := range d.used {
		if u.refs+u.held == 0 {
			continue
		}
		if err := d.insertContent(u.d, u.cid, d.req.Content, u.refs, u.held); err != nil {
			return err
		}
	}
	if d.req.Extra != nil {
		return d.req.Extra(d.tx, &d.out)
	}
	return nil
}

// AppendRequest is what APPEND says of a message.
type AppendRequest struct {
	Flags    Flags
	Keywords []string
	// Date is the internal date. Default: now.
	Date time.Time
}

// Append stores the message that r yields in a folder. It reads r to its end first, with no
// transaction open; an error of r leaves nothing behind.
func (m *Mailbox) Append(
	ctx context.Context, fid FolderID, req AppendRequest, r io.Reader,
) (Placed, error) {
	w := m.s.newContent(m.b.d)
	defer w.Abort()
	if _, err := io.Copy(w, r); err != nil {
		return Placed{}, err
	}
	c, err := w.Finish()
	if err != nil {
		return Placed{}, err
	}
	defer c.Discard()
	var out Placed
	err = m.s.write(ctx, []*box{m.b}, func(o *op) error {
		st := o.state(m.b)
		f, err := o.messageFolder(st, fid)
		if err != nil {
			return err
		}
		if !st.row.room(1, c.size) {
			return ErrQuota
		}
		date := req.Date
		if date.IsZero() {
			date = m.s.o.Now()
		}
		p := &placement{cid: m.s.nextCID.Add(1), flags: req.Flags, size: c.size, received: millis(date)}
		if p.keywords, err = o.keywords(st, req.Keywords, &p.flags, true); err != nil {
			return err
		}
		if p.thread, err = o.thread(st, threadKeys(c.structure.Root.Envelope)); err != nil {
			return err
		}
		if err := o.insertContent(st.d, p.cid, c, 1, 0); err != nil {
			return err
		}
		out = Placed{Folder: fid, UIDValidity: f.uidValidity}
		err = o.insert(st, f, p)
		out.UID = p.uid
		return err
	})
	if err != nil {
		return Placed{}, fmt.Errorf("append: %w", err)
	}
	c.taken(m.b.d)
	return out, nil
}
