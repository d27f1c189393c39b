package btree

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"pillarbox/ese/internal/cache"
	"pillarbox/ese/internal/page"
)

// Plain is a tree that is changed only inside structure changes and read under the lock of
// its owner: the space trees. Its keys are unique and short.
type Plain struct {
	File *cache.File
	Root page.No
}

// plainStep is a page on the way down and the node taken (in a leaf: where the key is or
// would be).
type plainStep struct {
	pg *MPage
	i  int
}

// descend latches the way to the leaf for key.
func (t Plain) descend(m *Mtr, key []byte) ([]plainStep, error) {
	var out []plainStep
	no := t.Root
	for range maxDepth {
		pg, err := m.Get(t.File, no, cache.Exclusive)
		if err != nil {
			return nil, err
		}
		if pg.P().Leaf() {
			i, _ := pg.P().Search(key)
			return append(out, plainStep{pg, i}), nil
		}
		i := pg.P().SearchChild(key)
		out = append(out, plainStep{pg, i})
		no = pg.P().Child(i)
	}
	return nil, fmt.Errorf("space tree at page %d of %s: deeper than %d levels", t.Root, t.File.Name, maxDepth)
}

// Ceil finds the first node at or after key. The slices are copies.
func (t Plain) Ceil(m *Mtr, key []byte) (k, data []byte, ok bool, err error) {
	for {
		steps, err := t.descend(m, key)
		if err != nil {
			return nil, nil, false, err
		}
		leaf := steps[len(steps)-1]
		if p := leaf.pg.P(); leaf.i < p.Len() {
			return p.AppendKey(nil, leaf.i), bytes.Clone(p.Node(leaf.i).Data), true, nil
		}
		// The leaf has nothing more: go on at the nearest separator above.
		next := []byte(nil)
		for _, st := range steps[:len(steps)-1] {
			if st.i < st.pg.P().Len()-1 {
				next = st.pg.P().AppendKey(nil, st.i)
			}
		}
		if next == nil {
			return nil, nil, false, nil
		}
		key = next
	}
}

// Replace gives the node with key other data of the same length.
func (t Plain) Replace(m *Mtr, key, data []byte) error {
	leaf, err := t.find(m, key)
	if err != nil {
		return err
	}
	leaf.pg.Edit().Replace(leaf.i, data)
	return nil
}

// Delete removes the node with key.
func (t Plain) Delete(m *Mtr, key []byte) error {
	leaf, err := t.find(m, key)
	if err != nil {
		return err
	}
	leaf.pg.Edit().Delete(leaf.i)
	return nil
}

func (t Plain) find(m *Mtr, key []byte) (plainStep, error) {
	steps, err := t.descend(m, key)
	if err != nil {
		return plainStep{}, err
	}
	leaf := steps[len(steps)-1]
	if i, exact := leaf.pg.P().Search(key); !exact || i != leaf.i {
		return plainStep{}, fmt.Errorf("space tree at page %d of %s: no extent %x", t.Root, t.File.Name, key)
	}
	return leaf, nil
}

// Insert adds a node. When pages must be split, spare gives that many new pages of the
// tree's own space; it may change this tree itself, so the way down is looked for again.
// Pages that were not needed after all are returned.
func (t Plain) Insert(m *Mtr, key, data []byte, spare func(n int) ([]page.No, error)) ([]page.No, error) {
	size := page.NodeSize(0, len(key), len(data))
	steps, err := t.descend(m, key)
	if err != nil {
		return nil, err
	}
	var pages []page.No
	for n := t.pagesNeeded(steps, size); n > len(pages); n = max(n, t.pagesNeeded(steps, size)) {
		more, err := spare(n - len(pages))
		if err != nil {
			return nil, err
		}
		pages = append(pages, more...)
		if steps, err = t.descend(m, key); err != nil {
			return nil, err
		}
	}
	// Where spare has taken the pages from this tree there may be room now. It is split all the
	// same: the pages would go back and fill it again, for ever.
	full := len(pages) > 0
	for range maxDepth {
		leaf := steps[len(steps)-1]
		if leaf.pg.P().Free() >= size && !full {
			i, exact := leaf.pg.P().Search(key)
			if exact {
				return nil, fmt.Errorf("space tree at page %d of %s: extent %x is there already", t.Root, t.File.Name, key)
			}
			leaf.pg.Edit().Insert(i, 0, 0, key, data)
			return pages, nil
		}
		full = false
		if pages, err = t.splitAt(m, steps, len(steps)-1, key, size, pages); err != nil {
			return nil, err
		}
		if steps, err = t.descend(m, key); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("space tree at page %d of %s: no room after splits", t.Root, t.File.Name)
}

// plainSep bounds a separator's node in a space tree: keys have at most 5 bytes.
const plainSep = 4 + 2 + 8 + 4

// pagesNeeded counts the new pages that an insert of size bytes takes.
func (t Plain) pagesNeeded(steps []plainStep, size int) int {
	n := 0
	for l := len(steps) - 1; l >= 0; l-- {
		if steps[l].pg.P().Free() >= size {
			return n
		}
		n++
		if l == 0 {
			n++
		}
		size = plainSep
	}
	return n
}

// splitAt splits the page at a level, its parents first where they lack room.
func (t Plain) splitAt(m *Mtr, steps []plainStep, level int, key []byte, size int, pages []page.No) ([]page.No, error) {
	pg := steps[level].pg
	var c cut
	if pg.P().Leaf() {
		pos, _ := pg.P().Search(key)
		c = chooseLeaf(pg.P(), pos, key, size, pg.P().Next() == 0, false)
	} else {
		c = chooseInner(pg.P())
	}
	if level == 0 {
		left, right, rest, err := t.take2(m, pages)
		if err != nil {
			return nil, err
		}
		m.splitRoot(pg, left, right, c)
		return rest, nil
	}
	if steps[level-1].pg.P().Free() < plainSep {
		return t.splitAt(m, steps, level-1, key, plainSep, pages)
	}
	if len(pages) < 1 {
		return nil, errNoSpare
	}
	right, err := m.Get(t.File, pages[0], cache.Fresh)
	if err != nil {
		return nil, err
	}
	var next *MPage
	if n := pg.P().Next(); n != 0 && pg.P().Leaf() {
		if next, err = m.Get(t.File, n, cache.Exclusive); err != nil {
			return nil, err
		}
	}
	m.splitPage(steps[level-1].pg, steps[level-1].i, pg, right, next, c)
	return pages[1:], nil
}

var errNoSpare = fmt.Errorf("space tree: no spare page for a split")

func (t Plain) take2(m *Mtr, pages []page.No) (a, b *MPage, rest []page.No, err error) {
	if len(pages) < 2 {
		return nil, nil, nil, errNoSpare
	}
	if a, err = m.Get(t.File, pages[0], cache.Fresh); err != nil {
		return nil, nil, nil, err
	}
	b, err = m.Get(t.File, pages[1], cache.Fresh)
	return a, b, pages[2:], err
}

// ExtentKey is the key of an extent: its last page, big-endian.
func ExtentKey(last page.No) []byte { return binary.BigEndian.AppendUint32(nil, uint32(last)) }
