package directory

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"testing"
	"time"

	"pillarbox/ese"
	"pillarbox/ese/vfs"
	"pillarbox/mail/address"
)

type bed struct {
	*Directory
	t   *testing.T
	fs  *vfs.Mem
	in  *ese.Instance
	now time.Time
}

// cheap makes hashes that cost nothing, which the tests do not need.
func cheap() Options { return Options{HashMemoryKiB: 64, HashPasses: 1} }

func newBed(t *testing.T, o Options) *bed {
	b := &bed{t: t, fs: vfs.NewMem(), now: time.Unix(1_800_000_000, 0)}
	o.Now = func() time.Time { return b.now }
	b.open(o)
	t.Cleanup(func() { b.close() })
	return b
}

func (b *bed) open(o Options) {
	b.t.Helper()
	in, err := ese.Open(ese.Options{FS: b.fs, Dir: "/data"})
	if err != nil {
		b.t.Fatal(err)
	}
	db, err := in.OpenDatabase("priv1.edb")
	if err != nil {
		b.t.Fatal(err)
	}
	b.in = in
	if b.Directory, err = Open(b.t.Context(), in, db, o); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) close() {
	if err := b.in.Close(); err != nil {
		b.t.Error(err)
	}
}

func (b *bed) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) addUser(addr, password string) Recipient {
	b.t.Helper()
	r, err := b.AddUser(b.t.Context(), addr, Secret{Password: password})
	b.must(err)
	return r
}

func (b *bed) login(l Login) error {
	_, err := b.Authenticate(context.Background(), l)
	return err
}

func TestUsersAndAliases(t *testing.T) {
	b := newBed(t, cheap())
	ctx := t.Context()
	if _, err := b.AddUser(ctx, "alice@x.test", Secret{Password: "p"}); !errors.Is(err, ErrNotLocal) {
		t.Errorf("user before the domain: %v", err)
	}
	b.must(b.AddDomain(ctx, "X.test."))
	b.must(b.AddDomain(ctx, "b\u00fccher.test"))
	for _, name := range []string{"x.TEST", "", "a b", "[127.0.0.1]"} {
		if err := b.AddDomain(ctx, name); !errors.Is(err, ErrExists) && !errors.Is(err, ErrSyntax) {
			t.Errorf("domain %q: %v", name, err)
		}
	}
	alice := b.addUser("Alice@x.test", "p1")
	bob := b.addUser("bob@b\u00fccher.test", "p2")
	b.must(b.AddAlias(ctx, "sales@x.test", "alice@x.test"))
	b.must(b.AddAlias(ctx, "info@x.test", "sales@x.test"))
	if err := b.AddAlias(ctx, "bob@xn--bcher-kva.test", "alice@x.test"); !errors.Is(err, ErrExists) {
		t.Errorf("alias over a user: %v", err)
	}
	if _, err := b.AddUser(ctx, "SALES@x.test", Secret{Password: "p"}); !errors.Is(err, ErrExists) {
		t.Errorf("user over an alias: %v", err)
	}
	b.must(b.SetDisabled(ctx, "info@x.test", true))
	b.must(b.RemoveAlias(ctx, "info@x.test"))

	check := func() {
		t.Helper()
		tests := []struct {
			addr address.Address
			id   GUID
			err  error
		}{
			{address.Address{Local: "aLice", Domain: "X.TEST"}, alice.ID, nil},
			{address.Address{Local: "sales", Domain: "x.test"}, alice.ID, nil},
			{address.Address{Local: "bob", Domain: "xn--bcher-kva.test"}, bob.ID, nil},
			{address.Address{Local: "postmaster"}, alice.ID, nil},
			{address.Address{Local: "PostMaster", Domain: "b\u00fccher.test"}, alice.ID, nil},
			{address.Address{Local: "info", Domain: "x.test"}, GUID{}, ErrNotFound},
			{address.Address{Local: "alice", Domain: "y.test"}, GUID{}, ErrNotLocal},
		}
		for _, tt := range tests {
			r, err := b.Resolve(tt.addr)
			if r.ID != tt.id || !errors.Is(err, tt.err) {
				t.Errorf("resolve %v: %x, %v", tt.addr, r.ID, err)
			}
		}
		if r, err := b.Recipient(alice.ID); err != nil || !r.Disabled || !r.Administrator {
			t.Errorf("alice: %+v, %v", r, err)
		}
		if n := len(b.Users()); n != 2 {
			t.Errorf("%d users", n)
		}
		if a := b.Aliases(); len(a) != 1 || a[0].Address != "sales@x.test" {
			t.Errorf("aliases %+v", a)
		}
		if d := b.Domains(); len(d) != 2 || d[1] != "xn--bcher-kva.test" {
			t.Errorf("domains %q", d)
		}
	}
	check()
	b.close()
	b.open(cheap())
	check()
	if !b.Owns(alice.ID, address.Address{Local: "sales", Domain: "x.test"}) ||
		b.Owns(bob.ID, address.Address{Local: "sales", Domain: "x.test"}) {
		t.Error("owner of sales")
	}
}

// Who is removed is gone with aliases and password, and comes back under the same GUID only.
func TestRemoveUser(t *testing.T) {
	b := newBed(t, cheap())
	ctx := t.Context()
	b.must(b.AddDomain(ctx, "x.test"))
	b.addUser("root@x.test", "r")
	bob := b.addUser("bob@x.test", "p")
	b.must(b.AddAlias(ctx, "bobby@x.test", "bob@x.test"))
	for _, bad := range []struct {
		addr string
		err  error
	}{
		{"root@x.test", ErrAdministrator},
		{"bobby@x.test", ErrNotFound},
		{"no@x.test", ErrNotFound},
		{"bob@y.test", ErrNotLocal},
	} {
		if _, err := b.RemoveUser(ctx, bad.addr); !errors.Is(err, bad.err) {
			t.Errorf("remove %s: %v", bad.addr, err)
		}
	}
	b.must(b.login(Login{Name: "bobby@x.test", Password: "p"}))
	if r, err := b.RemoveUser(ctx, "Bob@x.test"); err != nil || r.ID != bob.ID {
		t.Fatal(r, err)
	}
	gone := func() {
		t.Helper()
		for _, name := range []string{"bob@x.test", "bobby@x.test"} {
			a, err := address.Parse(name)
			b.must(err)
			if _, err := b.Resolve(a); !errors.Is(err, ErrNotFound) {
				t.Errorf("%s leads to somebody: %v", name, err)
			}
			if err := b.login(Login{Name: name, Password: "p"}); !errors.Is(err, ErrBadLogin) {
				t.Errorf("%s logs in: %v", name, err)
			}
		}
		if len(b.Aliases()) != 0 || len(b.Users()) != 1 {
			t.Error(b.Aliases(), b.Users())
		}
	}
	gone()
	b.close()
	b.open(cheap())
	gone()
	b.addUser("bob@x.test", "other")
	if _, err := b.RestoreUser(ctx, bob.ID, "bob@x.test", Secret{Password: "n"}); !errors.Is(err, ErrExists) {
		t.Error(err)
	}
	r, err := b.RestoreUser(ctx, bob.ID, "bob2@x.test", Secret{Password: "n"})
	if err != nil || r.ID != bob.ID || r.Administrator {
		t.Fatal(r, err)
	}
	if _, err := b.RestoreUser(ctx, bob.ID, "bob3@x.test", Secret{Password: "n"}); !errors.Is(err, ErrExists) {
		t.Error(err)
	}
	b.must(b.login(Login{Name: "bob2@x.test", Password: "n"}))
	b.close()
	b.open(cheap())
	b.must(b.login(Login{Name: "bob2@x.test", Password: "n"}))
}

func TestAuthenticate(t *testing.T) {
	b := newBed(t, cheap())
	ctx := t.Context()
	b.must(b.AddDomain(ctx, "x.test"))
	b.now = b.now.Add(time.Second)
	b.must(b.AddDomain(ctx, "y.test"))
	b.addUser("alice@x.test", "secret")
	b.addUser("alice@y.test", "other")
	b.must(b.AddAlias(ctx, "al@x.test", "alice@x.test"))
	tests := []struct {
		name, password, server string
		want                   error
	}{
		{"alice@x.test", "secret", "", nil},
		{"ALICE@X.test", "secret", "", nil},
		{"al@x.test", "secret", "", nil},
		{"alice", "secret", "", nil},
		{"al", "secret", "", nil},
		{"alice", "other", "imap.y.test", nil},
		{"alice", "secret", "imap.y.test", ErrBadLogin},
		{"alice@x.test", "Secret", "", ErrBadLogin},
		{"alice@x.test", "", "", ErrBadLogin},
		{"nobody", "secret", "", ErrBadLogin},
		{"", "", "", ErrBadLogin},
		{"a@b@c", "secret", "", ErrBadLogin},
	}
	for _, tt := range tests {
		for range 2 { // the second time from memory
			err := b.login(Login{Name: tt.name, Password: tt.password, ServerName: tt.server})
			if !errors.Is(err, tt.want) {
				t.Errorf("login %q %q at %q: %v, want %v", tt.name, tt.password, tt.server, err, tt.want)
			}
		}
	}
	b.must(b.SetPassword(ctx, "alice@x.test", Secret{Password: "new"}))
	if err := b.login(Login{Name: "alice", Password: "secret"}); !errors.Is(err, ErrBadLogin) {
		t.Errorf("old password: %v", err)
	}
	if err := b.login(Login{Name: "al", Password: "new"}); err != nil {
		t.Errorf("new password by alias: %v", err)
	}
	b.must(b.SetDisabled(ctx, "alice@x.test", true))
	if err := b.login(Login{Name: "alice", Password: "new"}); !errors.Is(err, ErrBadLogin) {
		t.Errorf("disabled: %v", err)
	}
}

// What takes a login away ends the sessions that go on with it, and no others.
func TestWatch(t *testing.T) {
	b := newBed(t, cheap())
	ctx := t.Context()
	b.must(b.AddDomain(ctx, "x.test"))
	b.addUser("postmaster@x.test", "secret") // the first is the administrator, whom nobody removes
	for name, change := range map[string]func(addr string) error{
		"password": func(a string) error { return b.SetPassword(ctx, a, Secret{Password: "new"}) },
		"disabled": func(a string) error { return b.SetDisabled(ctx, a, true) },
		"removed":  func(a string) error { _, err := b.RemoveUser(ctx, a); return err },
	} {
		addr := name + "@x.test"
		b.addUser(addr, "secret")
		b.addUser("other"+addr, "secret")
		var ended, others int
		watch := func(addr string, n *int) (Recipient, func()) {
			r, err := b.Authenticate(ctx, Login{Name: addr, Password: "secret"})
			b.must(err)
			stop, err := b.Watch(&r, func() { *n++ })
			b.must(err)
			return r, stop
		}
		r, _ := watch(addr, &ended)
		watch("other"+addr, &others)
		_, stop := watch(addr, &others)
		stop()
		b.must(b.SetDisabled(ctx, addr, false)) // takes nothing away
		if ended != 0 || b.Valid(&r) != nil {
			t.Errorf("%s: ended %d times before the change: %v", name, ended, b.Valid(&r))
		}
		b.must(change(addr))
		if ended != 1 || others != 0 {
			t.Errorf("%s: the session ended %d times, others %d", name, ended, others)
		}
		if err := b.Valid(&r); !errors.Is(err, ErrBadLogin) {
			t.Errorf("%s: the login counts for %v", name, err)
		}
		if _, err := b.Watch(&r, func() {}); !errors.Is(err, ErrBadLogin) {
			t.Errorf("%s: watched after the change: %v", name, err)
		}
	}
}

func TestLimiter(t *testing.T) {
	b := newBed(t, cheap())
	b.must(b.AddDomain(t.Context(), "x.test"))
	b.addUser("alice@x.test", "secret")
	here, there := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	good := Login{Name: "alice", Password: "secret", Remote: here}
	bad := Login{Name: "alice", Password: "wrong", Remote: here}
	for i := range perAddress {
		if err := b.login(bad); !errors.Is(err, ErrBadLogin) {
			t.Fatalf("failure %d: %v", i, err)
		}
	}
	if err := b.login(good); !errors.Is(err, ErrThrottled) {
		t.Errorf("after %d failures: %v", perAddress, err)
	}
	good.Remote = there
	if err := b.login(good); err != nil {
		t.Errorf("from elsewhere: %v", err)
	}
	b.now = b.now.Add(failureWindow)
	good.Remote = here
	if err := b.login(good); err != nil {
		t.Errorf("after the window: %v", err)
	}
	bad.Remote = netip.MustParseAddr("::ffff:127.0.0.1")
	for range 2 * perAccount {
		if err := b.login(bad); !errors.Is(err, ErrBadLogin) {
			t.Fatalf("loopback: %v", err)
		}
	}
}

func TestLimiterIsBounded(t *testing.T) {
	var l limiter
	l.init(time.Now)
	for i := range maxLimiterItems + 100 {
		l.failed([]limit{{fmt.Sprint(i), 1}})
	}
	if len(l.m) > maxLimiterItems {
		t.Errorf("%d counters", len(l.m))
	}
}

func TestHashes(t *testing.T) {
	b := newBed(t, cheap())
	ctx := t.Context()
	b.must(b.AddDomain(ctx, "x.test"))
	known := []struct{ hash, password string }{
		{b.hash("pass word"), "pass word"},
		{"$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"},
	}
	for i, k := range known {
		addr := fmt.Sprintf("u%d@x.test", i)
		if _, err := b.AddUser(ctx, addr, Secret{Hash: k.hash}); err != nil {
			t.Errorf("%s: %v", k.hash, err)
			continue
		}
		if err := b.login(Login{Name: addr, Password: k.password}); err != nil {
			t.Errorf("%s: %v", k.hash, err)
		}
		if err := b.login(Login{Name: addr, Password: k.password + "x"}); !errors.Is(err, ErrBadLogin) {
			t.Errorf("%s with another password: %v", k.hash, err)
		}
	}
	for _, s := range []Secret{
		{},
		{Hash: "plain"},
		{Hash: "$argon2id$v=19$m=4294967295,t=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA"},
		{Hash: "$argon2id$v=19$m=64,t=0,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA"},
		{Hash: "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$"},
		{Hash: "$1$abc$def"},
	} {
		if _, err := b.AddUser(ctx, "y@x.test", s); !errors.Is(err, ErrBadSecret) {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

func FuzzParseArgon(f *testing.F) {
	f.Add("$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA")
	f.Add("$argon2id$v=19$m=65536,t=3,p=4$$")
	f.Fuzz(func(t *testing.T, s string) {
		if h, ok := parseArgon(s); ok && (h.threads == 0 || h.passes == 0 || h.memory > maxHashKiB) {
			t.Errorf("%q is taken as %+v", s, h)
		}
	})
}

func TestImport(t *testing.T) {
	b := newBed(t, cheap())
	ctx := t.Context()
	b.must(b.AddDomain(ctx, "x.test"))
	const n = 10_000
	hash := b.hash("p")
	users := func(fail int) iter.Seq2[NewUser, error] {
		return func(yield func(NewUser, error) bool) {
			for i := range n {
				if i == fail {
					yield(NewUser{}, errors.New("line is broken"))
					return
				}
				if !yield(NewUser{fmt.Sprintf("user%d@x.test", i), Secret{Hash: hash}}, nil) {
					return
				}
			}
		}
	}
	// What stands in front of the broken line is taken.
	if got, err := b.AddUsers(ctx, users(1000), nil); err == nil || got.Added != 1000 {
		t.Errorf("broken input: %+v, %v", got, err)
	}
	for u, want := range map[NewUser]error{
		{"new@x.test", Secret{Password: "p"}}:   nil,
		{"new@y.test", Secret{Password: "p"}}:   ErrNotLocal,
		{"n w@x.test", Secret{Password: "p"}}:   ErrSyntax,
		{"new@x.test", Secret{}}:                ErrBadSecret,
		{"new@x.test", Secret{Hash: "$1$a$b"}}:  ErrBadSecret,
		{"user1@x.test", Secret{Password: "p"}}: nil, // skipped
	} {
		if err := b.CheckNew(u); !errors.Is(err, want) {
			t.Errorf("%+v: %v, not %v", u, err, want)
		}
	}
	steps := 0
	start := time.Now()
	got, err := b.AddUsers(ctx, users(-1), func(Imported) { steps++ })
	b.must(err)
	if got.Added+got.Skipped != n || got.Skipped != 1000 || steps != 34 {
		t.Errorf("imported %+v in %d steps", got, steps)
	}
	t.Logf("%d users in %v", got.Added, time.Since(start))
	if err := b.login(Login{Name: "user9999", Password: "p"}); err != nil {
		t.Error(err)
	}
	b.close()
	b.open(cheap())
	if len(b.Users()) != n {
		t.Errorf("%d users after opening again", len(b.Users()))
	}
	got, err = b.AddUsers(ctx, users(-1), nil)
	if err != nil || got.Added != 0 || got.Skipped != n {
		t.Errorf("again: %+v, %v", got, err)
	}
}
