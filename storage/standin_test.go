package storage

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pillarbox/directory"
	"pillarbox/ese"
	"pillarbox/ese/vfs"
	"pillarbox/store"
)

// third adds a storage group c.
func third(o *Options) {
	c := o.Groups[1]
	c.Name, c.Engine.Dir, c.Databases = "c", "/d/c", []string{"c1.edb"}
	o.Groups = append(o.Groups, c)
}

// carry moves all files of a folder to another.
func (b *bed) carry(from, to string) {
	b.t.Helper()
	disk := b.fs.FS.(*vfs.Mem)
	names, err := disk.ReadDir(from)
	if err == nil {
		err = disk.MkdirAll(to, 0o700)
	}
	for _, name := range names {
		if err == nil {
			err = disk.Rename(filepath.Join(from, name), filepath.Join(to, name))
		}
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// put copies a file of another disk.
func (b *bed) put(from vfs.FS, name string) {
	b.t.Helper()
	text, err := readWhole(from, name)
	if err != nil {
		b.t.Fatal(err)
	}
	f, err := b.fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err == nil {
		_, err = f.WriteAt(text, 0)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) login(name, password string) error {
	_, err := b.set.Directory().Authenticate(b.t.Context(), directory.Login{
		Name: name + "@here.test", Password: password,
	})
	return err
}

func (b *bed) password(name, password string) {
	b.t.Helper()
	err := b.set.Directory().SetPassword(b.t.Context(), name+"@here.test",
		directory.Secret{Password: password})
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) group(name string) *Group {
	b.t.Helper()
	g, err := b.set.Group(name)
	if err != nil {
		b.t.Fatal(err)
	}
	return g
}

// The first group is lost in a crash. The other serves its mailboxes, with the accounts as they were;
// mail for the first one waits; nothing can be changed. When it is back it is as if nothing had been.
func TestWithoutFirst(t *testing.T) {
	b := open(t, nil)
	ann, bob := b.user("ann", "a/a1"), b.user("bob", "b/b1")
	b.user("eve", "b/b1")
	if err := b.set.Directory().SetDisabled(t.Context(), "eve@here.test", true); err != nil {
		t.Fatal(err)
	}
	b.password("bob", "new")
	b.crash()
	b.carry("/d/a", "/lost")
	b.start()
	if s := b.set.DirectoryState(); !s.ReadOnly || s.Copy != "b" || s.AsOf.IsZero() {
		t.Errorf("the directory: %+v", s)
	}
	for _, l := range []struct {
		name, password string
		want           error
	}{
		{"ann", "x", nil},
		{"bob", "new", nil},
		{"bob", "x", directory.ErrBadLogin},
		{"eve", "x", directory.ErrBadLogin},
	} {
		if err := b.login(l.name, l.password); !errors.Is(err, l.want) {
			t.Errorf("login of %s: %v", l.name, err)
		}
	}
	if err := b.send(100, "ann", "bob"); err != nil {
		t.Fatal(err)
	}
	b.await(bob, 1)
	if _, err := b.set.OpenMailbox(t.Context(), ann); !errors.Is(err, store.ErrUnmounted) {
		t.Errorf("a mailbox of the first group: %v", err)
	}
	_, err := b.set.Directory().AddUser(t.Context(), "new@here.test", directory.Secret{Password: "x"})
	if !errors.Is(err, directory.ErrReadOnly) {
		t.Errorf("a new user: %v", err)
	}
	if err := b.set.MoveMailbox(t.Context(), bob, "a/a1", nil); !errors.Is(err, directory.ErrReadOnly) {
		t.Errorf("move: %v", err)
	}
	// It is not to be had either by mounting it.
	if err := b.group("a").Mount(t.Context()); !errors.Is(err, ErrLost) {
		t.Errorf("mount of what is lost: %v", err)
	}
	b.carry("/lost", "/d/a")
	if err := b.group("a").Mount(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.await(ann, 1)
	if s := b.set.DirectoryState(); s.ReadOnly || s.Copy != "" {
		t.Errorf("the directory: %+v", s)
	}
	b.user("new", "b/b1")
	if err := b.set.MoveMailbox(t.Context(), ann, "b/b1", nil); err != nil {
		t.Error(err)
	}
	b.await(ann, 1)
}

// The first group is lost for good, and there is no backup: it begins anew, with all accounts.
func TestFirstAnew(t *testing.T) {
	b := open(t, nil)
	ann, bob := b.user("ann", "a/a1"), b.user("bob", "b/b1")
	b.password("ann", "new")
	b.restart()
	if err := b.send(100, "ann", "bob"); err != nil {
		t.Fatal(err)
	}
	b.await(bob, 1)
	if err := b.group("a").MountAnew(t.Context()); err == nil {
		t.Error("a group that is mounted began anew")
	}
	b.crash()
	disk := b.fs.FS.(*vfs.Mem)
	if err := disk.Rename("/d/a/a1.edb", "/d/away.edb"); err != nil {
		t.Fatal(err)
	}
	b.start()
	if err := b.group("a").MountAnew(t.Context()); !errors.Is(err, errRemains) {
		t.Errorf("begun anew beside the rest of a database: %v", err)
	}
	if err := b.group("a").Mount(t.Context()); err == nil {
		t.Error("the first database is made anew by a mount")
	}
	if err := b.set.Close(); err != nil {
		t.Fatal(err)
	}
	b.carry("/d/a", "/lost")
	b.start()
	if err := b.send(100, "ann"); err != nil {
		t.Fatal(err)
	}
	if err := b.group("a").MountAnew(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.await(ann, 1) // what waited; what it had is lost
	if s := b.set.DirectoryState(); s.ReadOnly || s.Copy != "" {
		t.Errorf("the directory: %+v", s)
	}
	b.user("new", "a/a2")
	b.restart()
	if err := b.login("ann", "new"); err != nil {
		t.Errorf("login: %v", err)
	}
	if b.messages(ann) != 1 || b.messages(bob) != 1 {
		t.Errorf("ann has %d, bob %d", b.messages(ann), b.messages(bob))
	}
}

// A group that was away while an account changed does not bring the old state back: not by itself,
// and not beside one that has the new one.
func TestOldCopy(t *testing.T) {
	b := open(t, third)
	b.user("bob", "b/b1")
	if err := b.group("b").Dismount(); err != nil {
		t.Fatal(err)
	}
	b.password("bob", "new")
	b.crash()
	b.carry("/d/a", "/lost/a")
	b.carry("/d/c", "/lost/c")
	set, err := Open(t.Context(), b.o)
	if !errors.Is(err, errOldCopy) || !errors.Is(err, ErrLost) {
		t.Fatalf("opened %v with an old copy: %v", set, err)
	}
	b.carry("/lost/c", "/d/c")
	b.start()
	if s := b.set.DirectoryState(); s.Copy != "c" {
		t.Errorf("the directory: %+v", s)
	}
	for _, name := range []string{"b", "c"} {
		if err := b.group(name).Err(); err != nil {
			t.Errorf("group %s: %v", name, err)
		}
	}
	// By now b has caught up, though the first group was never there.
	b.crash()
	b.carry("/d/c", "/lost/c")
	b.start()
	if err := b.login("bob", "x"); !errors.Is(err, directory.ErrBadLogin) {
		t.Errorf("the old password: %v", err)
	}
	if err := b.login("bob", "new"); err != nil {
		t.Errorf("the new password: %v", err)
	}
	b.carry("/lost/c", "/d/c")
	b.carry("/lost/a", "/d/a")
	for _, name := range []string{"c", "a"} {
		if err := b.group(name).Mount(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// Nothing that could be wrong is taken for the directory: a group of a config that was turned around,
// a copy of which groups.json knows nothing.
func TestNoStandIn(t *testing.T) {
	b := open(t, nil)
	b.user("bob", "b/b1")
	b.crash()
	turned := b.o
	turned.Groups = []Spec{b.o.Groups[1], b.o.Groups[0]}
	if _, err := Open(t.Context(), turned); !errors.Is(err, errNotFirst) {
		t.Errorf("a copy became the directory: %v", err)
	}
	// A new group is put before the others.
	turned.Groups = append([]Spec{b.o.Groups[1]}, b.o.Groups...)
	turned.Groups[0].Name, turned.Groups[0].Engine.Dir = "new", "/d/new"
	set, err := Open(t.Context(), turned)
	if err != nil {
		t.Fatal(err)
	}
	if err := set.Groups()[0].Err(); !errors.Is(err, errNotFirst) {
		t.Errorf("the new group: %v", err)
	}
	if s := set.DirectoryState(); !s.ReadOnly || s.Copy != "b" {
		t.Errorf("the directory: %+v", s)
	}
	if err := set.Close(); err != nil {
		t.Fatal(err)
	}
	b.carry("/d/a", "/lost")
	reg, err := loadRegistry(b.fs, "/d/groups.json")
	if err != nil {
		t.Fatal(err)
	}
	last := reg.Version
	reg.Version = 0
	if err := reg.save(b.fs, "/d/groups.json"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), b.o); !errors.Is(err, ErrLost) || errors.Is(err, errOldCopy) {
		t.Errorf("opened without a noted version: %v", err)
	}
	b.carry("/lost", "/d/a")
	b.start()
	if v := b.set.noted(); v <= last {
		t.Errorf("noted is %d, and was %d", v, last)
	}
}

// The first group fails, or is dismounted, while the server runs: the others serve on, sessions stay
// good, and a group that is mounted meanwhile gets the accounts from memory.
func TestFirstFails(t *testing.T) {
	b := open(t, third)
	ann, bob := b.user("ann", "a/a1"), b.user("bob", "b/b1")
	if err := b.group("c").Dismount(); err != nil {
		t.Fatal(err)
	}
	b.password("bob", "new")
	r, err := b.set.Directory().Authenticate(t.Context(), directory.Login{
		Name: "bob@here.test", Password: "new",
	})
	if err != nil {
		t.Fatal(err)
	}
	full := "/d/a/E00"
	b.fs.full.Store(&full)
	a, sent := b.group("a"), int64(0)
	for range 3000 {
		if err := b.send(20000, "ann"); err == nil {
			sent++
		}
		if a.Err() != nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if !errors.Is(a.Err(), ese.ErrDismounted) {
		t.Fatalf("the first group: %v", a.Err())
	}
	if err := b.send(100, "ann", "bob"); err != nil {
		t.Fatal(err)
	}
	b.await(bob, 1)
	if err := b.set.Directory().Writable(); !errors.Is(err, directory.ErrReadOnly) {
		t.Errorf("a change: %v", err)
	}
	if err := b.group("c").Mount(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f := b.set.Directory().Followers()["c"]; f.Behind || f.At != b.set.noted() {
		t.Errorf("the copy in c: %+v", f)
	}
	b.fs.full.Store(nil)
	b.await(ann, sent+1)
	if err := b.set.Directory().Valid(&r); err != nil {
		t.Errorf("the session: %v", err)
	}
	b.user("new", "c/c1")
	if err := a.Dismount(); err != nil {
		t.Fatal(err)
	}
	if s := b.set.DirectoryState(); !s.ReadOnly || s.Copy != "" {
		t.Errorf("the directory: %+v", s)
	}
	if err := a.Mount(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A directory of an earlier moment counts once it is mounted, and its copies follow it.
func TestEarlierDirectory(t *testing.T) {
	b := open(t, nil)
	b.user("bob", "b/b1")
	early := b.crash().CrashClone(rand.New(rand.NewPCG(1, 2)))
	b.start()
	b.password("bob", "new")
	last := b.set.noted()
	b.crash()
	b.carry("/d/a", "/lost")
	names, err := early.ReadDir("/d/a")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b.put(early, filepath.Join("/d/a", name))
	}
	b.start()
	if v := b.set.Directory().Version(); v <= last || b.set.noted() != v {
		t.Errorf("version %d, noted %d, and before it was %d", v, b.set.noted(), last)
	}
	b.crash()
	b.carry("/d/a", "/lost")
	b.start()
	if err := b.login("bob", "x"); err != nil {
		t.Errorf("the password of the earlier moment: %v", err)
	}
}
