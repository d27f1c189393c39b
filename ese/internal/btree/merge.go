package btree

import (
	"pillarbox/ese/internal/cache"
	"pillarbox/ese/internal/page"
)

// purgeLatched removes from the latched leaf the deleted nodes that nobody needs any more.
// It reports whether it removed any.
func (t *Tree) purgeLatched(fr *cache.Frame) bool {
	if t.env.Recovering.Load() {
		return false
	}
	p := fr.P
	var dead []int
	var key []byte
	for i := p.Len() - 1; i >= 0; i-- {
		if p.Node(i).Flags&page.NodeDeleted == 0 {
			continue
		}
		key = p.AppendKey(key[:0], i)
		if !t.env.Versions.Referenced(t.id, key) {
			dead = append(dead, i)
		}
	}
	if len(dead) == 0 {
		return false
	}
	// The latch is the caller's: the structure change borrows it and must not release it.
	m := t.env.NewMtr()
	pg := m.borrow(t.File, fr)
	for _, i := range dead {
		pg.Edit().Delete(i)
	}
	if err := m.Commit(); err != nil {
		return false // the log's error comes again with the next record
	}
	t.env.Purged.Add(uint64(len(dead)))
	return true
}

// Purge removes a deleted node that nobody can see any more, and merges its page when little
// is left on it. A node that is not there or not dead is left alone.
func (t *Tree) Purge(key []byte) error {
	fr, err := t.leaf(key, cache.Exclusive)
	if err != nil {
		return err
	}
	i, exact := fr.P.Search(key)
	if exact && fr.P.Node(i).Flags&page.NodeDeleted != 0 {
		t.purgeLatched(fr)
	}
	small := Underfull(fr.P)
	fr.Unlock()
	if !small {
		return nil
	}
	return t.shrink(key)
}

// Underfull tells that a leaf should be merged away.
func Underfull(p page.Page) bool {
	return !p.Root() && p.Len() == 0 || !p.Root() && p.Free() > len(p)*3/4
}

// shrink removes the empty leaf of key, or moves the nodes of its right sibling into it.
func (t *Tree) shrink(key []byte) error {
	t.smo.Lock()
	defer t.smo.Unlock()
	t.alloc.Lock()
	defer t.alloc.Unlock()
	var buf [maxDepth]step
	steps, _, err := t.path(buf[:0], key, false, t.seq.Load())
	if err != nil || len(steps) == 0 {
		return err
	}
	m := t.env.NewMtr()
	did, err := t.shrinkIn(m, steps)
	if err != nil {
		m.Abort()
		return t.wrap("merge", err)
	}
	if did {
		t.env.Merges.Add(1)
	} else {
		m.Abort()
	}
	return nil
}

func (t *Tree) shrinkIn(m *Mtr, steps []step) (bool, error) {
	pg, err := m.Get(t.File, t.leafNo(steps), cache.Exclusive)
	if err != nil {
		return false, err
	}
	switch {
	case pg.P().Len() == 0:
		return true, t.removeLeaf(m, steps, pg)
	case Underfull(pg.P()):
		return t.mergeRight(m, steps, pg)
	}
	return false, nil
}

// removeLeaf takes an empty leaf out of the tree, with every internal page that leads to
// nothing else.
func (t *Tree) removeLeaf(m *Mtr, steps []step, pg *MPage) error {
	level := len(steps) - 1
	for level > 0 && len(steps[level].in.children) == 1 {
		level--
	}
	top := steps[level]
	parent, err := m.Get(t.File, top.in.no, cache.Exclusive)
	if err != nil {
		return err
	}
	prev, err := t.sibling(m, pg.P().Prev())
	if err != nil {
		return err
	}
	next, err := t.sibling(m, pg.P().Next())
	if err != nil {
		return err
	}
	gone := []page.No{pg.No}
	for _, st := range steps[level+1:] {
		gone = append(gone, st.in.no)
	}
	for _, no := range gone {
		if err := t.alloc.Free(m, t, no); err != nil {
			return err
		}
	}
	return t.change(m, func() {
		if prev != nil {
			prev.Edit().SetNext(pg.P().Next())
		}
		if next != nil {
			next.Edit().SetPrev(pg.P().Prev())
		}
		t.cutChild(parent, top.i)
		t.forget(gone...)
	}, parent.No)
}

// cutChild removes node i of an internal page; its range goes to a neighbour.
func (t *Tree) cutChild(parent *MPage, i int) {
	a, n := parent.Edit(), parent.P().Len()
	switch {
	case n == 1: // the root with nothing below: an empty leaf again
		a.Truncate(0)
		a.SetFlags(parent.P().Flags()&^page.FlagParentOfLeaf | page.FlagLeaf)
	case i < n-1:
		a.Delete(i)
	default:
		a.Delete(i)
		a.SetKey(i-1, nil)
	}
}

func (t *Tree) sibling(m *Mtr, no page.No) (*MPage, error) {
	if no == 0 {
		return nil, nil
	}
	return m.Get(t.File, no, cache.Exclusive)
}

// mergeRight moves the right sibling's nodes into pg, if both hang on one parent and fit.
func (t *Tree) mergeRight(m *Mtr, steps []step, pg *MPage) (bool, error) {
	st := steps[len(steps)-1]
	if st.i+1 >= len(st.in.children) {
		return false, nil
	}
	right, err := m.Get(t.File, st.in.children[st.i+1], cache.Exclusive)
	if err != nil {
		return false, err
	}
	// Without prefix compression the nodes take at most this much.
	need := 0
	for i := range right.P().Len() {
		nd := right.P().Node(i)
		need += page.NodeSize(0, nd.Prefix+len(nd.Suffix), len(nd.Data))
	}
	if need > pg.P().Free()-len(pg.P())/8 {
		return false, nil
	}
	parent, err := m.Get(t.File, st.in.no, cache.Exclusive)
	if err != nil {
		return false, err
	}
	next, err := t.sibling(m, right.P().Next())
	if err != nil {
		return false, err
	}
	if err := t.alloc.Free(m, t, right.No); err != nil {
		return false, err
	}
	return true, t.change(m, func() {
		left, rp := pg.Edit(), right.P()
		for i := range rp.Len() {
			nd, key := rp.Node(i), keyPart(rp, i)
			pre := pg.P().PrefixLen(key)
			left.Insert(pg.P().Len(), nd.Flags, pre, key[pre:], nd.Data)
		}
		left.SetNext(rp.Next())
		if next != nil {
			next.Edit().SetPrev(pg.No)
		}
		up := parent.Edit()
		up.Replace(st.i+1, childData(pg.No))
		up.Delete(st.i)
		t.forget(right.No)
	}, parent.No)
}
