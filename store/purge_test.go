package store

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pillarbox/ese"
)

// pass runs a purge to the end of a pass and returns its steps that changed something.
func (b *bed) pass(p *Purge) (steps int) {
	b.t.Helper()
	for range 10_000 {
		did, done, err := p.Step(b.t.Context())
		if err != nil {
			b.t.Fatal(err)
		}
		if did {
			steps++
		}
		if done {
			return steps
		}
	}
	b.t.Fatal("the pass does not end")
	return 0
}

func (b *bed) contents() (n int) {
	b.t.Helper()
	err := b.in.View(func(tx *ese.Tx) error {
		c := checker{ctx: b.t.Context(), tx: tx}
		return c.each(b.s.dbs[0].content.t, func(*ese.RowView) error { n++; return nil })
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

// Messages go when their time is over, in steps of bounded size; those of a mailbox on hold or
// with a longer time of its own do not.
func TestPurge(t *testing.T) {
	b, now := keepBed(t, Options{BatchMessages: 2})
	var boxes []*Mailbox
	for n := range byte(4) {
		boxes = append(boxes, b.mailbox(n+1))
	}
	plain, held, long, none := boxes[0], boxes[1], boxes[2], boxes[3]
	if err := held.SetHold(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if err := long.SetKeepDeleted(t.Context(), 30*day); err != nil {
		t.Fatal(err)
	}
	if err := none.SetKeepDeleted(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		b.deliver(message(i), "", 1, 2, 3, 4)
	}
	p := b.s.NewPurge(PurgeOptions{})
	for i, m := range boxes {
		f := b.folder(m, "INBOX").ID
		b.expunge(m, f, []UIDRange{{1, 4}})
		want := 4
		if i == 3 {
			want = 0
		}
		if got := len(b.recoverables(m)); got != want {
			t.Errorf("mailbox %d keeps %d", i, got)
		}
	}
	*now = now.Add(14 * day)
	b.expunge(plain, b.folder(plain, "INBOX").ID, nil)
	if steps := b.pass(p); steps != 0 {
		t.Errorf("%d steps before the time", steps)
	}
	*now = now.Add(time.Minute)
	if steps := b.pass(p); steps < 2 || p.Purged().Messages != 4 {
		t.Errorf("%d steps, %+v", steps, p.Purged())
	}
	for i, want := range []int{1, 4, 4, 0} {
		if got := len(b.recoverables(boxes[i])); got != want {
			t.Errorf("mailbox %d keeps %d, not %d", i, got, want)
		}
	}
	*now = now.Add(17 * day)
	b.pass(p)
	if err := held.SetHold(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	b.pass(p)
	for i, m := range boxes {
		if got := len(b.recoverables(m)); got != 0 {
			t.Errorf("mailbox %d still keeps %d", i, got)
		}
	}
	if b.contents() != 1 || p.Purged().Messages != 13 {
		t.Errorf("%d contents are left; %+v", b.contents(), p.Purged())
	}
	// On hold everything is kept, also where nothing is kept otherwise.
	if err := none.SetHold(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	b.expunge(none, b.folder(none, "INBOX").ID, nil)
	*now = now.Add(1000 * day)
	b.pass(p)
	if got := len(b.recoverables(none)); got != 1 {
		t.Errorf("the hold keeps %d", got)
	}
}

// Past the limit of bytes the oldest go before their time.
func TestPurgeBytes(t *testing.T) {
	b, _ := keepBed(t, Options{})
	m := b.mailbox(1)
	for i := range 5 {
		b.deliver(message(i), "", 1)
	}
	b.expunge(m, b.folder(m, "INBOX").ID, nil)
	size := int64(len(message(1)))
	p := b.s.NewPurge(PurgeOptions{RecoverableBytes: 2*size + 1})
	b.pass(p)
	if got := b.recoverables(m); len(got) != 2 || got[0].Subject != "n 3" {
		t.Errorf("%+v", got)
	}
}

// Paths of folders that are gone are forgotten with what was in them.
func TestPurgePaths(t *testing.T) {
	b, now := keepBed(t, Options{BatchMessages: 2})
	m := b.mailbox(1)
	b.deliver(message(1), "", 1)
	inbox := b.folder(m, "INBOX").ID
	for i := range 5 {
		name := fmt.Sprintf("F%d", i)
		if _, err := m.CreateFolder(t.Context(), name, RoleNone); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Copy(t.Context(), inbox, all(), b.folder(m, name).ID); err != nil {
			t.Fatal(err)
		}
		if err := m.DeleteFolder(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	p := b.s.NewPurge(PurgeOptions{})
	b.pass(p)
	if got := b.recoverables(m); len(got) != 5 || got[4].Folder != "F4" {
		t.Fatalf("%+v", got)
	}
	*now = now.Add(15 * day)
	b.pass(p)
	left := 0
	err := b.in.View(func(tx *ese.Tx) error {
		c := checker{ctx: t.Context(), tx: tx}
		return c.each(b.s.dbs[0].gone.t, func(*ese.RowView) error { left++; return nil })
	})
	if err != nil || left != 0 || len(b.recoverables(m)) != 0 {
		t.Errorf("%d paths, %d messages are left: %v", left, len(b.recoverables(m)), err)
	}
}

// Old tombstones go. Who asks about a time before is told so, but only in folders that lost some.
func TestPurgeTombs(t *testing.T) {
	b, now := keepBed(t, Options{BatchMessages: 2})
	m := b.mailbox(1)
	for i := range 7 {
		b.deliver(message(i), "", 1)
	}
	inbox, archive := b.folder(m, "INBOX"), b.folder(m, "Archive")
	b.expunge(m, inbox.ID, []UIDRange{{1, 5}})
	*now = now.Add(40 * day)
	b.expunge(m, inbox.ID, []UIDRange{{6, 6}})
	middle := b.folder(m, "INBOX").HighestCN
	p := b.s.NewPurge(PurgeOptions{KeepTombs: 30 * day})
	b.pass(p)
	if p.Purged().Tombs != 5 {
		t.Errorf("%+v", p.Purged())
	}
	if _, err := m.Changes(inbox.ID, inbox.HighestCN); !errors.Is(err, ErrTooOld) {
		t.Errorf("changes since before: %v", err)
	}
	if c, err := m.Changes(inbox.ID, middle-1); err != nil || !slices.Equal(c.Expunged, []UID{6}) {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := m.Copy(t.Context(), inbox.ID, all(), archive.ID); err != nil {
		t.Fatal(err)
	}
	if c, err := m.Changes(archive.ID, archive.HighestCN); err != nil || len(c.Added) != 1 {
		t.Errorf("%+v, %v", c, err)
	}
	*now = now.Add(40 * day)
	b.pass(p)
	if f := b.folder(m, "INBOX"); f.HighestCN != middle {
		t.Errorf("the highest number went from %d to %d", middle, f.HighestCN)
	}
	if c, err := m.Changes(inbox.ID, middle); err != nil || len(c.Expunged) != 0 {
		t.Errorf("%+v, %v", c, err)
	}
}

// A mailbox without owner stays for its time, comes back whole, or goes with all that is in it;
// its row number is given to no other.
func TestDisconnect(t *testing.T) {
	b, now := keepBed(t, Options{BatchMessages: 3})
	owned := map[MailboxID]bool{{1}: true, {2}: true, {3}: true}
	p := b.s.NewPurge(PurgeOptions{
		KeepMailboxes: 30 * day, Owned: func(id MailboxID) bool { return owned[id] },
	})
	for i := range 4 {
		b.deliver(message(i), "", 1, 2)
	}
	one, two := b.mailbox(1), b.mailbox(2)
	b.expunge(two, b.folder(two, "INBOX").ID, []UIDRange{{1, 1}})
	if err := b.s.Disconnect(t.Context(), MailboxID{2}, "bob@x.test", *now); err != nil {
		t.Fatal(err)
	}
	if err := b.s.Disconnect(t.Context(), MailboxID{9}, "no@x.test", *now); err != nil {
		t.Errorf("a mailbox that never was: %v", err)
	}
	owned[MailboxID{2}] = false
	b.pass(p)
	list, err := b.s.Disconnected()
	if err != nil || len(list) != 1 || list[0].Address != "bob@x.test" || list[0].Messages != 4 ||
		list[0].Hold || list[0].Removing || !list[0].At.Equal(*now) {
		t.Fatalf("%+v, %v", list, err)
	}
	// It comes back, and a mark that is wrong is put right.
	if err := b.s.Reconnect(t.Context(), MailboxID{2}); err != nil {
		t.Fatal(err)
	}
	owned[MailboxID{2}] = true
	if err := b.s.Disconnect(t.Context(), MailboxID{1}, "alice@x.test", *now); err != nil {
		t.Fatal(err)
	}
	b.pass(p)
	if list, err = b.s.Disconnected(); err != nil || len(list) != 0 {
		t.Fatalf("%+v, %v", list, err)
	}
	if err := b.s.RemoveMailbox(t.Context(), MailboxID{2}); !errors.Is(err, ErrConnected) {
		t.Errorf("removed while it has an owner: %v", err)
	}
	// Without owner and mark it gets one; on hold it stays.
	owned[MailboxID{2}] = false
	b.pass(p)
	if err := two.SetHold(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	*now = now.Add(31 * day)
	b.pass(p)
	if list, err = b.s.Disconnected(); err != nil || len(list) != 1 || !list[0].Hold {
		t.Fatalf("%+v, %v", list, err)
	}
	if err := b.s.RemoveMailbox(t.Context(), MailboxID{2}); !errors.Is(err, ErrHold) {
		t.Errorf("removed on hold: %v", err)
	}
	if err := two.SetHold(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	// Half removed it cannot be had back, and everything still agrees.
	if did, _, err := p.Step(t.Context()); err != nil || !did {
		t.Fatal(did, err)
	}
	b.check()
	if r := b.integrity(IntegrityOptions{}); r.Left() != 0 {
		t.Errorf("%+v", r.Findings)
	}
	if err := b.s.Reconnect(t.Context(), MailboxID{2}); !errors.Is(err, ErrRemoving) {
		t.Errorf("reconnected: %v", err)
	}
	b.pass(p)
	if p.Purged().Mailboxes != 1 {
		t.Errorf("%+v", p.Purged())
	}
	if _, err := b.s.Mailbox(MailboxID{2}); !errors.Is(err, ErrNoMailbox) {
		t.Errorf("it is still there: %v", err)
	}
	b.mailbox(3)
	if _, err := two.Folder("INBOX"); !errors.Is(err, ErrNoFolder) {
		t.Errorf("an old handle shows another mailbox: %v", err)
	}
	if got := len(b.messages(one, b.folder(one, "INBOX").ID)); got != 4 || b.contents() != 4 {
		t.Errorf("%d messages, %d contents", got, b.contents())
	}
	// At once, if asked to.
	if err := b.s.Disconnect(t.Context(), MailboxID{1}, "", *now); err != nil {
		t.Fatal(err)
	}
	if err := b.s.RemoveMailbox(t.Context(), MailboxID{1}); err != nil {
		t.Fatal(err)
	}
	if b.contents() != 0 {
		t.Errorf("%d contents are left", b.contents())
	}
}
