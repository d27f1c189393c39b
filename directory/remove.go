package directory

import (
	"context"
	"errors"
	"fmt"

	"pillarbox/ese"
)

// ErrAdministrator: the administrator gets the mail to postmaster and cannot be removed.
var ErrAdministrator = errors.New("the administrator's account cannot be removed")

// RemoveUser removes a user with its aliases and credentials. Only the primary address names it.
// What is named by its GUID elsewhere, its mailbox first of all, is the caller's.
func (d *Directory) RemoveUser(ctx context.Context, addr string) (Recipient, error) {
	_, key, err := d.localKey(addr)
	if err != nil {
		return Recipient{}, err
	}
	d.changeMu.Lock()
	defer d.changeMu.Unlock()
	e, err := d.user(addr)
	if err != nil {
		return Recipient{}, err
	}
	if _, alias := d.aliases[key]; alias {
		return Recipient{}, fmt.Errorf("%w: %s is an alias of %s", ErrNotFound, addr, e.Address)
	}
	if e.Administrator {
		return Recipient{}, ErrAdministrator
	}
	var keys []string // of aliases
	for k, a := range d.aliases {
		if a.ID == e.ID {
			keys = append(keys, k)
		}
	}
	err = d.update(ctx, func(tx *ese.Tx) error {
		for _, k := range keys {
			if err := tx.Delete(d.ts.alias.t, ese.String(k)); err != nil {
				return err
			}
		}
		if err := d.ts.removeCredentials(tx, e.ID); err != nil {
			return err
		}
		return tx.Delete(d.ts.recipient.t, ese.Bytes(e.ID[:]))
	})
	if err != nil {
		return Recipient{}, fmt.Errorf("remove user %s: %w", addr, err)
	}
	d.mu.Lock()
	delete(d.byID, e.ID)
	delete(d.byKey, key)
	for _, k := range keys {
		delete(d.byKey, k)
		delete(d.aliases, k)
	}
	d.mu.Unlock()
	d.verified.forget(e.ID)
	d.watchers.end(e.ID)
	d.o.Logger.Info("user removed", "address", e.Address)
	return e.Recipient, d.publish(ctx, touched{aliases: keys, users: []GUID{e.ID}})
}

// RestoreUser makes a user under a GUID that it had before: what is named by it is its own again.
func (d *Directory) RestoreUser(
	ctx context.Context, id GUID, addr string, secret Secret,
) (Recipient, error) {
	_, key, err := d.localKey(addr)
	if err != nil {
		return Recipient{}, err
	}
	if d.taken(key) {
		return Recipient{}, ErrExists
	}
	cred, err := d.newCredential(ctx, secret)
	if err != nil {
		return Recipient{}, err
	}
	d.changeMu.Lock()
	defer d.changeMu.Unlock()
	if _, err := d.Recipient(id); err == nil {
		return Recipient{}, ErrExists
	}
	return d.addOne(ctx, hashedUser{address: addr, cred: cred, id: id})
}
