package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
	"pillarbox/ese/vfs"
)

// bed is a store on a disk in memory.
type bed struct {
	t  *testing.T
	fs vfs.FS
	in *ese.Instance
	s  *Store
	// faulty: what the test has planted stays.
	faulty bool
}

func open(t *testing.T, o ese.Options, so Options) *bed {
	t.Helper()
	if o.FS == nil {
		o.FS = vfs.NewMem()
	}
	o.Dir = "/data"
	in, err := ese.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), in, so)
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{t: t, fs: o.FS, in: in, s: s}
	t.Cleanup(func() {
		if !b.faulty {
			b.check()
		}
		if err := in.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		for _, name := range s.o.Databases {
			esetest.Check(t, o.FS, "/data/"+name)
		}
	})
	return b
}

func (b *bed) check() {
	b.t.Helper()
	found, err := b.s.Check(context.Background())
	if err != nil {
		b.t.Errorf("check: %v", err)
	}
	for _, f := range found {
		b.t.Error(f)
	}
}

func (b *bed) mailbox(n byte) *Mailbox {
	b.t.Helper()
	m, err := b.s.OpenMailbox(b.t.Context(), MailboxID{n})
	if err != nil {
		b.t.Fatal(err)
	}
	return m
}

func (b *bed) content(text string) *Content {
	b.t.Helper()
	w, err := b.s.NewContent(MailboxID{})
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		b.t.Fatal(err)
	}
	c, err := w.Finish()
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(c.Discard)
	return c
}

func (b *bed) deliver(text, queueID string, to ...byte) *Delivered {
	b.t.Helper()
	req := &DeliverRequest{Content: b.content(text), QueueID: queueID}
	for _, n := range to {
		req.Recipients = append(req.Recipients, Recipient{Mailbox: MailboxID{n}})
	}
	d, err := b.s.Deliver(b.t.Context(), req)
	if err != nil {
		b.t.Fatal(err)
	}
	return d
}

func (b *bed) folder(m *Mailbox, name string) Folder {
	b.t.Helper()
	f, err := m.Folder(name)
	if err != nil {
		b.t.Fatalf("folder %s: %v", name, err)
	}
	return f
}

func (b *bed) read(m *Mailbox, fid FolderID, uid UID) string {
	b.t.Helper()
	r, err := m.Open(fid, uid)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	text, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	if err != nil {
		b.t.Fatal(err)
	}
	return string(text)
}

func message(n int) string {
	return fmt.Sprintf("From: a@x.test\r\nSubject: n %d\r\nMessage-ID: <%d@x>\r\n\r\nbody %d\r\n", n, n, n)
}

func all() []UIDRange { return []UIDRange{{1, ^UID(0)}} }

func TestNewMailbox(t *testing.T) {
	b := open(t, ese.Options{}, Options{})
	m := b.mailbox(1)
	folders, err := m.Folders()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	seen := make(map[uint32]bool)
	for _, f := range folders {
		names = append(names, f.Name)
		if f.UIDNext != 1 || f.UIDValidity == 0 || seen[f.UIDValidity] || f.HighestCN == 0 {
			t.Errorf("folder %+v", f)
		}
		seen[f.UIDValidity] = true
	}
	want := []string{"INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash"}
	if !slices.Equal(names, want) {
		t.Errorf("folders %q, want %q", names, want)
	}
	subs, err := m.Subscriptions()
	if err != nil || len(subs) != len(want) {
		t.Errorf("subscriptions %q, %v", subs, err)
	}
	if _, err := b.s.Mailbox(MailboxID{9}); !errors.Is(err, ErrNoMailbox) {
		t.Errorf("missing mailbox: %v", err)
	}
}

func TestDeliverToMany(t *testing.T) {
	b := open(t, ese.Options{}, Options{})
	text := message(1)
	var got *Delivered
	runs := 0
	d, err := b.s.Deliver(t.Context(), &DeliverRequest{
		Content: b.content(text), QueueID: "Q1", Hold: 1,
		Recipients: []Recipient{
			{Mailbox: MailboxID{1}, Keywords: []string{"$Forwarded", "blue"}},
			{Mailbox: MailboxID{2}, Folder: 0x17},
			{Mailbox: MailboxID{1}},
			{Mailbox: MailboxID{3}, Folder: 4711, Flags: FlagFlagged},
		},
		Extra: func(_ *ese.Tx, d *Delivered) error {
			runs++
			got = d
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if runs != 1 || got == nil || len(d.Placed) != 4 || !d.Placed[2].Duplicate {
		t.Fatalf("delivered %+v, %d runs", d, runs)
	}
	for i, n := range []byte{1, 2, 0, 3} {
		if n != 0 {
			if s := b.read(b.mailbox(n), d.Placed[i].Folder, d.Placed[i].UID); s != text {
				t.Errorf("mailbox %d reads %q", n, s)
			}
		}
	}
	msgs, _, err := b.mailbox(1).Messages(d.Placed[0].Folder, all(), Want{Structure: true})
	if err != nil || len(msgs) != 1 || msgs[0].Flags != FlagForwarded ||
		!slices.Equal(msgs[0].Keywords, []string{"blue", "$Forwarded"}) || len(msgs[0].Structure) == 0 {
		t.Errorf("messages %+v, %v", msgs, err)
	}
	// The same queue id again: those that have it get no second one.
	d2 := b.deliver(text, "Q1", 1, 4)
	if !d2.Placed[0].Duplicate || d2.Placed[0].UID != d.Placed[0].UID || d2.Placed[1].Duplicate {
		t.Errorf("second delivery %+v", d2.Placed)
	}
	b.testHeld(d.Held, text)
}

// testHeld drops all placements of a held content and reads and releases it.
func (b *bed) testHeld(id ContentID, text string) {
	b.t.Helper()
	for n := byte(1); n <= 4; n++ {
		m := b.mailbox(n)
		folders, err := m.Folders()
		if err != nil {
			b.t.Fatal(err)
		}
		for _, f := range folders {
			if _, err := m.Expunge(b.t.Context(), f.ID, ExpungeOptions{Always: true}); err != nil {
				b.t.Fatal(err)
			}
		}
	}
	h, err := b.s.OpenHeld(id)
	if err != nil {
		b.t.Fatal(err)
	}
	err = b.in.Update(b.t.Context(), func(tx *ese.Tx) error { return b.s.Release(tx, id) })
	if err != nil {
		b.t.Fatal(err)
	}
	got, err := io.ReadAll(io.NewSectionReader(h, 0, h.Size()))
	if err != nil || string(got) != text {
		b.t.Errorf("held content after its release: %q, %v", got, err)
	}
	if err := h.Close(); err != nil {
		b.t.Error(err)
	}
	if _, err := b.s.OpenHeld(id); !errors.Is(err, ErrNoMessage) {
		b.t.Errorf("released content: %v", err)
	}
}

func TestDeliverFailsWhole(t *testing.T) {
	b := open(t, ese.Options{}, Options{})
	boom := errors.New("boom")
	c := b.content(strings.Repeat("0123456789abcde\n", 10<<10)) // a stream
	req := &DeliverRequest{
		Content: c, Recipients: []Recipient{{Mailbox: MailboxID{1}}},
		Extra: func(*ese.Tx, *Delivered) error { return boom },
	}
	if _, err := b.s.Deliver(t.Context(), req); !errors.Is(err, boom) {
		t.Fatalf("deliver: %v", err)
	}
	m := b.mailbox(1)
	if f := b.folder(m, "INBOX"); f.Messages != 0 || f.UIDNext != 1 {
		t.Errorf("INBOX after a failed delivery: %+v", f)
	}
	req.Extra = nil
	d, err := b.s.Deliver(t.Context(), req)
	if err != nil || d.Placed[0].UID != 1 {
		t.Fatalf("again: %+v, %v", d, err)
	}
	if got := b.read(m, d.Placed[0].Folder, 1); len(got) != 160<<10 {
		t.Errorf("%d bytes", len(got))
	}
}

func TestTwoDatabases(t *testing.T) {
	b := open(t, ese.Options{}, Options{Databases: []string{"priv1.edb", "priv2.edb"}})
	b.mailbox(1)
	if err := b.s.CreateMailboxes(t.Context(), 1, []MailboxID{{2}}); err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("0123456789abcde\n", 8<<10)
	d := b.deliver(text, "", 1, 2)
	for i, n := range []byte{1, 2} {
		if got := b.read(b.mailbox(n), d.Placed[i].Folder, d.Placed[i].UID); got != text {
			t.Errorf("mailbox %d has %d bytes", n, len(got))
		}
	}
}

func TestQuota(t *testing.T) {
	b := open(t, ese.Options{}, Options{QuotaMessages: 1})
	d := b.deliver(message(1), "", 1, 2)
	if d.Placed[0].Err != nil {
		t.Fatal(d.Placed[0].Err)
	}
	if err := b.mailbox(2).SetQuota(t.Context(), 0, 0); err != nil {
		t.Fatal(err)
	}
	d = b.deliver(message(2), "", 1, 2)
	if !errors.Is(d.Placed[0].Err, ErrQuota) || d.Placed[1].Err != nil {
		t.Errorf("over quota: %+v", d.Placed)
	}
	m := b.mailbox(1)
	if err := m.Room(1); !errors.Is(err, ErrQuota) {
		t.Errorf("room: %v", err)
	}
	inbox := b.folder(m, "INBOX").ID
	if _, err := m.Copy(t.Context(), inbox, all(), inbox); !errors.Is(err, ErrQuota) {
		t.Errorf("copy: %v", err)
	}
	_, err := m.Append(t.Context(), inbox, AppendRequest{}, strings.NewReader("x"))
	if !errors.Is(err, ErrQuota) {
		t.Errorf("append: %v", err)
	}
}

func TestThreads(t *testing.T) {
	b := open(t, ese.Options{}, Options{})
	head := func(id, subject, refs string) string {
		return "Message-ID: <" + id + ">\r\nSubject: " + subject + "\r\n" + refs + "\r\nx\r\n"
	}
	for _, s := range []string{
		head("reply", "Re: plan", "In-Reply-To: <first>\r\n"), // before its parent
		head("first", "Plan", ""),
		head("third", "plan", "References: <first> <reply>\r\n"),
		head("other", "another plan", "In-Reply-To: <first>\r\n"),
		"\r\nno header\r\n",
	} {
		b.deliver(s, "", 1)
	}
	m := b.mailbox(1)
	msgs, _, err := m.Messages(b.folder(m, "INBOX").ID, all(), Want{})
	if err != nil || len(msgs) != 5 {
		t.Fatal(len(msgs), err)
	}
	th := func(i int) ThreadID { return msgs[i].ThreadID }
	if th(0) != th(1) || th(1) != th(2) || th(3) == th(0) || th(4) == th(3) || th(4) == 0 {
		t.Errorf("threads %d %d %d %d %d", th(0), th(1), th(2), th(3), th(4))
	}
}

func TestFolders(t *testing.T) {
	b := open(t, ese.Options{}, Options{BatchMessages: 2})
	m := b.mailbox(1)
	ctx := t.Context()
	for range 5 {
		b.deliver(message(1), "", 1)
	}
	bad := []string{"", "/", "a//b", "/a", "a/", "a\x01", "\xff", strings.Repeat("x", 256)}
	for _, name := range bad {
		if _, err := m.CreateFolder(ctx, name, RoleNone); !errors.Is(err, ErrBadName) {
			t.Errorf("create %q: %v", name, err)
		}
	}
	steps := []struct {
		what string
		do   func() error
		want error
	}{
		{"create a/b/c", func() error { _, err := m.CreateFolder(ctx, "a/b/c", RoleNone); return err }, nil},
		{"again", func() error { _, err := m.CreateFolder(ctx, "a/b", RoleNone); return err }, ErrExists},
		{"second Sent", func() error { _, err := m.CreateFolder(ctx, "s", RoleSent); return err }, ErrExists},
		{"inbox/sub", func() error { _, err := m.CreateFolder(ctx, "inbox/sub", RoleNone); return err }, nil},
		{"under itself", func() error { return m.RenameFolder(ctx, "a", "a/x") }, ErrReserved},
		{"onto another", func() error { return m.RenameFolder(ctx, "a", "Sent") }, ErrExists},
		{"missing", func() error { return m.RenameFolder(ctx, "nix", "y") }, ErrNoFolder},
		{"rename", func() error { return m.RenameFolder(ctx, "a", "z/y/a2") }, nil},
		{"rename inbox", func() error { return m.RenameFolder(ctx, "Inbox", "INBOX/old") }, nil},
		{"delete inbox", func() error { return m.DeleteFolder(ctx, "INBOX") }, ErrReserved},
		{"delete holder", func() error { return m.DeleteFolder(ctx, "z/y") }, nil},
		{"delete holder twice", func() error { return m.DeleteFolder(ctx, "z/y") }, ErrReserved},
	}
	for _, s := range steps {
		if err := s.do(); !errors.Is(err, s.want) {
			t.Fatalf("%s: %v, want %v", s.what, err, s.want)
		}
		b.check()
	}
	b.folder(m, "z/y/a2/b/c")
	b.folder(m, "INBOX/sub")
	old := b.folder(m, "INBOX/old")
	if inbox := b.folder(m, "INBOX"); old.Messages != 5 || inbox.Messages != 0 || inbox.UIDValidity <= old.UIDValidity {
		t.Errorf("after renaming INBOX: %+v and %+v", inbox, old)
	}
	b.deliver(message(2), "", 1)
	if inbox := b.folder(m, "INBOX"); inbox.Messages != 1 {
		t.Errorf("new INBOX has %d messages", inbox.Messages)
	}
	if f := b.folder(m, "z/y"); !f.NoSelect {
		t.Error("z/y can be selected")
	}
	if _, err := m.CreateFolder(ctx, "z/y", RoleNone); err != nil || b.folder(m, "z/y").NoSelect {
		t.Errorf("made again: %v", err)
	}
	// Five messages in batches of two, then the folder.
	if err := m.DeleteFolder(ctx, "INBOX/old"); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Snapshot(old.ID); !errors.Is(err, ErrNoFolder) {
		t.Errorf("deleted folder: %v", err)
	}
	if err := m.Unsubscribe(ctx, "Sent"); err != nil {
		t.Error(err)
	}
	if err := m.Subscribe(ctx, "not/there"); err != nil {
		t.Error(err)
	}
	subs, err := m.Subscriptions()
	if err != nil || slices.Contains(subs, "Sent") || !slices.Contains(subs, "not/there") {
		t.Errorf("subscriptions %q, %v", subs, err)
	}
}

func TestFlagsAndChanges(t *testing.T) {
	b := open(t, ese.Options{}, Options{BatchMessages: 3})
	m := b.mailbox(1)
	ctx := t.Context()
	for i := range 8 {
		b.deliver(message(i), "", 1)
	}
	inbox := b.folder(m, "INBOX")
	since := inbox.HighestCN
	res, err := m.StoreFlags(ctx, inbox.ID, []UIDRange{{2, 2}, {4, 7}}, FlagChange{
		Mode: FlagsAdd, Flags: FlagSeen | FlagDeleted, Keywords: []string{"red", "RED", "$mdnsent"},
	})
	if err != nil || len(res.Changed) != 5 || !slices.Equal(res.Changed[4].Keywords, []string{"red", "$MDNSent"}) {
		t.Fatalf("store: %+v, %v", res, err)
	}
	if f := b.folder(m, "INBOX"); f.Unseen != 3 || f.Deleted != 5 {
		t.Errorf("counts %+v", f)
	}
	// Again changes nothing and takes no number.
	now := b.folder(m, "INBOX").HighestCN
	if _, err := m.StoreFlags(ctx, inbox.ID, all(), FlagChange{
		Mode: FlagsRemove, Keywords: []string{"unknown"},
	}); err != nil || b.folder(m, "INBOX").HighestCN != now {
		t.Errorf("no change: %v", err)
	}
	res, err = m.StoreFlags(ctx, inbox.ID, all(), FlagChange{
		Mode: FlagsReplace, Conditional: true, UnchangedSince: since, Keywords: []string{"green"},
	})
	if err != nil || len(res.Changed) != 3 || !slices.Equal(res.Modified, []UID{2, 4, 5, 6, 7}) {
		t.Errorf("conditional: %+v, %v", res, err)
	}
	gone, err := m.Expunge(ctx, inbox.ID, ExpungeOptions{Ranges: []UIDRange{{1, 5}}})
	if err != nil || !slices.Equal(gone, []UID{2, 4, 5}) {
		t.Errorf("expunge: %v, %v", gone, err)
	}
	b.deliver(message(9), "", 1)
	b.deliver(message(10), "", 1)
	if _, err := m.Expunge(ctx, inbox.ID, ExpungeOptions{Ranges: []UIDRange{{10, 10}}, Always: true}); err != nil {
		t.Fatal(err)
	}
	ch, err := m.Changes(inbox.ID, since)
	if err != nil || !slices.Equal(ch.Added, []UID{9}) || !slices.Equal(ch.Expunged, []UID{2, 4, 5}) {
		t.Fatalf("changes %+v, %v", ch, err)
	}
	var uids []UID
	for _, f := range ch.Flags {
		uids = append(uids, f.UID)
	}
	if !slices.Equal(uids, []UID{1, 3, 6, 7, 8}) || !slices.Equal(ch.Keywords, []string{"red", "green"}) {
		t.Errorf("flags of %v, keywords %q", uids, ch.Keywords)
	}
	if _, err := m.StoreFlags(ctx, inbox.ID, all(), FlagChange{Keywords: []string{"a b"}}); !errors.Is(err, ErrBadName) {
		t.Errorf("bad keyword: %v", err)
	}
	if ch, err := m.Changes(inbox.ID, ch.HighestCN); err != nil || len(ch.Added)+len(ch.Flags)+len(ch.Expunged) != 0 {
		t.Errorf("no changes: %+v, %v", ch, err)
	}
}

func TestCopyMove(t *testing.T) {
	b := open(t, ese.Options{}, Options{BatchMessages: 3})
	m := b.mailbox(1)
	ctx := t.Context()
	for i := range 7 {
		b.deliver(message(i), "", 1)
	}
	inbox, arch := b.folder(m, "INBOX").ID, b.folder(m, "Archive").ID
	res, err := m.Copy(ctx, inbox, []UIDRange{{2, 6}}, arch)
	if err != nil || !slices.Equal(res.Dest, []UID{1, 2, 3, 4, 5}) {
		t.Fatalf("copy %+v, %v", res, err)
	}
	if res, err = m.Copy(ctx, inbox, all(), inbox); err != nil || len(res.Dest) != 7 || res.Dest[0] != 8 {
		t.Fatalf("copy into itself %+v, %v", res, err)
	}
	if res, err = m.Move(ctx, inbox, []UIDRange{{1, 7}}, arch); err != nil || len(res.Dest) != 7 {
		t.Fatalf("move %+v, %v", res, err)
	}
	if res, err = m.Move(ctx, inbox, all(), inbox); err != nil || len(res.Dest) != 7 || res.Dest[0] != 15 {
		t.Fatalf("move into itself %+v, %v", res, err)
	}
	a, _, err := m.Messages(arch, all(), Want{})
	if err != nil {
		t.Fatal(err)
	}
	ids := make(map[EmailID]bool)
	for _, msg := range a {
		if ids[msg.EmailID] {
			t.Errorf("email id %d twice in one folder", msg.EmailID)
		}
		ids[msg.EmailID] = true
	}
	if _, err := m.Copy(ctx, inbox, all(), 4711); !errors.Is(err, ErrNoFolder) {
		t.Errorf("no such folder: %v", err)
	}
	if got := b.read(m, arch, 12); got != message(6) {
		t.Errorf("moved message reads %q", got)
	}
}

func TestWaitAndMaildrop(t *testing.T) {
	b := open(t, ese.Options{}, Options{})
	m := b.mailbox(1)
	b.deliver(message(1), "", 1)
	inbox := b.folder(m, "INBOX")
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := m.Wait(ctx, inbox.ID, inbox.HighestCN); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nothing new: %v", err)
	}
	done := make(chan error)
	go func() { done <- m.Wait(context.Background(), inbox.ID, inbox.HighestCN) }()
	b.deliver(message(2), "", 1)
	if err := <-done; err != nil {
		t.Error(err)
	}
	d, err := m.Maildrop()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Maildrop(); !errors.Is(err, ErrInUse) {
		t.Errorf("second session: %v", err)
	}
	want := fmt.Sprintf("%d.2", inbox.UIDValidity)
	if list := d.Messages(); len(list) != 2 || list[1].UIDL != want {
		t.Errorf("list %+v, want %s", list, want)
	}
	if err := d.Remove(t.Context(), []int{0}); err != nil {
		t.Error(err)
	}
	if _, err := d.Open(0); !errors.Is(err, ErrNoMessage) {
		t.Errorf("removed message: %v", err)
	}
	d.Close()
	d.Close()
	if d, err = m.Maildrop(); err != nil {
		t.Fatal(err)
	}
	d.Close()
}

func TestReadWhileExpunged(t *testing.T) {
	b := open(t, ese.Options{}, Options{})
	m := b.mailbox(1)
	text := strings.Repeat("0123456789abcde\n", 64<<10)
	d := b.deliver(text, "", 1)
	fid := d.Placed[0].Folder
	r, err := m.Open(fid, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Expunge(t.Context(), fid, ExpungeOptions{Always: true}); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		b.deliver(text[:len(text)/2], "", 2)
	}
	got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	if err != nil || string(got) != text {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// TestSharedSyncs delivers to one mailbox from 64 connections at once: each UID is given once.
// How many syncs the 64 share is measured on a real disk by test/cost; here a sync takes no time
// and nothing gathers behind it.
func TestSharedSyncs(t *testing.T) {
	fs := vfs.NewCounter(vfs.NewMem())
	b := open(t, ese.Options{FS: fs}, Options{})
	b.mailbox(1)
	var wg sync.WaitGroup
	uids := make([][]UID, 64)
	before := fs.Syncs(".log")
	for g := range 64 {
		wg.Go(func() {
			for i := range 8 {
				uids[g] = append(uids[g], b.deliver(message(i), "", 1).Placed[0].UID)
			}
		})
	}
	wg.Wait()
	all := slices.Concat(uids...)
	slices.Sort(all)
	for i, u := range all {
		if u != UID(i+1) {
			t.Fatalf("uid %d at %d", u, i)
		}
	}
	syncs := fs.Syncs(".log") - before
	t.Logf("%d deliveries, %d syncs of the log", len(all), syncs)
	if syncs > int64(len(all)) {
		t.Errorf("%d syncs for %d deliveries", syncs, len(all))
	}
}

// TestLoneSync shows that a lone delivery costs one sync of the log. The background, which cleans up behind
// it with syncs of its own, stands still.
func TestLoneSync(t *testing.T) {
	fs := vfs.NewCounter(vfs.NewMem())
	b := open(t, ese.Options{FS: fs, Manual: true}, Options{})
	b.mailbox(1)
	for i := range 20 {
		before := fs.Syncs(".log")
		b.deliver(message(i), "", 1)
		if n := fs.Syncs(".log") - before; n != 1 {
			t.Errorf("delivery %d costs %d syncs", i, n)
		}
	}
}

func TestReopen(t *testing.T) {
	disk := vfs.NewMem()
	in, err := ese.Open(ese.Options{FS: disk, Dir: "/data"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), in, Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{t: t, in: in, s: s}
	b.deliver(message(1), "", 1)
	cid := s.nextCID.Load()
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	b = open(t, ese.Options{FS: disk}, Options{})
	if b.s.nextCID.Load() != cid {
		t.Errorf("content ids go on after %d, not %d", b.s.nextCID.Load(), cid)
	}
	m := b.mailbox(1)
	if got := b.read(m, b.folder(m, "INBOX").ID, 1); got != message(1) {
		t.Errorf("reads %q", got)
	}
}

// TestSharedContent lets eight mailboxes copy and expunge the same contents at once: only the
// reference counts are shared, and they conflict.
func TestSharedContent(t *testing.T) {
	b := open(t, ese.Options{PageSize: 4096, CacheBytes: 1 << 20}, Options{BatchMessages: 4})
	const n = 8
	for i := range 20 {
		b.deliver(message(i), "", 1, 2, 3, 4, 5, 6, 7, 8)
	}
	var wg sync.WaitGroup
	for g := range byte(n) {
		m := b.mailbox(g + 1)
		inbox, arch := b.folder(m, "INBOX").ID, b.folder(m, "Archive").ID
		wg.Go(func() {
			for i := range 4 {
				if _, err := m.Copy(t.Context(), inbox, []UIDRange{{UID(1 + i), 10}}, arch); err != nil {
					t.Error(err)
				}
				last := UID(3 * (i + 1))
				opt := ExpungeOptions{Ranges: []UIDRange{{1, last}}, Always: true}
				if _, err := m.Expunge(t.Context(), inbox, opt); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
