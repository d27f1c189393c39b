package store

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"pillarbox/ese"
)

// fault is a finding and what mends it, if anything does.
type fault struct {
	IntegrityFinding
	mend func(o *op, st *boxState) error
	done string // what Mended says then
}

// exam is the check of one mailbox in one transaction.
type exam struct {
	v       *verifier
	b       *box
	d       *database
	tx      *ese.Tx
	row     mailboxRow
	folders map[FolderID]*folderRow
	words   int
	total   counts
	// The highest numbers met anywhere in the mailbox.
	cn       CN
	id       int64
	validity uint32
	checked  map[IntegrityTest]int64
	faults   []fault
	view     ese.RowView
	buf      []byte
}

func newExam(v *verifier, b *box) *exam {
	return &exam{
		v: v, b: b, d: b.d, folders: make(map[FolderID]*folderRow),
		checked: make(map[IntegrityTest]int64),
	}
}

// fault notes a fault without a cure; the caller may add one.
func (x *exam) fault(t IntegrityTest, place, format string, args ...any) *fault {
	x.faults = append(x.faults, fault{IntegrityFinding: IntegrityFinding{
		Test: t, Mailbox: x.b.id, Place: place, Reason: fmt.Sprintf(format, args...),
	}})
	return &x.faults[len(x.faults)-1]
}

// cure says how a fault is mended.
func (f *fault) cure(done string, mend func(o *op, st *boxState) error) {
	f.done, f.mend = done, mend
}

// raised is the cure of numbers that are too low: mend raises them all first.
func raised(*op, *boxState) error { return nil }

// run checks the mailbox as the transaction sees it.
func (x *exam) run(tx *ese.Tx) error {
	x.tx = tx
	ok, err := tx.Get(x.d.mailbox.t, &x.view, &x.buf, ese.Int(x.b.mbx))
	if err != nil || !ok {
		return err
	}
	if x.row.read(&x.d.mailbox, &x.view); x.row.removing() {
		return nil
	}
	words, err := x.d.loadKeywords(tx, x.b.mbx)
	if err != nil {
		return err
	}
	x.words = len(words)
	err = x.v.each(tx, x.d.folder.t, func(v *ese.RowView) error {
		f := &folderRow{}
		f.read(&x.d.folder, v)
		x.folders[f.fid] = f
		return nil
	}, ese.Int(x.b.mbx))
	if err != nil {
		return err
	}
	x.standard()
	if err := x.orphans(); err != nil {
		return err
	}
	x.tree()
	tombs, err := x.tombs()
	if err != nil {
		return err
	}
	for _, f := range x.folders {
		if f.made {
			continue
		}
		if err := x.folder(f, tombs[f.fid]); err != nil {
			return err
		}
	}
	x.mailbox()
	return x.recoverables()
}

// mend mends what can be, the numbers of the mailbox first: other cures take new ones.
func (x *exam) mend(o *op, st *boxState) error {
	r := &st.row
	r.nextCN = max(r.nextCN, x.cn+1)
	r.nextID = max(r.nextID, x.id+1)
	r.nextUIDValidity = max(r.nextUIDValidity, x.validity+1)
	st.dirty = true
	for i := range x.faults {
		f := &x.faults[i]
		if f.mend == nil {
			continue
		}
		if err := f.mend(o, st); err != nil {
			return err
		}
		f.Mended = f.done
	}
	return nil
}

// mailbox compares the counters of the mailbox itself.
func (x *exam) mailbox() {
	x.checked[CountersTest]++
	x.checked[ChangesTest]++
	n := x.total
	if n.count != x.row.count || n.size != x.row.size {
		x.fault(CountersTest, "mailbox", "its counters say %d messages of %d bytes, it has %d of %d",
			x.row.count, x.row.size, n.count, n.size).
			cure("counters set", func(_ *op, st *boxState) error {
				st.row.count, st.row.size = n.count, n.size
				return nil
			})
	}
	if next := uint32(x.words + 1); x.row.nextKeyword != next {
		x.fault(CountersTest, "mailbox", "next_keyword is %d with %d keywords", x.row.nextKeyword, x.words).
			cure("next_keyword set", func(_ *op, st *boxState) error {
				st.row.nextKeyword = next
				return nil
			})
	}
	if x.cn >= x.row.nextCN {
		x.fault(ChangesTest, "mailbox", "next_cn is %d, the number %d is in use", x.row.nextCN, x.cn).
			cure("next_cn raised", raised)
	}
	if x.id >= x.row.nextID {
		x.fault(CountersTest, "mailbox", "next_id is %d, %d is in use", x.row.nextID, x.id).
			cure("next_id raised", raised)
	}
	if x.validity >= x.row.nextUIDValidity {
		x.fault(CountersTest, "mailbox", "next_uidvalidity is %d, %d is in use",
			x.row.nextUIDValidity, x.validity).cure("next_uidvalidity raised", raised)
	}
}

// tombs checks the tombstones, and tells what they say of each folder.
func (x *exam) tombs() (map[FolderID]*tombFact, error) {
	facts := make(map[FolderID]*tombFact)
	t := &x.d.tomb
	err := x.v.each(x.tx, t.t, func(v *ese.RowView) error {
		fid, cn, uid := FolderID(v.Int(t.fid)), CN(v.Int(t.cn)), UID(v.Int(t.uid))
		x.checked[TombstonesTest]++
		x.cn = max(x.cn, cn)
		fact := facts[fid]
		if fact == nil {
			fact = &tombFact{uids: make(map[UID]bool)}
			facts[fid] = fact
		}
		fact.highest = max(fact.highest, cn)
		f, ok := x.folders[fid]
		place := fmt.Sprintf("folder %d cn %d", fid, cn)
		switch kind := tombKind(v.Int(t.kind)); {
		case kind < tombDeleted || kind > tombFolder:
			x.fault(TombstonesTest, place, "kind %d does not exist", kind)
		case kind == tombFolder && ok:
			x.untomb(place, cn, "the folder is there")
		case kind == tombFolder || !ok || f.revived():
		default:
			there, err := x.tx.Get(x.d.msg.t, &x.view, &x.buf, ese.Int(x.b.mbx), ese.Int(fid), ese.Int(uid))
			if err != nil {
				return err
			}
			if there {
				x.untomb(place, cn, fmt.Sprintf("the message with uid %d is there", uid))
			}
			fact.uids[uid] = true
		}
		return nil
	}, ese.Int(x.b.mbx))
	return facts, err
}

func (x *exam) untomb(place string, cn CN, reason string) {
	x.fault(TombstonesTest, place, "%s", reason).
		cure("tombstone removed", func(o *op, st *boxState) error {
			return o.tx.Delete(st.d.tomb.t, ese.Int(st.mbx), ese.Int(cn))
		})
}

// folder recounts one folder.
func (x *exam) folder(f *folderRow, tombs *tombFact) error {
	place := fmt.Sprintf("folder %d", f.fid)
	x.checked[CountersTest]++
	x.checked[ChangesTest]++
	x.id, x.validity = max(x.id, int64(f.fid)), max(x.validity, f.uidValidity)
	var n counts
	highest, last := max(f.createdCN, f.cn, f.tombsFloor), UID(0)
	t := &x.d.msg
	err := x.v.each(x.tx, t.t, func(v *ese.RowView) error {
		var p placement
		p.read(t, v)
		size, err := x.placement(f, &p)
		n.add(p.flags, size, 1)
		highest, last = max(highest, p.modseq), max(last, p.uid)
		return err
	}, ese.Int(x.b.mbx), ese.Int(f.fid))
	if err != nil {
		return err
	}
	if tombs != nil {
		highest = max(highest, tombs.highest)
		for uid := range tombs.uids {
			last = max(last, uid)
		}
	}
	if f.fid != recoverableFolder {
		x.total.count += n.count
		x.total.size += n.size
	}
	x.cn = max(x.cn, highest, f.highest)
	x.folderNumbers(f, place, highest, last)
	if n != f.counts {
		x.fault(CountersTest, place, "its counters say %v, a recount %v", f.counts, n).
			cure("counters set", x.onFolder(f.fid, func(_ *boxState, f *folderRow) { f.counts = n }))
	}
	return nil
}

// folderNumbers compares uidnext and the highest change number with what there is.
func (x *exam) folderNumbers(f *folderRow, place string, highest CN, last UID) {
	if last >= f.uidNext {
		x.fault(UIDsTest, place, "uidnext is %d, uid %d was given", f.uidNext, last).
			cure("uidnext raised", x.onFolder(f.fid, func(_ *boxState, f *folderRow) {
				f.uidNext = max(f.uidNext, last+1)
			}))
	}
	if highest > f.highest {
		x.fault(ChangesTest, place, "its highest number is %d, that of its objects %d", f.highest, highest).
			cure("highest number raised", x.onFolder(f.fid, func(_ *boxState, f *folderRow) {
				f.changed(highest)
			}))
	}
	if highest < f.highest {
		// It never falls for a client: the folder itself is changed once more.
		x.fault(ChangesTest, place, "its highest number is %d, that of its objects %d", f.highest, highest).
			cure("folder given a new number", x.onFolder(f.fid, func(st *boxState, f *folderRow) {
				f.cn = st.nextCN()
				f.changed(f.cn)
			}))
	}
}

// onFolder is a cure that changes a folder.
func (x *exam) onFolder(fid FolderID, fn func(*boxState, *folderRow)) func(*op, *boxState) error {
	return func(o *op, st *boxState) error {
		f, err := o.folder(st, fid)
		if err == nil {
			fn(st, f)
			f.dirty = true
		}
		return err
	}
}

// placement checks a message of a folder; size is what its content has.
func (x *exam) placement(f *folderRow, p *placement) (size int64, err error) {
	place := fmt.Sprintf("folder %d uid %d", f.fid, p.uid)
	x.checked[UIDsTest]++
	x.checked[ChangesTest]++
	x.checked[PlacementsTest]++
	x.id = max(x.id, int64(p.email), int64(p.thread))
	set := func(c *ese.Column, v ese.Value) func(*op, *boxState) error { return setOn(f.fid, p.uid, c, v) }
	if p.uid == 0 {
		x.fault(UIDsTest, place, "0 is no uid")
	}
	if p.createdCN > p.modseq {
		x.fault(ChangesTest, place, "created at %d, after its last change at %d", p.createdCN, p.modseq).
			cure("creation set to the last change", set(x.d.msg.createdCN, ese.Int(p.modseq)))
	}
	x.origin(f, p, place)
	for _, k := range p.keywords {
		if k == 0 || int(k) > x.words {
			x.fault(PlacementsTest, place, "keyword %d does not exist", k)
		}
	}
	ok, err := x.tx.Get(x.d.content.t, &x.view, &x.buf, ese.Int(p.cid))
	if err != nil {
		return 0, err
	}
	if !ok {
		x.fault(PlacementsTest, place, "its content %d is missing: restore it from a backup", p.cid)
		return p.size, nil
	}
	if size = x.view.Int(x.d.content.size); size != p.size {
		x.fault(PlacementsTest, place, "its size is %d, that of its content %d", p.size, size).
			cure("size set", set(x.d.msg.size, ese.Int(size)))
	}
	return size, nil
}

// setOn is a cure that sets a column of a message.
func setOn(fid FolderID, uid UID, c *ese.Column, v ese.Value) func(*op, *boxState) error {
	return func(o *op, st *boxState) error {
		t := st.d.msg.t
		return o.tx.Update(t.NewRow().Set(c, v), ese.Int(st.mbx), ese.Int(fid), ese.Int(uid))
	}
}

// tree checks that folders have parents up to the root, and names.
func (x *exam) tree() {
	names := make(map[string]FolderID)
	for _, f := range x.folders {
		x.checked[FoldersTest]++
		if f.fid == rootFolder {
			continue
		}
		place := fmt.Sprintf("folder %d", f.fid)
		if f.fid < firstID && x.folders[f.parent] == nil {
			x.fault(FoldersTest, place, "its parent %d is missing", f.parent)
			continue
		}
		if x.folders[f.parent] == nil {
			x.fault(FoldersTest, place, "its parent %d is missing", f.parent).
				cure("moved to the top", x.toTop(f))
			continue
		}
		if x.smallestOfCycle(f) {
			x.fault(FoldersTest, place, "it lies below itself").cure("moved to the top", x.toTop(f))
			continue
		}
		if reason := badFolderName(f); reason != "" {
			x.fault(FoldersTest, place, "its name %q %s", f.name, reason).
				cure("renamed", x.renamed(f))
			continue
		}
		key := fmt.Sprint(f.parent, "/", f.name)
		if f.parent == ipmFolder && strings.EqualFold(f.name, inboxName) {
			key = fmt.Sprint(f.parent, "/", inboxName)
		}
		if other, ok := names[key]; ok {
			if f.role == RoleInbox || f.fid < other { // the older one keeps it
				names[key], f = f.fid, x.folders[other]
				place = fmt.Sprintf("folder %d", other)
			}
			x.fault(FoldersTest, place, "its name %q is that of another", f.name).
				cure("renamed", x.renamed(f))
			continue
		}
		names[key] = f.fid
	}
}

// smallestOfCycle tells that a folder is its own ancestor, and the one of them to be moved.
func (x *exam) smallestOfCycle(f *folderRow) bool {
	at := f.parent
	for range len(x.folders) {
		if at == f.fid {
			return true
		}
		up := x.folders[at]
		if up == nil || at < f.fid || at == rootFolder {
			return false
		}
		at = up.parent
	}
	return false
}

// badFolderName says what is wrong with a folder's name.
func badFolderName(f *folderRow) string {
	switch {
	case f.bits&folderHidden != 0:
		return ""
	case f.name == "" || len(f.name) > maxFolderName:
		return fmt.Sprintf("has %d bytes", len(f.name))
	case !utf8.ValidString(f.name) || !norm.NFC.IsNormalString(f.name):
		return "is not UTF-8 in normal form C"
	case strings.Contains(f.name, "/") || strings.ContainsFunc(f.name, unicode.IsControl):
		return "holds characters that no name may hold"
	}
	return ""
}

// toTop moves a folder to those that mail clients see first.
func (x *exam) toTop(f *folderRow) func(*op, *boxState) error {
	return x.rename(f, ipmFolder)
}

// renamed gives a folder a name that no other has.
func (x *exam) renamed(f *folderRow) func(*op, *boxState) error { return x.rename(f, f.parent) }

func (x *exam) rename(f *folderRow, parent FolderID) func(*op, *boxState) error {
	return func(o *op, st *boxState) error {
		name := cleanName(f.name)
		for n := 0; ; n++ {
			try := name
			if n > 0 || try == "" {
				try = fmt.Sprintf("%.200s~%d", name, int64(f.fid)+int64(n))
			}
			if parent == ipmFolder && strings.EqualFold(try, inboxName) {
				continue
			}
			other, ok, err := st.d.childFolder(o.tx, st.mbx, parent, try)
			if err != nil {
				return err
			}
			if ok && other != f.fid {
				continue
			}
			row, err := o.folder(st, f.fid)
			if err != nil {
				return err
			}
			row.name, row.parent, row.cn = try, parent, st.nextCN()
			row.changed(row.cn)
			// At once: the next cure must find the name taken.
			return o.writeFolder(st, row)
		}
	}
}

// cleanName is a name without what no name may hold.
func cleanName(name string) string {
	name = norm.NFC.String(strings.ToValidUTF8(name, "_"))
	return strings.Map(func(r rune) rune {
		if r == '/' || unicode.IsControl(r) {
			return '_'
		}
		return r
	}, name)
}
