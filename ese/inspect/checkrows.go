package inspect

import (
	"bytes"
	"errors"
	"slices"

	"pillarbox/ese/internal/page"
)

// checkRows checks rows, indexes and long values of every table.
func (c *checker) checkRows() error {
	for _, t := range c.db.tables {
		c.table = t.Name
		if err := c.checkTable(t); err != nil {
			return err
		}
	}
	return nil
}

// indexCheck compares the entries of one secondary index with those the rows make.
type indexCheck struct {
	*keyMaker
	rows      tally // entries that rows make: key and bookmark
	bookmarks tally // bookmarks only, for opaque keys
}

// tableCheck is the check of one table's rows.
type tableCheck struct {
	*checker
	t       *Table
	primary *keyMaker
	indexes []*indexCheck
	refs    tally // long values that rows refer to
}

func (c *checker) checkTable(t *Table) error {
	k := &tableCheck{checker: c, t: t}
	if err := k.prepare(); err != nil {
		return c.note(err)
	}
	err := t.Rows(func(r Row) error {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		c.report.Rows++
		return c.note(k.row(r))
	})
	if err != nil {
		return c.note(err)
	}
	for _, x := range k.indexes {
		if err := k.checkIndex(x); err != nil {
			return err
		}
	}
	return k.checkLongValues()
}

func (k *tableCheck) prepare() error {
	for i := range k.t.Indexes {
		x := &k.t.Indexes[i]
		maker, err := newKeyMaker(k.t, x)
		if err != nil {
			return err
		}
		if x.Flags&IndexPrimary != 0 {
			k.primary = maker
		} else {
			k.indexes = append(k.indexes, &indexCheck{keyMaker: maker})
		}
	}
	return nil
}

// row checks one row and adds up what it makes.
func (k *tableCheck) row(r Row) error {
	key := r.Key
	if k.primary != nil && !k.primary.opaque {
		keys, err := k.primary.keys(r)
		switch {
		case errors.Is(err, errOpaqueKey):
		case err != nil:
			return err
		case len(keys) != 1 || !bytes.Equal(keys[0], key):
			k.find(r.Page, "row %x has columns of key %x", key, slices.Concat(keys...))
		}
	}
	for _, x := range k.indexes {
		if err := x.add(r); err != nil {
			return err
		}
	}
	return r.eachLongValue(func(id lid) { k.refs.add(1, id.key()) })
}

// add counts the entries a row makes.
func (x *indexCheck) add(r Row) error {
	if x.partial {
		return nil
	}
	keys, err := x.keys(r)
	if errors.Is(err, errOpaqueKey) {
		x.opaque = true
		keys, err = x.keys(r)
	}
	if err != nil {
		return err
	}
	for _, key := range keys {
		x.rows.add(1, key, r.Key)
		x.bookmarks.add(1, r.Key)
	}
	return nil
}

// checkIndex compares the entries with what the rows made.
func (k *tableCheck) checkIndex(x *indexCheck) error {
	var entries, bookmarks tally
	err := k.db.walk(x.index.Root, func(n node) error {
		if n.deleted {
			return nil
		}
		entries.add(1, n.key, n.data)
		bookmarks.add(1, n.data)
		return k.ctx.Err()
	})
	if err != nil {
		return k.note(err)
	}
	switch {
	case x.partial, x.opaque && x.anyMulti:
		return k.note(k.checkBookmarks(x.index))
	case x.opaque && bookmarks != x.bookmarks, !x.opaque && entries != x.rows:
		k.find(x.index.Root, "index %s has %d entries, not the %d that the rows make",
			x.index.Name, entries.n, x.bookmarks.n)
		if err := k.note(k.checkBookmarks(x.index)); err != nil {
			return err
		}
		return k.note(k.findMissing(x))
	}
	return nil
}

// checkBookmarks looks up the row of every entry of an index.
func (k *tableCheck) checkBookmarks(x *Index) error {
	return k.db.walk(x.Root, func(n node) error {
		if n.deleted {
			return nil
		}
		found := false
		err := k.lookup(k.t.Root, n.data, func(row node) { found = true })
		if err == nil && !found {
			k.find(n.page, "index %s: entry %x of row %x, which is not there", x.Name, n.key, n.data)
		}
		return err
	})
}

// findMissing looks up the entry of every row in an index, to name the missing ones.
func (k *tableCheck) findMissing(x *indexCheck) error {
	if x.opaque {
		return nil
	}
	return k.t.Rows(func(r Row) error {
		keys, err := x.keys(r)
		if err != nil {
			return err
		}
		for _, key := range keys {
			found := false
			err := k.lookup(x.index.Root, key, func(entry node) {
				found = found || bytes.Equal(entry.data, r.Key)
			})
			if err != nil {
				return err
			}
			if !found {
				k.find(r.Page, "index %s: no entry %x of row %x", x.index.Name, key, r.Key)
			}
		}
		return nil
	})
}

// lookup calls fn for the nodes with a key.
func (k *tableCheck) lookup(root page.No, key []byte, fn func(node)) error {
	return k.db.walkFrom(root, key, func(n node) error {
		if !bytes.Equal(n.key, key) {
			return errStop
		}
		if !n.deleted {
			fn(n)
		}
		return nil
	})
}
