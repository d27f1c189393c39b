package directory

import (
	"context"
	"errors"
	"fmt"

	"pillarbox/ese"
)

// ErrReadOnly: the database of the directory is not mounted. What is in memory serves on, and
// nothing can be changed.
var ErrReadOnly = errors.New("accounts, aliases and domains cannot be changed now: the database of " +
	"the directory is not mounted")

// errNotNoted: a change is durable, but Options.Note failed.
var errNotNoted = errors.New("it is changed, but whether the copies of the directory have it could " +
	"not be noted: without the first storage group the server may not start; look at the disk of the data " +
	"folder, the server tries again by itself")

// Writable is nil when the directory can be changed, else ErrReadOnly.
func (d *Directory) Writable() error {
	d.changeMu.Lock()
	defer d.changeMu.Unlock()
	return d.writable()
}

// writable is Writable; changeMu is held.
func (d *Directory) writable() error {
	if d.in == nil {
		return ErrReadOnly
	}
	if err := d.in.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	return nil
}

// Version is that of the state in memory, 0 when there was never a change.
func (d *Directory) Version() Version {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.version
}

// next is the version of the next change.
func (d *Directory) next() Version { return max(d.version+1, Version(d.o.Now().UnixMicro())) }

// begin gives the next change its version.
func (d *Directory) begin(v Version) {
	d.previous = d.version
	d.mu.Lock()
	d.version = v
	d.mu.Unlock()
}

// update makes a change of rows durable, as the next version. changeMu is held.
func (d *Directory) update(ctx context.Context, fn func(*ese.Tx) error) error {
	if err := d.writable(); err != nil {
		return err
	}
	v := d.next()
	err := d.in.Update(ctx, func(tx *ese.Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		return d.ts.writeVersion(tx, v)
	})
	if err == nil {
		d.begin(v)
	}
	return err
}

// Raise gives the directory a version above another, as a change would.
func (d *Directory) Raise(ctx context.Context, above Version) error {
	d.changeMu.Lock()
	defer d.changeMu.Unlock()
	d.begin(max(d.version, above))
	if err := d.update(ctx, func(*ese.Tx) error { return nil }); err != nil {
		return fmt.Errorf("raise the version of the directory: %w", err)
	}
	return nil
}

// Detach makes the directory read-only, before its database is closed. It waits for a change under
// way. Reopen ends it.
func (d *Directory) Detach() {
	d.changeMu.Lock()
	defer d.changeMu.Unlock()
	d.in, d.ts = nil, tables{}
}

// Reopen makes the directory go on in its own database, which was opened anew, and reads it. Logins
// and sessions stay good whose accounts are as they were.
func (d *Directory) Reopen(ctx context.Context, in *ese.Instance, db *ese.Database) error {
	return d.openOwn(ctx, in, db)
}

// Found makes a database the directory's own that has none: it gets what is in memory.
func (d *Directory) Found(ctx context.Context, in *ese.Instance, db *ese.Database) error {
	c := &Copy{in: in}
	if err := c.ts.open(ctx, in, db, ownTables); err != nil {
		return fmt.Errorf("make the directory: %w", err)
	}
	d.changeMu.Lock()
	defer d.changeMu.Unlock()
	if err := c.bring(ctx, &d.image, d.version); err != nil {
		return fmt.Errorf("make the directory: %w", err)
	}
	d.in, d.ts = in, c.ts
	return nil
}

// adopt takes what was read in the place of what is in memory. changeMu is held.
func (d *Directory) adopt(m image, v Version) {
	var ended []GUID
	d.mu.Lock()
	for id, old := range d.byID {
		e := m.byID[id]
		if e == nil {
			ended = append(ended, id)
			continue
		}
		e.login = old.login
		if !e.cred.same(&old.cred) || e.Disabled && !old.Disabled {
			e.login++
			ended = append(ended, id)
		}
	}
	d.image, d.version = m, v
	d.mu.Unlock()
	for _, id := range ended {
		d.verified.forget(id)
		d.watchers.end(id)
	}
}
