package store

import (
	"context"
	"encoding/hex"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"pillarbox/ese"
	"pillarbox/ese/inspect"
	"pillarbox/ese/offline"
	"pillarbox/mail"
)

// A repair names rows and streams (package ese/offline). Here they are named as what they were:
// messages, folders, mailboxes.

// LossKind is what was lost.
type LossKind string

// The kinds, in the order of the report.
const (
	LostMailbox    LossKind = "mailbox lost"    // its row: what is in it is there and shown to nobody
	LostFolder     LossKind = "folder lost"     // likewise
	LostMessage    LossKind = "message lost"    // from its folder
	DamagedMessage LossKind = "message damaged" // it is there, and its bytes are not those that came
	LostMessages   LossKind = "messages lost"   // Count of them, of which nothing else is known
	FoundMessage   LossKind = "message found"   // its bytes are whole and it is in no folder
	LostOther      LossKind = "other row lost"
)

// LossItem is one thing that was lost. What is not known is zero.
type LossItem struct {
	Kind    LossKind
	Mailbox MailboxID
	// Folder is its path, or as much as is known of it.
	Folder string
	UID    UID
	Count  int64
	// Received is when it came; Date, From, Subject and MessageID are of the message itself.
	Received, Date           time.Time
	From, Subject, MessageID string
	Size                     int64
	Reason                   string
}

// LossReport tells what a repair's loss means. It must be made before anything is mended: the
// counters of folders tell how many messages there were. Every message is read.
func (s *Store) LossReport(ctx context.Context, loss *offline.Loss) ([]LossItem, error) {
	d, err := s.lossDatabase(loss.File)
	if err != nil {
		return nil, fmt.Errorf("loss report: %w", err)
	}
	l := &lossReader{
		s: s, ctx: ctx, d: d, loss: loss, boxes: make(map[uint32]*lossBox),
		bad: make(map[int64]string), taken: make(map[*offline.Key]bool),
	}
	for _, step := range []func() error{
		l.mailboxes, l.contents, l.messages, l.lostRows, l.counters, l.found, l.others,
	} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("loss report: %w", err)
		}
	}
	order := []LossKind{
		LostMailbox, LostFolder, LostMessage, DamagedMessage, LostMessages, FoundMessage, LostOther,
	}
	slices.SortStableFunc(l.items, func(a, b LossItem) int {
		return slices.Index(order, a.Kind) - slices.Index(order, b.Kind)
	})
	return l.items, nil
}

// lossDatabase finds the database of a report.
func (s *Store) lossDatabase(file string) (*database, error) {
	name := filepath.Base(file)
	for _, d := range s.mounted() {
		if filepath.Base(d.db.Name()) == name {
			return d, nil
		}
	}
	return nil, fmt.Errorf("the report is of %s, which is no database of this store", file)
}

// lossBox is a mailbox, whose row may be lost.
type lossBox struct {
	id      MailboxID
	folders map[FolderID]*folderRow
	// short is how many messages fewer each folder has than its counter says.
	short map[FolderID]int64
}

// unplaced is a content that counts more placements than there are.
type unplaced struct {
	cid     int64
	missing int64
	keys    []int64 // of threads
}

type lossReader struct {
	s     *Store
	ctx   context.Context
	d     *database
	loss  *offline.Loss
	boxes map[uint32]*lossBox
	bad   map[int64]string // contents whose bytes are not whole, with the reason
	loose []*unplaced
	taken map[*offline.Key]bool // lost rows that are told of
	items []LossItem
}

// keys calls fn for the lost rows of a table.
func (l *lossReader) keys(table string, fn func(*offline.Key) error) error {
	for i := range l.loss.Tables {
		t := &l.loss.Tables[i]
		for j := range t.Keys {
			if t.Name != table {
				break
			}
			l.taken[&t.Keys[j]] = true
			if err := fn(&t.Keys[j]); err != nil {
				return err
			}
		}
	}
	return nil
}

// number is a column of a lost row; ok is false where it is not known.
func number(k *offline.Key, column string) (n int64, ok bool) {
	v, ok := k.Value(column)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(v, 10, 64)
	return n, err == nil
}

func text(k *offline.Key, column string) string {
	v, _ := k.Value(column)
	if s, err := strconv.Unquote(v); err == nil {
		return s
	}
	return v
}

// box is the mailbox with a row number.
func (l *lossReader) box(mbx uint32) *lossBox {
	b := l.boxes[mbx]
	if b == nil {
		b = &lossBox{folders: make(map[FolderID]*folderRow), short: make(map[FolderID]int64)}
		l.boxes[mbx] = b
	}
	return b
}

// mailboxes reads which mailboxes and folders there are, and names those that are lost.
func (l *lossReader) mailboxes() error {
	err := l.s.in.View(func(tx *ese.Tx) error {
		c := checker{ctx: l.ctx, tx: tx}
		err := c.each(l.d.mailbox.t, func(v *ese.RowView) error {
			l.box(uint32(v.Int(l.d.mailbox.mbx))).id = MailboxID(v.Bytes(l.d.mailbox.guid))
			return nil
		})
		if err != nil {
			return err
		}
		return c.each(l.d.folder.t, func(v *ese.RowView) error {
			f := &folderRow{}
			f.read(&l.d.folder, v)
			b := l.box(uint32(v.Int(l.d.folder.mbx)))
			b.folders[f.fid], b.short[f.fid] = f, f.count
			return nil
		})
	})
	if err != nil {
		return err
	}
	err = l.keys("Mailbox", func(k *offline.Key) error {
		mbx, _ := number(k, "mbx")
		b := l.box(uint32(mbx))
		if guid, _ := k.Value("guid"); guid != "" {
			if id, err := hex.DecodeString(guid); err == nil && len(id) == len(b.id) {
				b.id = MailboxID(id)
			}
		}
		l.items = append(l.items, LossItem{
			Kind: LostMailbox, Mailbox: b.id, Reason: fmt.Sprintf("number %d: %s", mbx, k.Reason),
		})
		return nil
	})
	if err != nil {
		return err
	}
	return l.keys("Folder", func(k *offline.Key) error {
		mbx, _ := number(k, "mbx")
		fid, _ := number(k, "fid")
		b := l.box(uint32(mbx))
		parent, _ := number(k, "parent")
		name := text(k, "name")
		if name == "" {
			name = fmt.Sprintf("folder %d", fid)
		}
		f := &folderRow{fid: FolderID(fid), parent: FolderID(parent), name: name}
		b.folders[f.fid] = f
		l.items = append(l.items, LossItem{
			Kind: LostFolder, Mailbox: b.id, Folder: b.path(f.fid), Reason: k.Reason,
		})
		return nil
	})
}

// path is the path of a folder, as far as it is known.
func (b *lossBox) path(fid FolderID) string {
	f := b.folders[fid]
	switch {
	case fid == recoverableFolder:
		return "(deleted)"
	case f == nil:
		for _, st := range standardFolders() {
			if st.fid == fid {
				return st.name
			}
		}
		return fmt.Sprintf("folder %d", fid)
	}
	parts := []string{f.name}
	for range maxFolderPath {
		if f.parent == ipmFolder || f.parent == rootFolder || f.parent == 0 {
			break
		}
		up := b.folders[f.parent]
		if up == nil {
			parts = append(parts, fmt.Sprintf("folder %d", f.parent))
			break
		}
		parts, f = append(parts, up.name), up
	}
	slices.Reverse(parts)
	return strings.Join(parts, "/")
}

// contents reads every message, and finds those that are in fewer folders than they count.
func (l *lossReader) contents() error {
	v := &verifier{s: l.s, ctx: l.ctx, window: 1 << 20}
	for from := int64(math.MinInt64); ; {
		refs, last, err := v.countReferences(l.d, from, nil)
		if err != nil {
			return err
		}
		for _, cid := range sorted(refs) {
			reason, structure, err := l.read(v, cid)
			if err != nil {
				return err
			}
			if reason != "" {
				l.bad[cid] = reason
			}
			if n := refs[cid]; n.stored > n.placements {
				u := &unplaced{cid: cid, missing: n.stored - n.placements}
				if structure != nil {
					u.keys = threadKeys(structure.Root.Envelope)
				}
				l.loose = append(l.loose, u)
			}
		}
		if last == math.MaxInt64 {
			return nil
		}
		from = last + 1
	}
}

// read tells what is wrong with the bytes of a content.
func (l *lossReader) read(v *verifier, cid int64) (reason string, s *mail.Structure, err error) {
	if err := l.ctx.Err(); err != nil {
		return "", nil, err
	}
	stored, r, err := v.openContent(l.d, cid)
	if err != nil {
		return fmt.Sprintf("its bytes cannot be opened: %v", err), nil, nil
	}
	if r == nil {
		return "", nil, nil // gone meanwhile
	}
	defer func() { _ = r.Close() }()
	is, err := deriveFrom(r)
	switch {
	case err != nil:
		return fmt.Sprintf("its bytes cannot be read: %v", err), nil, nil
	case is.hash != stored.hash:
		return "its bytes are not those that arrived (SHA-256)", nil, nil
	}
	s, err = mail.Decode(is.structure)
	if err != nil {
		s = nil
	}
	return "", s, nil
}

// messages goes over all messages, and names those without bytes and those with bad ones.
func (l *lossReader) messages() error {
	t := &l.d.msg
	return l.s.in.View(func(tx *ese.Tx) error {
		c := checker{ctx: l.ctx, tx: tx}
		return c.each(t.t, func(v *ese.RowView) error {
			mbx, fid := uint32(v.Int(t.mbx)), FolderID(v.Int(t.fid))
			b := l.box(mbx)
			b.short[fid]--
			var p placement
			p.read(t, v)
			item := LossItem{
				Kind: DamagedMessage, Mailbox: b.id, Folder: b.path(fid), UID: p.uid,
				Received: fromMillis(p.received), Size: p.size, Reason: l.bad[p.cid],
			}
			there, err := l.describe(tx, p.cid, &item)
			if err != nil {
				return err
			}
			if !there {
				item.Kind, item.Reason = LostMessage, "its content is lost"
				if item.Subject, err = l.threadSubject(tx, mbx, p.thread); err != nil {
					return err
				}
			}
			if item.Reason != "" {
				l.items = append(l.items, item)
			}
			return nil
		})
	})
}

// describe says what a content's row tells of the message; false where there is none.
func (l *lossReader) describe(tx *ese.Tx, cid int64, item *LossItem) (bool, error) {
	t := &l.d.content
	var v ese.RowView
	var buf []byte
	ok, err := tx.Get(t.t, &v, &buf, ese.Int(cid))
	if err != nil || !ok {
		return false, err
	}
	item.From, item.Subject = mail.DecodeHeader(v.String(t.from)), v.String(t.subject)
	item.Size = v.Int(t.size)
	if !v.IsNull(t.date) {
		item.Date = fromMillis(v.Int(t.date))
	}
	blob, err := v.Blob(t.structure, nil)
	if err != nil {
		return true, err
	}
	if s, err := mail.Decode(blob); err == nil && s.Root.Envelope != nil {
		e := s.Root.Envelope
		item.From, item.Subject = mail.DecodeHeader(e.From), mail.DecodeHeader(e.Subject)
		item.MessageID = e.MessageID
	}
	return true, nil
}

// threadSubject is the subject that all messages of a thread have in common.
func (l *lossReader) threadSubject(tx *ese.Tx, mbx uint32, thread ThreadID) (string, error) {
	if thread == 0 {
		return "", nil
	}
	c := tx.Cursor(l.d.msg.byThread)
	if err := c.Prefix(ese.Int(mbx), ese.Int(thread)); err != nil {
		return "", err
	}
	ok, err := c.First()
	for ; ok && err == nil; ok, err = c.Next() {
		var v ese.RowView
		var buf []byte
		found, err := tx.Get(l.d.content.t, &v, &buf, ese.Int(c.Row().Int(l.d.msg.cid)))
		if err != nil {
			return "", err
		}
		if subject := v.String(l.d.content.subject); found && subject != "" {
			return subject, nil
		}
	}
	return "", err
}

// lostRows names the messages whose rows are lost, with what indexes and other rows tell of them.
func (l *lossReader) lostRows() error {
	return l.s.in.View(func(tx *ese.Tx) error {
		return l.keys("Msg", func(k *offline.Key) error {
			mbx, _ := number(k, "mbx")
			fid, _ := number(k, "fid")
			uid, _ := number(k, "uid")
			b := l.box(uint32(mbx))
			b.short[FolderID(fid)]--
			item := LossItem{
				Kind: LostMessage, Mailbox: b.id, Folder: b.path(FolderID(fid)), UID: UID(uid),
				Reason: k.Reason,
			}
			if ms, ok := number(k, "received"); ok {
				item.Received = fromMillis(ms)
			}
			cid, err := l.contentOf(tx, k, uint32(mbx))
			if err == nil && cid != 0 {
				_, err = l.describe(tx, cid, &item)
			}
			if err == nil && cid == 0 {
				thread, _ := number(k, "thread_id")
				item.Subject, err = l.threadSubject(tx, uint32(mbx), ThreadID(thread))
			}
			if err == nil {
				l.items = append(l.items, item)
			}
			return err
		})
	})
}

// contentOf finds the content of a message whose row is lost, 0 where it cannot be told: another
// folder has the same e-mail, or one content of its thread alone lacks a placement.
func (l *lossReader) contentOf(tx *ese.Tx, k *offline.Key, mbx uint32) (int64, error) {
	if email, ok := number(k, "email_id"); ok {
		c := tx.Cursor(l.d.msg.byEmail)
		if ok, err := c.Find(ese.Int(mbx), ese.Int(email)); err != nil || ok {
			if ok {
				l.place(c.Row().Int(l.d.msg.cid))
				return c.Row().Int(l.d.msg.cid), nil
			}
			return 0, err
		}
	}
	thread, ok := number(k, "thread_id")
	if !ok {
		return 0, nil
	}
	var found []int64
	for _, u := range l.loose {
		in, err := l.inThread(tx, u, mbx, thread)
		if err != nil {
			return 0, err
		}
		if in && u.missing > 0 {
			found = append(found, u.cid)
		}
	}
	if len(found) != 1 || l.lostInThread(mbx, thread) != 1 {
		return 0, nil
	}
	l.place(found[0])
	return found[0], nil
}

// place notes that a placement of a content is told of.
func (l *lossReader) place(cid int64) {
	for _, u := range l.loose {
		if u.cid == cid {
			u.missing--
		}
	}
}

func (l *lossReader) inThread(tx *ese.Tx, u *unplaced, mbx uint32, thread int64) (bool, error) {
	for _, key := range u.keys {
		var v ese.RowView
		var buf []byte
		ok, err := tx.Get(l.d.thread.t, &v, &buf, ese.Int(mbx), ese.Int(key))
		if err != nil {
			return false, err
		}
		if ok && v.Int(l.d.thread.thread) == thread {
			return true, nil
		}
	}
	return false, nil
}

// lostInThread counts the lost messages of a thread.
func (l *lossReader) lostInThread(mbx uint32, thread int64) (n int) {
	for i := range l.loss.Tables {
		if l.loss.Tables[i].Name != "Msg" {
			continue
		}
		for j := range l.loss.Tables[i].Keys {
			k := &l.loss.Tables[i].Keys[j]
			m, _ := number(k, "mbx")
			if t, ok := number(k, "thread_id"); ok && t == thread && uint32(m) == mbx {
				n++
			}
		}
	}
	return n
}

// counters names folders and mailboxes that messages know and that have no row, and what the
// counters of folders miss beyond what is named.
func (l *lossReader) counters() error {
	for mbx, b := range l.boxes {
		if b.id == (MailboxID{}) {
			l.items = append(l.items, LossItem{
				Kind: LostMailbox, Reason: fmt.Sprintf("number %d: nothing tells whose it was", mbx),
			})
		}
		for fid, n := range b.short {
			if b.folders[fid] == nil {
				l.items = append(l.items, LossItem{
					Kind: LostFolder, Mailbox: b.id, Folder: b.path(fid), Reason: "nothing tells its name",
				})
			}
			if n > 0 && b.folders[fid] != nil {
				l.items = append(l.items, LossItem{
					Kind: LostMessages, Mailbox: b.id, Folder: b.path(fid), Count: n,
					Reason: "the folder counts them, and nothing names them",
				})
			}
		}
	}
	return nil
}

// found names contents that are whole and in no folder, and were not told of.
func (l *lossReader) found() error {
	return l.s.in.View(func(tx *ese.Tx) error {
		for _, u := range l.loose {
			if u.missing <= 0 {
				continue
			}
			item := LossItem{
				Kind: FoundMessage, Count: u.missing, Reason: "the folder it was in cannot be told",
			}
			if l.bad[u.cid] != "" {
				item.Reason += "; " + l.bad[u.cid]
			}
			if _, err := l.describe(tx, u.cid, &item); err != nil {
				return err
			}
			l.items = append(l.items, item)
		}
		return nil
	})
}

// others names the rest: rows of other tables, and ranges of keys that the counters do not cover.
func (l *lossReader) others() error {
	for i := range l.loss.Tables {
		t := &l.loss.Tables[i]
		switch t.Name {
		case "Content", "MSysStreams", "MSysStreamSpace":
			continue // every message was read, and the damage told there
		}
		for j := range t.Keys {
			if k := &t.Keys[j]; !l.taken[k] {
				l.other(t.Name, k.Known, k.Reason)
			}
		}
		for _, r := range t.Ranges {
			if t.Name != "Msg" {
				l.other(t.Name, r.From, "all rows from there to "+values(r.Below)+" that were not saved")
			}
		}
		for _, c := range t.Columns {
			l.other(t.Name, nil, fmt.Sprintf("column %s of row %s", c.Column, c.Key))
		}
	}
	for _, c := range l.loss.Catalog {
		l.items = append(l.items, LossItem{Kind: LostOther, Reason: "catalog: " + c})
	}
	return nil
}

func (l *lossReader) other(table string, known []inspect.KeyValue, reason string) {
	l.items = append(l.items, LossItem{
		Kind: LostOther, Reason: fmt.Sprintf("table %s %s: %s", table, values(known), reason),
	})
}

func values(known []inspect.KeyValue) string {
	if len(known) == 0 {
		return "(one end)"
	}
	var parts []string
	for _, v := range known {
		parts = append(parts, v.Column+"="+v.Value)
	}
	return strings.Join(parts, " ")
}
