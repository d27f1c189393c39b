package store

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"pillarbox/ese"
)

// Limits of folder names, in bytes. The whole path must be a key of Sub on 4 KiB pages.
const (
	maxFolderName = 255
	maxFolderPath = 800
	inboxName     = "INBOX"
)

// folderBits are states of a folder.
type folderBits uint32

const (
	folderHidden   folderBits = 1 << iota // not shown to mail clients
	folderNoSelect                        // deleted, but others lie below it
)

// folderRow is a row of Folder.
type folderRow struct {
	fid, parent            FolderID
	name                   string
	role                   Role
	bits                   folderBits
	created                int64
	createdCN, cn, highest CN
	tombsFloor             CN // changes below it are forgotten
	uidValidity            uint32
	uidNext                UID
	counts
	dirty, gone bool
	made        bool // by a check that mends: it is not stored yet
}

// counts are a folder's counters.
type counts struct {
	count, unread, deleted, size int64
}

// add counts a message with these flags n times (n is 1 or -1).
func (c *counts) add(flags Flags, size, n int64) {
	c.count += n
	c.size += n * size
	if flags&FlagSeen == 0 {
		c.unread += n
	}
	if flags&FlagDeleted != 0 {
		c.deleted += n
	}
}

func (f *folderRow) read(t *folderTable, v *ese.RowView) {
	*f = folderRow{
		fid: FolderID(v.Int(t.fid)), parent: FolderID(v.Int(t.parent)), name: v.String(t.name),
		role: Role(v.Int(t.role)), bits: folderBits(v.Int(t.bits)), created: v.Int(t.created),
		createdCN: CN(v.Int(t.createdCN)), cn: CN(v.Int(t.cn)), highest: CN(v.Int(t.highest)),
		uidValidity: uint32(v.Int(t.uidValidity)), uidNext: UID(v.Int(t.uidNext)),
		tombsFloor: CN(later(v, t.tombsFloor)), counts: counts{
			count: v.Int(t.count), unread: v.Int(t.unread),
			deleted: v.Int(t.deleted), size: v.Int(t.size),
		},
	}
}

// values sets all columns but the key.
func (f *folderRow) values(t *folderTable, row *ese.Row) {
	row.Set(t.parent, ese.Int(f.parent)).Set(t.name, ese.String(f.name)).
		Set(t.role, ese.Int(f.role)).Set(t.bits, ese.Int(f.bits)).
		Set(t.created, ese.Int(f.created)).Set(t.createdCN, ese.Int(f.createdCN)).
		Set(t.cn, ese.Int(f.cn)).Set(t.highest, ese.Int(f.highest)).
		Set(t.uidValidity, ese.Int(f.uidValidity)).Set(t.uidNext, ese.Int(f.uidNext)).
		Set(t.count, ese.Int(f.count)).Set(t.unread, ese.Int(f.unread)).
		Set(t.deleted, ese.Int(f.deleted)).Set(t.size, ese.Int(f.size))
	if f.tombsFloor != 0 {
		row.Set(t.tombsFloor, ese.Int(f.tombsFloor))
	}
}

// changed marks a change of the folder's messages.
func (f *folderRow) changed(cn CN) {
	f.highest, f.dirty = max(f.highest, cn), true
}

// insertFolder stores a new folder: its numbers are taken here.
func (o *op) insertFolder(st *boxState, f *folderRow, now time.Time) error {
	if f.fid == 0 {
		f.fid = FolderID(st.nextID())
	}
	f.created, f.uidNext = millis(now), 1
	f.createdCN = st.nextCN()
	f.cn, f.highest = f.createdCN, f.createdCN
	f.uidValidity = st.nextUIDValidity()
	t := &st.d.folder
	row := t.t.NewRow().Set(t.mbx, ese.Int(st.mbx)).Set(t.fid, ese.Int(f.fid))
	f.values(t, row)
	return o.tx.Insert(row)
}

func (o *op) writeFolder(st *boxState, f *folderRow) error {
	if f.gone {
		return o.tx.Delete(st.d.folder.t, ese.Int(st.mbx), ese.Int(f.fid))
	}
	t := &st.d.folder
	row := t.t.NewRow()
	f.values(t, row)
	return o.tx.Update(row, ese.Int(st.mbx), ese.Int(f.fid))
}

// splitPath checks a folder name and takes it apart (mail.md 22).
func splitPath(name string) ([]string, error) {
	if !utf8.ValidString(name) || len(name) > maxFolderPath {
		return nil, ErrBadName
	}
	name = norm.NFC.String(name)
	if len(name) > maxFolderPath || strings.ContainsFunc(name, unicode.IsControl) {
		return nil, ErrBadName
	}
	parts := strings.Split(name, "/")
	for i, p := range parts {
		if p == "" || len(p) > maxFolderName {
			return nil, ErrBadName
		}
		if i == 0 && strings.EqualFold(p, inboxName) {
			parts[0] = inboxName
		}
	}
	return parts, nil
}

// childFolder finds a folder by parent and name.
func (d *database) childFolder(
	tx *ese.Tx, mbx uint32, parent FolderID, name string,
) (FolderID, bool, error) {
	c := tx.Cursor(d.folder.byName)
	ok, err := c.Find(ese.Int(mbx), ese.Int(parent), ese.String(name))
	if err != nil || !ok {
		return 0, false, err
	}
	return FolderID(c.Row().Int(d.folder.fid)), true, nil
}

// hasChildren tells whether any folder lies below fid.
func (d *database) hasChildren(tx *ese.Tx, mbx uint32, fid FolderID) (bool, error) {
	c := tx.Cursor(d.folder.byName)
	if err := c.Prefix(ese.Int(mbx), ese.Int(fid)); err != nil {
		return false, err
	}
	return c.First()
}

// walk goes down a path as far as it exists and returns the last folder and how many parts
// were found.
func (d *database) walk(
	tx *ese.Tx, mbx uint32, parts []string,
) (fid FolderID, found int, err error) {
	fid = ipmFolder
	for i, p := range parts {
		next, ok, err := d.childFolder(tx, mbx, fid, p)
		if err != nil || !ok {
			return fid, i, err
		}
		fid = next
	}
	return fid, len(parts), nil
}

// Folder is the state of a folder.
type Folder struct {
	ID   FolderID
	Name string // the whole path, NFC, separated by "/"
	Role Role
	// NoSelect: the folder only holds others.
	NoSelect    bool
	HasChildren bool
	// UIDValidity, UIDNext and HighestCN are as IMAP shows them.
	UIDValidity                     uint32
	UIDNext                         UID
	HighestCN                       CN
	Messages, Unseen, Deleted, Size int64
}

func (f *folderRow) export(path string, children bool) Folder {
	return Folder{
		ID: f.fid, Name: path, Role: f.role, NoSelect: f.bits&folderNoSelect != 0,
		HasChildren: children, UIDValidity: f.uidValidity, UIDNext: f.uidNext,
		HighestCN: f.highest, Messages: f.count, Unseen: f.unread, Deleted: f.deleted,
		Size: f.size,
	}
}

// Folders returns all folders that mail clients see, INBOX first, then by name.
func (m *Mailbox) Folders() ([]Folder, error) {
	rows := make(map[FolderID]*folderRow)
	err := m.view("list folders of", func(r *reader) error {
		c := r.tx.Cursor(m.b.d.folder.t.Primary())
		if err := c.Prefix(ese.Int(m.b.mbx)); err != nil {
			return err
		}
		ok, err := c.First()
		for ; ok && err == nil; ok, err = c.Next() {
			f := &folderRow{}
			f.read(&m.b.d.folder, c.Row())
			rows[f.fid] = f
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	parents := make(map[FolderID]bool)
	for _, f := range rows {
		parents[f.parent] = true
	}
	var out []Folder
	for _, f := range rows {
		if path, ok := pathOf(rows, f); ok {
			out = append(out, f.export(path, parents[f.fid]))
		}
	}
	slices.SortFunc(out, compareFolders)
	return out, nil
}

func compareFolders(a, b Folder) int {
	if (a.Role == RoleInbox) != (b.Role == RoleInbox) {
		if a.Role == RoleInbox {
			return -1
		}
		return 1
	}
	return strings.Compare(a.Name, b.Name)
}

// pathOf builds a folder's path. ok is false for hidden folders.
func pathOf(rows map[FolderID]*folderRow, f *folderRow) (path string, ok bool) {
	var parts []string
	for range len(rows) { // a loop in damaged rows ends
		if f == nil || f.bits&folderHidden != 0 {
			break
		}
		parts = append(parts, f.name)
		if f.parent == ipmFolder {
			slices.Reverse(parts)
			return strings.Join(parts, "/"), true
		}
		f = rows[f.parent]
	}
	return "", false
}

// Folder reads the state of the folder with a name; ErrNoFolder when there is none.
func (m *Mailbox) Folder(name string) (Folder, error) {
	parts, err := splitPath(name)
	if err != nil {
		return Folder{}, ErrNoFolder
	}
	var out Folder
	err = m.view("find folder in", func(r *reader) error {
		fid, found, err := m.b.d.walk(r.tx, m.b.mbx, parts)
		if err == nil && found < len(parts) {
			err = ErrNoFolder
		}
		if err != nil {
			return err
		}
		f, err := r.folder(fid)
		if err != nil {
			return err
		}
		children, err := m.b.d.hasChildren(r.tx, m.b.mbx, fid)
		out = f.export(strings.Join(parts, "/"), children)
		return err
	})
	return out, err
}

// folder reads a folder's row.
func (r *reader) folder(fid FolderID) (*folderRow, error) {
	b := r.m.b
	ok, err := r.tx.Get(b.d.folder.t, &r.row, &r.buf, ese.Int(b.mbx), ese.Int(fid))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, ErrNoFolder
	}
	f := &folderRow{}
	f.read(&b.d.folder, &r.row)
	return f, nil
}

// CreateFolder makes a folder and those above it that are missing. A role is taken from no
// other folder: ErrExists when one has it.
func (m *Mailbox) CreateFolder(ctx context.Context, name string, role Role) (FolderID, error) {
	parts, err := splitPath(name)
	if err != nil {
		return 0, err
	}
	var fid FolderID
	err = m.s.write(ctx, []*box{m.b}, func(o *op) (err error) {
		st := o.state(m.b)
		if role != RoleNone {
			if err := o.roleFree(st, role); err != nil {
				return err
			}
		}
		fid, err = o.createPath(st, parts, role)
		return err
	})
	return fid, err
}

// createPath makes what is missing of a path; the last part must be.
func (o *op) createPath(st *boxState, parts []string, role Role) (FolderID, error) {
	fid, found, err := st.d.walk(o.tx, st.mbx, parts)
	if err != nil {
		return 0, err
	}
	if found == len(parts) {
		return fid, o.revive(st, fid, role)
	}
	for i := found; i < len(parts); i++ {
		f := &folderRow{parent: fid, name: parts[i]}
		if i == len(parts)-1 {
			f.role = role
		}
		if err := o.insertFolder(st, f, o.s.o.Now()); err != nil {
			return 0, err
		}
		fid = f.fid
	}
	return fid, nil
}

// revive makes a name that only held others a folder again, with a new UIDVALIDITY.
func (o *op) revive(st *boxState, fid FolderID, role Role) error {
	f, err := o.folder(st, fid)
	if err != nil {
		return err
	}
	if f.bits&folderNoSelect == 0 {
		return ErrExists
	}
	f.bits &^= folderNoSelect
	f.role, f.uidValidity, f.uidNext = role, st.nextUIDValidity(), 1
	f.cn = st.nextCN()
	f.changed(f.cn)
	return nil
}

func (o *op) roleFree(st *boxState, role Role) error {
	c := o.tx.Cursor(st.d.folder.t.Primary())
	if err := c.Prefix(ese.Int(st.mbx)); err != nil {
		return err
	}
	ok, err := c.First()
	for ; ok && err == nil; ok, err = c.Next() {
		if Role(c.Row().Int(st.d.folder.role)) == role {
			return ErrExists
		}
	}
	return err
}

// RenameFolder gives a folder, with all below it, another path. Renaming INBOX moves its
// messages to the new name and leaves an empty INBOX; what lies below INBOX stays (RFC 3501
// 6.3.5).
func (m *Mailbox) RenameFolder(ctx context.Context, from, to string) error {
	src, err := splitPath(from)
	if err != nil {
		return ErrNoFolder
	}
	dst, err := splitPath(to)
	if err != nil {
		return err
	}
	inbox := len(src) == 1 && src[0] == inboxName
	if len(dst) > len(src) && slices.Equal(dst[:len(src)], src) && !inbox {
		return ErrReserved
	}
	return m.s.write(ctx, []*box{m.b}, func(o *op) error {
		st := o.state(m.b)
		fid, found, err := st.d.walk(o.tx, st.mbx, src)
		if err == nil && found < len(src) {
			err = ErrNoFolder
		}
		if err != nil {
			return err
		}
		if _, n, err := st.d.walk(o.tx, st.mbx, dst); err != nil || n == len(dst) {
			if err == nil {
				err = ErrExists
			}
			return err
		}
		return o.rename(st, fid, dst)
	})
}

func (o *op) rename(st *boxState, fid FolderID, dst []string) error {
	f, err := o.folder(st, fid)
	if err != nil {
		return err
	}
	if f.role == RoleInbox {
		// The row takes a name that cannot be a client's until its new parent is known:
		// that may be the new INBOX.
		if err := o.replaceInbox(st, f); err != nil {
			return err
		}
	}
	up := dst[:len(dst)-1]
	parent, found, err := st.d.walk(o.tx, st.mbx, up)
	if err == nil && found < len(up) {
		parent, err = o.createPath(st, up, RoleNone)
	}
	if err != nil {
		return err
	}
	f.parent, f.name, f.dirty = parent, dst[len(dst)-1], true
	f.cn = st.nextCN()
	f.changed(f.cn)
	return nil
}

// replaceInbox makes the new INBOX and hands it what lay below the old one.
func (o *op) replaceInbox(st *boxState, old *folderRow) error {
	old.role, old.name = RoleNone, "\x00"
	if err := o.writeFolder(st, old); err != nil {
		return err
	}
	inbox := &folderRow{parent: ipmFolder, name: inboxName, role: RoleInbox}
	if err := o.insertFolder(st, inbox, o.s.o.Now()); err != nil {
		return err
	}
	var children []FolderID
	c := o.tx.Cursor(st.d.folder.byName)
	if err := c.Prefix(ese.Int(st.mbx), ese.Int(old.fid)); err != nil {
		return err
	}
	ok, err := c.First()
	for ; ok && err == nil; ok, err = c.Next() {
		children = append(children, FolderID(c.Row().Int(st.d.folder.fid)))
	}
	for _, fid := range children {
		if err != nil {
			return err
		}
		var f *folderRow
		if f, err = o.folder(st, fid); err == nil {
			f.parent, f.cn = inbox.fid, st.nextCN()
			f.changed(f.cn)
		}
	}
	return err
}

// DeleteFolder removes a folder and its messages. A folder with others below it stays as a
// name that cannot be selected (RFC 3501 6.3.4).
func (m *Mailbox) DeleteFolder(ctx context.Context, name string) error {
	f, err := m.Folder(name)
	if err != nil {
		return err
	}
	if f.Role == RoleInbox || f.NoSelect && f.HasChildren {
		return ErrReserved
	}
	// In batches of bounded size; the last also removes the folder (mail.md 21).
	for done := false; !done; {
		err := m.s.write(ctx, []*box{m.b}, func(o *op) (err error) {
			done, err = o.emptyAndDelete(o.state(m.b), f.ID)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// emptyAndDelete removes one batch of a folder's messages, and the folder when none is left.
func (o *op) emptyAndDelete(st *boxState, fid FolderID) (done bool, err error) {
	f, err := o.folder(st, fid)
	if err != nil {
		return false, err
	}
	all := []UIDRange{{1, ^UID(0)}}
	rows, _, err := o.messages(st, fid, all, 0, o.s.o.BatchMessages)
	if err != nil {
		return false, err
	}
	for i := range rows {
		if err := o.remove(st, f, &rows[i], tombDeleted); err != nil {
			return false, err
		}
	}
	if f.count > 0 {
		return false, nil
	}
	children, err := st.d.hasChildren(o.tx, st.mbx, fid)
	if err != nil {
		return false, err
	}
	cn := st.nextCN()
	f.cn = cn
	f.changed(cn)
	if children {
		f.bits |= folderNoSelect
		f.role = RoleNone
		return true, nil
	}
	f.gone = true
	if err := o.rememberPath(st, f); err != nil {
		return false, err
	}
	return true, o.insertTomb(st, cn, tomb{kind: tombFolder, fid: fid, createdCN: f.createdCN})
}
