package directory

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"pillarbox/ese"
)

// Copy is a copy of the directory in another database, for the time when its own is not there. It is
// used by one goroutine at a time.
type Copy struct {
	in      *ese.Instance
	ts      tables
	version Version // 0 while it is not a whole state of the directory
}

// copyBatch is how many rows, or users, one transaction writes.
const copyBatch = 300

// OpenCopy opens the copy in a database, whose tables it makes when they are missing.
func OpenCopy(ctx context.Context, in *ese.Instance, db *ese.Database) (*Copy, error) {
	c := &Copy{in: in}
	err := c.ts.open(ctx, in, db, copyTables)
	if err == nil {
		err = in.View(func(tx *ese.Tx) (err error) {
			c.version, err = c.ts.readVersion(tx)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("open the copy of the directory: %w", err)
	}
	return c, nil
}

// Version is that of the directory that it is a copy of; 0 when it is not a whole one.
func (c *Copy) Version() Version { return c.version }

// OpenFrom makes a directory that answers from a copy. It cannot be changed (ErrReadOnly) until
// Reopen.
func OpenFrom(c *Copy, o Options) (*Directory, error) {
	m, v, err := read(c.in, &c.ts)
	if err != nil {
		return nil, fmt.Errorf("read the copy of the directory: %w", err)
	}
	d := newDirectory(o)
	d.image, d.version = m, v
	return d, nil
}

// differs tells whether the copy holds other rows than an image.
func (c *Copy) differs(m *image) (bool, error) {
	old, _, err := read(c.in, &c.ts)
	if err != nil {
		return false, err
	}
	differing, beyond := m.differing(&old), m.beyond(&old)
	return !differing.empty() || !beyond.empty(), nil
}

// bring makes the copy that of an image. From the first row that it changes to the last it has no
// version.
func (c *Copy) bring(ctx context.Context, m *image, v Version) error {
	old, had, err := read(c.in, &c.ts)
	if err != nil {
		return err
	}
	beyond, differing := m.beyond(&old), m.differing(&old)
	if beyond.empty() && differing.empty() && had == v {
		c.version = v
		return nil
	}
	// What goes comes first: its address may be another's now.
	none := newImage()
	for _, t := range beyond.batches() {
		if err := c.write(ctx, t, &none, 0); err != nil {
			return err
		}
	}
	for _, t := range differing.batches() {
		if err := c.write(ctx, t, m, 0); err != nil {
			return err
		}
	}
	return c.write(ctx, touched{}, m, v)
}

// write makes the named rows those of an image, and the version v, in one transaction.
func (c *Copy) write(ctx context.Context, t touched, m *image, v Version) error {
	err := c.in.Update(ctx, func(tx *ese.Tx) error {
		for _, name := range t.domains {
			if err := c.writeDomain(tx, name, m); err != nil {
				return err
			}
		}
		for _, id := range t.users {
			if err := c.writeUser(tx, id, m.byID[id]); err != nil {
				return err
			}
		}
		for _, key := range t.aliases {
			if err := c.writeAlias(tx, key, m); err != nil {
				return err
			}
		}
		return c.ts.writeVersion(tx, v)
	})
	if err != nil {
		return fmt.Errorf("write the copy of the directory: %w", err)
	}
	c.version = v
	return nil
}

func (c *Copy) writeDomain(tx *ese.Tx, name string, m *image) error {
	if created, ok := m.domains[name]; ok {
		return upsert(tx, c.ts.domainRow(name, created), ese.String(name))
	}
	return remove(tx, c.ts.domain.t, ese.String(name))
}

func (c *Copy) writeAlias(tx *ese.Tx, key string, m *image) error {
	if a, ok := m.aliases[key]; ok {
		return upsert(tx, c.ts.aliasRow(key, &a), ese.String(key))
	}
	return remove(tx, c.ts.alias.t, ese.String(key))
}

// writeUser writes a recipient with its credential; nil removes it.
func (c *Copy) writeUser(tx *ese.Tx, id GUID, e *entry) error {
	if e == nil {
		if err := c.ts.removeCredentials(tx, id); err != nil {
			return err
		}
		return remove(tx, c.ts.recipient.t, ese.Bytes(id[:]))
	}
	if err := upsert(tx, c.ts.recipientRow(e), ese.Bytes(id[:])); err != nil {
		return err
	}
	if e.cred.hash == "" {
		return c.ts.removeCredentials(tx, id)
	}
	return upsert(tx, c.ts.credentialRow(id, &e.cred), ese.Bytes(id[:]), ese.Int(0))
}

// remove removes a row that may be there.
func remove(tx *ese.Tx, t *ese.Table, key ...ese.Value) error {
	err := tx.Delete(t, key...)
	if errors.Is(err, ese.ErrNotFound) {
		return nil
	}
	return err
}

// batches cuts the named rows into parts that one transaction writes.
func (t *touched) batches() (list []touched) {
	for part := range slices.Chunk(t.domains, copyBatch) {
		list = append(list, touched{domains: part})
	}
	for part := range slices.Chunk(t.users, copyBatch) {
		list = append(list, touched{users: part})
	}
	for part := range slices.Chunk(t.aliases, copyBatch) {
		list = append(list, touched{aliases: part})
	}
	return list
}
