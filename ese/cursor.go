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
	c      *btree.Cursor
	prefix []byte // keys outside of it are not shown
	view   RowView
	buf    []byte
	pk     []byte
	on     bool
}

// Cursor returns a cursor over an index, standing nowhere.
func (tx *Tx) Cursor(x *Index) *Cursor {
	return &Cursor{tx: tx, x: x, c: x.tree.NewCursor(&tx.v), view: RowView{t: x.table, tx: tx}}
}

// Prefix limits the cursor to rows whose first index columns have these values, and makes it
// stand nowhere.
func (c *Cursor) Prefix(vals ...Value) error {
	p, err := c.x.searchKey(c.prefix[:0], vals)
	if err != nil {
		return err
	}
	c.prefix, c.on = p, false
	return nil
}

// First moves to the first row. It reports false when there is none.
func (c *Cursor) First() (bool, error) { return c.settle(c.c.Seek(c.prefix)) }

// Last moves to the last row.
func (c *Cursor) Last() (bool, error) {
	return c.settle(c.c.SeekBelow(after(c.prefix)))
}

// after is the first key behind all that begin with prefix; empty when there is none. (The
// limit byte 0xff of ESE would not do: so begins a NULL in a descending column.)
func after(prefix []byte) []byte {
	for n := len(prefix); n > 0; n-- {
		if b := prefix[n-1]; b < 0xff {
			return append(append([]byte(nil), prefix[:n-1]...), b+1)
		}
	}
	return nil
}

// Seek moves to the first row whose first index columns are at or after these values, the
// columns of Prefix counted.
func (c *Cursor) Seek(vals ...Value) (bool, error) {
	k, err := c.x.searchKey(nil, vals)
	if err != nil {
		return false, err
	}
	if bytes.Compare(k, c.prefix) < 0 {
		k = c.prefix
	}
	return c.settle(c.c.Seek(k))
}

// SeekBefore moves to the last row whose first index columns lie before these values.
func (c *Cursor) SeekBefore(vals ...Value) (bool, error) {
	k, err := c.x.searchKey(nil, vals)
	if err != nil {
		return false, err
	}
	return c.settle(c.c.SeekBelow(k))
}

// Next moves to the next row.
func (c *Cursor) Next() (bool, error) {
	if !c.on {
		return false, nil
	}
	return c.settle(c.c.Next())
}

// Prev moves to the row before.
func (c *Cursor) Prev() (bool, error) {
	if !c.on {
		return false, nil
	}
	return c.settle(c.c.Prev())
}

// settle shows the row that the tree cursor stands on.
func (c *Cursor) settle(ok bool, err error) (bool, error) {
	c.on = false
	if c.tx.done {
		return false, ErrTxDone
	}
	if err != nil || !ok || !bytes.HasPrefix(c.c.Key(), c.prefix) {
		return false, err
	}
	if c.x.prim {
		c.pk = c.c.Key()
		c.on = true
		return true, c.view.parse(c.c.Data())
	}
	c.pk = c.c.Data()
	found, err := c.tx.getKey(c.x.table, &c.view, &c.buf, c.pk)
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

// Row is the row stood on, valid until the next move.
func (c *Cursor) Row() *RowView { return &c.view }

// Update changes the columns set in r of the row stood on.
func (c *Cursor) Update(r *Row) error {
	if !c.on {
		return ErrNotFound
	}
	return c.tx.updateKey(r, append([]byte(nil), c.pk...))
}

// Delete removes the row stood on; Next goes on behind it.
func (c *Cursor) Delete() error {
	if !c.on {
		return ErrNotFound
	}
	return c.tx.deleteKey(c.x.table, append([]byte(nil), c.pk...))
}

// Find moves to the row whose index key is exactly these values, all columns given.
func (c *Cursor) Find(vals ...Value) (bool, error) {
	k, err := c.x.searchKey(nil, vals)
	if err != nil {
		return false, err
	}
	ok, err := c.c.Seek(k)
	if err != nil || !ok || !bytes.HasPrefix(c.c.Key(), k) {
		c.on = false
		return false, err
	}
	return c.settle(ok, err)
}
