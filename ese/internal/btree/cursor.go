package btree

import (
	"bytes"
	"math"

	"pillarbox/ese/internal/cache"
	"pillarbox/ese/internal/page"
	"pillarbox/ese/internal/version"
)

// Cursor walks a tree as its transaction sees it. It works on a private copy of one leaf at
// a time, with the visible state of versioned nodes settled when the copy was made, so it
// holds no latch between calls. It is for one goroutine.
type Cursor struct {
	t      *Tree
	tx     *version.Tx
	prefix []byte    // keys without it are not shown
	p      page.Page // the copy; nil before the first load
	at     int       // node of the copy the cursor stands on; may be -1 or Len
	from   int       // the nodes from..to of the copy have the prefix
	to     int
	seen   uint64 // tx.Edits() when the copy was made
	leaves int    // see Leaves
	low    []byte // the leaf's range: low <= key < high; empty means open; immutable
	high   []byte
	over   []override
	key    []byte // of the node stood on, once asked for
	data   []byte
	keyed  bool // key is that of the node stood on
	on     bool // the cursor stands on a row
}

// override is the visible state of a versioned node, where it differs from the page's.
type override struct {
	i      int
	exists bool
	data   []byte
}

// NewCursor returns a cursor that stands nowhere.
func (t *Tree) NewCursor(tx *version.Tx) *Cursor { return &Cursor{t: t, tx: tx} }

// Init makes c a cursor that stands nowhere.
func (c *Cursor) Init(t *Tree, tx *version.Tx) { *c = Cursor{t: t, tx: tx} }

// Tree is the tree it walks.
func (c *Cursor) Tree() *Tree { return c.t }

// SetPrefix limits the cursor to keys that begin with prefix, which is kept and must not
// change, and makes it stand nowhere.
func (c *Cursor) SetPrefix(prefix []byte) {
	c.prefix, c.on = prefix, false
	if c.p != nil {
		c.limit()
	}
}

// Release gives the copy's memory back: views of rows are no longer good. The cursor then
// stands nowhere.
func (c *Cursor) Release() {
	if c.p != nil {
		pagePool.put(c.p)
	}
	c.p, c.over, c.data, c.on = nil, nil, nil, false
}

// Leaves is how many leaves the cursor has read.
func (c *Cursor) Leaves() int { return c.leaves }

// Key is the whole key of the row stood on, valid until the next move.
func (c *Cursor) Key() []byte {
	if !c.keyed {
		c.key, c.keyed = c.p.AppendKey(c.key[:0], c.at), true
	}
	return c.key
}

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
		c.p = pagePool.get(len(fr.P))
	}
	c.keyed = false
	c.leaves++
	c.over = c.over[:0]
	copy(c.p, fr.P)
	if !fr.Quiet(c.t.env.Versions.KeptFrom()) {
		err = c.settle()
	}
	fr.RUnlock()
	if c.seen = c.tx.Edits(); err != nil {
		c.seen = math.MaxUint64 // the copy is no good
		return err
	}
	c.setRange(steps)
	c.limit()
	return nil
}

// setRange notes the keys that the leaf at the end of steps may hold.
func (c *Cursor) setRange(steps []step) {
	c.low, c.high = nil, nil
	for i := len(steps) - 1; i >= 0; i-- {
		in, at := steps[i].in, steps[i].i
		if at > 0 && c.low == nil {
			c.low = in.sep(at - 1)
		}
		if at < len(in.children)-1 && c.high == nil {
			c.high = in.sep(at)
		}
	}
}

// limit finds the nodes of the copy that have the prefix.
func (c *Cursor) limit() {
	c.from, c.to = 0, c.p.Len()
	if len(c.prefix) == 0 {
		return
	}
	c.from, _ = c.p.Search(c.prefix)
	if end := behind(c.prefix); end != nil {
		c.to, _ = c.p.Search(end)
	}
}

// behind is the first key after all that begin with prefix; nil when there is none. (The
// limit byte 0xff of ESE would not do: so begins a NULL in a descending column.)
func behind(prefix []byte) []byte {
	for n := len(prefix); n > 0; n-- {
		if b := prefix[n-1]; b < 0xff {
			return append(append(make([]byte, 0, n), prefix[:n-1]...), b+1)
		}
	}
	return nil
}

// settle works out, under the leaf's latch, what the transaction sees of versioned nodes.
func (c *Cursor) settle() error {
	for i := range c.p.Len() {
		nd := c.p.Node(i)
		if nd.Flags&page.NodeVersioned == 0 {
			continue
		}
		was := nd.Flags&page.NodeDeleted == 0
		c.key = c.p.AppendKey(c.key[:0], i)
		exists, data, err := c.t.env.Versions.Visible(c.tx, c.t.id, c.key, was, nd.Data)
		if err != nil {
			return c.t.wrap("read", err)
		}
		if exists != was || len(data) != len(nd.Data) || (len(data) > 0 && &data[0] != &nd.Data[0]) {
			c.over = append(c.over, override{i, exists, data})
		}
	}
	return nil
}

// stand makes node c.at the current row if it is one.
func (c *Cursor) stand() bool {
	data, f := c.p.Row(c.at)
	ok := f&page.NodeDeleted == 0
	for k := range c.over {
		if c.over[k].i == c.at {
			data, ok = c.over[k].data, c.over[k].exists
		}
	}
	c.data, c.on, c.keyed = data, ok, false
	return ok
}

// Seek moves to the first row at or after key. It reports false when there is none.
func (c *Cursor) Seek(key []byte) (bool, error) {
	c.on = false
	if bytes.Compare(key, c.prefix) < 0 {
		key = c.prefix
	}
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
		for ; c.at < c.to; c.at++ {
			if c.stand() {
				return true, nil
			}
		}
		if len(c.high) == 0 || c.to < c.p.Len() {
			return false, nil
		}
		from := c.high
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
	if c.seen == c.tx.Edits() {
		c.at++
		if c.at < c.to && len(c.over) == 0 { // most steps of a scan
			data, f := c.p.Row(c.at)
			if f&page.NodeDeleted == 0 {
				c.data, c.keyed = data, false
				return true, nil
			}
		}
		c.on = false
		return c.forward()
	}
	// The transaction has changed something since: go on behind the key on a new copy.
	key := append([]byte(nil), c.Key()...)
	c.on = false
	if err := c.load(key, false); err != nil {
		return false, err
	}
	i, exact := c.p.Search(key)
	c.at = i
	if exact {
		c.at++
	}
	return c.forward()
}

// SeekBelow moves to the last row before key; with an empty key to the last row of all.
func (c *Cursor) SeekBelow(key []byte) (bool, error) {
	c.on = false
	if end := behind(c.prefix); end != nil && (len(key) == 0 || bytes.Compare(key, end) > 0) {
		key = end
	}
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
		for ; c.at >= c.from; c.at-- {
			if c.stand() {
				return true, nil
			}
		}
		if len(c.low) == 0 || c.from > 0 {
			return false, nil
		}
		if err := c.loadBelow(c.low); err != nil {
			return false, err
		}
	}
}

// Prev moves to the row before.
func (c *Cursor) Prev() (bool, error) {
	if !c.on {
		return false, nil
	}
	if c.seen == c.tx.Edits() {
		c.at--
		c.on = false
		return c.backward()
	}
	key := append([]byte(nil), c.Key()...)
	c.on = false
	if err := c.loadBelow(key); err != nil {
		return false, err
	}
	return c.backward()
}
