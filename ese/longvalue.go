package ese

import (
	"encoding/binary"
	"fmt"
	"math"

	"pillarbox/ese/internal/btree"
	"pillarbox/ese/internal/logrec"
)

// A long value lies in the table's long-value tree (docs/format-edb.md, "Long values"):
//
//	key lid BE           -> LVROOT { u32 references, u32 size }
//	key lid BE, offset BE -> chunk

// chunkSize is how much of a long value one node holds: two chunks fit on a page.
func chunkSize(pageSize int) int { return btree.MaxNode(pageSize) - 8 }

func lidOf(b []byte) uint32 {
	if len(b) != 4 {
		return 0
	}
	return binary.LittleEndian.Uint32(b)
}

// orderedLV is up to what size long values are written one at a time, in bytes: a larger one
// would keep the others waiting.
const orderedLV = 64 << 10

// writeLV stores a long value, compressed or as it is, and returns its id as records hold it.
func (t *Table) writeLV(tx *Tx, data []byte, packed bool) ([]byte, error) {
	lv := t.lv.Load()
	if lv == nil {
		return nil, fmt.Errorf("table %s has no long-value tree: %w", t.Name(), ErrSchema)
	}
	if uint64(len(data)) > math.MaxInt32 {
		return nil, fmt.Errorf("%w: long value of %d bytes", ErrTooBig, len(data))
	}
	if len(data) <= orderedLV {
		// Writers that come one after the other fill the last page; side by side they would
		// find each other's values behind their own, and halve pages for the next piece.
		t.lvOrder.Lock()
		defer t.lvOrder.Unlock()
	}
	lid := t.nextLID.Add(1)
	key := binary.BigEndian.AppendUint32(nil, lid)
	root := make([]byte, 8)
	binary.LittleEndian.PutUint32(root, 1)
	binary.LittleEndian.PutUint32(root[4:], uint32(len(data)))
	if err := lv.Insert(&tx.v, key, root); err != nil {
		return nil, err
	}
	var buf []byte
	step := chunkSize(t.db.in.o.PageSize)
	for off := 0; off < len(data); off += step {
		k := binary.BigEndian.AppendUint32(key[:4:4], uint32(off))
		var chunk []byte
		chunk, buf = t.chunk(packed, buf, data[off:min(off+step, len(data))])
		if err := lv.Insert(&tx.v, k, chunk); err != nil {
			return nil, err
		}
	}
	return binary.LittleEndian.AppendUint32(nil, lid), nil
}

// readLV appends a long value to dst.
func (t *Table) readLV(tx *Tx, id, dst []byte) ([]byte, error) {
	if err := tx.alive(); err != nil {
		return dst, err
	}
	lid := lidOf(id)
	if t.lv.Load() == nil || lid == 0 {
		return dst, fmt.Errorf("table %s: malformed long-value id %x", t.Name(), id)
	}
	size, before := -1, len(dst)
	err := t.eachLV(tx, lid, func(key, data []byte) error {
		if len(key) == 4 {
			if len(data) < 8 {
				return fmt.Errorf("table %s: long value %d: root of %d bytes", t.Name(), lid, len(data))
			}
			size = int(binary.LittleEndian.Uint32(data[4:]))
			return nil
		}
		var err error
		if dst, err = expandChunk(dst, data, t.chunkRange(key, size)); err != nil {
			return fmt.Errorf("table %s: long value %d: %w: run the integrity check", t.Name(), lid, err)
		}
		return nil
	})
	if found := len(dst) - before; err == nil && found != size {
		err = fmt.Errorf("table %s: long value %d has %d bytes, its root says %d", t.Name(), lid, found, size)
	}
	return dst, err
}

// eachLV calls fn for the root and the chunks of a long value.
func (t *Table) eachLV(tx *Tx, lid uint32, fn func(key, data []byte) error) error {
	c := t.lv.Load().NewCursor(&tx.v)
	defer c.Release()
	from := binary.BigEndian.AppendUint32(nil, lid)
	ok, err := c.Seek(from)
	for ; ok && err == nil; ok, err = c.Next() {
		if k := c.Key(); len(k) < 4 || binary.BigEndian.Uint32(k) != lid {
			break
		}
		if err := fn(c.Key(), c.Data()); err != nil {
			return err
		}
	}
	return err
}

// lvRoot reads the references and the size of a long value.
func (t *Table) lvRoot(tx *Tx, lid uint32) (refs, size uint32, err error) {
	var kb [4]byte
	b, ok, err := t.lv.Load().Get(&tx.v, binary.BigEndian.AppendUint32(kb[:0], lid), nil)
	if err == nil && (!ok || len(b) < 8) {
		err = fmt.Errorf("table %s: long value %d: root of %d bytes", t.Name(), lid, len(b))
	}
	if err != nil {
		return 0, 0, err
	}
	return binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), nil
}

// putRoot changes the root of a long value.
func (t *Table) putRoot(tx *Tx, lid, refs, size uint32) error {
	b := binary.LittleEndian.AppendUint32(nil, refs)
	b = binary.LittleEndian.AppendUint32(b, size)
	return t.lv.Load().Replace(&tx.v, binary.BigEndian.AppendUint32(nil, lid), b)
}

// shareLV gives a long value another reference. Others may do so at the same time, but not
// while its content is changed.
func (t *Table) shareLV(tx *Tx, lid uint32) error {
	key := binary.BigEndian.AppendUint32(nil, lid)
	return t.lv.Load().Add(&tx.v, key, logrec.Delta{Off: 0, Width: 4, By: 1})
}

// releaseLV takes a reference from a long value, and removes it with the last.
func (t *Table) releaseLV(tx *Tx, lid uint32) error {
	refs, size, err := t.lvRoot(tx, lid)
	if err != nil {
		return err
	}
	if refs > 1 {
		return t.putRoot(tx, lid, refs-1, size)
	}
	return t.cutLV(tx, binary.BigEndian.AppendUint32(nil, lid), lid)
}

// cutBatch is how many nodes of a long value are removed at a time.
const cutBatch = 256

// cutLV removes the nodes of a long value from a key on.
func (t *Table) cutLV(tx *Tx, from []byte, lid uint32) error {
	for {
		keys, err := t.lvKeys(tx, from, lid)
		if err != nil || len(keys) == 0 {
			return err
		}
		for _, k := range keys {
			if err := t.lv.Load().Delete(&tx.v, k); err != nil {
				return err
			}
		}
		from = keys[len(keys)-1]
	}
}

// lvKeys lists the next nodes of a long value from a key on.
func (t *Table) lvKeys(tx *Tx, from []byte, lid uint32) (keys [][]byte, err error) {
	c := t.lv.Load().NewCursor(&tx.v)
	defer c.Release()
	ok, err := c.Seek(from)
	for ; ok && err == nil && len(keys) < cutBatch; ok, err = c.Next() {
		k := c.Key()
		if len(k) < 4 || binary.BigEndian.Uint32(k) != lid {
			break
		}
		keys = append(keys, append([]byte(nil), k...))
	}
	return keys, err
}
