package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pillarbox/directory"
	"pillarbox/ese"
	"pillarbox/ese/vfs"
	"pillarbox/mail/address"
	"pillarbox/store"
	"pillarbox/transport"
)

// bed is a Set on a disk in memory whose log folders can be full.
type bed struct {
	t   *testing.T
	fs  *fullDisk
	o   Options
	set *Set
}

// fullDisk refuses to grow files whose path begins with full, while it is set.
type fullDisk struct {
	vfs.FS
	full atomic.Pointer[string]
}

func (d *fullDisk) isFull(name string) bool {
	p := d.full.Load()
	return p != nil && strings.HasPrefix(name, *p)
}

func (d *fullDisk) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := d.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &fullFile{f, d, name}, nil
}

type fullFile struct {
	vfs.File
	d    *fullDisk
	name string
}

func (f *fullFile) Allocate(size int64) error {
	if have, err := f.Size(); err == nil && have < size && f.d.isFull(f.name) {
		return vfs.ErrDiskFull
	}
	return f.File.Allocate(size)
}

func (f *fullFile) WriteAt(p []byte, off int64) (int, error) {
	if have, err := f.Size(); err == nil && have < off+int64(len(p)) && f.d.isFull(f.name) {
		return 0, vfs.ErrDiskFull
	}
	return f.File.WriteAt(p, off)
}

func open(t *testing.T, change func(*Options)) *bed {
	t.Helper()
	b := &bed{t: t, fs: &fullDisk{FS: vfs.NewMem()}}
	engine := func(dir string) ese.Options {
		return ese.Options{
			Dir: dir, GenerationBytes: 64 << 10, CacheBytes: 1 << 20,
			DiskFullLimit: 50 * time.Millisecond,
		}
	}
	b.o = Options{
		Dir: "/d", FS: b.fs, WatchEvery: 20 * time.Millisecond,
		Groups: []Spec{
			{Name: "a", Engine: engine("/d/a"), Databases: []string{"a1.edb", "a2.edb"}},
			{Name: "b", Engine: engine("/d/b"), Databases: []string{"b1.edb"}},
		},
		Directory: directory.Options{HashMemoryKiB: 8, HashPasses: 1, Hashers: 1},
		Transport: transport.Options{Hostname: "here.test"},
	}
	if change != nil {
		change(&b.o)
	}
	b.start()
	t.Cleanup(func() {
		found, err := b.set.Check(context.Background())
		if err != nil || len(found) > 0 {
			t.Errorf("check: %v, %v", found, err)
		}
		if err := b.set.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	if err := b.set.Directory().AddDomain(t.Context(), "here.test"); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bed) start() {
	b.t.Helper()
	var err error
	if b.set, err = Open(b.t.Context(), b.o); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) user(name string, home Place) store.MailboxID {
	b.t.Helper()
	u, err := b.set.Directory().AddUserAt(b.t.Context(), name+"@here.test",
		directory.Secret{Password: "x"}, string(home))
	if err != nil {
		b.t.Fatal(err)
	}
	return store.MailboxID(u.ID)
}

func (b *bed) send(size int, to ...string) error { return b.sendBy(b.set.Queue(), size, to...) }

// accepter is a queue, or all of them.
type accepter interface {
	Accept(context.Context, *transport.Envelope, io.Reader) (transport.QueueID, error)
}

func (b *bed) sendBy(q accepter, size int, to ...string) error {
	e := &transport.Envelope{}
	for _, name := range to {
		a, err := address.Parse(name + "@here.test")
		if err != nil {
			b.t.Fatal(err)
		}
		e.Recipients = append(e.Recipients, transport.Recipient{Address: a})
	}
	text := "Subject: x\r\n\r\n" + strings.Repeat("0123456789abcde\r\n", size/17) + "end\r\n"
	_, err := q.Accept(b.t.Context(), e, strings.NewReader(text))
	return err
}

// messages counts those of an INBOX; -1 when it cannot be reached.
func (b *bed) messages(id store.MailboxID) int64 {
	m, err := b.set.Mailbox(id)
	if errors.Is(err, store.ErrNoMailbox) {
		return 0
	}
	if err != nil {
		return -1
	}
	f, err := m.Folder("INBOX")
	if err != nil {
		return -1
	}
	return f.Messages
}

// await waits for a mailbox to have n messages.
func (b *bed) await(id store.MailboxID, n int64) {
	b.t.Helper()
	for range 3000 {
		if b.messages(id) == n {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.t.Fatalf("%d messages, want %d", b.messages(id), n)
}

// New mailboxes are spread over the databases before they have mail, or go to the named one.
func TestNewMailboxes(t *testing.T) {
	b := open(t, nil)
	homes := make(map[Place]int)
	for i := range 30 {
		id := b.user(fmt.Sprint("u", i), "")
		p, err := b.set.place(id)
		if err != nil {
			t.Fatal(err)
		}
		homes[p]++
	}
	if homes["a/a1"] != 10 || homes["a/a2"] != 10 || homes["b/b1"] != 10 {
		t.Errorf("spread as %v", homes)
	}
	b = open(t, func(o *Options) { o.NewMailboxes = "b/b1" })
	if p, err := b.set.place(b.user("u", "")); err != nil || p != "b/b1" {
		t.Errorf("placed in %s (%v)", p, err)
	}
}

// A repair's report leads to the database that lies where it says, though others have its name.
func TestRepaired(t *testing.T) {
	b := open(t, func(o *Options) {
		o.Groups[0].Databases, o.Groups[1].Databases = []string{"priv1.edb", "x.edb"}, []string{"priv1.edb"}
	})
	for file, want := range map[string]string{
		"/d/a/priv1.edb": "a", "/d/b/priv1.edb": "b", "b/priv1.edb": "b", "/copy/a/priv1.edb": "a",
		"/copy/x.edb": "a", "priv1.edb": "", "/copy/priv1.edb": "", "/d/a/other.edb": "",
	} {
		g, err := b.set.repaired(file)
		switch {
		case want == "" && err == nil:
			t.Errorf("%s leads to group %s", file, g.Name())
		case want != "" && (err != nil || g.Name() != want):
			t.Errorf("%s leads to %v (%v), want group %s", file, g, err, want)
		}
	}
}

// The log disk of a group fills up: it refuses changes, is dismounted clean, and is mounted again
// by itself when there is space. The other group serves meanwhile, and no mail is lost.
func TestLogDiskFull(t *testing.T) {
	b := open(t, nil)
	ann, bob := b.user("ann", "a/a1"), b.user("bob", "b/b1")
	if err := b.send(100, "ann", "bob"); err != nil {
		t.Fatal(err)
	}
	b.await(bob, 1)
	full := "/d/b/E00"
	b.fs.full.Store(&full)
	sent := int64(1)
	g, err := b.set.Group("b")
	if err != nil {
		t.Fatal(err)
	}
	for range 3000 {
		if err := b.send(20000, "bob"); err == nil {
			sent++
		}
		if g.Err() != nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if g.Err() == nil {
		t.Fatal("the group was not dismounted")
	}
	if b.messages(bob) != -1 {
		t.Error("the mailbox of the full group can be reached")
	}
	for range 3 {
		if err := b.send(100, "bob", "ann"); err != nil {
			t.Fatalf("the other group refuses: %v", err)
		}
		sent++
	}
	b.await(ann, 4)
	b.set.Look()
	if g.Err() == nil {
		t.Error("mounted again without space")
	}
	b.fs.full.Store(nil)
	b.await(bob, sent)
	if err := g.Err(); err != nil {
		t.Errorf("the group: %v", err)
	}
}

// A database whose file is missing leaves the others serving and is not made anew; a directory of
// an earlier moment finds the mailboxes that were moved since.
func TestLostAndFound(t *testing.T) {
	b := open(t, nil)
	ann, bob := b.user("ann", "a/a1"), b.user("bob", "a/a2")
	if err := b.send(100, "ann", "bob"); err != nil {
		t.Fatal(err)
	}
	if err := b.set.MoveMailbox(t.Context(), ann, "b/b1", nil); err != nil {
		t.Fatal(err)
	}
	// What a restore of the first group would leave: the old place, and another log stream.
	homes := map[directory.GUID]string{directory.GUID(ann): "a/a1"}
	if err := b.set.Directory().SetHome(t.Context(), homes); err != nil {
		t.Fatal(err)
	}
	err := b.set.change(func(r *registry) error {
		r.Directory = "another"
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.set.Close(); err != nil {
		t.Fatal(err)
	}
	b.start()
	if p, err := b.set.place(ann); err != nil || p != "b/b1" || b.messages(ann) != 1 {
		t.Errorf("ann is in %s (%v) with %d messages", p, err, b.messages(ann))
	}
	if err := b.set.Close(); err != nil {
		t.Fatal(err)
	}
	for _, ext := range []string{"edb", "stm"} {
		if err := b.fs.Rename("/d/a/a2."+ext, "/d/a/away."+ext); err != nil {
			t.Fatal(err)
		}
	}
	b.start()
	if b.messages(ann) != 1 || b.messages(bob) != -1 {
		t.Errorf("ann has %d, bob %d", b.messages(ann), b.messages(bob))
	}
	if err := b.set.MountDatabase(t.Context(), "a/a2"); !errors.Is(err, ErrLost) {
		t.Errorf("mount: %v", err)
	}
	if err := b.send(100, "bob"); err != nil {
		t.Fatal(err)
	}
	for _, ext := range []string{"edb", "stm"} {
		if err := b.fs.Rename("/d/a/away."+ext, "/d/a/a2."+ext); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.set.MountDatabase(t.Context(), "a/a2"); err != nil {
		t.Fatal(err)
	}
	b.await(bob, 2)
}

// Nothing that names what is not there, or is there already, changes anything.
func TestRefusals(t *testing.T) {
	b := open(t, nil)
	ctx := t.Context()
	for name, err := range map[string]error{
		"database of no group":  b.set.CreateDatabase(ctx, "c/c1", ""),
		"database that is":      b.set.CreateDatabase(ctx, "a/a1", ""),
		"relative path":         b.set.CreateDatabase(ctx, "a/a3", "x"),
		"group that is":         b.set.CreateGroup(ctx, GroupRecord{Name: "a"}, ""),
		"group of a bad name":   b.set.CreateGroup(ctx, GroupRecord{Name: "a/b"}, ""),
		"group in a used place": b.set.CreateGroup(ctx, GroupRecord{Name: "c", Dir: "/d/a"}, ""),
		"first database":        b.set.DismountDatabase(ctx, "a/a1"),
		"no database":           b.set.DismountDatabase(ctx, "a/a9"),
		"move to where it is":   b.set.MoveDatabase(ctx, "a/a2", "/d/a", nil),
		"move onto another":     b.set.MoveDatabase(ctx, "a/a2", "/d/a/a1.edb", nil),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if n := len(b.set.Databases()); n != 3 {
		t.Errorf("%d databases", n)
	}
	for _, d := range b.set.Databases() {
		if !d.Mounted {
			t.Errorf("%s: %s", d.Place, d.State)
		}
	}
	if err := b.set.DismountDatabase(ctx, "a/a2"); err != nil {
		t.Fatal(err)
	}
	id := b.user("ann", "a/a1")
	if err := b.set.MoveMailbox(ctx, id, "a/a2", nil); !errors.Is(err, store.ErrUnmounted) {
		t.Errorf("moved into a dismounted database: %v", err)
	}
}
