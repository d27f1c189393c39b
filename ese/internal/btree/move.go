package btree

import (
	"fmt"

	"pillarbox/ese/internal/cache"
	"pillarbox/ese/internal/page"
)

// Place chooses where a page in use goes: a page in front of it, taken from the tree's space as
// part of m, or 0 when it stays.
type Place func(m *Mtr, no page.No) (page.No, error)

// Compaction counts what Compact did.
type Compaction struct{ Moved, Merged int }

// Compact does at most one structure change around the leaf of key: it takes the leaf out when
// it is empty, moves the nodes of its right sibling into it when they fit, or gives the leaf or
// an internal page that begins with it another place. next is where to go on: the same key as
// long as something was done, then the first key behind the leaf, nil behind the last one.
func (t *Tree) Compact(key []byte, place Place) (next []byte, did Compaction, err error) {
	if err := t.warmAround(key); err != nil {
		return nil, did, err
	}
	t.smo.Lock()
	defer t.smo.Unlock()
	t.alloc.Lock()
	defer t.alloc.Unlock()
	var buf [maxDepth]step
	steps, _, err := t.path(buf[:0], key, false, t.seq.Load())
	if err != nil || len(steps) == 0 { // the root is a leaf
		return nil, did, err
	}
	for _, try := range []struct {
		fn func(*Mtr, []step, Place) (bool, error)
		n  *int
	}{{t.joinLeaf, &did.Merged}, {t.moveLeaf, &did.Moved}, {t.moveInner, &did.Moved}} {
		m := t.env.NewMtr()
		ok, err := try.fn(m, steps, place)
		if err != nil || !ok {
			m.Abort()
		}
		if err != nil {
			return nil, did, t.wrap("compact", err)
		}
		if ok {
			*try.n++
			return key, did, nil
		}
	}
	return behindLeaf(steps), did, nil
}

// Leaves counts the tree's leaves, roughly: structure changes go on meanwhile.
func (t *Tree) Leaves() (n int, err error) {
	var buf [maxDepth]step
	for key := []byte{}; key != nil; {
		s := t.awaitEven()
		steps, again, err := t.path(buf[:0], key, false, s)
		if again || err != nil && t.seq.Load() != s {
			continue
		}
		if err != nil {
			return 0, err
		}
		if len(steps) == 0 { // the root is a leaf
			return 1, nil
		}
		up := len(steps) - 1
		n += len(steps[up].in.children)
		key = behindLeaf(steps[:up])
	}
	return n, nil
}

// behindLeaf is the first key behind the leaf at the end of steps; nil when it is the last.
func behindLeaf(steps []step) []byte {
	for l := len(steps) - 1; l >= 0; l-- {
		if st := steps[l]; st.i < len(st.in.children)-1 {
			return st.in.sep(st.i)
		}
	}
	return nil
}

// warmAround reads the leaf of key and its neighbours before any lock is held.
func (t *Tree) warmAround(key []byte) error {
	fr, err := t.leaf(key, cache.Shared)
	if err != nil {
		return err
	}
	prev, next := fr.P.Prev(), fr.P.Next()
	fr.RUnlock()
	for _, no := range []page.No{prev, next} {
		if _, err := t.warm(no); err != nil {
			return err
		}
	}
	return nil
}

// joinLeaf removes an empty leaf, or merges the right sibling into the leaf.
func (t *Tree) joinLeaf(m *Mtr, steps []step, _ Place) (bool, error) {
	pg, err := m.Get(t.File, t.leafNo(steps), cache.Exclusive)
	if err != nil {
		return false, err
	}
	ok := true
	if pg.P().Len() == 0 {
		err = t.removeLeaf(m, steps, pg)
	} else {
		ok, err = t.mergeRight(m, steps, pg)
	}
	if ok && err == nil {
		t.env.Merges.Add(1)
	}
	return ok, err
}

// moveLeaf gives the leaf another place.
func (t *Tree) moveLeaf(m *Mtr, steps []step, place Place) (bool, error) {
	no := t.leafNo(steps)
	to, err := place(m, no)
	if err != nil || to == 0 {
		return false, err
	}
	pg, err := m.Get(t.File, no, cache.Exclusive)
	if err != nil {
		return false, err
	}
	prev, err := t.sibling(m, pg.P().Prev())
	if err != nil {
		return false, err
	}
	next, err := t.sibling(m, pg.P().Next())
	if err != nil {
		return false, err
	}
	return true, t.movePage(m, steps[len(steps)-1], pg, to, func() {
		relink(prev, next, to)
	})
}

// moveInner gives another place to the lowest internal page that begins with the leaf and wants
// one. The root stays: the catalog and the log name it.
func (t *Tree) moveInner(m *Mtr, steps []step, place Place) (bool, error) {
	for l := len(steps) - 1; l > 0 && steps[l].i == 0; l-- {
		no := steps[l].in.no
		to, err := place(m, no)
		if err != nil {
			return false, err
		}
		if to == 0 {
			continue
		}
		pg, err := m.Get(t.File, no, cache.Exclusive)
		if err != nil {
			return false, err
		}
		return true, t.movePage(m, steps[l-1], pg, to, func() {})
	}
	return false, nil
}

// movePage puts a page's image at to, leads its parent there and frees the old page, as one
// record. up is the step that leads to it; links leads the neighbours there.
func (t *Tree) movePage(m *Mtr, up step, pg *MPage, to page.No, links func()) error {
	parent, err := m.Get(t.File, up.in.no, cache.Exclusive)
	if err != nil {
		return err
	}
	fresh, err := m.Get(t.File, to, cache.Fresh)
	if err != nil {
		return err
	}
	if err := t.alloc.Free(m, t, pg.No); err != nil {
		return err
	}
	return t.change(m, func() {
		fresh.Edit().Image(pg.P())
		links()
		parent.Edit().Replace(up.i, childData(to))
		t.forget(pg.No)
	}, parent.No)
}

// relink leads the neighbours of a page to its new place.
func relink(prev, next *MPage, to page.No) {
	if prev != nil {
		prev.Edit().SetNext(to)
	}
	if next != nil {
		next.Edit().SetPrev(to)
	}
}

// Below returns the pages of the tree but for its root.
func (t Plain) Below(m *Mtr) ([]page.No, error) {
	var out []page.No
	err := t.eachChild(m, t.Root, 0, func(_ *MPage, _ int, child page.No) bool {
		out = append(out, child)
		return true
	})
	return out, err
}

// Move puts a page of the tree that is not its root at to, which is free.
func (t Plain) Move(m *Mtr, no, to page.No) error {
	var parent *MPage
	at := 0
	if err := t.eachChild(m, t.Root, 0, func(p *MPage, i int, child page.No) bool {
		if child == no {
			parent, at = p, i
		}
		return child != no
	}); err != nil {
		return err
	}
	if parent == nil {
		return fmt.Errorf("space tree at page %d of %s: page %d is not in it", t.Root, t.File.Name, no)
	}
	pg, err := m.Get(t.File, no, cache.Exclusive)
	if err != nil {
		return err
	}
	var near [2]*MPage
	if pg.P().Leaf() {
		for i, n := range []page.No{pg.P().Prev(), pg.P().Next()} {
			if n == 0 {
				continue
			}
			if near[i], err = m.Get(t.File, n, cache.Exclusive); err != nil {
				return err
			}
		}
	}
	fresh, err := m.Get(t.File, to, cache.Fresh)
	if err != nil {
		return err
	}
	fresh.Edit().Image(pg.P())
	relink(near[0], near[1], to)
	parent.Edit().Replace(at, childData(to))
	return nil
}

// eachChild calls fn for every page below no, until it says false.
func (t Plain) eachChild(
	m *Mtr, no page.No, depth int, fn func(p *MPage, i int, child page.No) bool,
) error {
	pg, err := m.Get(t.File, no, cache.Exclusive)
	if err != nil || pg.P().Leaf() {
		return err
	}
	if depth >= maxDepth {
		return fmt.Errorf("space tree at page %d of %s: deeper than %d levels",
			t.Root, t.File.Name, maxDepth)
	}
	for i := range pg.P().Len() {
		child := pg.P().Child(i)
		if !fn(pg, i, child) {
			return nil
		}
		if pg.P().Flags()&page.FlagParentOfLeaf != 0 {
			continue
		}
		if err := t.eachChild(m, child, depth+1, fn); err != nil {
			return err
		}
	}
	return nil
}
