package store

import (
	"crypto/rand"
	"fmt"
	"math"

	"pillarbox/ese"
)

// After damage rows may be there whose folder or mailbox is not: nobody is shown them. Here these
// are made again.

// orphanMailboxes makes the rows of mailboxes that folders or messages belong to: their counters
// are mended with the mailbox's own check. Nobody knows whose they were, so they have no owner.
func (v *verifier) orphanMailboxes(d *database) error {
	var lost []uint32
	err := v.s.in.View(func(tx *ese.Tx) error {
		for _, x := range []struct {
			t   *ese.Table
			mbx *ese.Column
		}{{d.folder.t, d.folder.mbx}, {d.msg.t, d.msg.mbx}} {
			c := tx.Cursor(x.t.Primary())
			ok, err := c.First()
			for ; ok && err == nil; ok, err = c.Seek(ese.Int(c.Row().Int(x.mbx) + 1)) {
				mbx := uint32(c.Row().Int(x.mbx))
				if len(lost) > 0 && lost[len(lost)-1] >= mbx {
					continue
				}
				var row ese.RowView
				var buf []byte
				there, err := tx.Get(d.mailbox.t, &row, &buf, ese.Int(mbx))
				if err != nil {
					return err
				}
				if !there {
					lost = append(lost, mbx)
				}
				if mbx == math.MaxUint32 {
					break
				}
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	for _, mbx := range lost {
		if err != nil {
			return err
		}
		f := IntegrityFinding{
			Test: FoldersTest, Place: fmt.Sprintf("mailbox number %d", mbx),
			Reason: "its row is missing, and folders or messages belong to it",
		}
		if v.fix {
			f.Mended = fmt.Sprintf("made again, without owner, as %q", lostMailbox(mbx))
			err = v.makeMailbox(d, mbx)
		}
		v.add(f)
	}
	return err
}

// lostMailbox is the last address of a mailbox that was made again.
func lostMailbox(mbx uint32) string { return fmt.Sprintf("lost mailbox %d", mbx) }

func (v *verifier) makeMailbox(d *database, mbx uint32) error {
	var id MailboxID
	_, _ = rand.Read(id[:]) // never fails (crypto/rand)
	t, now := &d.mailbox, v.s.o.Now()
	return v.s.in.Update(v.ctx, func(tx *ese.Tx) error {
		row := t.t.NewRow().Set(t.mbx, ese.Int(mbx)).Set(t.guid, ese.Bytes(id[:])).
			Set(t.kind, ese.Int(0)).Set(t.created, ese.Int(millis(now))).
			Set(t.incarnation, ese.Int(now.Unix())).Set(t.tombsFloor, ese.Int(0)).
			Set(t.disconnected, ese.Int(millis(now))).Set(t.address, ese.String(lostMailbox(mbx)))
		(&mailboxRow{nextKeyword: 1}).counters(t, row)
		return tx.Insert(row)
	})
}

// standard makes the folders again that every mailbox needs: those that hold all others, and INBOX.
func (x *exam) standard() {
	for _, f := range []folderRow{
		{fid: rootFolder, name: "root", bits: folderHidden},
		{fid: ipmFolder, parent: rootFolder, name: "ipm", bits: folderHidden},
	} {
		if x.folders[f.fid] == nil {
			x.remake(&f, counts{}, 0, 0)
		}
	}
	for _, f := range x.folders {
		if f.role == RoleInbox || f.parent == ipmFolder && f.name == inboxName {
			return
		}
	}
	inbox := standardFolders()[0]
	if x.folders[inbox.fid] == nil {
		n, last, highest, err := x.recount(inbox.fid)
		if err == nil {
			x.remake(&folderRow{fid: inbox.fid, parent: ipmFolder, name: inbox.name, role: inbox.role}, n,
				last, highest)
		}
	}
}

// orphans makes the folders again that messages belong to.
func (x *exam) orphans() error {
	t := &x.d.msg
	var lost []FolderID
	c := x.tx.Cursor(t.t.Primary())
	if err := c.Prefix(ese.Int(x.b.mbx)); err != nil {
		return err
	}
	ok, err := c.First()
	for ; ok && err == nil; ok, err = c.Seek(ese.Int(x.b.mbx), ese.Int(c.Row().Int(t.fid)+1)) {
		if fid := FolderID(c.Row().Int(t.fid)); x.folders[fid] == nil {
			lost = append(lost, fid)
		}
	}
	for _, fid := range lost {
		if err != nil {
			return err
		}
		var n counts
		var last UID
		var highest CN
		if n, last, highest, err = x.recount(fid); err == nil {
			x.remake(x.likely(fid), n, last, highest)
		}
	}
	return err
}

// likely is what a folder was that has no row any more.
func (x *exam) likely(fid FolderID) *folderRow {
	if fid == recoverableFolder {
		return &folderRow{fid: fid, parent: rootFolder, name: "recoverable", bits: folderHidden}
	}
	f := &folderRow{fid: fid, parent: ipmFolder, name: fmt.Sprintf("Lost %d", fid)}
	for _, s := range standardFolders() {
		if s.fid != fid {
			continue
		}
		f.name, f.role = s.name, s.role
		for _, other := range x.folders {
			if other.role == f.role {
				f.role = RoleNone
			}
		}
	}
	for _, other := range x.folders {
		if other.parent == f.parent && other.name == f.name {
			f.name = fmt.Sprintf("Lost %d", fid)
		}
	}
	return f
}

// recount reads what a folder holds.
func (x *exam) recount(fid FolderID) (n counts, last UID, highest CN, err error) {
	err = x.v.each(x.tx, x.d.msg.t, func(v *ese.RowView) error {
		var p placement
		p.read(&x.d.msg, v)
		n.add(p.flags, p.size, 1)
		last, highest = max(last, p.uid), max(highest, p.modseq)
		return nil
	}, ese.Int(x.b.mbx), ese.Int(fid))
	return n, last, highest, err
}

// remake reports a folder that is missing, and goes on as if it were there. Made again it has a new
// UIDVALIDITY: nobody knows which UIDs it had given.
func (x *exam) remake(f *folderRow, n counts, last UID, highest CN) {
	x.fault(FoldersTest, fmt.Sprintf("folder %d", f.fid), "its row is missing, %d messages belong to it", n.count).
		cure(fmt.Sprintf("made again as %q", f.name), func(o *op, st *boxState) error {
			row := *f
			if err := o.insertFolder(st, &row, o.s.o.Now()); err != nil {
				return err
			}
			made, err := o.folder(st, f.fid)
			if err != nil {
				return err
			}
			made.counts, made.uidNext = n, last+1
			made.changed(highest)
			return nil
		})
	if f.fid != recoverableFolder {
		x.total.count += n.count
		x.total.size += n.size
	}
	x.cn, x.id = max(x.cn, highest), max(x.id, int64(f.fid))
	x.folders[f.fid] = &folderRow{
		fid: f.fid, parent: f.parent, name: f.name, role: f.role, bits: f.bits, counts: n,
		uidNext: last + 1, highest: highest, made: true,
	}
}
