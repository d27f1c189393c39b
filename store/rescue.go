package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"pillarbox/ese"
	"pillarbox/mail"
)

// LostAndFound is the last address of the mailbox without owner that takes up messages that are in
// no folder any more: after damage nobody knows whose they were. It goes as any mailbox without
// owner goes.
const LostAndFound = "lost and found"

// lostKey in Global is the half of its GUID that no other database has.
const lostKey = "lost_and_found"

// lostAndFound is its GUID in a database, which is made up the first time.
func (s *Store) lostAndFound(ctx context.Context, d *database) (id MailboxID, err error) {
	var n int64
	err = s.in.Update(ctx, func(tx *ese.Tx) (err error) {
		if n, err = d.globalNum(tx, lostKey); err != nil || n != 0 {
			return err
		}
		n = rand.Int64() | 1
		return d.setGlobal(tx, lostKey, n)
	})
	copy(id[:8], LostAndFound)
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id, err
}

// rescue places a content that nothing refers to. Nothing else can refer to it meanwhile: what is
// placed anew has a new content or is a copy of a placement.
func (s *Store) rescue(ctx context.Context, d *database, cid int64) (done string, err error) {
	id, err := s.lostAndFound(ctx, d)
	var b *box
	if err == nil {
		b, err = s.find(id)
	}
	if err == nil && b == nil {
		if err = s.createIn(ctx, d, []MailboxID{id}, false); err == nil {
			err = s.Disconnect(ctx, id, LostAndFound, s.o.Now())
		}
		if err == nil {
			b, err = s.find(id)
		}
	}
	if err == nil && b == nil {
		err = ErrNoMailbox
	}
	if err != nil {
		return "", fmt.Errorf("make the mailbox %q: %w", LostAndFound, err)
	}
	err = s.write(ctx, []*box{b}, func(o *op) (err error) {
		done, err = o.rescue(o.state(b), cid)
		return err
	})
	return done, err
}

func (o *op) rescue(st *boxState, cid int64) (string, error) {
	t := &st.d.content
	var row ese.RowView
	var buf []byte
	ok, err := o.tx.Get(t.t, &row, &buf, ese.Int(cid))
	if err != nil || !ok {
		return "removed by its last reader", err
	}
	fid, ok, err := st.d.childFolder(o.tx, st.mbx, ipmFolder, inboxName)
	if err != nil || !ok {
		return "", fmt.Errorf("%s: INBOX: %w", LostAndFound, ErrNoFolder)
	}
	f, err := o.folder(st, fid)
	if err != nil {
		return "", err
	}
	p := &placement{cid: cid, size: row.Int(t.size), received: millis(o.s.o.Now())}
	if !row.IsNull(t.date) {
		p.received = row.Int(t.date)
	}
	var env *mail.Envelope
	if blob, err := row.Blob(t.structure, nil); err == nil {
		if x, err := mail.Decode(blob); err == nil {
			env = x.Root.Envelope
		}
	}
	if p.thread, err = o.thread(st, threadKeys(env)); err != nil {
		return "", err
	}
	if err := o.insert(st, f, p); err != nil {
		return "", err
	}
	err = o.tx.Update(t.t.NewRow().Set(t.refs, ese.Int(1)), ese.Int(cid))
	return fmt.Sprintf("moved to the mailbox %q", LostAndFound), err
}
