package store

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pillarbox/ese"
	"pillarbox/ese/vfs"
)

const day = 24 * time.Hour

// keepBed is a store that keeps what is deleted, with a clock that the test moves.
func keepBed(t *testing.T, o Options) (*bed, *time.Time) {
	t.Helper()
	now := time.Unix(1_800_000_000, 0)
	o.Now = func() time.Time { return now }
	if o.KeepDeleted == 0 {
		o.KeepDeleted = 14 * day
	}
	return open(t, ese.Options{}, o), &now
}

func (b *bed) recoverables(m *Mailbox) []Recoverable {
	b.t.Helper()
	var all []Recoverable
	for next := UID(1); next != 0; {
		var some []Recoverable
		var err error
		if some, next, err = m.Recoverables(next, 2); err != nil {
			b.t.Fatal(err)
		}
		all = append(all, some...)
	}
	return all
}

func ids(list []Recoverable) (out []UID) {
	for _, r := range list {
		out = append(out, r.ID)
	}
	return out
}

func (b *bed) undelete(m *Mailbox, into string, want int) {
	b.t.Helper()
	n, err := m.Undelete(b.t.Context(), ids(b.recoverables(m)), into)
	if err != nil || n != want {
		b.t.Fatalf("undelete: %d, %v, not %d", n, err, want)
	}
}

func (b *bed) expunge(m *Mailbox, fid FolderID, ranges []UIDRange) {
	b.t.Helper()
	if _, err := m.Expunge(b.t.Context(), fid, ExpungeOptions{Ranges: ranges, Always: true}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) messages(m *Mailbox, fid FolderID) []Message {
	b.t.Helper()
	msgs, _, err := m.Messages(fid, all(), Want{Limit: 1000})
	if err != nil {
		b.t.Fatal(err)
	}
	return msgs
}

// What is expunged is seen by nobody, counted by no quota, and comes back as it was under a new
// UID, once.
func TestUndelete(t *testing.T) {
	b, now := keepBed(t, Options{BatchMessages: 2})
	m := b.mailbox(1)
	for i := range 5 {
		b.deliver(message(i), fmt.Sprint("q", i), 1, 2)
	}
	inbox := b.folder(m, "INBOX")
	change := FlagChange{Mode: FlagsAdd, Flags: FlagSeen | FlagDeleted, Keywords: []string{"red"}}
	if _, err := m.StoreFlags(t.Context(), inbox.ID, []UIDRange{{2, 4}}, change); err != nil {
		t.Fatal(err)
	}
	before := b.messages(m, inbox.ID)
	full, err := m.Info()
	if err != nil {
		t.Fatal(err)
	}
	*now = now.Add(time.Hour)
	if gone, err := m.Expunge(t.Context(), inbox.ID, ExpungeOptions{}); err != nil || len(gone) != 3 {
		t.Fatal(gone, err)
	}
	info, err := m.Info()
	if err != nil || info.Messages != 2 || info.Size != full.Size*2/5 || info.Recoverable != 3 ||
		info.RecoverableSize != full.Size*3/5 {
		t.Fatalf("%+v, %v", info, err)
	}
	folders, err := m.Folders()
	if err != nil || len(folders) != len(standardFolders()) {
		t.Fatalf("%+v, %v", folders, err)
	}
	if _, err := m.Snapshot(recoverableFolder); !errors.Is(err, ErrNoFolder) {
		t.Errorf("the recoverable messages are shown: %v", err)
	}
	list := b.recoverables(m)
	if len(list) != 3 || list[0].Folder != "INBOX" || list[0].Subject != "n 1" ||
		list[0].MessageID != "<1@x>" || list[0].From != "a@x.test" || !list[0].Deleted.Equal(*now) ||
		list[0].Flags != FlagSeen {
		t.Fatalf("%+v", list)
	}
	b.undelete(m, "", 3)
	after := b.messages(m, inbox.ID)
	if len(after) != 5 || after[2].UID != 6 || after[4].UID != 8 {
		t.Fatalf("%+v", after)
	}
	for i, was := range before[1:4] {
		is := after[2+i]
		if is.EmailID != was.EmailID || is.ThreadID != was.ThreadID || is.Flags != FlagSeen ||
			!slices.Equal(is.Keywords, was.Keywords) || !is.Received.Equal(was.Received) {
			t.Errorf("%+v came back as %+v", was, is)
		}
		if got := b.read(m, inbox.ID, is.UID); got != message(i+1) {
			t.Errorf("uid %d is %q", is.UID, got)
		}
	}
	if n, err := m.Undelete(t.Context(), ids(list), ""); n != 0 || err != nil {
		t.Errorf("again: %d, %v", n, err)
	}
	if info, err = m.Info(); err != nil || info.Messages != 5 || info.Recoverable != 0 {
		t.Errorf("%+v, %v", info, err)
	}
	// A message that the queue brings once more was delivered, whatever became of it since.
	b.expunge(m, inbox.ID, []UIDRange{{6, 6}})
	if d := b.deliver(message(1), "q1", 1); !d.Placed[0].Duplicate {
		t.Errorf("delivered again: %+v", d.Placed[0])
	}
}

// A folder that was deleted comes back under the path it had, also below one that is only a name.
func TestUndeleteFolders(t *testing.T) {
	b, _ := keepBed(t, Options{})
	m := b.mailbox(1)
	b.deliver(message(1), "", 1)
	inbox := b.folder(m, "INBOX")
	for _, name := range []string{"A/B", "A/C", "D"} {
		if _, err := m.CreateFolder(t.Context(), name, RoleNone); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"A", "A/B", "D"} {
		if _, err := m.Copy(t.Context(), inbox.ID, all(), b.folder(m, name).ID); err != nil {
			t.Fatal(err)
		}
	}
	validity := b.folder(m, "A/B").UIDValidity
	for _, name := range []string{"A/B", "A", "D"} { // A stays as a name, for C
		if err := m.DeleteFolder(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	if f := b.folder(m, "A"); !f.NoSelect {
		t.Fatalf("%+v", f)
	}
	list := b.recoverables(m)
	var paths []string
	for _, r := range list {
		paths = append(paths, r.Folder)
	}
	if !slices.Equal(paths, []string{"A/B", "A", "D"}) {
		t.Fatal(paths)
	}
	if n, err := m.Undelete(t.Context(), ids(list)[:2], ""); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	for _, name := range []string{"A", "A/B"} {
		f := b.folder(m, name)
		if f.Messages != 1 || f.NoSelect || f.UIDValidity <= validity {
			t.Errorf("%+v", f)
		}
	}
	b.undelete(m, "Back/Here", 1)
	if f := b.folder(m, "Back/Here"); f.Messages != 1 {
		t.Errorf("%+v", f)
	}
	// A renamed folder is the same one.
	b.expunge(m, b.folder(m, "A/B").ID, nil)
	if err := m.RenameFolder(t.Context(), "A/B", "E"); err != nil {
		t.Fatal(err)
	}
	if r := b.recoverables(m); len(r) != 1 || r[0].Folder != "E" {
		t.Errorf("%+v", r)
	}
	b.undelete(m, "", 1)
	if f := b.folder(m, "E"); f.Messages != 1 {
		t.Errorf("%+v", f)
	}
	if _, err := m.Undelete(t.Context(), []UID{1}, "a//b"); !errors.Is(err, ErrBadName) {
		t.Error(err)
	}
}

// Coming back needs room as arriving does; what POP3 removes is kept too.
func TestUndeleteQuota(t *testing.T) {
	b, _ := keepBed(t, Options{BatchMessages: 2})
	m := b.mailbox(1)
	for i := range 5 {
		b.deliver(message(i), "", 1)
	}
	d, err := m.Maildrop()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(t.Context(), []int{0, 1, 2, 3, 4}); err != nil {
		t.Fatal(err)
	}
	d.Close()
	if err := m.SetQuota(t.Context(), 0, 3); err != nil {
		t.Fatal(err)
	}
	list := ids(b.recoverables(m))
	if n, err := m.Undelete(t.Context(), list, ""); n != 3 || !errors.Is(err, ErrQuota) {
		t.Fatal(n, err)
	}
	if got := ids(b.recoverables(m)); !slices.Equal(got, list[3:]) {
		t.Errorf("%v are left of %v", got, list)
	}
	if err := m.SetQuota(t.Context(), 0, 0); err != nil {
		t.Fatal(err)
	}
	b.undelete(m, "", 2)
}

// A deletion is told to clients as one of the e-mail unless another folder that they see has it.
func TestDeletedKinds(t *testing.T) {
	b, _ := keepBed(t, Options{})
	m := b.mailbox(1)
	b.deliver(message(1), "", 1)
	inbox := b.folder(m, "INBOX")
	archive := b.folder(m, "Archive")
	if _, err := m.Copy(t.Context(), inbox.ID, all(), archive.ID); err != nil {
		t.Fatal(err)
	}
	b.expunge(m, inbox.ID, nil)
	b.expunge(m, archive.ID, nil)
	var kinds []tombKind
	err := b.in.View(func(tx *ese.Tx) error {
		c := checker{ctx: t.Context(), tx: tx}
		tb := &b.s.dbs[0].tomb
		return c.each(tb.t, func(v *ese.RowView) error {
			kinds = append(kinds, tombKind(v.Int(tb.kind)))
			return nil
		})
	})
	if err != nil || !slices.Equal(kinds, []tombKind{tombPlacement, tombDeleted}) {
		t.Error(kinds, err)
	}
	// Both come back, each to its folder, as the same e-mail.
	b.undelete(m, "", 2)
	if x, y := b.messages(m, inbox.ID), b.messages(m, archive.ID); x[0].EmailID != y[0].EmailID {
		t.Error(x, y)
	}
	b.expunge(m, inbox.ID, nil)
	b.expunge(m, archive.ID, nil)
	b.undelete(m, "One", 2) // a folder holds an e-mail once under its identity
	if x := b.messages(m, b.folder(m, "One").ID); x[0].EmailID == x[1].EmailID {
		t.Error(x)
	}
}

// version1 are the tables as version 1 made them.
func version1() (defs []ese.TableDef) {
	later := []string{
		"bits", "disconnected", "keep_deleted", "address", "tombs_floor", "origin",
	}
	for _, def := range tableDefs() {
		def.Columns = slices.DeleteFunc(def.Columns, func(c ese.ColumnDef) bool {
			return slices.Contains(later, c.Name) && def.Name+c.Name != "Folderbits" &&
				def.Name+c.Name != "Mailboxtombs_floor"
		})
		if def.Name != "GoneFolder" {
			defs = append(defs, def)
		}
	}
	return defs
}

// oldStore is a store with the tables of version 1.
func oldStore(t *testing.T, in *ese.Instance, o Options) *Store {
	t.Helper()
	o.setDefaults()
	db, err := in.OpenDatabase("priv1.edb")
	if err != nil {
		t.Fatal(err)
	}
	err = in.Update(t.Context(), func(tx *ese.Tx) error {
		for _, def := range version1() {
			if _, err := tx.CreateTable(db, def); err != nil {
				return err
			}
		}
		return nil
	})
	d := &database{db: db}
	if err == nil {
		err = d.resolve()
	}
	if err == nil {
		err = in.Update(t.Context(), func(tx *ese.Tx) error { return d.setGlobal(tx, versionKey, 1) })
	}
	if err != nil {
		t.Fatal(err)
	}
	return &Store{in: in, o: o, boxes: make(map[MailboxID]*box), dbs: []*database{d}}
}

// A store made by version 1 opens with its mail, also read-only, and gets what is new.
func TestUpgrade(t *testing.T) {
	mem := vfs.NewMem()
	again := func(o ese.Options) *ese.Instance {
		o.FS, o.Dir = mem, "/data"
		in, err := ese.Open(o)
		if err != nil {
			t.Fatal(err)
		}
		return in
	}
	in := again(ese.Options{})
	old := &bed{t: t, fs: mem, in: in, s: oldStore(t, in, Options{})}
	m := old.mailbox(1)
	for i := range 3 {
		old.deliver(message(i), "", 1)
	}
	inbox := old.folder(m, "INBOX").ID
	old.expunge(m, inbox, []UIDRange{{2, 2}})
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}

	in = again(ese.Options{ReadOnly: true})
	s, err := Open(t.Context(), in, Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{t: t, fs: mem, in: in, s: s}
	if m, err = s.Mailbox(MailboxID{1}); err != nil {
		t.Fatal(err)
	}
	if got := b.messages(m, inbox); len(got) != 2 || len(b.recoverables(m)) != 0 {
		t.Errorf("%+v", got)
	}
	b.check()
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}

	b = open(t, ese.Options{FS: mem}, Options{KeepDeleted: day})
	m = b.mailbox(1)
	if got := b.messages(m, inbox); len(got) != 2 {
		t.Errorf("%+v", got)
	}
	b.check()
	b.expunge(m, inbox, nil)
	b.undelete(m, "", 2)
	if err := m.SetHold(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if r := b.integrity(IntegrityOptions{}); r.Left() != 0 {
		t.Errorf("%+v", r.Findings)
	}
	if whole, err := b.s.dbs[0].complete(); err != nil || !whole {
		t.Error(whole, err)
	}
}
