package storage

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pillarbox/directory"
	"pillarbox/ese"
	"pillarbox/ese/esetest"
	"pillarbox/ese/vfs"
	"pillarbox/mail/address"
	"pillarbox/store"
	"pillarbox/transport"
)

// fill makes a group c and a database a/x.
func (b *bed) fill() {
	b.t.Helper()
	if err := b.set.CreateGroup(b.t.Context(), GroupRecord{Name: "c", LogDir: "/log/c"}, "c1"); err != nil {
		b.t.Fatal(err)
	}
	if err := b.set.CreateDatabase(b.t.Context(), "c/c2", "/disk/c2"); err != nil {
		b.t.Fatal(err)
	}
	if err := b.set.CreateDatabase(b.t.Context(), "a/x", ""); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) removeDatabase(p Place, o RemoveOptions) error {
	_, err := b.set.RemoveDatabase(b.t.Context(), p, o)
	return err
}

func (b *bed) removeGroup(name string, o RemoveOptions) error {
	_, err := b.set.RemoveGroup(b.t.Context(), name, o)
	return err
}

func (b *bed) places() (list []Place) {
	for _, d := range b.set.Databases() {
		list = append(list, d.Place)
	}
	return list
}

// refused proves that an error is the wanted one and that everything is as it was.
func (b *bed) refused(what string, err, want error) {
	b.t.Helper()
	if !errors.Is(err, want) {
		b.t.Errorf("%s: %v, want: %v", what, err, want)
	}
	if got := len(b.places()); got != 6 {
		b.t.Errorf("%s: %v are left", what, b.places())
	}
	for _, d := range b.set.Databases() {
		if !d.Mounted {
			b.t.Errorf("%s: %s is %s", what, d.Place, d.State)
		}
	}
}

// Nothing is removed in which somebody lives or is kept, or that something else needs.
func TestRemoveRefused(t *testing.T) {
	b := open(t, nil)
	b.fill()
	b.refused("the first group", b.removeGroup("a", RemoveOptions{}), ErrFirstGroup)
	b.refused("a group of the config", b.removeGroup("b", RemoveOptions{}), ErrInConfig)
	b.refused("the queue's database", b.removeDatabase("c/c1", RemoveOptions{}), ErrLastDatabase)
	b.refused("a database of the config", b.removeDatabase("a/a2", RemoveOptions{}), ErrInConfig)
	b.refused("no group", b.removeGroup("z", RemoveOptions{}), ErrNoGroup)
	b.refused("no database", b.removeDatabase("a/z", RemoveOptions{}), ErrNoDatabase)
	var ids []store.MailboxID
	for name, p := range map[string]Place{"u": "a/x", "v": "c/c1", "w": "c/c2"} {
		id := b.user(name, p)
		ids = append(ids, id)
		if name != "w" { // who never got mail lives there too
			if err := b.send(100, name); err != nil {
				t.Fatal(err)
			}
			b.await(id, 1)
		}
	}
	b.refused("with a mailbox", b.removeDatabase("a/x", RemoveOptions{RecoverableToo: true}), ErrInhabited)
	b.refused("with mailboxes", b.removeGroup("c", RemoveOptions{RecoverableToo: true}), ErrInhabited)
	for _, id := range ids {
		if err := b.set.MoveMailbox(t.Context(), id, "b/b1", nil); err != nil {
			t.Fatal(err)
		}
	}
	b.set.beginMove(ids[0], "a/x")
	b.refused("with a move to it", b.removeDatabase("a/x", RemoveOptions{}), ErrMoving)
	b.set.endMove(ids[0])
	if err := b.removeDatabase("a/x", RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := b.removeGroup("c", RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := b.places(); !slices.Equal(got, []Place{"a/a1", "a/a2", "b/b1"}) {
		t.Errorf("%v are left", got)
	}
}

// Mailboxes without an owner go only if that is said, those on hold never.
func TestRemoveRecoverable(t *testing.T) {
	b := open(t, nil)
	b.fill()
	b.user("administrator", "a/a1")
	id := b.user("u", "a/x")
	m, err := b.set.OpenMailbox(t.Context(), id)
	if err == nil {
		err = m.SetHold(t.Context(), true)
	}
	if err == nil {
		err = b.set.Disconnect(t.Context(), store.Disconnected{ID: id, Address: "u@here.test", At: time.Now()})
	}
	if err == nil {
		_, err = b.set.Directory().RemoveUser(t.Context(), "u@here.test")
	}
	if err != nil {
		t.Fatal(err)
	}
	b.refused("on hold", b.removeDatabase("a/x", RemoveOptions{RecoverableToo: true}), ErrHeld)
	if m, err = b.set.Mailbox(id); err == nil {
		err = m.SetHold(t.Context(), false)
	}
	if err != nil {
		t.Fatal(err)
	}
	err = b.removeDatabase("a/x", RemoveOptions{})
	b.refused("recoverable", err, ErrRecoverable)
	if !strings.Contains(err.Error(), "a/x: 1 mailboxes") {
		t.Errorf("it does not say how many: %v", err)
	}
	if err := b.removeDatabase("a/x", RemoveOptions{RecoverableToo: true}); err != nil {
		t.Error(err)
	}
}

// Mail in the queue of a group keeps it.
func TestRemoveWithMail(t *testing.T) {
	b := open(t, nil)
	b.fill()
	id := b.user("u", "c/c1")
	from, err := address.Parse("u@here.test")
	if err != nil {
		t.Fatal(err)
	}
	to, err := address.Parse("who@elsewhere.test")
	if err != nil {
		t.Fatal(err)
	}
	e := &transport.Envelope{From: from, Recipients: []transport.Recipient{{Address: to}}}
	qid, err := b.set.Queue().Accept(t.Context(), e, strings.NewReader("Subject: x\r\n\r\nx\r\n"))
	if err == nil {
		err = b.set.MoveMailbox(t.Context(), id, "b/b1", nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	b.refused("with mail", b.removeGroup("c", RemoveOptions{}), ErrMailWaits)
	if err := b.set.Queue().Drop(t.Context(), qid); err != nil {
		t.Fatal(err)
	}
	if err := b.removeGroup("c", RemoveOptions{}); err != nil {
		t.Error(err)
	}
}

// What is removed is gone over restarts and lies aside; names and numbers of databases are not given
// again, those of groups are.
func TestRemoved(t *testing.T) {
	b := open(t, nil)
	b.fill()
	if err := b.set.CreateDatabase(t.Context(), "a/y", ""); err != nil {
		t.Fatal(err)
	}
	id := b.user("y", "a/y")
	r, err := b.set.RemoveDatabase(t.Context(), "a/x", RemoveOptions{})
	if err != nil || len(r.Aside) != 1 {
		t.Fatal(r, err)
	}
	if _, err := b.fs.Stat(filepath.Join(r.Aside[0], "x.edb")); err != nil {
		t.Error(err)
	}
	c, err := b.set.Group("c")
	if err != nil {
		t.Fatal(err)
	}
	r, err = b.set.RemoveGroup(t.Context(), "c", RemoveOptions{})
	if err != nil || len(r.Aside) != 3 {
		t.Fatal(r, err)
	}
	if err := c.Mount(t.Context()); !errors.Is(err, ErrNoGroup) {
		t.Errorf("a removed group is mounted: %v", err)
	}
	for range 2 {
		if got := b.places(); !slices.Equal(got, []Place{"a/a1", "a/a2", "a/y", "b/b1"}) {
			t.Errorf("%v are left", got)
		}
		if err := b.send(100, "y"); err != nil {
			t.Fatal(err)
		}
		if err := b.set.Close(); err != nil {
			t.Fatal(err)
		}
		b.start()
	}
	b.await(id, 2)
	if err := b.set.CheckPlace("a/x"); !errors.Is(err, ErrNoDatabase) {
		t.Errorf("mailboxes can be placed there: %v", err)
	}
	if err := b.set.CreateDatabase(t.Context(), "a/x", ""); err == nil {
		t.Error("the name was given again")
	}
	if err := b.set.CreateGroup(t.Context(), GroupRecord{Name: "c", LogDir: "/log/c"}, "c1"); err != nil {
		t.Error(err)
	}
	b.o.Groups[0].Databases = append(b.o.Groups[0].Databases, "x.edb")
	if err := b.set.Close(); err != nil {
		t.Fatal(err)
	}
	b.start()
	if got := b.places(); slices.Contains(got, "a/x") {
		t.Errorf("the config brings it back: %v", got)
	}
}

// While a place is going no account gets it.
func TestRemovingTakesNobody(t *testing.T) {
	b := open(t, nil)
	b.fill()
	if err := b.set.beginRemoving(t.Context(), "a/x"); err != nil {
		t.Fatal(err)
	}
	_, err := b.set.Directory().AddUserAt(t.Context(), "u@here.test", directory.Secret{Password: "x"}, "a/x")
	if !errors.Is(err, ErrBeingRemoved) {
		t.Errorf("an account is made: %v", err)
	}
	for i := range 20 {
		if p, err := b.set.place(b.user(string(rune('a'+i)), "")); err != nil || p == "a/x" {
			t.Errorf("placed in %s, %v", p, err)
		}
	}
	b.set.endRemoving("a/x")
	b.user("u", "a/x")
}

// cutSet opens a Set on a disk in memory that is cut.
func cutSet(disk vfs.FS, rng *rand.Rand) (*Set, error) {
	engine := func(dir string) ese.Options {
		return ese.Options{
			Dir: dir, Manual: true, GenerationBytes: 64 << 10, CheckpointDepth: 128 << 10,
			CacheBytes: 1 << 20, Rand: rng.Uint32,
		}
	}
	return Open(context.Background(), Options{
		Dir: "/d", FS: disk, Still: true, Engine: engine(""),
		Groups:    []Spec{{Name: "a", Engine: engine("/d/a"), Databases: []string{"a1.edb"}}},
		Directory: directory.Options{HashMemoryKiB: 8, HashPasses: 1, Hashers: 1},
		Transport: transport.Options{Hostname: "here.test"},
	})
}

// cutCase is a change that is cut at each write, sync and rename.
type cutCase struct {
	prepare, change func(*Set) error
	// done tells whether the change happened, and proves that what is there is whole.
	done func(*testing.T, *Set, *vfs.Mem) bool
}

func (x *cutCase) run(t *testing.T) {
	t.Helper()
	olds, news, stride := 0, 0, 3
	if *crashSeeds > 20 {
		stride = 1
	}
	for cut := 1; ; cut += stride {
		rng := rand.New(rand.NewPCG(uint64(cut), 5))
		disk := &esetest.CrashDisk{Mem: vfs.NewMem(), Rand: rng}
		s, err := cutSet(disk, rng)
		if err == nil && x.prepare != nil {
			err = x.prepare(s)
		}
		if err != nil {
			t.Fatal(err)
		}
		disk.Left = cut
		err = x.change(s)
		over := disk.Cut == nil
		if over && err != nil {
			t.Fatalf("cut %d: %v", cut, err)
		}
		mem := disk.Cut
		if over {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			mem = disk.Mem
		} else {
			killSet(s)
		}
		if s, err = cutSet(mem, rng); err != nil {
			t.Fatalf("cut %d: open: %v", cut, err)
		}
		if x.done(t, s, mem) {
			news++
		} else if olds++; over {
			t.Errorf("cut %d: the change was done and is gone", cut)
		} else if err := x.change(s); err != nil {
			t.Errorf("cut %d: again: %v", cut, err)
		}
		if err := s.Close(); err != nil || t.Failed() {
			t.Fatalf("cut %d: %v", cut, err)
		}
		if over {
			break
		}
	}
	t.Logf("%d cuts left the old state, %d the new one", olds, news)
	if olds < 1 || news < 3 {
		t.Error("too little was met")
	}
}

func killSet(s *Set) {
	for _, g := range s.Groups() {
		if g.queue != nil {
			_ = g.queue.Close()
		}
		if g.in != nil {
			_ = g.in.Kill()
		}
	}
}

// removedOnly proves that nothing but what was removed lies in folders.
func removedOnly(t *testing.T, mem *vfs.Mem, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		names, err := mem.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		for _, name := range names {
			if !strings.HasPrefix(name, removedPrefix) {
				t.Errorf("%s lies in %s", name, dir)
			}
		}
	}
}

// mountedAll proves that the databases of a Set are mounted.
func mountedAll(t *testing.T, s *Set) (list []Place) {
	t.Helper()
	for _, d := range s.Databases() {
		if !d.Mounted {
			t.Errorf("%s is %s", d.Place, d.State)
		}
		list = append(list, d.Place)
	}
	return list
}

// The removal of a database and of a group is cut anywhere: they are there, or gone.
func TestRemoveCut(t *testing.T) {
	create := func(s *Set) error {
		ctx := context.Background()
		return errors.Join(s.CreateGroup(ctx, GroupRecord{Name: "c", LogDir: "/log/c"}, "c1"),
			s.CreateDatabase(ctx, "c/c2", "/disk/c2"), s.CreateDatabase(ctx, "a/x", "/disk/x"))
	}
	t.Run("database", func(t *testing.T) {
		x := cutCase{prepare: create, change: func(s *Set) error {
			_, err := s.RemoveDatabase(context.Background(), "a/x", RemoveOptions{})
			return err
		}, done: func(t *testing.T, s *Set, mem *vfs.Mem) bool {
			list := mountedAll(t, s)
			if slices.Contains(list, "a/x") {
				return false
			}
			removedOnly(t, mem, "/disk/x")
			return true
		}}
		x.run(t)
	})
	t.Run("group", func(t *testing.T) {
		x := cutCase{prepare: create, change: func(s *Set) error {
			_, err := s.RemoveGroup(context.Background(), "c", RemoveOptions{})
			return err
		}, done: func(t *testing.T, s *Set, mem *vfs.Mem) bool {
			if list := mountedAll(t, s); slices.Contains(list, "c/c1") {
				return false
			}
			removedOnly(t, mem, "/d/c", "/log/c", "/disk/c2")
			return true
		}}
		x.run(t)
	})
}

// The making of a group is cut anywhere: it is there, or can be made.
func TestCreateCut(t *testing.T) {
	x := cutCase{change: func(s *Set) error {
		return s.CreateGroup(context.Background(), GroupRecord{Name: "c", LogDir: "/log/c"}, "c1")
	}, done: func(t *testing.T, s *Set, _ *vfs.Mem) bool {
		return slices.Contains(mountedAll(t, s), "c/c1")
	}}
	x.run(t)
}

// A mailbox whose database is not mounted is not taken for one that was never given mail, and one that was
// never given mail moves as the others.
func TestMoveOfWhatCannotBeSeen(t *testing.T) {
	b := open(t, nil)
	id, never := b.user("u", "a/a2"), b.user("v", "a/a2")
	if err := b.send(100, "u"); err != nil {
		t.Fatal(err)
	}
	b.await(id, 1)
	if err := b.set.DismountDatabase(t.Context(), "a/a2"); err != nil {
		t.Fatal(err)
	}
	for _, x := range []store.MailboxID{id, never} {
		if err := b.set.MoveMailbox(t.Context(), x, "b/b1", nil); !errors.Is(err, store.ErrUnmounted) {
			t.Errorf("moved: %v", err)
		}
		if p, err := b.set.place(x); err != nil || p != "a/a2" {
			t.Errorf("it lives in %s, %v", p, err)
		}
	}
	if err := b.set.MountDatabase(t.Context(), "a/a2"); err != nil {
		t.Fatal(err)
	}
	for _, x := range []store.MailboxID{id, never} {
		if err := b.set.MoveMailbox(t.Context(), x, "b/b1", nil); err != nil {
			t.Error(err)
		}
		if err := b.set.MoveMailbox(t.Context(), x, "b/b1", nil); err != nil {
			t.Errorf("to where it is: %v", err)
		}
	}
	b.await(id, 1)
	if err := b.send(100, "v"); err != nil {
		t.Fatal(err)
	}
	b.await(never, 1)
}

// Who opens a second Set on the folder moves nothing aside under the first one.
func TestClearingIsTheServers(t *testing.T) {
	b := open(t, nil)
	if err := makeFolder(b.fs, "/old"); err != nil {
		t.Fatal(err)
	}
	f, err := b.fs.OpenFile("/old/x.edb", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	err = b.set.change(func(r *registry) error {
		r.Clearing = append(r.Clearing, clearing{"/old", "/old/removed-x", []string{"x.edb", "x.stm"}})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.set.CreateDatabase(t.Context(), "a/y", "/old"); err == nil {
		t.Error("a database is made where files are still to go")
	}
	if _, err := Open(t.Context(), b.o); !errors.Is(err, ese.ErrLocked) {
		t.Errorf("a second one: %v", err)
	}
	if _, err := b.fs.Stat("/old/x.edb"); err != nil {
		t.Error(err)
	}
	if err := b.set.Close(); err != nil {
		t.Fatal(err)
	}
	b.start()
	if _, err := b.fs.Stat("/old/removed-x/x.edb"); err != nil {
		t.Error(err)
	}
	if err := b.set.CreateDatabase(t.Context(), "a/y", "/old"); err != nil {
		t.Error(err)
	}
}

// What is not mounted is not removed.
func TestRemoveUnmounted(t *testing.T) {
	b := open(t, nil)
	b.fill()
	if err := b.set.DismountDatabase(t.Context(), "a/x"); err != nil {
		t.Fatal(err)
	}
	g, err := b.set.Group("c")
	if err == nil {
		err = g.Dismount()
	}
	if err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"a/x": b.removeDatabase("a/x", RemoveOptions{RecoverableToo: true}),
		"c":   b.removeGroup("c", RemoveOptions{RecoverableToo: true}),
	} {
		if !errors.Is(err, store.ErrUnmounted) || !strings.Contains(err.Error(), "mount it first") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := errors.Join(g.Mount(t.Context()), b.set.MountDatabase(t.Context(), "a/x")); err != nil {
		t.Fatal(err)
	}
	if len(b.places()) != 6 {
		t.Errorf("%v are left", b.places())
	}
}
