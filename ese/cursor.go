package ese

import (
	"bytes"

	"pillarbox/ese/internal/btree"
)

// Cursor walks an index as its transaction sees it, changes of the transaction itself
// included. It is for one goroutine and needs no closing.
type Cursor struct {
	tx     *Tx
	x      *Index
	c      btree.Cursor
	prefix []byte // keys outside of it are not shown
	view   RowView
	buf    []byte
	on     bool
	tried  bool // the index is in the transaction's snapshot
}

// maxCursors bounds the cursors of a transaction whose memory is used again at its end; that
// of further ones is the collector's.
const maxCursors = 16

// Cursor returns a cursor over an index, standing nowhere. It is good until its transaction
// ends, and so are the rows that it shows.
func (tx *Tx) Cursor(x *Index) *Cursor {
	c := &Cursor{tx: tx, x: x, view: RowView{t: x.table, tx: tx}}
	c.c.Init(x.tree, &tx.v)
	if len(tx.cursors) < maxCursors {
		tx.cursors = append(tx.cursors, &c.c)
	}
	return c
}

// Prefix limits the cursor to rows whose first index columns have these values, and makes it
// stand nowhere.
func (c *Cursor) Prefix(vals ...Value) error {
	p, err := c.x.searchKey(c.prefix[:0], vals)
	if err != nil {
		return err
	}
	c.prefix, c.on = p, false
	c.c.SetPrefix(p)
	return nil
}

// First moves to the first row. It reports false when there is none.
func (c *Cursor) First() (bool, error) {
	if err := c.tx.alive(); err != nil {
		return false, err
	}
	return c.settle(c.c.Seek(c.prefix))
}

// Last moves to the last row.
func (c *Cursor) Last() (bool, error) {
	if err := c.tx.alive(); err != nil {
		return false, err
	}
	return c.settle(c.c.SeekBelow(nil))
}

// Seek moves to the first row whose first index columns are at or after these values, the
// columns of Prefix counted.
func (c *Cursor) Seek(vals ...Value) (bool, error) {
	if err := c.tx.alive(); err != nil {
		return false, err
	}
	var kb [keyBuffer]byte
	k, err := c.x.searchKey(kb[:0], vals)
	if err != nil {
		return false, err
	}
	return c.settle(c.c.Seek(k))
}

// SeekBefore moves to the last row whose first index columns lie before these values.
func (c *Cursor) SeekBefore(vals ...Value) (bool, error) {
	if err := c.tx.alive(); err != nil {
		return false, err
	}
	var kb [keyBuffer]byte
	k, err := c.x.searchKey(kb[:0], vals)
	if err != nil {
		return false, err
	}
	return c.settle(c.c.SeekBelow(k))
}

// Next moves to the next row.
func (c *Cursor) Next() (bool, error) {
	if c.tx.done || c.tx.v.TooLong() { // a call for each row would cost a scan an eighth
		return false, c.tx.alive()
	}
	if !c.on {
		return false, nil
	}
	return c.settle(c.c.Next())
}

// Prev moves to the row before.
func (c *Cursor) Prev() (bool, error) {
	if c.tx.done || c.tx.v.TooLong() { // a call for each row would cost a scan an eighth
		return false, c.tx.alive()
	}
	if !c.on {
		return false, nil
	}
	return c.settle(c.c.Prev())
}

// settle shows the row that the tree cursor stands on.
func (c *Cursor) settle(ok bool, err error) (bool, error) {
	c.on = false
	if err == nil && !c.tried {
		if err = c.tx.sees(c.x.table); err == nil {
			err = c.x.usable(c.tx)
		}
		c.tried = err == nil
	}
	if err != nil || !ok {
		return false, err
	}
	if c.x.prim {
		err = c.view.parse(c.c.Data())
		c.on = err == nil
		return c.on, err
	}
	found, err := c.tx.getKey(c.x.table, &c.view, &c.buf, c.c.Data())
	if err != nil {
		return false, err
	}
	if !found {
		return false, c.x.table.opError("read", c.x, &PageError{
			File: c.x.table.db.name, Reason: "index entry without a row: run the integrity check",
		})
	}
	c.on = true
	return true, nil
}

// primaryKey is a copy of the primary key of the row stood on.
func (c *Cursor) primaryKey() []byte {
	if c.x.prim {
		return bytes.Clone(c.c.Key())
	}
	return bytes.Clone(c.c.Data())
}

// Row is the row stood on, valid until the next move.
func (c *Cursor) Row() *RowView { return &c.view }

// Update changes the columns set in r of the row stood on.
func (c *Cursor) Update(r *Row) error {
	if !c.on {
		return ErrNotFound
	}
	return c.tx.updateKey(r, c.primaryKey())
}

// Delete removes the row stood on; Next goes on behind it.
func (c *Cursor) Delete() error {
	if !c.on {
		return ErrNotFound
	}
	return c.tx.deleteKey(c.x.table, c.primaryKey())
}

// Find moves to the row whose index key is exactly these values, all columns given.
func (c *Cursor) Find(vals ...Value) (bool, error) {
	if err := c.tx.alive(); err != nil {
		return false, err
	}
	var kb [keyBuffer]byte
	k, err := c.x.searchKey(kb[:0], vals)
	if err != nil {
		return false, err
	}
	ok, err := c.c.Seek(k)
	return c.settle(ok && bytes.HasPrefix(c.c.Key(), k), err)
}
