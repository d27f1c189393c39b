package directory

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"pillarbox/ese"
	"pillarbox/mail/address"
)

// AddAlias makes an address lead to the recipient of another.
func (d *Directory) AddAlias(ctx context.Context, alias, target string) error {
	d.changeMu.Lock()
	defer d.changeMu.Unlock()
	a, key, err := d.localKey(alias)
	if err != nil {
		return err
	}
	if d.taken(key) {
		return ErrExists
	}
	_, to, err := d.localKey(target)
	if err != nil {
		return err
	}
	d.mu.RLock()
	e := d.byKey[to]
	d.mu.RUnlock()
	if e == nil {
		return fmt.Errorf("%w: %s", ErrNotFound, target)
	}
	made := Alias{a.String(), e.ID}
	err = d.update(ctx, func(tx *ese.Tx) error {
		return tx.Insert(d.ts.aliasRow(key, &made))
	})
	if err != nil {
		return fmt.Errorf("add alias %s: %w", alias, err)
	}
	d.mu.Lock()
	d.aliases[key] = made
	d.byKey[key] = e
	d.mu.Unlock()
	d.o.Logger.Info("alias added", "alias", alias, "target", e.Address)
	return d.publish(ctx, touched{aliases: []string{key}})
}

// RemoveAlias removes an alias.
func (d *Directory) RemoveAlias(ctx context.Context, alias string) error {
	d.changeMu.Lock()
	defer d.changeMu.Unlock()
	_, key, err := d.localKey(alias)
	if err != nil {
		return err
	}
	d.mu.RLock()
	_, ok := d.aliases[key]
	d.mu.RUnlock()
	if !ok {
		return fmt.Errorf("%w: %s", ErrNotFound, alias)
	}
	err = d.update(ctx, func(tx *ese.Tx) error {
		return tx.Delete(d.ts.alias.t, ese.String(key))
	})
	if err != nil {
		return fmt.Errorf("remove alias %s: %w", alias, err)
	}
	d.mu.Lock()
	delete(d.aliases, key)
	delete(d.byKey, key)
	d.mu.Unlock()
	d.o.Logger.Info("alias removed", "alias", alias)
	return d.publish(ctx, touched{aliases: []string{key}})
}

// Aliases returns all aliases by address.
func (d *Directory) Aliases() []Alias {
	d.mu.RLock()
	defer d.mu.RUnlock()
	out := make([]Alias, 0, len(d.aliases))
	for _, a := range d.aliases {
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b Alias) int { return cmp.Compare(a.Address, b.Address) })
	return out
}

// Resolve finds who gets mail to an address. ErrNotLocal when the domain is not ours,
// ErrNotFound when nobody has it. Postmaster, bare and at each domain, is the administrator
// unless somebody has the address (mail.md 5).
func (d *Directory) Resolve(a address.Address) (Recipient, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	e, err := d.resolve(a)
	if err != nil {
		return Recipient{}, err
	}
	return e.Recipient, nil
}

func (d *Directory) resolve(a address.Address) (*entry, error) {
	if a.Domain == "" {
		a.Domain = d.defaultDomain()
	}
	if _, ok := d.domains[address.DomainKey(a.Domain)]; !ok {
		return nil, ErrNotLocal
	}
	if e := d.byKey[a.Key()]; e != nil {
		return e, nil
	}
	if strings.EqualFold(a.Local, "postmaster") && d.admin != nil {
		return d.admin, nil
	}
	return nil, ErrNotFound
}

// Owns tells whether an address is one of a recipient's: as sender of a submission (mail.md 4).
func (d *Directory) Owns(id GUID, a address.Address) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	e, err := d.resolve(a)
	return err == nil && e.ID == id
}
