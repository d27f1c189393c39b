package btree

import (
	"bytes"

	"pillarbox/ese/internal/cache"
	"pillarbox/ese/internal/page"
	"pillarbox/ese/internal/version"
)

// Cursor walks a tree as its transaction sees it. It works on a private copy of one leaf at
// a time, with the visible state of versioned nodes settled when the copy was made, so it
// holds no latch between calls. It is for one goroutine.
type Cursor struct {
	t    *Tree
	tx   *version.Tx
	p    page.Page // the copy; nil before the first load
	at   int       // node of the copy the cursor stands on; may be -1 or Len
	seen uint64    // tx.Edits() when the copy was made
	low  []byte    // the leaf's range: low <= key < high; empty means open
	high []byte
	over []override
	key  []byte // of the node stood on
	data []byte
	on   bool // the cursor stands on a row
}

// override is the visible state of a versioned node, where it differs from the page's.
type override struct {
	i      int
	exists bool
	data   []byte
}

// NewCursor returns a cursor that stands nowhere.
func (t *Tree) NewCursor(tx *version.Tx) *Cursor { return &Cursor{t: t, tx: tx} }

// Tree is the tree it walks.
func (c *Cursor) Tree() *Tree { return c.t }

// Key is the whole key of the row stood on, valid until the next move.
func (c *Cursor) Key() []byte { return c.key }

// Data is the row's data, valid until the next move.
func (c *Cursor) Data() []byte { return c.data }

// load copies the leaf for key; below asks for the one with the keys just below it.
func (c *Cursor) load(key []byte, below bool) error {
	var buf [maxDepth]step
	fr, steps, err := c.t.leafPath(buf[:0], key, below, cache.Shared)
	if err != nil {
		return err
	}
	if c.p == nil {
		c.p = make(page.Page, len(fr.P))
	}
	copy(c.p, fr.P)
	c.settle()
	fr.RUnlock()
	c.seen = c.tx.Edits()
	c.low, c.high = c.low[:0], c.high[:0]
	for _, st := range steps {
		if st.i > 0 {
			c.low = st.in.p.AppendKey(c.low[:0], st.i-1)
		}
		if st.i < st.in.p.Len()-1 {
			c.high = st.in.p.AppendKey(c.high[:0], st.i)
		}
	}
	return nil
}

// settle works out, under the leaf's latch, what the transaction sees of versioned nodes.
func (c *Cursor) settle() {
	c.over = c.over[:0]
	for i := range c.p.Len() {
		nd := c.p.Node(i)
		if nd.Flags&page.NodeVersioned == 0 {
			continue
		}
		was := nd.Flags&page.NodeDeleted == 0
		c.key = c.p.AppendKey(c.key[:0], i)
		exists, data := c.t.env.Versions.Visible(c.tx, c.t.id, c.key, was, nd.Data)
		if exists != was || len(data) != len(nd.Data) || (len(data) > 0 && &data[0] != &nd.Data[0]) {
			c.over = append(c.over, override{i, exists, data})
		}
	}
}

// visible reports whether node i of the copy is a row, and its data.
func (c *Cursor) visible(i int) ([]byte, bool) {
	for k := range c.over {
		if c.over[k].i == i {
			return c.over[k].data, c.over[k].exists
		}
	}
	nd := c.p.Node(i)
	return nd.Data, nd.Flags&page.NodeDeleted == 0
}

// stand makes node c.at the current row if it is one.
func (c *Cursor) stand() bool {
	data, ok := c.visible(c.at)
	if !ok {
		return false
	}
	c.key = c.p.AppendKey(c.key[:0], c.at)
	c.data, c.on = data, true
	return true
}

// Seek moves to the first row at or after key. It reports false when there is none.
func (c *Cursor) Seek(key []byte) (bool, error) {
	c.on = false
	if !c.covers(key) {
		if err := c.load(key, false); err != nil {
			return false, err
		}
	}
	c.at, _ = c.p.Search(key)
	return c.forward()
}

// covers tells whether the copy is still good and its range holds key. What others do since
// does not show in the snapshot; only changes of the transaction itself make the copy old.
func (c *Cursor) covers(key []byte) bool {
	if c.p == nil || c.seen != c.tx.Edits() {
		return false
	}
	return bytes.Compare(key, c.low) >= 0 && (len(c.high) == 0 || bytes.Compare(key, c.high) < 0)
}

// forward goes to the first row at or after c.at.
func (c *Cursor) forward() (bool, error) {
	for {
		for ; c.at < c.p.Len(); c.at++ {
			if c.stand() {
				return true, nil
			}
		}
		if len(c.high) == 0 {
			return false, nil
		}
		from := append([]byte(nil), c.high...)
		if err := c.load(from, false); err != nil {
			return false, err
		}
		c.at, _ = c.p.Search(from)
	}
}

// Next moves to the next row.
func (c *Cursor) Next() (bool, error) {
	if !c.on {
		return false, nil
	}
	if err := c.refresh(); err != nil {
		return false, err
	}
	c.on = false
	return c.forward()
}

// refresh sets c.at behind the current key, on a new copy if the transaction has changed
// something since.
func (c *Cursor) refresh() error {
	if c.seen == c.tx.Edits() {
		c.at++
		return nil
	}
	key := append([]byte(nil), c.key...)
	if err := c.load(key, false); err != nil {
		return err
	}
	i, exact := c.p.Search(key)
	c.at = i
	if exact {
		c.at++
	}
	return nil
}

// SeekBelow moves to the last row before key; with an empty key to the last row of all.
func (c *Cursor) SeekBelow(key []byte) (bool, error) {
	c.on = false
	if err := c.loadBelow(key); err != nil {
		return false, err
	}
	return c.backward()
}

// loadBelow copies the leaf with the keys just below key and sets c.at before it.
func (c *Cursor) loadBelow(key []byte) error {
	if len(key) == 0 {
		if err := c.load(topKey, false); err != nil {
			return err
		}
		c.at = c.p.Len() - 1
		return nil
	}
	if err := c.load(key, true); err != nil {
		return err
	}
	i, _ := c.p.Search(key)
	c.at = i - 1
	return nil
}

// topKey is above every key: key segments begin with 0x00, 0x40, 0x7f or their complements,
// and ids and long-value keys are shorter than it.
var topKey = bytes.Repeat([]byte{0xff}, 64)

// backward goes to the last row at or before c.at.
func (c *Cursor) backward() (bool, error) {
	for {
		for ; c.at >= 0; c.at-- {
			if c.stand() {
				return true, nil
			}
		}
		if len(c.low) == 0 {
			return false, nil
		}
		low := append([]byte(nil), c.low...)
		if err := c.loadBelow(low); err != nil {
			return false, err
		}
	}
}

// Prev moves to the row before.
func (c *Cursor) Prev() (bool, error) {
	if !c.on {
		return false, nil
	}
	c.on = false
	if c.seen == c.tx.Edits() {
		c.at--
		return c.backward()
	}
	key := append([]byte(nil), c.key...)
	if err := c.loadBelow(key); err != nil {
		return false, err
	}
	return c.backward()
}
