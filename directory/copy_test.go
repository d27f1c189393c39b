package directory

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pillarbox/ese"
	"pillarbox/ese/vfs"
)

// shadow is a copy of the bed's directory in a database of its own.
type shadow struct {
	*bed
	name string
	fs   vfs.FS
	in   *ese.Instance
	c    *Copy
}

func (b *bed) shadow(name string) *shadow {
	s := &shadow{bed: b, name: name, fs: vfs.NewMem()}
	s.open()
	b.t.Cleanup(func() { b.must(s.in.Close()) })
	return s
}

func (s *shadow) open() {
	s.t.Helper()
	var err error
	s.in, err = ese.Open(ese.Options{FS: s.fs, Dir: "/data"})
	s.must(err)
	db, err := s.in.OpenDatabase("other.edb")
	s.must(err)
	s.c, err = OpenCopy(s.t.Context(), s.in, db)
	s.must(err)
	if In(db) || !CopyIn(db) {
		s.t.Fatal("the copy passes for a directory")
	}
}

// reopen begins with what the database has.
func (s *shadow) reopen() {
	s.t.Helper()
	s.must(s.in.Close())
	s.open()
}

// same fails unless the copy on disk is the directory.
func (s *shadow) same() {
	s.t.Helper()
	got, v, err := read(s.in, &s.c.ts)
	s.must(err)
	differing, beyond := s.image.differing(&got), s.image.beyond(&got)
	if !differing.empty() || !beyond.empty() {
		s.t.Fatalf("%s lacks %+v and has besides %+v", s.name, differing, beyond)
	}
	if v != s.Version() {
		s.t.Fatalf("%s is at %d, the directory at %d", s.name, v, s.Version())
	}
	d, err := OpenFrom(s.c, s.o)
	s.must(err)
	if d.first != s.first || (d.admin == nil) != (s.admin == nil) || len(d.byKey) != len(s.byKey) {
		s.t.Fatalf("%s leads elsewhere", s.name)
	}
}

// Random changes reach the copies that follow before they are acknowledged, and those that were away
// when they come back.
func TestCopiesFollow(t *testing.T) {
	noted := Version(0)
	var copies []*shadow
	o := cheap()
	o.Note = func(v Version) error {
		if v <= noted {
			t.Errorf("version %d noted after %d", v, noted)
		}
		noted = v
		return nil
	}
	b := newBed(t, o)
	for i := range 2 {
		s := b.shadow(fmt.Sprint("copy", i))
		copies = append(copies, s)
	}
	b.must(b.AddDomain(t.Context(), "x.test"))
	b.must(b.Follow(t.Context(), "copy0", copies[0].c))
	b.must(b.Follow(t.Context(), "copy1", copies[1].c))
	rng := rand.New(rand.NewPCG(3, 7))
	const hash = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$" +
		"CWuNYKp4Y4ekzBWvC5e6SbOHdM7k3W9FFZ0kTIK1vgA"
	ctx, away := t.Context(), false
	for range 300 {
		name := fmt.Sprintf("u%d@x.test", rng.IntN(12))
		var err error
		switch rng.IntN(10) {
		case 0, 1, 2:
			_, err = b.AddUser(ctx, name, Secret{Hash: hash})
		case 3:
			_, err = b.RemoveUser(ctx, name)
		case 4:
			err = b.AddAlias(ctx, fmt.Sprintf("a%d@x.test", rng.IntN(9)), name)
		case 5:
			err = b.RemoveAlias(ctx, fmt.Sprintf("a%d@x.test", rng.IntN(9)))
		case 6:
			err = b.SetPassword(ctx, name, Secret{Password: fmt.Sprint(rng.Int())})
		case 7:
			err = b.SetDisabled(ctx, name, rng.IntN(2) == 0)
		case 8:
			if u, e := b.user(name); e == nil {
				err = b.SetHome(ctx, map[GUID]string{u.ID: fmt.Sprint("home", rng.IntN(5))})
			}
		case 9:
			if away = !away; away {
				b.Unfollow("copy1")
			} else {
				copies[1].reopen()
				b.must(b.Follow(ctx, "copy1", copies[1].c))
			}
		}
		for _, fine := range []error{ErrExists, ErrNotFound, ErrAdministrator} {
			if errors.Is(err, fine) {
				err = nil
			}
		}
		b.must(err)
		copies[0].same()
		if !away {
			copies[1].same()
		}
	}
	if noted != b.Version() {
		t.Errorf("noted is %d, the directory at %d", noted, b.Version())
	}
	if wrong, err := b.CheckCopies(); err != nil || len(wrong) > 0 {
		t.Errorf("copies: %v, %v", wrong, err)
	}
}

// A copy that cannot be written is behind, which hinders no change, and catches up.
func TestCopyBehind(t *testing.T) {
	b := newBed(t, cheap())
	s := b.shadow("copy")
	b.must(b.AddDomain(t.Context(), "x.test"))
	b.must(b.Follow(t.Context(), s.name, s.c))
	b.must(s.in.Close())
	b.addUser("ann@x.test", "one")
	if f := b.Followers()["copy"]; !f.Behind || f.Err == nil {
		t.Errorf("the copy is %+v", f)
	}
	if err := b.CatchUp(t.Context()); err == nil {
		t.Error("caught up in a closed database")
	}
	b.Unfollow(s.name)
	s.open()
	if s.c.Version() >= b.Version() {
		t.Error("the old copy has the new version")
	}
	b.must(b.Follow(t.Context(), s.name, s.c))
	s.same()
	if f := b.Followers()["copy"]; f.Behind || f.Err != nil {
		t.Errorf("the copy is %+v", f)
	}
}

// gate is a disk whose syncs wait while it is shut.
type gate struct {
	vfs.FS
	shut atomic.Pointer[chan struct{}]
}

func (g *gate) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := g.FS.OpenFile(name, flag, perm)
	return &gateFile{f, g}, err
}

type gateFile struct {
	vfs.File
	g *gate
}

func (f *gateFile) SyncData() error {
	if c := f.g.shut.Load(); c != nil {
		<-*c
	}
	return f.File.SyncData()
}

// A disk that does not answer keeps its copy behind, and nobody from changing accounts.
func TestCopyHangs(t *testing.T) {
	o := cheap()
	o.Patience = 50 * time.Millisecond
	b := newBed(t, o)
	s := &shadow{bed: b, name: "copy"}
	g := &gate{FS: vfs.NewMem()}
	s.fs = g
	s.open()
	t.Cleanup(func() { b.must(s.in.Close()) })
	ctx := t.Context()
	b.must(b.AddDomain(ctx, "x.test"))
	if err := b.Follow(ctx, s.name, s.c); errors.Is(err, errSlow) {
		b.must(retry(func() error { return b.CatchUp(ctx) })) // a busy machine
	}
	shut := make(chan struct{})
	g.shut.Store(&shut)
	for i := range 3 {
		b.addUser(fmt.Sprintf("u%d@x.test", i), "p")
	}
	if f := b.Followers()[s.name]; !f.Behind || !errors.Is(f.Err, errSlow) {
		t.Errorf("the copy is %+v", f)
	}
	if err := b.CatchUp(ctx); !errors.Is(err, errSlow) {
		t.Errorf("caught up on a disk that hangs: %v", err)
	}
	g.shut.Store(nil)
	close(shut)
	b.must(retry(func() error { return b.CatchUp(ctx) }))
	s.same()
	b.Unfollow(s.name)
}

// retry is for a busy machine.
func retry(fn func() error) (err error) {
	for range 1000 {
		if err = fn(); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}

// A copy that has lost rows, as by a repair, is made whole when its group is mounted, though its version
// is right.
func TestCopyRepaired(t *testing.T) {
	b := newBed(t, cheap())
	s := b.shadow("copy")
	b.must(b.AddDomain(t.Context(), "x.test"))
	ann := b.addUser("ann@x.test", "p")
	b.must(b.Follow(t.Context(), s.name, s.c))
	b.Unfollow(s.name)
	b.must(s.in.Update(t.Context(), func(tx *ese.Tx) error {
		return tx.Delete(s.c.ts.recipient.t, ese.Bytes(ann.ID[:]))
	}))
	s.reopen()
	if s.c.Version() != b.Version() {
		t.Fatal("the version is not as it was")
	}
	b.must(b.Follow(t.Context(), s.name, s.c))
	s.same()
}

// Without its database a directory answers and refuses changes. When it is there again logins go on,
// unless their accounts are no longer what they were.
func TestDetached(t *testing.T) {
	b := newBed(t, cheap())
	ctx := t.Context()
	b.must(b.AddDomain(ctx, "x.test"))
	b.addUser("admin@x.test", "p")
	ann, bob := b.addUser("ann@x.test", "p"), b.addUser("bob@x.test", "p")
	b.addUser("eve@x.test", "p")
	b.must(b.SetPassword(ctx, "ann@x.test", Secret{Password: "q"}))
	if err := b.Valid(&ann); !errors.Is(err, ErrBadLogin) {
		t.Errorf("an old login is %v", err)
	}
	ended := make(chan string, 4)
	var logins []Recipient
	for _, l := range []Login{
		{Name: "admin", Password: "p"},
		{Name: "ann", Password: "q"},
		{Name: "bob", Password: "p"},
		{Name: "eve", Password: "p"},
	} {
		r, err := b.Authenticate(ctx, l)
		b.must(err)
		logins = append(logins, r)
		_, err = b.Watch(&r, func() { ended <- l.Name })
		b.must(err)
	}
	b.Detach()
	if err := b.login(Login{Name: "bob@x.test", Password: "p"}); err != nil {
		t.Errorf("login without the database: %v", err)
	}
	_, err1 := b.AddUser(ctx, "new@x.test", Secret{Password: "p"})
	_, err2 := b.RemoveUser(ctx, "bob@x.test")
	_, err3 := b.AddUsers(ctx, func(yield func(NewUser, error) bool) {
		yield(NewUser{"new@x.test", Secret{Password: "p"}}, nil)
	}, nil)
	for i, err := range []error{
		err1, err2, err3, b.Writable(), b.AddDomain(ctx, "y.test"),
		b.AddAlias(ctx, "b@x.test", "bob@x.test"), b.SetDisabled(ctx, "bob@x.test", true),
		b.SetPassword(ctx, "bob@x.test", Secret{Password: "r"}),
		b.SetHome(ctx, map[GUID]string{bob.ID: "there"}), b.Raise(ctx, 0),
	} {
		if !errors.Is(err, ErrReadOnly) {
			t.Errorf("change %d: %v", i, err)
		}
	}
	// What a restore, or another program, has done to the database meanwhile.
	db, err := b.in.OpenDatabase("priv1.edb")
	b.must(err)
	other, err := Open(ctx, b.in, db, cheap())
	b.must(err)
	b.must(other.SetDisabled(ctx, "bob@x.test", true))
	_, err = other.RemoveUser(ctx, "eve@x.test")
	b.must(err)
	b.must(b.Reopen(ctx, b.in, db))
	got := []string{<-ended, <-ended}
	if s := strings.Join(got, " "); s != "bob eve" && s != "eve bob" || len(ended) > 0 {
		t.Errorf("ended: %v and %d more", got, len(ended))
	}
	for i, want := range []error{nil, nil, ErrBadLogin, ErrBadLogin} {
		if err := b.Valid(&logins[i]); !errors.Is(err, want) {
			t.Errorf("login %d is %v", i, err)
		}
	}
	if err := b.Valid(&ann); !errors.Is(err, ErrBadLogin) {
		t.Errorf("a login with the old password is good again (%v)", err)
	}
	b.addUser("new@x.test", "p")
}

// Before a home changes no copy that may be used says where it was.
func TestHomeHidden(t *testing.T) {
	var b *bed
	var s *shadow
	var homes []string
	fail := false
	o := cheap()
	o.Note = func(v Version) error {
		if fail {
			return errors.New("no")
		}
		if s != nil && s.c.Version() != v {
			t.Errorf("noted %d, the copy is at %d", v, s.c.Version())
		}
		if s != nil && homes != nil {
			d, err := OpenFrom(s.c, cheap())
			b.must(err)
			home, _ := d.Home(b.byKey["ann@x.test"].ID)
			homes = append(homes, home)
		}
		return nil
	}
	b = newBed(t, o)
	ctx := context.Background()
	b.must(b.AddDomain(ctx, "x.test"))
	ann := b.addUser("ann@x.test", "p")
	b.must(b.SetHome(ctx, map[GUID]string{ann.ID: "here"}))
	s = b.shadow("copy")
	b.must(b.Follow(ctx, s.name, s.c))
	homes = []string{}
	b.must(b.SetHome(ctx, map[GUID]string{ann.ID: "there"}))
	if fmt.Sprint(homes) != "[ there]" {
		t.Errorf("the copy said %q", homes)
	}
	// Where that cannot be had, nothing changes.
	fail = true
	if err := b.SetHome(ctx, map[GUID]string{ann.ID: "elsewhere"}); err == nil {
		t.Error("changed")
	}
	fail = false
	if home, err := b.Home(ann.ID); err != nil || home != "there" {
		t.Errorf("home is %s (%v)", home, err)
	}
	homes = nil
	b.must(b.SetDisabled(ctx, "ann@x.test", true))
	s.same()
	// Nor does a full copy say it where it may have changed.
	b.loseHomes(map[GUID]string{ann.ID: ""})
	b.must(s.c.bring(ctx, &b.image, b.Version()))
	d, err := OpenFrom(s.c, cheap())
	b.must(err)
	if home, err := d.Home(ann.ID); err == nil {
		t.Errorf("an uncertain home is copied as %s", home)
	}
}

// Versions of a directory only rise, also behind a clock that goes back.
func TestVersions(t *testing.T) {
	b := newBed(t, cheap())
	last := b.Version()
	if last != 0 {
		t.Errorf("a new directory is at %d", last)
	}
	b.must(b.AddDomain(t.Context(), "x.test"))
	for i := range 5 {
		b.now = b.now.Add(-1000)
		b.addUser(fmt.Sprintf("u%d@x.test", i), "p")
		if b.Version() <= last {
			t.Fatalf("%d after %d", b.Version(), last)
		}
		last = b.Version()
	}
	if !last.Time().After(b.now) {
		t.Errorf("version of %v", last.Time())
	}
	b.must(b.Raise(t.Context(), last+1_000_000_000))
	if b.Version() <= last+1_000_000_000 {
		t.Errorf("raised to %d", b.Version())
	}
	last = b.Version()
	b.close()
	b.open(cheap())
	if b.Version() != last {
		t.Errorf("%d after the restart, %d before", b.Version(), last)
	}
}
