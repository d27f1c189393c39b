package directory

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"time"

	"pillarbox/ese"
	"pillarbox/mail/address"
)

// Errors that callers act on.
var (
	// ErrNotFound: nobody has this address.
	ErrNotFound = errors.New("no such recipient")
	// ErrNotLocal: the domain is not one of ours.
	ErrNotLocal = errors.New("domain is not local")
	// ErrExists: the domain or address is taken.
	ErrExists = errors.New("exists already")
	// ErrBadLogin: wrong name or password, or a disabled account.
	ErrBadLogin = errors.New("wrong user name or password")
	// ErrThrottled: too many failures from there or for this account; later it works again.
	ErrThrottled = errors.New("too many failed logins")
	// ErrBadSecret: an empty password, or a hash of an unknown kind.
	ErrBadSecret = errors.New("unusable password or hash")
	// ErrSyntax: not an address or domain.
	ErrSyntax = errors.New("invalid address or domain")
)

// GUID names a directory object for ever.
type GUID [16]byte

// newGUID makes a random one (RFC 9562 5.4).
func newGUID() (g GUID) {
	_, _ = rand.Read(g[:]) // never fails
	g[6], g[8] = g[6]&0x0f|0x40, g[8]&0x3f|0x80
	return g
}

// Kind is what a recipient is.
type Kind uint8

// Kinds. Lists, folders and remote recipients have their place from the first day (mail.md
// 12); nothing makes them yet.
const (
	KindUser Kind = iota + 1
	KindList
	KindFolder
	KindRemote
)

// States of a recipient.
const (
	bitDisabled = 1 << iota
	bitAdministrator
)

// Recipient is what an address leads to.
type Recipient struct {
	ID   GUID
	Kind Kind
	// Address is the primary address as it was given.
	Address string
	// Target is where a remote recipient's mail goes.
	Target string
	// Disabled: no login; mail is still taken.
	Disabled bool
	// Administrator gets the mail to postmaster (mail.md 5).
	Administrator bool
	Created       time.Time
	// Home is where the mailbox lives (Directory.Home).
	Home string

	login uint64 // rises when logins of before are good no more
}

// Alias is a further address of a recipient.
type Alias struct {
	Address string
	ID      GUID
}

// Options configures a Directory. The zero value is usable.
type Options struct {
	// DefaultDomain completes login names without a domain. Default: the first domain.
	DefaultDomain string
	// Note is told of each version that all copies that can be reached have, or should have, before
	// the change is acknowledged. Default: nobody is told.
	Note func(Version) error
	// Patience is how long a change waits for a copy to be written. Default: 20 s.
	Patience time.Duration
	// Place names the home of a new user's mailbox. Default: none.
	Place func(GUID) (home string, err error)
	// Fits refuses a home that was named for a new user. Default: none.
	Fits func(home string) error
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Logger receives changes. Default: discard.
	Logger *slog.Logger
	// HashMemoryKiB and HashPasses are the cost of new argon2id hashes. Default: 19 MiB, 2.
	HashMemoryKiB, HashPasses uint32
	// Hashers is how many passwords are hashed at a time. Default: the number of cores.
	Hashers int
	// ThrottleLoopback also limits failures from loopback.
	ThrottleLoopback bool
}

func (o *Options) setDefaults() {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Patience <= 0 {
		o.Patience = 20 * time.Second
	}
	o.HashMemoryKiB = cmp.Or(o.HashMemoryKiB, 19<<10)
	o.HashPasses = cmp.Or(o.HashPasses, 2)
	if o.Hashers <= 0 {
		o.Hashers = runtime.GOMAXPROCS(0)
	}
}

// Directory is the directory on one database. It is safe for concurrent use.
type Directory struct {
	o Options

	changeMu sync.Mutex    // one change at a time; guards what follows
	in       *ese.Instance // nil while the database is not mounted
	ts       tables
	previous Version // before the change under way

	mu        sync.RWMutex // guards what comes now
	image                  // changed with changeMu held too
	version   Version      // of the image; changed with changeMu held too
	followers map[string]*follower

	hashers  chan struct{} // one token per hash being worked out
	dummy    string        // a hash to compare with where there is none
	verified loginMemory
	watchers watchers
	failures limiter
}

// Open opens the directory in a database, whose tables it makes when they are missing.
func Open(ctx context.Context, in *ese.Instance, db *ese.Database, o Options) (*Directory, error) {
	d := newDirectory(o)
	if err := d.openOwn(ctx, in, db); err != nil {
		return nil, err
	}
	return d, nil
}

func newDirectory(o Options) *Directory {
	o.setDefaults()
	d := &Directory{
		o: o, image: newImage(), hashers: make(chan struct{}, o.Hashers),
		followers: make(map[string]*follower),
	}
	d.verified.init()
	d.failures.init(o.Now)
	d.dummy = d.hash(rand.Text())
	return d
}

// openOwn reads the directory in its own database.
func (d *Directory) openOwn(ctx context.Context, in *ese.Instance, db *ese.Database) error {
	var ts tables
	if err := ts.open(ctx, in, db, ownTables); err != nil {
		return fmt.Errorf("open the directory: %w", err)
	}
	m, v, err := read(in, &ts)
	if err != nil {
		return fmt.Errorf("read the directory: %w", err)
	}
	d.changeMu.Lock()
	defer d.changeMu.Unlock()
	d.in, d.ts = in, ts
	d.adopt(m, v)
	return nil
}

// AddDomain makes a domain local.
func (d *Directory) AddDomain(ctx context.Context, name string) error {
	key, err := domainKey(name)
	if err != nil {
		return err
	}
	d.changeMu.Lock()
	defer d.changeMu.Unlock()
	if d.IsLocal(key) {
		return ErrExists
	}
	now := d.o.Now()
	err = d.update(ctx, func(tx *ese.Tx) error {
		return tx.Insert(d.ts.domainRow(key, now))
	})
	if err != nil {
		return fmt.Errorf("add domain %s: %w", key, err)
	}
	d.mu.Lock()
	d.addDomain(key, now)
	d.mu.Unlock()
	d.o.Logger.Info("domain added", "domain", key)
	return d.publish(ctx, touched{domains: []string{key}})
}

// CheckDomain tells whether a domain could be made local.
func CheckDomain(name string) error {
	_, err := domainKey(name)
	return err
}

// domainKey checks a domain and returns it as it is compared.
func domainKey(name string) (string, error) {
	a, err := address.Parse("postmaster@" + name)
	key := address.DomainKey(name)
	if err != nil || a.Domain == "" || a.Domain[0] == '[' || len(key) > 253 {
		return "", fmt.Errorf("%w: domain %q", ErrSyntax, name)
	}
	return key, nil
}

// Domains returns the local domains in order.
func (d *Directory) Domains() []string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	names := make([]string, 0, len(d.domains))
	for n := range d.domains {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// IsLocal tells whether a domain is ours.
func (d *Directory) IsLocal(domain string) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	_, ok := d.domains[address.DomainKey(domain)]
	return ok
}

// defaultDomain completes login names and bare postmaster; the copy's lock is held.
func (d *Directory) defaultDomain() string {
	if d.o.DefaultDomain != "" {
		return address.DomainKey(d.o.DefaultDomain)
	}
	return d.first
}
