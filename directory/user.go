package directory

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"pillarbox/ese"
	"pillarbox/mail/address"
)

// Secret is a password in clear, or its ready hash.
type Secret struct {
	Password string
	// Hash is "$argon2id$v=19$m=...,t=...,p=...$salt$hash" or a bcrypt hash "$2b$...". Such an
	// account has no SCRAM keys until its password is set.
	Hash string
}

// localKey checks an address whose domain must be ours and returns its key.
func (d *Directory) localKey(addr string) (address.Address, string, error) {
	const longest = 400 // bytes of a key (mail.md 23)
	a, err := address.Parse(addr)
	if err != nil || a.Domain == "" {
		return a, "", fmt.Errorf("%w: %q", ErrSyntax, addr)
	}
	key := a.Key()
	if len(key) > longest {
		return a, "", fmt.Errorf("%w: %q is too long", ErrSyntax, addr)
	}
	if !d.IsLocal(a.Domain) {
		return a, "", fmt.Errorf("%w: %s", ErrNotLocal, a.Domain)
	}
	return a, key, nil
}

// AddUser makes a user. The first one is the administrator.
func (d *Directory) AddUser(ctx context.Context, addr string, secret Secret) (Recipient, error) {
	return d.AddUserAt(ctx, addr, secret, "")
}

// AddUserAt makes a user whose mailbox has a certain home; "" is Options.Place's.
func (d *Directory) AddUserAt(
	ctx context.Context, addr string, secret Secret, home string,
) (Recipient, error) {
	_, key, err := d.localKey(addr)
	if err != nil {
		return Recipient{}, err
	}
	if d.taken(key) {
		return Recipient{}, ErrExists // before the hashing, which takes longest
	}
	cred, err := d.newCredential(ctx, secret)
	if err != nil {
		return Recipient{}, err
	}
	d.changeMu.Lock()
	defer d.changeMu.Unlock()
	return d.addOne(ctx, hashedUser{address: addr, cred: cred, home: home})
}

// addOne makes one user; changeMu is held.
func (d *Directory) addOne(ctx context.Context, u hashedUser) (Recipient, error) {
	made, err := d.addUsers(ctx, []hashedUser{u})
	if err != nil {
		return Recipient{}, err
	}
	if len(made) == 0 {
		return Recipient{}, ErrExists
	}
	return made[0], nil
}

// hashedUser is a user to be made.
type hashedUser struct {
	address string
	cred    credential
	id      GUID   // zero: a new one
	home    string // "": Options.Place says
}

// addUsers makes those of the users that are missing, in one transaction. changeMu is held.
func (d *Directory) addUsers(ctx context.Context, users []hashedUser) ([]Recipient, error) {
	now := d.o.Now()
	var made []*entry
	seen := make(map[string]bool)
	d.mu.RLock()
	admin := d.admin != nil
	d.mu.RUnlock()
	for _, u := range users {
		a, key, err := d.localKey(u.address)
		if err != nil {
			return nil, err
		}
		if d.taken(key) || seen[key] {
			continue
		}
		seen[key] = true
		id := u.id
		if id == (GUID{}) {
			id = newGUID()
		}
		e := &entry{key: key, cred: u.cred, Recipient: Recipient{
			ID: id, Kind: KindUser, Address: a.String(), Administrator: !admin,
			Created: now,
		}}
		if err := d.place(e, u.home); err != nil {
			return nil, err
		}
		admin = true
		made = append(made, e)
	}
	if len(made) == 0 {
		return nil, nil
	}
	err := d.update(ctx, func(tx *ese.Tx) error {
		for _, e := range made {
			if err := d.ts.insertUser(tx, e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("add users: %w", err)
	}
	return d.enter(ctx, made)
}

// enter puts users that were made into memory.
func (d *Directory) enter(ctx context.Context, made []*entry) ([]Recipient, error) {
	out := make([]Recipient, len(made))
	t := touched{users: make([]GUID, len(made))}
	d.mu.Lock()
	for i, e := range made {
		// Nothing has an alias to a new recipient, so put's search is not needed.
		d.byID[e.ID], d.byKey[e.key] = e, e
		if e.Administrator {
			d.admin = e
		}
		out[i], t.users[i] = e.Recipient, e.ID
	}
	d.mu.Unlock()
	if len(made) == 1 {
		d.o.Logger.Info("user added", "address", made[0].Address)
	}
	return out, d.publish(ctx, t)
}

// place gives a new user a home.
func (d *Directory) place(e *entry, home string) (err error) {
	switch {
	case home == "" && d.o.Place != nil:
		home, err = d.o.Place(e.ID)
	case home != "" && d.o.Fits != nil:
		err = d.o.Fits(home)
	}
	e.Home = home
	return err
}

func (e *entry) bits() (bits uint32) {
	if e.Disabled {
		bits |= bitDisabled
	}
	if e.Administrator {
		bits |= bitAdministrator
	}
	return bits
}

func (d *Directory) taken(key string) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.byKey[key] != nil
}

// user finds a user by primary address or alias, for a change.
func (d *Directory) user(addr string) (*entry, error) {
	_, key, err := d.localKey(addr)
	if err != nil {
		return nil, err
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	e := d.byKey[key]
	if e == nil || e.Kind != KindUser {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, addr)
	}
	return e, nil
}

// SetPassword gives a user another password. Remembered logins are forgotten, sessions end.
func (d *Directory) SetPassword(ctx context.Context, addr string, secret Secret) error {
	if _, err := d.user(addr); err != nil {
		return err // before the hashing
	}
	cred, err := d.newCredential(ctx, secret)
	if err != nil {
		return err
	}
	d.changeMu.Lock()
	defer d.changeMu.Unlock()
	e, err := d.user(addr)
	if err != nil {
		return err
	}
	err = d.update(ctx, func(tx *ese.Tx) error {
		return upsert(tx, d.ts.credentialRow(e.ID, &cred), ese.Bytes(e.ID[:]), ese.Int(0))
	})
	if err != nil {
		return fmt.Errorf("set password of %s: %w", addr, err)
	}
	next := *e
	next.cred = cred
	next.login++
	d.replace(&next)
	d.watchers.end(e.ID)
	d.o.Logger.Info("password changed", "address", e.Address)
	return d.publish(ctx, touched{users: []GUID{e.ID}})
}

// SetDisabled forbids or allows a user's login. Mail is taken all the same; sessions end.
func (d *Directory) SetDisabled(ctx context.Context, addr string, disabled bool) error {
	d.changeMu.Lock()
	defer d.changeMu.Unlock()
	e, err := d.user(addr)
	if err != nil {
		return err
	}
	next := *e
	next.Disabled = disabled
	err = d.update(ctx, func(tx *ese.Tx) error {
		t := &d.ts.recipient
		return tx.Update(t.t.NewRow().Set(t.bits, ese.Int(next.bits())), ese.Bytes(e.ID[:]))
	})
	if err != nil {
		return fmt.Errorf("disable or enable %s: %w", addr, err)
	}
	if disabled {
		next.login++
	}
	d.replace(&next)
	if disabled {
		d.watchers.end(e.ID)
	}
	d.o.Logger.Info("user changed", "address", e.Address, "disabled", disabled)
	return d.publish(ctx, touched{users: []GUID{e.ID}})
}

// replace puts a changed recipient into the copy.
func (d *Directory) replace(e *entry) {
	d.mu.Lock()
	d.put(e)
	d.mu.Unlock()
	d.verified.forget(e.ID)
}

// Users returns all users by address.
func (d *Directory) Users() []Recipient {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var out []Recipient
	for _, e := range d.byID {
		if e.Kind == KindUser {
			out = append(out, e.Recipient)
		}
	}
	slices.SortFunc(out, func(a, b Recipient) int { return cmp.Compare(a.Address, b.Address) })
	return out
}

// Recipient finds a recipient by its GUID.
func (d *Directory) Recipient(id GUID) (Recipient, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	e := d.byID[id]
	if e == nil {
		return Recipient{}, ErrNotFound
	}
	return e.Recipient, nil
}
