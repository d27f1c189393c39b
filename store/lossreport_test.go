package store

import (
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"pillarbox/ese"
	"pillarbox/ese/offline"
	"pillarbox/ese/vfs"
)

var lossCases = flag.Int("cases", 60, "damaged stores of the loss drill")

const lossPage = 4096

// lossPlace is where a message is.
type lossPlace struct {
	box    MailboxID
	folder string
	uid    UID
}

// lossStore is a store of some mailboxes, folders and messages, on a disk.
func lossStore(t *testing.T) *vfs.Mem {
	t.Helper()
	mem := vfs.NewMem()
	in, err := ese.Open(ese.Options{FS: mem, Dir: "/data", PageSize: lossPage})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), in, Options{KeepDeleted: day})
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{t: t, fs: mem, in: in, s: s}
	var boxes []*Mailbox
	for n := range byte(4) {
		boxes = append(boxes, b.mailbox(n+1))
	}
	rng := rand.New(rand.NewPCG(4, 2))
	for i := range 240 {
		text := fmt.Sprintf("From: a%d@x.test\r\nSubject: topic %d\r\nMessage-ID: <%d@x>\r\n\r\n%s\r\n",
			i, i, i, strings.Repeat("some words ", rng.IntN(90)))
		to := []byte{byte(1 + rng.IntN(4))}
		if i%3 == 0 {
			to = []byte{1, 2}
		}
		b.deliver(text, fmt.Sprint("q", i), to...)
	}
	for i, m := range boxes {
		name := fmt.Sprintf("Work/%d", i)
		if _, err := m.CreateFolder(t.Context(), name, RoleNone); err != nil {
			t.Fatal(err)
		}
		inbox, work := b.folder(m, "INBOX").ID, b.folder(m, name).ID
		if _, err := m.Move(t.Context(), inbox, []UIDRange{{5, 20}}, work); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Copy(t.Context(), inbox, []UIDRange{{25, 30}}, work); err != nil {
			t.Fatal(err)
		}
		b.expunge(m, inbox, []UIDRange{{31, 33}})
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	return mem
}

// shown reads all that clients are shown.
func (b *bed) shown() map[lossPlace]string {
	b.t.Helper()
	out := make(map[lossPlace]string)
	var ids []MailboxID
	if err := b.s.Mailboxes(func(id MailboxID) error { ids = append(ids, id); return nil }); err != nil {
		b.t.Fatal(err)
	}
	for _, id := range ids {
		m, err := b.s.Mailbox(id)
		if err != nil {
			b.t.Fatal(err)
		}
		folders, err := m.Folders()
		if err != nil {
			b.t.Fatal(err)
		}
		for _, f := range folders {
			for _, msg := range b.messages(m, f.ID) {
				text := "cannot be read"
				if r, err := m.Open(f.ID, msg.UID); err == nil {
					got, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
					if err == nil {
						text = string(got)
					}
					_ = r.Close()
				}
				out[lossPlace{id, f.Name, msg.UID}] = text
			}
		}
	}
	return out
}

// harm damages some pages of a file.
func harm(t *testing.T, mem *vfs.Mem, name string, rng *rand.Rand, pages int) {
	t.Helper()
	f, err := mem.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	for range pages {
		at := (30 + rng.Int64N(size/lossPage-30)) * lossPage
		if _, err := f.WriteAt(make([]byte, lossPage), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestLossReport damages stores in many places: every message that clients are no longer shown as
// it was is named, by mailbox, folder and UID or in the count of its folder, and no other is.
func TestLossReport(t *testing.T) {
	mem := lossStore(t)
	in, err := ese.Open(ese.Options{FS: mem, Dir: "/data", PageSize: lossPage})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), in, Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := (&bed{t: t, fs: mem, in: in, s: s}).shown()
	ids := make(map[lossPlace]string)
	for n := range byte(4) {
		m, err := s.Mailbox(MailboxID{n + 1})
		if err != nil {
			t.Fatal(err)
		}
		folders, err := m.Folders()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range folders {
			ids[lossPlace{MailboxID{n + 1}, fmt.Sprintf("folder %d", f.ID), 0}] = f.Name
		}
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if len(want) < 200 {
		t.Fatalf("only %d messages", len(want))
	}
	sum := lossSum{ids: ids}
	for seed := range *lossCases {
		rng := rand.New(rand.NewPCG(uint64(seed), 11))
		sum.run(t, mem.CrashClone(rng), rng, want)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	sum.ids = nil
	t.Logf("%+v", sum)
	if *lossCases >= 60 && (sum.Rows == 0 || sum.Damaged == 0 || sum.Folders == 0 || sum.Subjects == 0) {
		t.Error("too little was met: this proves nothing")
	}
}

// lossSum counts what the drill met.
type lossSum struct {
	ids                                                                           map[lossPlace]string // paths of folders whose names may be lost
	Rows, Damaged, Counted, Found, Folders, Mailboxes, Others, Subjects, Unopened int
}

func (c *lossSum) run(t *testing.T, mem *vfs.Mem, rng *rand.Rand, want map[lossPlace]string) {
	t.Helper()
	pages := 1 + rng.IntN(5)
	if rng.IntN(4) == 0 {
		pages = 40 // indexes too
	}
	harm(t, mem, "/data/priv1.edb", rng, pages)
	if rng.IntN(2) == 0 {
		harm(t, mem, "/data/priv1.stm", rng, 1+rng.IntN(3))
	}
	res, err := offline.Repair(t.Context(), offline.RebuildOptions{FS: mem, Path: "/data/priv1.edb"})
	if err != nil {
		t.Fatal(err)
	}
	in, err := ese.Open(ese.Options{FS: mem, Dir: "/data", PageSize: lossPage})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Kill() }()
	s, err := Open(t.Context(), in, Options{})
	if err != nil {
		c.Unopened++
		return
	}
	items, err := s.LossReport(t.Context(), res.Loss)
	if err != nil {
		t.Fatal(err)
	}
	have := (&bed{t: t, fs: mem, in: in, s: s}).shown()
	c.judge(t, items, want, have)
	c.mend(t, &bed{t: t, fs: mem, in: in, s: s}, items, want)
}

// mend mends the store: then it agrees with itself but for messages whose bytes are lost, and every
// message whose bytes are whole is shown somewhere, if only among those lost and found.
func (c *lossSum) mend(t *testing.T, b *bed, items []LossItem, want map[lossPlace]string) {
	t.Helper()
	for range 2 {
		for _, f := range b.integrity(IntegrityOptions{Fix: true}).Findings {
			if f.Mended == "" && f.Test != PlacementsTest && f.Test != PromotedTest {
				t.Errorf("not mended: %+v", f)
			}
		}
	}
	lost := make(map[lossPlace]bool)
	for _, x := range items {
		// Where no content is known either, it is lost too, or was found and is told of for itself.
		if x.Kind == DamagedMessage || x.Kind == LostMessage && x.From == "" {
			lost[lossPlace{x.Mailbox, x.Folder, x.UID}] = true
		}
	}
	texts := make(map[string]bool)
	for _, text := range b.shown() {
		texts[text] = true
	}
	for _, x := range items {
		if x.Kind == FoundMessage && !strings.Contains(x.Reason, "bytes") {
			found := false
			for text := range texts {
				found = found || strings.Contains(text, "\r\nSubject: "+x.Subject+"\r\n")
			}
			// Or all that is left is one that its owner had deleted, and can bring back.
			if !found && !b.recoverable(x.Subject) {
				t.Errorf("%+v is shown to nobody", x)
			}
		}
	}
	for place, text := range want {
		if !texts[text] && !lost[place] && !c.unreadable(b, text, items) {
			t.Errorf("%+v is whole and shown to nobody: %.60q", place, text)
		}
	}
}

// recoverable tells whether a deleted message of a subject can be brought back from some mailbox.
func (b *bed) recoverable(subject string) bool {
	b.t.Helper()
	found := false
	err := b.s.Mailboxes(func(id MailboxID) error {
		m, err := b.s.Mailbox(id)
		if err != nil {
			return err
		}
		list, _, err := m.Recoverables(1, 1000)
		found = found || slices.ContainsFunc(list, func(r Recoverable) bool { return r.Subject == subject })
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return found
}

// unreadable tells whether the report has a message of this subject as damaged in any place.
func (c *lossSum) unreadable(b *bed, text string, items []LossItem) bool {
	for _, x := range items {
		if x.Subject != "" && strings.Contains(text, "\r\nSubject: "+x.Subject+"\r\n") &&
			(x.Kind == DamagedMessage || x.Kind == FoundMessage && strings.Contains(x.Reason, "bytes")) {
			return true
		}
	}
	return false
}

// judge compares the report with what is there.
func (c *lossSum) judge(t *testing.T, items []LossItem, want, have map[lossPlace]string) {
	t.Helper()
	named := make(map[lossPlace]*LossItem)
	counted := make(map[lossPlace]int64) // uid 0
	folders := make(map[lossPlace]bool)
	boxes := make(map[MailboxID]bool)
	for i := range items {
		x := &items[i]
		if name := c.ids[lossPlace{x.Mailbox, x.Folder, 0}]; name != "" {
			x.Folder = name
		}
		place := lossPlace{x.Mailbox, x.Folder, x.UID}
		switch x.Kind {
		case LostMessage, DamagedMessage:
			if named[place] != nil {
				t.Errorf("%+v is named twice", place)
			}
			named[place] = x
			if x.Kind == DamagedMessage {
				c.Damaged++
			} else {
				c.Rows++
			}
		case LostMessages:
			counted[place] = x.Count
			c.Counted += int(x.Count)
		case LostFolder:
			folders[place] = true
			c.Folders++
		case LostMailbox:
			boxes[x.Mailbox] = true
			c.Mailboxes++
		case FoundMessage:
			c.Found++
		case LostOther:
			c.Others++
		}
	}
	for place, text := range want {
		x := named[place]
		if x != nil && x.Subject != "" {
			c.Subjects++
			if !strings.Contains(text, "\r\nSubject: "+x.Subject+"\r\n") ||
				x.From != "" && !strings.Contains(text, "From: "+x.From+"\r\n") {
				t.Errorf("%+v is said to be %q from %q: %.80q", place, x.Subject, x.From, text)
			}
		}
		if boxes[place.box] || folders[lossPlace{place.box, place.folder, 0}] ||
			folders[lossPlace{place.box, "Work", 0}] && strings.HasPrefix(place.folder, "Work/") {
			continue // hidden with its folder or mailbox
		}
		whole := have[place] == text
		if whole && x != nil {
			t.Errorf("%+v is there and named: %s: %s", place, x.Kind, x.Reason)
		}
		if !whole && x == nil {
			counted[lossPlace{place.box, place.folder, 0}]--
		}
	}
	for place, n := range counted {
		if n != 0 {
			t.Errorf("%+v: %d messages more are counted than lost", place, n)
		}
	}
	for place := range have {
		if _, ok := want[place]; !ok {
			t.Errorf("%+v was not there before", place)
		}
	}
	for place := range named {
		if _, ok := want[place]; !ok && place.folder != "(deleted)" {
			t.Errorf("%+v is named and never was", place)
		}
	}
}
