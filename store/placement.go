package store

import (
	"encoding/binary"
	"math"

	"pillarbox/ese"
)

// placement is a row of Msg: a message in a folder.
type placement struct {
	uid               UID
	cid               int64
	email             EmailID
	thread            ThreadID
	queueID           []byte
	modseq, createdCN CN
	flags             Flags
	keywords          []uint16 // ascending
	received, saved   int64
	size              int64
	origin            FolderID // of a recoverable one: where it was deleted
}

func (p *placement) read(t *msgTable, v *ese.RowView) {
	*p = placement{
		uid: UID(v.Int(t.uid)), cid: v.Int(t.cid), email: EmailID(v.Int(t.email)),
		thread: ThreadID(v.Int(t.thread)), modseq: CN(v.Int(t.modseq)),
		createdCN: CN(v.Int(t.createdCN)), flags: Flags(v.Int(t.flags)),
		received: v.Int(t.received), saved: v.Int(t.saved), size: v.Int(t.size),
		origin: FolderID(later(v, t.origin)), keywords: decodeKeywords(v.Bytes(t.keywords)),
	}
	if q := v.Bytes(t.queue); q != nil {
		p.queueID = append([]byte(nil), q...)
	}
}

func decodeKeywords(b []byte) []uint16 {
	if len(b) < 2 {
		return nil
	}
	words := make([]uint16, 0, len(b)/2)
	for ; len(b) >= 2; b = b[2:] {
		words = append(words, binary.LittleEndian.Uint16(b))
	}
	return words
}

func keywordsValue(words []uint16) ese.Value {
	if len(words) == 0 {
		return ese.Null()
	}
	b := make([]byte, 0, 2*len(words))
	for _, w := range words {
		b = binary.LittleEndian.AppendUint16(b, w)
	}
	return ese.Bytes(b)
}

// insert places a message in a folder: uid, numbers and counters are taken here. An email or
// thread id of 0 is given a new one.
func (o *op) insert(st *boxState, f *folderRow, p *placement) error {
	if f.uidNext == math.MaxUint32 {
		return ErrLimit
	}
	p.uid = f.uidNext
	f.uidNext++
	p.modseq = st.nextCN()
	p.createdCN = p.modseq
	if p.email == 0 {
		p.email = EmailID(st.nextID())
	}
	p.saved = millis(o.s.o.Now())
	t := &st.d.msg
	row := t.t.NewRow().Set(t.mbx, ese.Int(st.mbx)).Set(t.fid, ese.Int(f.fid)).
		Set(t.uid, ese.Int(p.uid)).Set(t.cid, ese.Int(p.cid)).Set(t.email, ese.Int(p.email)).
		Set(t.thread, ese.Int(p.thread)).Set(t.modseq, ese.Int(p.modseq)).
		Set(t.createdCN, ese.Int(p.createdCN)).Set(t.flags, ese.Int(p.flags)).
		Set(t.keywords, keywordsValue(p.keywords)).Set(t.received, ese.Int(p.received)).
		Set(t.saved, ese.Int(p.saved)).Set(t.size, ese.Int(p.size))
	if len(p.queueID) > 0 {
		row.Set(t.queue, ese.Bytes(p.queueID))
	}
	if p.origin != 0 {
		row.Set(t.origin, ese.Int(p.origin))
	}
	if err := o.tx.Insert(row); err != nil {
		return err
	}
	st.count(f, p, 1)
	f.changed(p.modseq)
	return nil
}

// count counts a message n times (n is 1 or -1). The mailbox, and so its quota, does not count
// what is only kept to be recovered.
func (st *boxState) count(f *folderRow, p *placement, n int64) {
	f.add(p.flags, p.size, n)
	f.dirty, st.dirty = true, true
	if f.fid != recoverableFolder {
		st.row.count += n
		st.row.size += n * p.size
	}
}

// take takes a message's row out of a folder.
func (o *op) take(st *boxState, f *folderRow, p *placement) error {
	key := [3]ese.Value{ese.Int(st.mbx), ese.Int(f.fid), ese.Int(p.uid)}
	if err := o.tx.Delete(st.d.msg.t, key[:]...); err != nil {
		return err
	}
	st.count(f, p, -1)
	return nil
}

// remove takes a message out of a folder and leaves a tombstone. Unless it moves it becomes
// recoverable, or where nothing is kept its content loses a reference.
func (o *op) remove(st *boxState, f *folderRow, p *placement, kind tombKind) error {
	if err := o.take(st, f, p); err != nil {
		return err
	}
	if kind != tombMoved {
		if err := o.dispose(st, f, p); err != nil {
			return err
		}
		held, err := st.d.hasEmail(o.tx, st.mbx, p.email, 0)
		if err != nil {
			return err
		}
		if held {
			kind = tombPlacement
		}
	}
	cn := st.nextCN()
	f.changed(cn)
	return o.insertTomb(st, cn, tomb{
		kind: kind, fid: f.fid, uid: p.uid, email: p.email, createdCN: p.createdCN,
	})
}

// hasEmail tells whether any folder that clients see, or the one named, holds an e-mail.
func (d *database) hasEmail(tx *ese.Tx, mbx uint32, email EmailID, fid FolderID) (bool, error) {
	c := tx.Cursor(d.msg.byEmail)
	if err := c.Prefix(ese.Int(mbx), ese.Int(email)); err != nil {
		return false, err
	}
	ok, err := c.First()
	for ; ok && err == nil; ok, err = c.Next() {
		at := FolderID(c.Row().Int(d.msg.fid))
		if at == fid || fid == 0 && at != recoverableFolder {
			return true, nil
		}
	}
	return false, err
}

// tombKind tells why something is gone (mail.md 19).
type tombKind uint8

const (
	tombDeleted   tombKind = iota + 1 // the e-mail is gone
	tombMoved                         // it has a new place
	tombPlacement                     // other folders still hold it
	tombFolder                        // a folder is gone
)

// tomb is a row of Tomb.
type tomb struct {
	kind      tombKind
	fid       FolderID
	uid       UID
	email     EmailID
	createdCN CN
}

func (o *op) insertTomb(st *boxState, cn CN, tb tomb) error {
	t := &st.d.tomb
	return o.tx.Insert(t.t.NewRow().Set(t.mbx, ese.Int(st.mbx)).Set(t.cn, ese.Int(cn)).
		Set(t.fid, ese.Int(tb.fid)).Set(t.uid, ese.Int(tb.uid)).Set(t.email, ese.Int(tb.email)).
		Set(t.kind, ese.Int(tb.kind)).Set(t.createdCN, ese.Int(tb.createdCN)).
		Set(t.at, ese.Int(millis(o.s.o.Now()))))
}

// scan calls fn for the rows of a folder whose UIDs lie in the ranges, ascending, until fn
// returns false.
func (d *database) scan(
	tx *ese.Tx, mbx uint32, fid FolderID, ranges []UIDRange, fn func(*ese.RowView) (bool, error),
) error {
	c := tx.Cursor(d.msg.t.Primary())
	if err := c.Prefix(ese.Int(mbx), ese.Int(fid)); err != nil {
		return err
	}
	for _, r := range ranges {
		ok, err := c.Seek(ese.Int(mbx), ese.Int(fid), ese.Int(r.First))
		for ; ok && err == nil; ok, err = c.Next() {
			if UID(c.Row().Int(d.msg.uid)) > r.Last {
				break
			}
			more, err := fn(c.Row())
			if err != nil || !more {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// clip leaves the part of the ranges at or after from.
func clip(ranges []UIDRange, from UID) []UIDRange {
	for len(ranges) > 0 && ranges[0].Last < from {
		ranges = ranges[1:]
	}
	if len(ranges) == 0 || ranges[0].First >= from {
		return ranges
	}
	out := append([]UIDRange(nil), ranges...)
	out[0].First = from
	return out
}

// messages reads at most limit rows of the ranges with all of the flags set. next is where
// to go on, 0 at the end.
func (o *op) messages(
	st *boxState, fid FolderID, ranges []UIDRange, flags Flags, limit int,
) (rows []placement, next UID, err error) {
	t := &st.d.msg
	err = st.d.scan(o.tx, st.mbx, fid, ranges, func(v *ese.RowView) (bool, error) {
		if len(rows) == limit {
			next = UID(v.Int(t.uid))
			return false, nil
		}
		if Flags(v.Int(t.flags))&flags == flags {
			rows = append(rows, placement{})
			rows[len(rows)-1].read(t, v)
		}
		return true, nil
	})
	return rows, next, err
}
