package btree

import (
	"bytes"
	"encoding/binary"

	"pillarbox/ese/internal/cache"
	"pillarbox/ese/internal/page"
)

// cut says how a page is divided: nodes from at on move right; sep is the separator between.
type cut struct {
	at  int
	sep []byte
}

// chooseLeaf picks the cut of a leaf for a new node of need bytes with the given key at
// index pos. Appends leave the page full; a run of inserts in the middle (mail of one
// folder) cuts right behind the run; else the bytes are halved.
func chooseLeaf(p page.Page, pos int, key []byte, need int, last, run bool) cut {
	n := p.Len()
	switch {
	case n == 0:
		return cut{0, bytes.Clone(key)}
	case pos == n && last && n > 0:
		return cut{n, separator(p.AppendKey(nil, n-1), key)}
	case run && pos < n && pos > 0:
		return cut{pos, separator(key, p.AppendKey(nil, pos))}
	}
	total := need
	for i := range n {
		total += nodeBytes(p, i)
	}
	left := 0
	for i := range n {
		if i == pos {
			left += need
		}
		left += nodeBytes(p, i)
		if left >= total/2 || i == n-2 {
			at := max(i+1, 1)
			if at >= n {
				at = n - 1
			}
			if n == 1 {
				return cutAround(p, pos, key)
			}
			return cut{at, separator(p.AppendKey(nil, at-1), p.AppendKey(nil, at))}
		}
	}
	return cutAround(p, pos, key)
}

// cutAround divides a page of one node: the new key goes to its other side.
func cutAround(p page.Page, pos int, key []byte) cut {
	only := p.AppendKey(nil, 0)
	if pos == 0 {
		return cut{0, separator(key, only)}
	}
	return cut{1, separator(only, key)}
}

// chooseInner halves an internal page; the separator of the node before the cut moves up.
func chooseInner(p page.Page) cut {
	at := p.Len() / 2
	return cut{at, p.AppendKey(nil, at-1)}
}

func nodeBytes(p page.Page, i int) int {
	nd := p.Node(i)
	return page.NodeSize(nd.Prefix, len(nd.Suffix), len(nd.Data))
}

// separator is the shortest key above left and not above right.
func separator(left, right []byte) []byte {
	n := 0
	for n < len(left) && n < len(right) && left[n] == right[n] {
		n++
	}
	return bytes.Clone(right[:min(n+1, len(right))])
}

// sepSize is what a separator takes on an internal page.
func sepSize(sep []byte) int { return page.NodeSize(0, len(sep), 4) }

func childData(no page.No) []byte {
	return binary.LittleEndian.AppendUint32(nil, uint32(no))
}

// buildRight makes, in buf, a page with the nodes of p from at to end. The prefix is the old
// one or what the first and last key share, whichever takes less.
func buildRight(buf, p page.Page, at int, f page.Flags, sep []byte) {
	page.Init(buf, p.ObjID(), f)
	n := p.Len()
	if f&page.FlagLeaf == 0 {
		for i := at; i < n; i++ {
			nd := p.Node(i)
			buf.Insert(i-at, 0, 0, p.AppendKey(nil, i), nd.Data)
		}
		return
	}
	best, bestCost := []byte(nil), 1<<30
	for _, ext := range prefixes(p, at, sep) {
		if c := prefixCost(p, at, ext); c < bestCost {
			best, bestCost = ext, c
		}
	}
	buf.SetExternal(best)
	var key []byte
	for i := at; i < n; i++ {
		nd := p.Node(i)
		key = append(key[:0], p.AppendKey(nil, i)...)
		if p.NonUnique() {
			key = key[:len(key)-len(nd.Data)]
		}
		pre := buf.PrefixLen(key)
		buf.Insert(i-at, nd.Flags, pre, key[pre:], nd.Data)
	}
}

// prefixes are the candidates for the prefix of the right page.
func prefixes(p page.Page, at int, sep []byte) [][]byte {
	out := [][]byte{nil}
	if !p.Root() && len(p.External()) > 0 {
		out = append(out, bytes.Clone(p.External()))
	}
	n := p.Len()
	var c []byte
	switch {
	case at < n-1:
		a, b := keyPart(p, at), keyPart(p, n-1)
		c = a[:shared(a, b)]
	case at == n && n > 0: // an append: the next keys will be like the last
		a := keyPart(p, n-1)
		c = a[:shared(a, sep)]
	}
	if len(c) > maxPrefix {
		c = c[:maxPrefix]
	}
	if len(c) > 2 {
		out = append(out, c)
	}
	return out
}

// keyPart is node i's key without a non-unique tree's data.
func keyPart(p page.Page, i int) []byte {
	k := p.AppendKey(nil, i)
	if p.NonUnique() && p.Leaf() {
		k = k[:len(k)-len(p.Node(i).Data)]
	}
	return k
}

func shared(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// prefixCost is the bytes that ext costs less what it saves on the nodes from at on. With no
// nodes (an append) the longest prefix is best.
func prefixCost(p page.Page, at int, ext []byte) int {
	if at == p.Len() {
		return -len(ext)
	}
	cost := len(ext)
	for i := at; i < p.Len(); i++ {
		if n := shared(keyPart(p, i), ext); n > 2 {
			cost -= n - 2
		}
	}
	return cost
}

// splitPage divides pg and hangs the right half into the parent, whose room was checked. i
// is pg's node in the parent. next is the right sibling of a leaf, nil when there is none.
func (m *Mtr) splitPage(parent *MPage, i int, pg, right, next *MPage, c cut) {
	p := pg.P()
	buf := pagePool.get(len(p))
	defer pagePool.put(buf)
	f := p.Flags() &^ (page.FlagRoot | page.FlagEmpty)
	buildRight(buf, p, c.at, f, c.sep)
	if p.Leaf() {
		buf.SetPrev(pg.No)
		buf.SetNext(p.Next())
	}
	right.Edit().Image(buf)
	left := pg.Edit()
	if c.at < p.Len() {
		left.Truncate(c.at)
	}
	if p.Leaf() {
		left.SetNext(right.No)
		if next != nil {
			next.Edit().SetPrev(right.No)
		}
	} else {
		left.SetKey(c.at-1, nil)
	}
	up := parent.Edit()
	up.Replace(i, childData(right.No))
	up.Insert(i, 0, 0, c.sep, childData(pg.No))
}

// splitRoot moves the root's nodes into two new pages below it.
func (m *Mtr) splitRoot(root, left, right *MPage, c cut) {
	p := root.P()
	wasLeaf := p.Leaf()
	f := p.Flags() &^ (page.FlagRoot | page.FlagEmpty)
	buf := pagePool.get(len(p))
	defer pagePool.put(buf)
	buildRight(buf, p, c.at, f, c.sep)
	if wasLeaf {
		buf.SetPrev(left.No)
	}
	right.Edit().Image(buf)

	whole := pagePool.get(len(p))
	defer pagePool.put(whole)
	copy(whole, p)
	whole.Truncate(c.at)
	buildRight(buf, whole, 0, f, c.sep)
	if wasLeaf {
		buf.SetNext(right.No)
	}
	left.Edit().Image(buf)
	if !wasLeaf {
		left.Edit().SetKey(c.at-1, nil)
	}

	a := root.Edit()
	a.Truncate(0)
	nf := p.Flags() &^ (page.FlagLeaf | page.FlagParentOfLeaf)
	if wasLeaf {
		nf |= page.FlagParentOfLeaf
	}
	a.SetFlags(nf)
	a.Insert(0, 0, 0, c.sep, childData(left.No))
	a.Insert(1, 0, 0, nil, childData(right.No))
}

// split makes room for a node of need bytes with key at its leaf. It does one split at one
// level; the caller looks again. undo tells that a rollback needs it.
func (t *Tree) split(key []byte, need int, run, undo bool) error {
	t.smo.Lock()
	defer t.smo.Unlock()
	t.alloc.Lock()
	defer t.alloc.Unlock()
	var buf [maxDepth]step
	steps, _, err := t.path(buf[:0], key, false, t.seq.Load())
	if err != nil {
		return err
	}
	m := t.env.NewMtr()
	m.Undo = undo
	err = t.splitIn(m, steps, key, need, run)
	if err != nil {
		m.Abort()
		return t.wrap("split", err)
	}
	t.env.Splits.Add(1)
	return nil
}

// leafNo is the leaf at the end of steps.
func (t *Tree) leafNo(steps []step) page.No {
	if len(steps) == 0 {
		return t.Root
	}
	st := steps[len(steps)-1]
	return st.in.children[st.i]
}

func (t *Tree) splitIn(m *Mtr, steps []step, key []byte, need int, run bool) error {
	no := t.leafNo(steps)
	next, err := t.warm(no)
	if err == nil {
		_, err = t.warm(next)
	}
	if err != nil {
		return err
	}
	pg, err := m.Get(t.File, no, cache.Exclusive)
	if err != nil {
		return err
	}
	p := pg.P()
	if p.Free() >= need { // somebody else made room
		m.Abort()
		return nil
	}
	pos, _ := p.Search(key)
	c := chooseLeaf(p, pos, key, need, p.Next() == 0, run)
	return t.splitLevel(m, steps, pg, c)
}

// warm reads a leaf before any latch is held, so that no reader waits for the disk. It
// returns the right sibling.
func (t *Tree) warm(no page.No) (next page.No, err error) {
	if no == 0 {
		return 0, nil
	}
	fr, err := t.env.Cache.Fetch(t.File, no, cache.Shared)
	if err != nil {
		return 0, err
	}
	next = fr.P.Next()
	fr.RUnlock()
	return next, nil
}

// splitLevel splits pg, whose parent is the last of steps; a parent without room is split
// instead.
func (t *Tree) splitLevel(m *Mtr, steps []step, pg *MPage, c cut) error {
	if len(steps) == 0 {
		return t.growRoot(m, pg, c)
	}
	st := steps[len(steps)-1]
	parent, err := m.Get(t.File, st.in.no, cache.Exclusive)
	if err != nil {
		return err
	}
	if parent.P().Free() < sepSize(c.sep) {
		m.Abort()
		pm, err := m.Get(t.File, st.in.no, cache.Exclusive)
		if err != nil {
			return err
		}
		return t.splitLevel(m, steps[:len(steps)-1], pm, chooseInner(pm.P()))
	}
	var next *MPage
	if n := pg.P().Next(); n != 0 && pg.P().Leaf() {
		if next, err = m.Get(t.File, n, cache.Exclusive); err != nil {
			return err
		}
	}
	right, err := t.newPage(m, pg.No)
	if err != nil {
		return err
	}
	if !pg.P().Leaf() {
		return t.change(m, func() {
			m.splitPage(parent, st.i, pg, right, next, c)
		}, parent.No, pg.No)
	}
	t.seq.Add(1)
	defer t.seq.Add(1)
	m.splitPage(parent, st.i, pg, right, next, c)
	if err := m.Commit(); err != nil {
		return err
	}
	t.renew(st.in, st.i, c.sep, right.No)
	return nil
}

func (t *Tree) growRoot(m *Mtr, root *MPage, c cut) error {
	left, err := t.newPage(m, root.No)
	if err != nil {
		return err
	}
	right, err := t.newPage(m, left.No)
	if err != nil {
		return err
	}
	return t.change(m, func() { m.splitRoot(root, left, right, c) }, root.No)
}

func (t *Tree) newPage(m *Mtr, near page.No) (*MPage, error) {
	no, err := t.alloc.Alloc(m, t, near)
	if err != nil {
		return nil, err
	}
	return m.Get(t.File, no, cache.Fresh)
}

// change runs edit and commits while seq is odd, then lets readers see the new structure.
// stale names the internal pages whose copies are no longer true.
func (t *Tree) change(m *Mtr, edit func(), stale ...page.No) error {
	t.seq.Add(1)
	defer t.seq.Add(1)
	edit()
	t.invalidate(stale...)
	return m.Commit()
}
