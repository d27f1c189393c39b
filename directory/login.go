package directory

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"net/netip"
	"strings"
	"sync"
	"time"

	"pillarbox/mail/address"
)

// Login is one attempt to log in.
type Login struct {
	// Name is an address, or the part before the @ (mail.md 9).
	Name, Password string
	// ServerName is the name the client asked for by TLS, if it did.
	ServerName string
	// Remote is the client's address.
	Remote netip.Addr
}

// Authenticate checks a login. ErrBadLogin and ErrThrottled are answers; any other error is
// trouble.
func (d *Directory) Authenticate(ctx context.Context, l Login) (Recipient, error) {
	e := d.account(&l)
	hash := d.dummy
	if e != nil && !e.Disabled && e.cred.hash != "" {
		// A remembered login passes even while strangers fail on the account.
		if d.verified.knows(e, l.Password, d.o.Now()) {
			return e.Recipient, nil
		}
		hash = e.cred.hash
	} else {
		e = nil
	}
	limits := d.limits(&l, e)
	if !d.failures.allowed(limits) {
		return Recipient{}, ErrThrottled
	}
	// Who is unknown costs as much time as who is known.
	if err := d.hasher(ctx); err != nil {
		return Recipient{}, err
	}
	ok := len(l.Password) <= maxPassword && matches(hash, l.Password) && e != nil
	d.hasherDone()
	if !ok {
		d.failures.failed(limits)
		return Recipient{}, ErrBadLogin
	}
	d.verified.remember(e, l.Password, d.o.Now())
	return e.Recipient, nil
}

// account finds the user that a login name means: the full address or an alias; else the part
// before the @ at the domain of the TLS server name, then at the default domain.
func (d *Directory) account(l *Login) *entry {
	name := strings.TrimSpace(l.Name)
	d.mu.RLock()
	defer d.mu.RUnlock()
	if strings.Contains(name, "@") {
		a, err := address.Parse(name)
		if err != nil {
			return nil
		}
		return d.userByKey(a.Key())
	}
	for domain := strings.TrimSuffix(l.ServerName, "."); domain != ""; {
		key := address.DomainKey(domain)
		if _, ok := d.domains[key]; ok {
			if e := d.userByKey(address.Address{Local: name, Domain: key}.Key()); e != nil {
				return e
			}
		}
		_, domain, _ = strings.Cut(domain, ".") // mail.example.org serves example.org
	}
	return d.userByKey(address.Address{Local: name, Domain: d.defaultDomain()}.Key())
}

func (d *Directory) userByKey(key string) *entry {
	if e := d.byKey[key]; e != nil && e.Kind == KindUser {
		return e
	}
	return nil
}

// loginMemory remembers verified logins as keyed hashes, so that clients that connect again
// and again cost no hashing. It holds at most one for each user.
type loginMemory struct {
	key [32]byte
	mu  sync.Mutex
	m   map[GUID]verifiedLogin
}

type verifiedLogin struct {
	sum   [sha256.Size]byte
	until time.Time
}

const rememberFor = 10 * time.Minute

func (m *loginMemory) init() {
	_, _ = rand.Read(m.key[:]) // never fails
	m.m = make(map[GUID]verifiedLogin)
}

// sum covers the stored hash too: a login checked against an old password is worth nothing.
func (m *loginMemory) sum(e *entry, password string) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, m.key[:])
	for _, s := range []string{string(e.ID[:]), e.cred.hash, "\x00", password} {
		_, _ = h.Write([]byte(s)) // never fails
	}
	h.Sum(sum[:0])
	return sum
}

func (m *loginMemory) knows(e *entry, password string, now time.Time) bool {
	sum := m.sum(e, password)
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.m[e.ID]
	return ok && now.Before(v.until) && hmac.Equal(v.sum[:], sum[:])
}

func (m *loginMemory) remember(e *entry, password string, now time.Time) {
	v := verifiedLogin{m.sum(e, password), now.Add(rememberFor)}
	m.mu.Lock()
	m.m[e.ID] = v
	m.mu.Unlock()
}

func (m *loginMemory) forget(id GUID) {
	m.mu.Lock()
	delete(m.m, id)
	m.mu.Unlock()
}
