package store

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"

	"pillarbox/ese"
	"pillarbox/mail"
)

// Finding is one broken invariant.
type Finding struct {
	Table, Place, Reason string
}

// String writes the finding for a person.
func (f Finding) String() string { return f.Table + " " + f.Place + ": " + f.Reason }

// maxFindings ends a check of a store that is wholly broken.
const maxFindings = 1000

// Check recounts everything that the invariants promise, database by database on a snapshot,
// and reads every message. It runs beside other work.
func (s *Store) Check(ctx context.Context) ([]Finding, error) {
	c := &checker{s: s, ctx: ctx}
	for _, d := range s.mounted() {
		c.d, c.refs = d, make(map[int64]contentFact)
		if err := s.in.View(c.database); err != nil {
			return c.findings, fmt.Errorf("check the store: %w", err)
		}
		if err := c.streams(); err != nil {
			return c.findings, fmt.Errorf("check the store: %w", err)
		}
	}
	return c.findings, nil
}

// contentFact is what placements say of a content.
type contentFact struct {
	refs, size int64
}

type checker struct {
	s        *Store
	ctx      context.Context
	d        *database
	tx       *ese.Tx
	refs     map[int64]contentFact
	contents []int64
	findings []Finding
}

func (c *checker) report(table, place, format string, args ...any) {
	if len(c.findings) < maxFindings {
		c.findings = append(c.findings, Finding{table, place, fmt.Sprintf(format, args...)})
	}
}

// checkedBox is a mailbox with its recount.
type checkedBox struct {
	mbx         uint32
	id          MailboxID
	row         mailboxRow
	count, size int64
	keywords    int
	folders     map[FolderID]*folderRow
}

func (c *checker) database(tx *ese.Tx) error {
	c.tx, c.contents = tx, nil
	var boxes []*checkedBox
	var moving []uint32
	err := c.each(c.d.mailbox.t, func(v *ese.RowView) error {
		if boxKind(v.Int(c.d.mailbox.kind)) != kindPrivate {
			moving = append(moving, uint32(v.Int(c.d.mailbox.mbx)))
			return nil
		}
		b := &checkedBox{
			mbx: uint32(v.Int(c.d.mailbox.mbx)), id: MailboxID(v.Bytes(c.d.mailbox.guid)),
			folders: make(map[FolderID]*folderRow),
		}
		b.row.read(&c.d.mailbox, v)
		boxes = append(boxes, b)
		return nil
	})
	if err != nil {
		return err
	}
	for _, b := range boxes {
		if err := c.mailbox(b); err != nil {
			return err
		}
	}
	for _, mbx := range moving {
		if err := c.moving(mbx); err != nil {
			return err
		}
	}
	return c.contentRows()
}

// moving counts the placements of a mailbox that is arriving or leaving: no more is promised.
func (c *checker) moving(mbx uint32) error {
	return c.each(c.d.msg.t, func(v *ese.RowView) error {
		cid := v.Int(c.d.msg.cid)
		c.refs[cid] = contentFact{c.refs[cid].refs + 1, v.Int(c.d.msg.size)}
		return nil
	}, ese.Int(mbx))
}

// each calls fn for the rows of a table whose first key columns have these values.
func (c *checker) each(t *ese.Table, fn func(*ese.RowView) error, prefix ...ese.Value) error {
	cur := c.tx.Cursor(t.Primary())
	if err := cur.Prefix(prefix...); err != nil {
		return err
	}
	ok, err := cur.First()
	for ; ok && err == nil; ok, err = cur.Next() {
		if err := fn(cur.Row()); err != nil {
			return err
		}
		if err := c.ctx.Err(); err != nil {
			return err
		}
	}
	return err
}

func (c *checker) mailbox(b *checkedBox) error {
	if b.row.removing() {
		return c.removing(b)
	}
	words, err := c.d.loadKeywords(c.tx, b.mbx)
	if err != nil {
		return err
	}
	b.keywords = len(words)
	if int(b.row.nextKeyword) != len(words)+1 {
		c.report("Mailbox", b.id.String(), "next_keyword is %d with %d keywords",
			b.row.nextKeyword, len(words))
	}
	err = c.each(c.d.folder.t, func(v *ese.RowView) error {
		f := &folderRow{}
		f.read(&c.d.folder, v)
		b.folders[f.fid] = f
		return nil
	}, ese.Int(b.mbx))
	if err != nil {
		return err
	}
	tombs, err := c.tombs(b)
	if err != nil {
		return err
	}
	for _, f := range b.folders {
		if err := c.folder(b, f, tombs[f.fid]); err != nil {
			return err
		}
	}
	if b.count != b.row.count || b.size != b.row.size {
		c.report("Mailbox", b.id.String(), "has %d messages of %d bytes, its counters say %d of %d",
			b.count, b.size, b.row.count, b.row.size)
	}
	return nil
}

// removing counts the references that a mailbox still has whose removal has begun: nothing else
// of it need be true.
func (c *checker) removing(b *checkedBox) error {
	return c.each(c.d.msg.t, func(v *ese.RowView) error {
		cid := v.Int(c.d.msg.cid)
		c.refs[cid] = contentFact{c.refs[cid].refs + 1, v.Int(c.d.msg.size)}
		return nil
	}, ese.Int(b.mbx))
}

// tombFact is what the tombstones of a folder say.
type tombFact struct {
	highest CN
	uids    map[UID]bool
}

func (c *checker) tombs(b *checkedBox) (map[FolderID]*tombFact, error) {
	facts := make(map[FolderID]*tombFact)
	t := &c.d.tomb
	err := c.each(t.t, func(v *ese.RowView) error {
		fid, cn := FolderID(v.Int(t.fid)), CN(v.Int(t.cn))
		place := fmt.Sprintf("%s cn %d", b.id, cn)
		if cn >= b.row.nextCN {
			c.report("Tomb", place, "number is not below next_cn %d", b.row.nextCN)
		}
		f := facts[fid]
		if f == nil {
			f = &tombFact{uids: make(map[UID]bool)}
			facts[fid] = f
		}
		f.highest = max(f.highest, cn)
		if kind := tombKind(v.Int(t.kind)); kind == tombFolder {
			if b.folders[fid] != nil {
				c.report("Tomb", place, "folder %d is still there", fid)
			}
		} else if uid := UID(v.Int(t.uid)); b.folders[fid] != nil && b.folders[fid].uidValidity != 0 {
			f.uids[uid] = true
		}
		return nil
	}, ese.Int(b.mbx))
	return facts, err
}

// folder recounts one folder.
func (c *checker) folder(b *checkedBox, f *folderRow, tombs *tombFact) error {
	place := fmt.Sprintf("%s folder %d", b.id, f.fid)
	if f.fid != rootFolder && b.folders[f.parent] == nil {
		c.report("Folder", place, "parent %d is missing", f.parent)
	}
	if f.uidValidity >= b.row.nextUIDValidity {
		c.report("Folder", place, "uidvalidity %d is not below the next", f.uidValidity)
	}
	if int64(f.fid) >= b.row.nextID {
		c.report("Folder", place, "id is not below next_id %d", b.row.nextID)
	}
	if f.tombsFloor >= b.row.nextCN || f.fid != recoverableFolder && f.tombsFloor > b.row.tombsFloor {
		c.report("Folder", place, "tombs_floor is %d, that of the mailbox %d, next_cn %d",
			f.tombsFloor, b.row.tombsFloor, b.row.nextCN)
	}
	var n counts
	highest := max(f.createdCN, f.cn, f.tombsFloor)
	t := &c.d.msg
	err := c.each(t.t, func(v *ese.RowView) error {
		var p placement
		p.read(t, v)
		n.add(p.flags, p.size, 1)
		highest = max(highest, p.modseq)
		c.placement(b, f, &p)
		if tombs != nil && tombs.uids[p.uid] && f.uidNext > p.uid && !f.revived() {
			c.report("Tomb", place, "uid %d is there and has a tombstone", p.uid)
		}
		return nil
	}, ese.Int(b.mbx), ese.Int(f.fid))
	if err != nil {
		return err
	}
	if tombs != nil {
		highest = max(highest, tombs.highest)
	}
	if n != f.counts {
		c.report("Folder", place, "counts are %+v, a recount says %+v", f.counts, n)
	}
	if highest != f.highest {
		c.report("Folder", place, "highest_modseq is %d, its objects say %d", f.highest, highest)
	}
	if f.highest >= b.row.nextCN {
		c.report("Folder", place, "highest_modseq %d is not below next_cn %d", f.highest, b.row.nextCN)
	}
	if f.fid != recoverableFolder {
		b.count += n.count
		b.size += n.size
	}
	return nil
}

// revived tells whether the folder's UIDs began again under a new UIDVALIDITY, so that old
// tombstones say nothing of present UIDs.
func (f *folderRow) revived() bool { return f.cn != f.createdCN }

func (c *checker) placement(b *checkedBox, f *folderRow, p *placement) {
	place := fmt.Sprintf("%s folder %d uid %d", b.id, f.fid, p.uid)
	if p.uid == 0 || p.uid >= f.uidNext {
		c.report("Msg", place, "uid is not below uidnext %d", f.uidNext)
	}
	if p.createdCN > p.modseq || p.modseq >= b.row.nextCN {
		c.report("Msg", place, "created_cn %d, modseq %d, next_cn %d",
			p.createdCN, p.modseq, b.row.nextCN)
	}
	if int64(p.email) >= b.row.nextID || int64(p.thread) >= b.row.nextID {
		c.report("Msg", place, "email %d or thread %d is not below next_id %d",
			p.email, p.thread, b.row.nextID)
	}
	if (p.origin != 0) != (f.fid == recoverableFolder) {
		c.report("Msg", place, "origin is %d", p.origin)
	}
	for _, k := range p.keywords {
		if k == 0 || int(k) > b.keywords {
			c.report("Msg", place, "keyword %d does not exist", k)
		}
	}
	fact := c.refs[p.cid]
	if fact.refs > 0 && fact.size != p.size {
		c.report("Msg", place, "size is %d, another placement says %d", p.size, fact.size)
	}
	c.refs[p.cid] = contentFact{fact.refs + 1, p.size}
}

// contentRows compares the references counted with those stored.
func (c *checker) contentRows() error {
	t := &c.d.content
	err := c.each(t.t, func(v *ese.RowView) error {
		cid := v.Int(t.cid)
		place := fmt.Sprint(cid)
		fact, ok := c.refs[cid]
		delete(c.refs, cid)
		c.contents = append(c.contents, cid)
		if refs := v.Int(t.refs); refs != fact.refs {
			c.report("Content", place, "refs is %d, there are %d placements", refs, fact.refs)
		}
		if !ok && v.Int(t.held) == 0 {
			c.report("Content", place, "nothing refers to it")
		}
		if ok && v.Int(t.size) != fact.size {
			c.report("Content", place, "size is %d, placements say %d", v.Int(t.size), fact.size)
		}
		return nil
	})
	for cid := range c.refs {
		c.report("Content", fmt.Sprint(cid), "row is missing")
	}
	return err
}

// streams reads each content and compares its hash and structure. Each is read outside of a
// transaction; what is deleted meanwhile is passed over.
func (c *checker) streams() error {
	t := &c.d.content
	for _, cid := range c.contents {
		var r *ese.StreamReader
		var size int64
		var sum, blob []byte
		err := c.s.in.View(func(tx *ese.Tx) error {
			var v ese.RowView
			var buf []byte
			ok, err := tx.Get(t.t, &v, &buf, ese.Int(cid))
			if err != nil || !ok {
				return err
			}
			size, sum = v.Int(t.size), append(sum, v.Bytes(t.hash)...)
			if blob, err = v.Blob(t.structure, nil); err != nil {
				return err
			}
			r, err = tx.OpenStream(c.d.db, ese.StreamID(v.Int(t.stream)))
			return err
		})
		if err != nil {
			c.report("Content", fmt.Sprint(cid), "%v", err)
			continue
		}
		if r != nil {
			c.stream(cid, r, size, sum, blob)
		}
		if err := c.ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) stream(cid int64, r *ese.StreamReader, size int64, sum, blob []byte) {
	place := fmt.Sprint(cid)
	defer func() { _ = r.Close() }()
	if r.Size() != size {
		c.report("Content", place, "stream has %d bytes, the row says %d", r.Size(), size)
	}
	h, x := sha256.New(), mail.NewIndexer()
	if _, err := io.Copy(io.MultiWriter(h, x), io.NewSectionReader(r, 0, r.Size())); err != nil {
		c.report("Content", place, "stream: %v", err)
		return
	}
	if string(h.Sum(nil)) != string(sum) {
		c.report("Content", place, "hash of the stream is another")
	}
	if string(x.Finish().AppendBinary(nil)) != string(blob) {
		c.report("Content", place, "structure is not that of the message")
	}
}
