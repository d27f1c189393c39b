package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"pillarbox/ese"
	"pillarbox/mail"
)

// What is deleted moves to a hidden folder of the mailbox (mail.md 13): it takes a uid there,
// remembers the folder it was in, and Msg.saved is the time of the deletion.

// Recoverable is a message that was deleted and is kept.
type Recoverable struct {
	// ID names it among the recoverable ones of its mailbox.
	ID UID
	// Folder is the path of the folder that it was deleted from.
	Folder            string
	Deleted, Received time.Time
	Size              int64
	Flags             Flags
	From, Subject     string // decoded
	MessageID         string
}

// dispose keeps a message that was taken out of a folder, or lets its content go.
func (o *op) dispose(st *boxState, f *folderRow, p *placement) error {
	if f.fid == recoverableFolder || !st.row.keeps(&o.s.o) {
		return st.d.changeRefs(o.tx, p.cid, -1, 0)
	}
	d, err := o.recoverables(st)
	if err != nil {
		return err
	}
	q := *p
	q.flags, q.origin = p.flags&^FlagDeleted, f.fid
	return o.insert(st, d, &q)
}

// recoverables is the folder of recoverable messages, which is made when it is missing.
func (o *op) recoverables(st *boxState) (*folderRow, error) {
	f, err := o.folder(st, recoverableFolder)
	if !errors.Is(err, ErrNoFolder) {
		return f, err
	}
	err = o.insertFolder(st, &folderRow{
		fid: recoverableFolder, parent: rootFolder, name: "recoverable", bits: folderHidden,
	}, o.s.o.Now())
	if err != nil {
		return nil, err
	}
	return o.folder(st, recoverableFolder)
}

// release takes a message out of the recoverable ones. Nobody follows their changes, so the
// floor rises in the place of a tombstone.
func (o *op) release(st *boxState, f *folderRow, p *placement) error {
	f.tombsFloor = max(f.tombsFloor, p.modseq)
	return o.take(st, f, p)
}

// rememberPath notes where a folder was that goes, for what was deleted from it.
func (o *op) rememberPath(st *boxState, f *folderRow) error {
	if _, err := o.folder(st, recoverableFolder); err != nil {
		if errors.Is(err, ErrNoFolder) {
			return nil
		}
		return err
	}
	parts := []string{f.name}
	for at := f.parent; at != ipmFolder && len(parts) < maxFolderPath; {
		up, err := o.folder(st, at)
		if errors.Is(err, ErrNoFolder) {
			break
		}
		if err != nil {
			return err
		}
		parts, at = append(parts, up.name), up.parent
	}
	slices.Reverse(parts)
	t := &st.d.gone
	return o.tx.Insert(t.t.NewRow().Set(t.mbx, ese.Int(st.mbx)).Set(t.fid, ese.Int(f.fid)).
		Set(t.at, ese.Int(millis(o.s.o.Now()))).Set(t.path, ese.String(strings.Join(parts, "/"))))
}

// gonePath is the path that a folder had when it went, "" when it is not known.
func (d *database) gonePath(tx *ese.Tx, mbx uint32, fid FolderID) (string, error) {
	if d.gone.t == nil {
		return "", nil
	}
	var v ese.RowView
	var buf []byte
	ok, err := tx.Get(d.gone.t, &v, &buf, ese.Int(mbx), ese.Int(fid))
	if err != nil || !ok {
		return "", err
	}
	path, err := v.Blob(d.gone.path, nil)
	return string(path), err
}

// recoverable counts the recoverable messages of a mailbox.
func (d *database) recoverable(tx *ese.Tx, mbx uint32) (counts, error) {
	var v ese.RowView
	var buf []byte
	ok, err := tx.Get(d.folder.t, &v, &buf, ese.Int(mbx), ese.Int(recoverableFolder))
	if err != nil || !ok {
		return counts{}, err
	}
	var f folderRow
	f.read(&d.folder, &v)
	return f.counts, nil
}

// Recoverables lists recoverable messages from an id on, oldest deletion first, at most limit.
// next is where to go on, 0 at the end.
func (m *Mailbox) Recoverables(from UID, limit int) (out []Recoverable, next UID, err error) {
	paths := make(map[FolderID]string)
	err = m.view("read recoverable messages of", func(r *reader) error {
		b := m.b
		ranges := []UIDRange{{max(from, 1), ^UID(0)}}
		return b.d.scan(r.tx, b.mbx, recoverableFolder, ranges, func(v *ese.RowView) (bool, error) {
			if len(out) == limit {
				next = UID(v.Int(b.d.msg.uid))
				return false, nil
			}
			var p placement
			p.read(&b.d.msg, v)
			x, err := r.recoverable(&p)
			if err != nil {
				return false, err
			}
			path, ok := paths[p.origin]
			if !ok {
				if path, err = r.originPath(p.origin); err != nil {
					return false, err
				}
				paths[p.origin] = path
			}
			x.Folder = path
			out = append(out, x)
			return true, nil
		})
	})
	return out, next, err
}

// recoverable describes a recoverable message, but for its folder.
func (r *reader) recoverable(p *placement) (Recoverable, error) {
	x := Recoverable{
		ID: p.uid, Deleted: fromMillis(p.saved), Received: fromMillis(p.received), Size: p.size,
		Flags: p.flags,
	}
	t := &r.m.b.d.content
	ok, err := r.tx.Get(t.t, &r.row, &r.buf, ese.Int(p.cid))
	if err != nil || !ok {
		return x, err // isinteg tells of a content that is missing
	}
	blob, err := r.row.Blob(t.structure, nil)
	if err != nil {
		return x, err
	}
	if s, err := mail.Decode(blob); err == nil && s.Root.Envelope != nil {
		e := s.Root.Envelope
		x.From, x.Subject = mail.DecodeHeader(e.From), mail.DecodeHeader(e.Subject)
		x.MessageID = e.MessageID
	}
	return x, nil
}

// originPath is the path of a folder that messages were deleted from.
func (r *reader) originPath(fid FolderID) (string, error) {
	var parts []string
	for at := fid; len(parts) < maxFolderPath; {
		f, err := r.folder(at)
		if errors.Is(err, ErrNoFolder) && at == fid {
			return r.m.b.d.gonePath(r.tx, r.m.b.mbx, fid)
		}
		if err != nil {
			return "", err
		}
		parts = append(parts, f.name)
		if at = f.parent; at == ipmFolder || at == 0 {
			break
		}
	}
	slices.Reverse(parts)
	return strings.Join(parts, "/"), nil
}

// Undelete brings recoverable messages back into the folders that they were deleted from, or
// into one with that path; folders that are missing are made. Each gets a new UID, as IMAP
// demands, and keeps flags, keywords, date and identity. Ids that are no more among the
// recoverable ones are passed by, so it can be run again. On ErrQuota those before are back.
func (m *Mailbox) Undelete(ctx context.Context, ids []UID, into string) (restored int, err error) {
	var path []string
	if into != "" {
		if path, err = splitPath(into); err != nil {
			return 0, err
		}
	}
	for len(ids) > 0 {
		n := min(len(ids), m.s.o.BatchMessages)
		var u *undeletion
		err := m.s.write(ctx, []*box{m.b}, func(o *op) error {
			u = &undeletion{op: o, st: o.state(m.b), into: path, targets: make(map[FolderID]FolderID)}
			return u.batch(ids[:n])
		})
		if err != nil {
			return restored, fmt.Errorf("undelete: %w", err)
		}
		restored += u.restored
		if u.full {
			return restored, fmt.Errorf("undelete: %w", ErrQuota)
		}
		ids = ids[n:]
	}
	if restored > 0 {
		m.s.o.Logger.Info("messages undeleted", "mailbox", m.b.id.String(), "messages", restored)
	}
	return restored, nil
}

// undeletion is one transaction of Undelete.
type undeletion struct {
	*op
	st       *boxState
	into     []string
	targets  map[FolderID]FolderID // by the folder of the deletion
	restored int
	full     bool
}

func (u *undeletion) batch(ids []UID) error {
	from, err := u.folder(u.st, recoverableFolder)
	if errors.Is(err, ErrNoFolder) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, id := range ids {
		rows, _, err := u.messages(u.st, recoverableFolder, []UIDRange{{id, id}}, 0, 1)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			continue
		}
		if u.full = !u.st.row.room(1, rows[0].size); u.full {
			return nil
		}
		if err := u.one(from, &rows[0]); err != nil {
			return err
		}
		u.restored++
	}
	return nil
}

func (u *undeletion) one(from *folderRow, p *placement) error {
	to, err := u.target(p.origin)
	if err != nil {
		return err
	}
	if err := u.release(u.st, from, p); err != nil {
		return err
	}
	there, err := u.st.d.hasEmail(u.tx, u.st.mbx, p.email, to.fid)
	if err != nil {
		return err
	}
	q := *p
	if q.origin = 0; there {
		q.email = 0 // mail.md 16
	}
	return u.insert(u.st, to, &q)
}

// target is the folder to bring a message back to.
func (u *undeletion) target(origin FolderID) (*folderRow, error) {
	if fid, ok := u.targets[origin]; ok {
		return u.folder(u.st, fid)
	}
	path := u.into
	if path == nil {
		f, err := u.messageFolder(u.st, origin)
		if err == nil || !errors.Is(err, ErrNoFolder) {
			return f, err
		}
		if path, err = u.formerPath(origin); err != nil {
			return nil, err
		}
	}
	fid, err := u.reach(path)
	if err != nil {
		return nil, err
	}
	u.targets[origin] = fid
	return u.folder(u.st, fid)
}

// formerPath is where a folder was that is gone or only holds others.
func (u *undeletion) formerPath(fid FolderID) ([]string, error) {
	f, err := u.folder(u.st, fid)
	if err == nil && f.bits&folderNoSelect != 0 {
		rows := make(map[FolderID]*folderRow)
		for at := f; at.parent != 0 && len(rows) < maxFolderPath; {
			rows[at.fid] = at
			if at, err = u.folder(u.st, at.parent); err != nil {
				return nil, err
			}
		}
		if path, ok := pathOf(rows, f); ok {
			return strings.Split(path, "/"), nil
		}
	}
	if err != nil && !errors.Is(err, ErrNoFolder) {
		return nil, err
	}
	path, err := u.st.d.gonePath(u.tx, u.st.mbx, fid)
	if path == "" {
		path = inboxName
	}
	return strings.Split(path, "/"), err
}

// reach finds a folder that can hold messages by its path, and makes it when there is none.
func (u *undeletion) reach(path []string) (FolderID, error) {
	fid, found, err := u.st.d.walk(u.tx, u.st.mbx, path)
	if err != nil {
		return 0, err
	}
	if found == len(path) {
		if _, err := u.messageFolder(u.st, fid); !errors.Is(err, ErrNoFolder) {
			return fid, err
		}
	}
	return u.createPath(u.st, path, RoleNone)
}
