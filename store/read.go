package store

import (
	"slices"
	"time"

	"pillarbox/ese"
)

// FolderSnapshot is a folder with its messages at one moment.
type FolderSnapshot struct {
	Folder
	UIDs        []UID    // ascending
	FirstUnseen UID      // 0 when there is none
	Keywords    []string // all in use in the mailbox
}

// Snapshot reads which messages a folder holds.
func (m *Mailbox) Snapshot(fid FolderID) (*FolderSnapshot, error) {
	out := &FolderSnapshot{}
	err := m.view("select folder of", func(r *reader) error {
		f, err := r.messageFolder(fid)
		if err != nil {
			return err
		}
		out.Folder = f.export(f.name, false)
		out.UIDs = make([]UID, 0, f.count)
		t := &m.b.d.msg
		all := []UIDRange{{1, ^UID(0)}}
		err = m.b.d.scan(r.tx, m.b.mbx, fid, all, func(v *ese.RowView) (bool, error) {
			uid := UID(v.Int(t.uid))
			out.UIDs = append(out.UIDs, uid)
			if out.FirstUnseen == 0 && Flags(v.Int(t.flags))&FlagSeen == 0 {
				out.FirstUnseen = uid
			}
			return true, nil
		})
		if err == nil {
			out.Keywords, err = m.b.d.loadKeywords(r.tx, m.b.mbx)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (r *reader) messageFolder(fid FolderID) (*folderRow, error) {
	f, err := r.folder(fid)
	if err == nil && f.bits&(folderHidden|folderNoSelect) != 0 {
		return nil, ErrNoFolder
	}
	return f, err
}

// Changes is what happened in a folder between two change numbers.
type Changes struct {
	// HighestCN is the later state.
	HighestCN   CN
	UIDValidity uint32
	// Added and Expunged are ascending. What came and went is in neither.
	Added, Expunged []UID
	// Flags are messages that were there before, ascending, with their present flags.
	Flags []FlagState
	// Keywords are all keywords of the mailbox.
	Keywords []string
}

// Changes works out what happened in a folder after the change number since, from durable
// state. ErrTooOld when that is no longer known.
func (m *Mailbox) Changes(fid FolderID, since CN) (*Changes, error) {
	out := &Changes{}
	err := m.view("read changes of", func(r *reader) error {
		f, err := r.messageFolder(fid)
		if err != nil {
			return err
		}
		out.HighestCN, out.UIDValidity = f.highest, f.uidValidity
		if out.Keywords, err = r.words(1); err != nil || f.highest <= since {
			return err
		}
		if err := r.changed(fid, since, out); err != nil {
			return err
		}
		// Flags may have named a new keyword.
		if out.Keywords, err = r.words(1); err != nil {
			return err
		}
		if since < f.tombsFloor {
			return ErrTooOld
		}
		return r.expunged(fid, since, out)
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(out.Added)
	slices.Sort(out.Expunged)
	slices.SortFunc(out.Flags, func(a, b FlagState) int { return int(int64(a.UID) - int64(b.UID)) })
	return out, nil
}

// changed reads the messages with a change number above since.
func (r *reader) changed(fid FolderID, since CN, out *Changes) error {
	b := r.m.b
	c := r.tx.Cursor(b.d.msg.byModSeq)
	if err := c.Prefix(ese.Int(b.mbx), ese.Int(fid)); err != nil {
		return err
	}
	ok, err := c.Seek(ese.Int(b.mbx), ese.Int(fid), ese.Int(since+1))
	for ; ok && err == nil; ok, err = c.Next() {
		var p placement
		p.read(&b.d.msg, c.Row())
		if p.createdCN > since {
			out.Added = append(out.Added, p.uid)
			continue
		}
		names, err := r.names(&p)
		if err != nil {
			return err
		}
		out.Flags = append(out.Flags, FlagState{p.uid, p.flags, names, p.modseq})
	}
	return err
}

// expunged reads the tombstones above since of messages that were there at since.
func (r *reader) expunged(fid FolderID, since CN, out *Changes) error {
	b := r.m.b
	t := &b.d.tomb
	c := r.tx.Cursor(t.byFolder)
	if err := c.Prefix(ese.Int(b.mbx), ese.Int(fid)); err != nil {
		return err
	}
	ok, err := c.Seek(ese.Int(b.mbx), ese.Int(fid), ese.Int(since+1))
	for ; ok && err == nil; ok, err = c.Next() {
		v := c.Row()
		if tombKind(v.Int(t.kind)) != tombFolder && CN(v.Int(t.createdCN)) <= since {
			out.Expunged = append(out.Expunged, UID(v.Int(t.uid)))
		}
	}
	return err
}

// Message is a message in a folder.
type Message struct {
	UID             UID
	EmailID         EmailID
	ThreadID        ThreadID
	CN, CreatedCN   CN
	Flags           Flags
	Keywords        []string
	Received, Saved time.Time
	Size            int64
	// Structure is the blob of mail.Structure, if wanted.
	Structure []byte
	// Body reads the message, if wanted. Whoever gets it closes it; until then the bytes
	// stay, even if the message is expunged.
	Body *ese.StreamReader
}

// Want tells Messages what to read.
type Want struct {
	Structure, Body bool
	// ChangedSince leaves out messages whose number is not greater.
	ChangedSince CN
	// Limit is how many messages one call returns. Default: 100.
	Limit int
}

// maxStructures bounds the bytes of structures that one call of Messages returns.
const maxStructures = 1 << 20

// Messages reads messages of the ranges in UID order, at most a batch of them. next is the UID
// to go on from with another call, 0 at the end; each call is a snapshot of its own. On an
// error nothing is open.
func (m *Mailbox) Messages(
	fid FolderID, ranges []UIDRange, want Want,
) (out []Message, next UID, err error) {
	if want.Limit <= 0 {
		want.Limit = 100
	}
	structures := 0
	err = m.view("read messages of", func(r *reader) error {
		if _, err := r.messageFolder(fid); err != nil {
			return err
		}
		return m.b.d.scan(r.tx, m.b.mbx, fid, ranges, func(v *ese.RowView) (bool, error) {
			if CN(v.Int(m.b.d.msg.modseq)) <= want.ChangedSince {
				return true, nil
			}
			if len(out) >= want.Limit || structures > maxStructures {
				next = UID(v.Int(m.b.d.msg.uid))
				return false, nil
			}
			msg, err := r.message(v, &want)
			if err == nil {
				out = append(out, msg)
				structures += len(msg.Structure)
			}
			return true, err
		})
	})
	if err != nil {
		for i := range out {
			if out[i].Body != nil {
				_ = out[i].Body.Close()
			}
		}
		return nil, 0, err
	}
	return out, next, nil
}

func (r *reader) message(v *ese.RowView, want *Want) (Message, error) {
	var p placement
	p.read(&r.m.b.d.msg, v)
	names, err := r.names(&p)
	msg := Message{
		UID: p.uid, EmailID: p.email, ThreadID: p.thread, CN: p.modseq, CreatedCN: p.createdCN,
		Flags: p.flags, Keywords: names, Received: fromMillis(p.received),
		Saved: fromMillis(p.saved), Size: p.size,
	}
	if err != nil || !want.Structure && !want.Body {
		return msg, err
	}
	d := r.m.b.d
	ok, err := r.tx.Get(d.content.t, &r.row, &r.buf, ese.Int(p.cid))
	if err == nil && !ok {
		err = &Damage{"Content", "", "row of a message is missing"}
	}
	if err == nil && want.Structure {
		msg.Structure, err = r.row.Blob(d.content.structure, nil)
	}
	if err == nil && want.Body {
		msg.Body, err = r.tx.OpenStream(d.db, ese.StreamID(r.row.Int(d.content.stream)))
	}
	return msg, err
}

// Open opens the bytes of a message. The caller closes them.
func (m *Mailbox) Open(fid FolderID, uid UID) (*ese.StreamReader, error) {
	msgs, _, err := m.Messages(fid, []UIDRange{{uid, uid}}, Want{Body: true, Limit: 1})
	if err != nil {
		return nil, err
	}
	if len(msgs) == 0 {
		return nil, ErrNoMessage
	}
	return msgs[0].Body, nil
}
