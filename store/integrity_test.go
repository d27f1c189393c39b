package store

import (
	"fmt"
	"strings"
	"testing"

	"pillarbox/ese"
)

// planted is a fault and what is said of it.
type planted struct {
	test   IntegrityTest
	reason string // part of it
	mended bool   // --fix mends it
	plant  plantFunc
}

type plantFunc func(b *bed, tx *ese.Tx, d *database) error

// The things of the test store that faults are planted in.
const (
	plantBox    = 1    // row number of the mailbox
	plantFolder = 0x0d // INBOX
)

func setFolder(c func(*folderTable) *ese.Column, v ese.Value) plantFunc {
	return func(_ *bed, tx *ese.Tx, d *database) error {
		t := &d.folder
		return tx.Update(t.t.NewRow().Set(c(t), v), ese.Int(plantBox), ese.Int(plantFolder))
	}
}

func setMailbox(c func(*mailboxTable) *ese.Column, v ese.Value) plantFunc {
	return func(_ *bed, tx *ese.Tx, d *database) error {
		return tx.Update(d.mailbox.t.NewRow().Set(c(&d.mailbox), v), ese.Int(plantBox))
	}
}

func setMsg(c func(*msgTable) *ese.Column, v ese.Value) plantFunc {
	return func(_ *bed, tx *ese.Tx, d *database) error {
		t := &d.msg
		return tx.Update(t.t.NewRow().Set(c(t), v), ese.Int(plantBox), ese.Int(plantFolder), ese.Int(1))
	}
}

func setContent(c func(*contentTable) *ese.Column, v ese.Value) plantFunc {
	return func(_ *bed, tx *ese.Tx, d *database) error {
		return tx.Update(d.content.t.NewRow().Set(c(&d.content), v), ese.Int(1))
	}
}

// setChild changes the folder A, or A/B.
func setChild(
	name string, c func(*folderTable) *ese.Column, v func(a, b FolderID) ese.Value,
) plantFunc {
	return func(_ *bed, tx *ese.Tx, d *database) error {
		a, ok, err := d.childFolder(tx, plantBox, ipmFolder, "A")
		if err != nil || !ok {
			return fmt.Errorf("folder A: %v, %w", ok, err)
		}
		b, ok, err := d.childFolder(tx, plantBox, a, "B")
		if err != nil || !ok {
			return fmt.Errorf("folder A/B: %v, %w", ok, err)
		}
		fid := a
		if name == "B" {
			fid = b
		}
		t := &d.folder
		return tx.Update(t.t.NewRow().Set(c(t), v(a, b)), ese.Int(plantBox), ese.Int(fid))
	}
}

func insertTomb(kind tombKind, fid FolderID, uid UID, cn CN) plantFunc {
	return func(b *bed, tx *ese.Tx, d *database) error {
		o := &op{s: b.s, tx: tx}
		st := &boxState{box: &box{d: d, mbx: plantBox}}
		return o.insertTomb(st, cn, tomb{kind: kind, fid: fid, uid: uid})
	}
}

func plants() map[string]planted {
	fixed := func(v ese.Value) func(a, b FolderID) ese.Value {
		return func(_, _ FolderID) ese.Value { return v }
	}
	parent := func(t *folderTable) *ese.Column { return t.parent }
	name := func(t *folderTable) *ese.Column { return t.name }
	return map[string]planted{
		"folder count": {
			CountersTest, "counters say", true,
			setFolder(func(t *folderTable) *ese.Column { return t.count }, ese.Int(77)),
		},
		"folder unread": {
			CountersTest, "counters say", true,
			setFolder(func(t *folderTable) *ese.Column { return t.unread }, ese.Int(0)),
		},
		"mailbox size": {
			CountersTest, "counters say", true,
			setMailbox(func(t *mailboxTable) *ese.Column { return t.size }, ese.Int(5)),
		},
		"next_id": {
			CountersTest, "next_id", true,
			setMailbox(func(t *mailboxTable) *ese.Column { return t.nextID }, ese.Int(firstID)),
		},
		"next_keyword": {
			CountersTest, "next_keyword", true,
			setMailbox(func(t *mailboxTable) *ese.Column { return t.nextKeyword }, ese.Int(9)),
		},
		"next_uidvalidity": {
			CountersTest, "next_uidvalidity", true,
			setMailbox(func(t *mailboxTable) *ese.Column { return t.nextUIDValidity }, ese.Int(1)),
		},
		"references high": {
			ReferencesTest, "counts 9 references", true,
			setContent(func(t *contentTable) *ese.Column { return t.refs }, ese.Int(9)),
		},
		"references low": {
			ReferencesTest, "counts 0 references", true,
			setContent(func(t *contentTable) *ese.Column { return t.refs }, ese.Int(0)),
		},
		"unreferenced": {
			ReferencesTest, "nothing refers to it", true,
			func(b *bed, tx *ese.Tx, d *database) error {
				o := &op{s: b.s, tx: tx}
				return o.insertContent(d, 900, b.content(message(9)), 1, 0)
			},
		},
		"uidnext": {
			UIDsTest, "uidnext is 2", true,
			setFolder(func(t *folderTable) *ese.Column { return t.uidNext }, ese.Int(2)),
		},
		"next_cn": {
			ChangesTest, "next_cn is 3", true,
			setMailbox(func(t *mailboxTable) *ese.Column { return t.nextCN }, ese.Int(3)),
		},
		"highest low": {
			ChangesTest, "highest number is 1", true,
			setFolder(func(t *folderTable) *ese.Column { return t.highest }, ese.Int(1)),
		},
		"highest high": {
			ChangesTest, "highest number is 500", true,
			setFolder(func(t *folderTable) *ese.Column { return t.highest }, ese.Int(500)),
		},
		"created after modseq": {
			ChangesTest, "created at 1000", true,
			setMsg(func(t *msgTable) *ese.Column { return t.createdCN }, ese.Int(1000)),
		},
		"parent missing": {
			FoldersTest, "parent 4711 is missing", true,
			setChild("A", parent, fixed(ese.Int(4711))),
		},
		"cycle": {
			FoldersTest, "below itself", true,
			setChild("A", parent, func(_, b FolderID) ese.Value { return ese.Int(b) }),
		},
		"name with slash": {FoldersTest, "no name may hold", true, setChild("A", name, fixed(ese.String("x/y")))},
		"name not NFC":    {FoldersTest, "normal form", true, setChild("B", name, fixed(ese.String("A\u0308")))},
		"second inbox":    {FoldersTest, "that of another", true, setChild("A", name, fixed(ese.String("Inbox")))},
		"message size": {
			PlacementsTest, "its size is 3", true,
			setMsg(func(t *msgTable) *ese.Column { return t.size }, ese.Int(3)),
		},
		"content missing": {
			PlacementsTest, "is missing", false,
			setMsg(func(t *msgTable) *ese.Column { return t.cid }, ese.Int(4711)),
		},
		"keyword": {
			PlacementsTest, "keyword 8 does not exist", false,
			setMsg(func(t *msgTable) *ese.Column { return t.keywords }, keywordsValue([]uint16{8})),
		},
		"subject": {
			PromotedTest, `["subject"]`, true,
			setContent(func(t *contentTable) *ese.Column { return t.subject }, ese.String("another")),
		},
		"structure": {
			PromotedTest, `["structure"]`, true,
			setContent(func(t *contentTable) *ese.Column { return t.structure }, ese.String("xyz")),
		},
		"date": {
			PromotedTest, `["date"]`, true,
			setContent(func(t *contentTable) *ese.Column { return t.date }, ese.Int(5)),
		},
		"content size": {
			PromotedTest, `["size"]`, true,
			setContent(func(t *contentTable) *ese.Column { return t.size }, ese.Int(5)),
		},
		"hash": {
			PromotedTest, "not those that arrived", false,
			setContent(func(t *contentTable) *ese.Column { return t.hash }, ese.Bytes(make([]byte, 32))),
		},
		"stream": {
			StreamsTest, "no content has it", true,
			func(_ *bed, tx *ese.Tx, d *database) error {
				_, err := tx.WriteStream(d.db, []byte("nobody's"))
				return err
			},
		},
		"tombstone of a message that is there": {
			TombstonesTest, "with uid 1 is there", true,
			insertTomb(tombDeleted, plantFolder, 1, 400),
		},
		"tombstone of a folder that is there": {
			TombstonesTest, "the folder is there", true,
			insertTomb(tombFolder, plantFolder, 0, 400),
		},
		"tombstone of no kind": {
			TombstonesTest, "kind 9 does not exist", false,
			insertTomb(9, plantFolder, 99, 400),
		},
		"folder floor": {
			TombstonesTest, "tombs_floor is 0", true,
			setFolder(func(t *folderTable) *ese.Column { return t.tombsFloor }, ese.Int(5)),
		},
		"live message with an origin": {
			RecoverTest, "was not deleted", true,
			setMsg(func(t *msgTable) *ese.Column { return t.origin }, ese.Int(plantFolder)),
		},
		"deleted in the future": {
			RecoverTest, "will be deleted at 2", true,
			setKept(func(t *msgTable) *ese.Column { return t.saved }, ese.Int(int64(1)<<42)),
		},
		"deleted from nowhere": {
			RecoverTest, "folder 4711", true,
			setKept(func(t *msgTable) *ese.Column { return t.origin }, ese.Int(4711)),
		},
		"deleted from no folder": {
			RecoverTest, "folder 0", true,
			setKept(func(t *msgTable) *ese.Column { return t.origin }, ese.Null()),
		},
		"recoverable counters": {
			CountersTest, "counters say", true,
			func(_ *bed, tx *ese.Tx, d *database) error {
				t := &d.folder
				return tx.Update(t.t.NewRow().Set(t.count, ese.Int(9)), ese.Int(plantBox),
					ese.Int(recoverableFolder))
			},
		},
		"folder with messages missing": {
			FoldersTest, "its row is missing, 1 messages", true,
			dropFolder("A"),
		},
		"INBOX missing": {
			FoldersTest, "its row is missing, 4 messages", true, dropRow(plantFolder),
		},
		"top folder missing": {
			FoldersTest, "its row is missing, 0 messages", true, dropRow(ipmFolder),
		},
		"recoverable folder missing": {
			FoldersTest, "its row is missing, 2 messages", true, dropRow(recoverableFolder),
		},
		"mailbox missing": {
			FoldersTest, "folders or messages belong to it", true,
			func(_ *bed, tx *ese.Tx, d *database) error { return tx.Delete(d.mailbox.t, ese.Int(plantBox)) },
		},
		"path of a folder that is there": {
			RecoverTest, "noted as gone", true,
			insertGone(plantFolder, "Old"),
		},
		"path that is none": {
			RecoverTest, "which is no path", true,
			insertGone(4712, "a//b"),
		},
		"owner lost in the future": {
			RecoverTest, "will lose its owner", true,
			setMailbox(func(t *mailboxTable) *ese.Column { return t.disconnected }, ese.Int(int64(1)<<42)),
		},
		"negative retention": {
			RecoverTest, "keeps deleted messages for -5ms", true,
			setMailbox(func(t *mailboxTable) *ese.Column { return t.keepDeleted }, ese.Int(-5)),
		},
	}
}

// dropRow removes the row of a folder.
func dropRow(fid FolderID) plantFunc {
	return func(_ *bed, tx *ese.Tx, d *database) error {
		return tx.Delete(d.folder.t, ese.Int(plantBox), ese.Int(fid))
	}
}

func dropFolder(name string) plantFunc {
	return func(b *bed, tx *ese.Tx, d *database) error {
		fid, ok, err := d.childFolder(tx, plantBox, ipmFolder, name)
		if err != nil || !ok {
			return fmt.Errorf("folder %s: %v, %w", name, ok, err)
		}
		return dropRow(fid)(b, tx, d)
	}
}

// setKept changes the first recoverable message.
func setKept(c func(*msgTable) *ese.Column, v ese.Value) plantFunc {
	return func(_ *bed, tx *ese.Tx, d *database) error {
		t := &d.msg
		return tx.Update(t.t.NewRow().Set(c(t), v), ese.Int(plantBox), ese.Int(recoverableFolder), ese.Int(1))
	}
}

func insertGone(fid FolderID, path string) plantFunc {
	return func(_ *bed, tx *ese.Tx, d *database) error {
		t := &d.gone
		return tx.Insert(t.t.NewRow().Set(t.mbx, ese.Int(plantBox)).Set(t.fid, ese.Int(fid)).
			Set(t.at, ese.Int(1)).Set(t.path, ese.String(path)))
	}
}

// plantBed is a store with a mailbox of some mail in some folders, and another.
func plantBed(t *testing.T) *bed {
	t.Helper()
	b := open(t, ese.Options{}, Options{KeepDeleted: day})
	m := b.mailbox(1)
	b.mailbox(2)
	for i := range 4 {
		b.deliver(message(i), fmt.Sprint("q", i), 1, 2)
	}
	for _, name := range []string{"A", "A/B"} {
		if _, err := m.CreateFolder(t.Context(), name, RoleNone); err != nil {
			t.Fatal(err)
		}
	}
	inbox := b.folder(m, "INBOX")
	if _, err := m.Copy(t.Context(), inbox.ID, []UIDRange{{2, 3}}, b.folder(m, "A").ID); err != nil {
		t.Fatal(err)
	}
	if _, err := m.CreateFolder(t.Context(), "Gone", RoleNone); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Copy(t.Context(), inbox.ID, []UIDRange{{4, 4}}, b.folder(m, "Gone").ID); err != nil {
		t.Fatal(err)
	}
	b.expunge(m, b.folder(m, "A").ID, []UIDRange{{2, 2}})
	if err := m.DeleteFolder(t.Context(), "Gone"); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bed) plant(p planted) {
	b.t.Helper()
	err := b.in.Update(b.t.Context(), func(tx *ese.Tx) error { return p.plant(b, tx, b.s.dbs[0]) })
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) integrity(o IntegrityOptions) *IntegrityReport {
	b.t.Helper()
	r, err := b.s.CheckIntegrity(b.t.Context(), o)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

// A sound store has no findings, and each test has looked at something.
func TestIntegritySound(t *testing.T) {
	b := plantBed(t)
	m := b.mailbox(1)
	if _, err := m.Expunge(t.Context(), b.folder(m, "A").ID, ExpungeOptions{Always: true}); err != nil {
		t.Fatal(err)
	}
	for _, o := range []IntegrityOptions{{}, {Fix: true}, {Mailboxes: []MailboxID{m.ID()}}} {
		r := b.integrity(o)
		for _, f := range r.Findings {
			t.Errorf("%+v", f)
		}
		for _, n := range r.Results {
			none := n.Test == TombstonesTest || n.Test == StreamsTest && o.Mailboxes != nil
			if n.Checked == 0 && !none || n.Found != 0 || n.Mended != 0 {
				t.Errorf("%+v", n)
			}
		}
	}
}

// Each fault is found by its test, and only by those that it touches; with Fix it is mended,
// and nothing is found afterwards.
func TestIntegrityPlanted(t *testing.T) {
	for name, p := range plants() {
		t.Run(name, func(t *testing.T) {
			b := plantBed(t)
			b.faulty = !p.mended
			b.plant(p)
			b.compareFinding(b.integrity(IntegrityOptions{}), p, false)
			b.compareFinding(b.integrity(IntegrityOptions{Fix: true}), p, p.mended)
			again := b.integrity(IntegrityOptions{Fix: true})
			if (again.Left() == 0) != p.mended {
				t.Errorf("after the mending: %+v", again.Findings)
			}
		})
	}
}

// compareFinding looks for the finding of a planted fault.
func (b *bed) compareFinding(r *IntegrityReport, p planted, mended bool) {
	b.t.Helper()
	for _, f := range r.Findings {
		if f.Test == p.test && strings.Contains(f.Reason, p.reason) && (f.Mended != "") == mended {
			for _, n := range r.Results {
				if n.Test == p.test && n.Found > 0 && n.Checked > 0 && (n.Mended > 0) == mended {
					return
				}
			}
		}
	}
	b.t.Errorf("%s %q (mended: %v) is not in %+v", p.test, p.reason, mended, r)
}

// Small windows find the same.
func TestIntegrityWindows(t *testing.T) {
	b := plantBed(t)
	p := plants()["references high"]
	for _, name := range []string{"references high", "stream", "subject"} {
		b.plant(plants()[name])
	}
	want := b.integrity(IntegrityOptions{})
	for _, window := range []int{1, 2, 3, 4} {
		v := &verifier{s: b.s, ctx: t.Context(), window: window, fix: window == 4}
		got, err := v.run(IntegrityOptions{})
		if err != nil {
			t.Fatal(err)
		}
		b.compareFinding(got, p, v.fix)
		for i, r := range got.Results {
			if v.fix {
				r.Mended = 0
			}
			if r != want.Results[i] {
				t.Errorf("window %d: %+v, want %+v", window, r, want.Results[i])
			}
		}
	}
}

// What is only in the making is no fault, and mending does not hold up those who work.
func TestIntegrityBesideWork(t *testing.T) {
	b := plantBed(t)
	m := b.mailbox(1)
	inbox := b.folder(m, "INBOX").ID
	stop, done := make(chan struct{}), make(chan error)
	go func() {
		var err error
		for i := 0; err == nil; i++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			b.deliver(message(i), "", 1, 2)
			if _, err = m.Copy(t.Context(), inbox, []UIDRange{{UID(i + 1), UID(i + 1)}}, inbox); err == nil && i%5 == 4 {
				_, err = m.Expunge(t.Context(), inbox, ExpungeOptions{Ranges: []UIDRange{{UID(i), UID(i + 2)}}, Always: true})
			}
		}
		<-stop
		done <- err
	}()
	for i := range 20 {
		if i == 10 {
			b.plant(plants()["references low"])
		}
		for _, f := range b.integrity(IntegrityOptions{Fix: i > 10}).Findings {
			if i < 10 || f.Test != ReferencesTest {
				t.Errorf("round %d: %+v", i, f)
			}
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
