package store

import (
	"context"
	"errors"
	"strings"

	"pillarbox/ese"
)

// subscribe inserts a subscription; one that is there stays.
func (o *op) subscribe(d *database, user MailboxID, path string) error {
	row := d.sub.t.NewRow().Set(d.sub.user, ese.Bytes(user[:])).Set(d.sub.name, ese.String(path))
	if err := o.tx.Insert(row); err != nil && !errors.Is(err, ese.ErrKeyExists) {
		return err
	}
	return nil
}

// Subscribe notes that the owner wants to see a name, whether or not there is such a folder.
func (m *Mailbox) Subscribe(ctx context.Context, name string) error {
	parts, err := splitPath(name)
	if err != nil {
		return err
	}
	return m.s.write(ctx, []*box{m.b}, func(o *op) error {
		return o.subscribe(m.b.d, m.b.id, strings.Join(parts, "/"))
	})
}

// Unsubscribe forgets a subscription; one that is not there is no error.
func (m *Mailbox) Unsubscribe(ctx context.Context, name string) error {
	parts, err := splitPath(name)
	if err != nil {
		return nil //nolint:nilerr // what cannot be a name cannot be subscribed to
	}
	return m.s.write(ctx, []*box{m.b}, func(o *op) error {
		d := m.b.d
		path := strings.Join(parts, "/")
		err := o.tx.Delete(d.sub.t, ese.Bytes(m.b.id[:]), ese.String(path))
		if errors.Is(err, ese.ErrNotFound) {
			return nil
		}
		return err
	})
}

// Subscriptions returns the names the owner subscribed to, in order.
func (m *Mailbox) Subscriptions() ([]string, error) {
	var names []string
	err := m.view("list subscriptions of", func(r *reader) error {
		c := r.tx.Cursor(m.b.d.sub.t.Primary())
		if err := c.Prefix(ese.Bytes(m.b.id[:])); err != nil {
			return err
		}
		ok, err := c.First()
		for ; ok && err == nil; ok, err = c.Next() {
			names = append(names, c.Row().String(m.b.d.sub.name))
		}
		return err
	})
	return names, err
}
