package directory

import (
	"context"
	"errors"
	"fmt"

	"pillarbox/ese"
)

// ErrHomeUnknown: a change of the home failed so that it may have happened. Opening the directory
// again tells.
var ErrHomeUnknown = errors.New("where the mailbox lives is not known until the directory is opened again")

// Home is the place of a recipient's mailbox, as it was given: the directory does not know what it
// means. ErrNotFound when there is no such recipient or it has none.
func (d *Directory) Home(id GUID) (string, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	e := d.byID[id]
	switch {
	case e == nil || e.Home == "":
		return "", ErrNotFound
	case e.lost:
		return "", ErrHomeUnknown
	}
	return e.Home, nil
}

// SetHome changes the place of recipients' mailboxes, in one transaction.
func (d *Directory) SetHome(ctx context.Context, homes map[GUID]string) error {
	d.changeMu.Lock()
	defer d.changeMu.Unlock()
	var next []*entry
	d.mu.RLock()
	for id, home := range homes {
		e := d.byID[id]
		if e == nil {
			d.mu.RUnlock()
			return fmt.Errorf("set home: %w", ErrNotFound)
		}
		changed := *e
		changed.Home, changed.lost = home, false
		next = append(next, &changed)
	}
	d.mu.RUnlock()
	err := d.in.Update(ctx, func(tx *ese.Tx) error {
		t := &d.ts.recipient
		for _, e := range next {
			row := t.t.NewRow().Set(t.home, ese.String(e.Home))
			if err := tx.Update(row, ese.Bytes(e.ID[:])); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		if errors.Is(err, ese.ErrOutcomeUnknown) || errors.Is(err, ese.ErrLogDead) {
			d.loseHomes(homes)
		}
		return fmt.Errorf("set home: %w", err)
	}
	for _, e := range next {
		d.replace(e)
	}
	return nil
}

// loseHomes notes that a change may have happened.
func (d *Directory) loseHomes(homes map[GUID]string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range homes {
		if e := d.byID[id]; e != nil {
			e.lost = true
		}
	}
}

// Reopen makes the directory go on in a database that was opened anew, and reads it.
func (d *Directory) Reopen(ctx context.Context, in *ese.Instance, db *ese.Database) error {
	fresh, err := Open(ctx, in, db, d.o)
	if err != nil {
		return err
	}
	d.changeMu.Lock()
	defer d.changeMu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.in, d.ts = in, fresh.ts
	d.domains, d.first, d.byID, d.byKey = fresh.domains, fresh.first, fresh.byID, fresh.byKey
	d.aliases, d.admin = fresh.aliases, fresh.admin
	return nil
}
