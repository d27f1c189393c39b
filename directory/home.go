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

// certainHome is the home unless it may have changed.
func (e *entry) certainHome() string {
	if e.lost {
		return ""
	}
	return e.Home
}

// SetHome changes the place of recipients' mailboxes, in one transaction. Before it the copies are
// made to say that the homes are not known: a server that has only a copy after a crash must not
// serve a mailbox at the place that it may have left.
func (d *Directory) SetHome(ctx context.Context, homes map[GUID]string) error {
	d.changeMu.Lock()
	defer d.changeMu.Unlock()
	if len(homes) == 0 {
		return d.writable() // whoever waits for changes under way has waited
	}
	var next []*entry
	var t touched
	hidden := newImage()
	for id, home := range homes {
		e := d.byID[id]
		if e == nil {
			return fmt.Errorf("set home: %w", ErrNotFound)
		}
		changed, unknown := *e, *e
		changed.Home, changed.lost, unknown.lost = home, false, true
		next = append(next, &changed)
		hidden.byID[id] = &unknown
		t.users = append(t.users, id)
	}
	if err := d.writable(); err != nil {
		return fmt.Errorf("set home: %w", err)
	}
	d.begin(d.next())
	err := d.publishImage(ctx, t, &hidden)
	if err == nil {
		err = d.update(ctx, func(tx *ese.Tx) error { return d.writeHomes(tx, next) })
	}
	if errors.Is(err, ese.ErrOutcomeUnknown) || errors.Is(err, ese.ErrLogDead) {
		d.loseHomes(homes)
		return fmt.Errorf("set home: %w", err)
	}
	if err != nil {
		d.begin(d.next())
		return errors.Join(fmt.Errorf("set home: %w", err), d.publishImage(ctx, t, &d.image))
	}
	for _, e := range next {
		d.replace(e)
	}
	_ = d.publish(ctx, t) // copies that have not got it say that the home is not known
	return nil
}

func (d *Directory) writeHomes(tx *ese.Tx, list []*entry) error {
	t := &d.ts.recipient
	for _, e := range list {
		row := t.t.NewRow().Set(t.home, ese.String(e.Home))
		if err := tx.Update(row, ese.Bytes(e.ID[:])); err != nil {
			return err
		}
	}
	return nil
}

// loseHomes notes that a change may have happened.
func (d *Directory) loseHomes(homes map[GUID]string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range homes {
		if e := d.byID[id]; e != nil {
			unknown := *e
			unknown.lost = true
			d.put(&unknown)
		}
	}
}
