package btree

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"

	"pillarbox/ese/internal/cache"
	"pillarbox/ese/internal/page"
)

// inner is an immutable copy of an internal page: what leads to its children. kids remembers
// where they were found, so that a warm descent touches neither map nor lock.
//
// The copy after the split of a child (split) may share the arrays of the one before: they
// only ever grow behind what the older copies know of.
type inner struct {
	t            *Tree
	no           page.No
	parentOfLeaf bool
	children     []page.No
	kids         []kid
	keys         []byte   // the separators, one behind the other
	ends         []uint32 // where each ends in keys; the last child has none
	guide        guide
	stale        atomic.Bool // a structure change has replaced it, or it was dropped for room
	// slot is where the copy above remembers this one, cleared when it is dropped.
	slot  atomic.Pointer[atomic.Pointer[inner]]
	entry *copyEntry // its place in the list of copies; guarded by the list's lock
}

type kid struct {
	in   atomic.Pointer[inner]
	leaf atomic.Pointer[cache.Frame]
}

// newInner makes the copy of an internal page.
func newInner(t *Tree, no page.No, p page.Page) *inner {
	n := p.Len()
	in := &inner{
		t: t, no: no, parentOfLeaf: p.Flags()&page.FlagParentOfLeaf != 0,
		children: make([]page.No, n, n+n/4+8), kids: make([]kid, n, n+n/4+8),
		ends: make([]uint32, n-1, n+n/4+8),
	}
	for i := range n {
		in.children[i] = p.Child(i)
		if i < n-1 {
			in.keys = p.AppendKey(in.keys, i)
			in.ends[i] = uint32(len(in.keys))
		}
	}
	in.guide.make(in)
	return in
}

// size is what the copy takes on the heap, in bytes.
func (in *inner) size() int64 {
	return int64(cap(in.keys)) + int64(cap(in.children))*(4+16+4+8) + 240
}

// sep is the separator behind child i, which is not the last one.
func (in *inner) sep(i int) []byte {
	from := uint32(0)
	if i > 0 {
		from = in.ends[i-1]
	}
	return in.keys[from:in.ends[i]:in.ends[i]]
}

// remember notes the copy of child i.
func (in *inner) remember(i int, child *inner) {
	child.slot.Store(&in.kids[i].in)
	in.kids[i].in.Store(child)
}

// split returns the copy after child i was split: sep is between it and right.
func (in *inner) split(i int, sep []byte, right page.No) *inner {
	out := &inner{t: in.t, no: in.no, parentOfLeaf: in.parentOfLeaf}
	if i == len(in.children)-1 && len(in.kids) < cap(in.kids) && bytes.HasPrefix(sep, in.guide.shared) {
		out.children = append(in.children, right)
		out.kids = in.kids[:len(in.kids)+1]
		out.keys = append(in.keys, sep...)
		out.ends = append(in.ends, uint32(len(out.keys)))
		out.guide = guide{in.guide.shared, append(in.guide.heads, head(sep[len(in.guide.shared):]))}
		return out
	}
	n := len(in.children) + 1
	out.children = append(make([]page.No, 0, n+n/4+8), in.children[:i+1]...)
	out.children = append(append(out.children, right), in.children[i+1:]...)
	at := len(in.keys) // where the new separator goes
	if i < len(in.ends) {
		at = int(in.ends[i]) - len(in.sep(i))
	}
	out.keys = make([]byte, 0, len(in.keys)+len(sep)+len(in.keys)/4)
	out.keys = append(append(append(out.keys, in.keys[:at]...), sep...), in.keys[at:]...)
	out.ends = append(make([]uint32, 0, n+n/4+8), in.ends[:i]...)
	out.ends = append(out.ends, uint32(at+len(sep)))
	for _, end := range in.ends[i:] {
		out.ends = append(out.ends, end+uint32(len(sep)))
	}
	out.kids = make([]kid, n, n+n/4+8)
	for k := range in.kids {
		to := k
		if k > i {
			to++
		}
		if in.parentOfLeaf {
			out.kids[to].leaf.Store(in.kids[k].leaf.Load())
		} else if o := in.kids[k].in.Load(); o != nil && !o.stale.Load() {
			out.remember(to, o)
		}
	}
	if bytes.HasPrefix(sep, in.guide.shared) && len(in.ends) > 0 {
		out.guide = in.guide.insert(i, sep, cap(out.ends))
	} else {
		out.guide.make(out)
	}
	return out
}

// copyList bounds the memory of all copies of internal pages. The oldest go first; one that
// is in use comes back at the price of copying a page.
type copyList struct {
	mu    sync.Mutex
	bytes int64
	queue []*copyEntry // oldest first
}

// copyEntry is the place of a page's copy in the list.
type copyEntry struct {
	in   *inner // nil once it was dropped
	size int64
}

// add enters a copy and returns those that must go. A copy that a structure change has
// replaced counts until it has reached the front.
func (l *copyList) add(in *inner, limit int64) (out []*inner) {
	l.mu.Lock()
	defer l.mu.Unlock()
	in.entry = &copyEntry{in, in.size()}
	l.queue = append(l.queue, in.entry)
	l.bytes += in.entry.size
	for l.bytes > limit && len(l.queue) > 1 {
		old := l.queue[0]
		l.queue[0], l.queue = nil, l.queue[1:]
		l.bytes -= old.size
		out = append(out, old.in)
		old.in = nil
	}
	return out
}

// replace gives the place of old to its successor; false when old was dropped.
func (l *copyList) replace(old, in *inner) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := old.entry
	if e == nil || e.in != old {
		return false
	}
	l.bytes += in.size() - e.size
	e.in, e.size, in.entry = in, in.size(), e
	return true
}

// drop lets the copy go. Whoever is reading it reads on: it is still true unless the tree's
// seq says otherwise.
func (in *inner) drop() {
	t := in.t
	t.copyMu.Lock()
	in.stale.Store(true)
	if t.copies[in.no] == in {
		delete(t.copies, in.no)
	}
	t.copyMu.Unlock()
	t.top.CompareAndSwap(in, nil)
	if s := in.slot.Load(); s != nil {
		s.CompareAndSwap(in, nil)
	}
}

// renew replaces the copy of a page whose child i was split. The tree's seq is odd.
func (t *Tree) renew(old *inner, i int, sep []byte, right page.No) {
	in := old.split(i, sep, right)
	if old.stale.Load() || !t.env.copies.replace(old, in) {
		t.invalidate(old.no)
		return
	}
	t.copyMu.Lock()
	t.copies[in.no] = in
	old.stale.Store(true)
	t.copyMu.Unlock()
	t.top.CompareAndSwap(old, in)
	if s := old.slot.Load(); s != nil {
		in.slot.Store(s)
		s.CompareAndSwap(old, in)
	}
}

// maxDepth bounds a descent: deeper is a damaged tree (cBTMaxDepth is 8).
const maxDepth = 16

// step is one level of a descent: the internal page and the node taken.
type step struct {
	in *inner
	i  int
}

// awaitEven returns the tree's sequence number, after a running structure change has ended.
func (t *Tree) awaitEven() uint64 {
	for {
		s := t.seq.Load()
		if s&1 == 0 {
			return s
		}
		t.awaitChange()
	}
}

// awaitChange waits for the end of a running structure change.
func (t *Tree) awaitChange() {
	t.smo.Lock()
	defer t.smo.Unlock()
}

// loadInner returns the copy of an internal page, nil when the page is a leaf or when a
// structure change came between (seq is no longer s).
func (t *Tree) loadInner(no page.No, s uint64) (*inner, error) {
	t.copyMu.Lock()
	old := t.copies[no]
	t.copyMu.Unlock()
	if old != nil && !old.stale.Load() {
		return old, nil
	}
	fr, err := t.env.Cache.Fetch(t.File, no, cache.Shared)
	if err != nil {
		return nil, err
	}
	if fr.P.Leaf() || fr.P.Len() == 0 {
		fr.RUnlock()
		return nil, nil
	}
	in := newInner(t, no, fr.P)
	fr.RUnlock()
	if old != nil {
		in.inherit(old)
	}
	in = t.keep(in, s)
	return in, nil
}

// keep enters a new copy and returns the one that counts; nil when seq is no longer s.
func (t *Tree) keep(in *inner, s uint64) *inner {
	t.copyMu.Lock()
	if t.seq.Load() != s {
		t.copyMu.Unlock()
		return nil
	}
	// Another reader may have been faster. There is one copy of a page at a time: a second
	// would not be found when the page changes, and would lead astray for ever.
	if now := t.copies[in.no]; now != nil && !now.stale.Load() {
		t.copyMu.Unlock()
		return now
	}
	t.copies[in.no] = in
	t.copyMu.Unlock()
	for _, old := range t.env.copies.add(in, t.env.CopyBytes) {
		old.drop()
	}
	return in
}

// inherit takes over what the old copy knew of the children that are still there.
func (in *inner) inherit(old *inner) {
	j := 0
	for i := range in.kids {
		for k := j; k < len(old.kids) && k < j+3; k++ {
			if old.children[k] == in.children[i] {
				if o := old.kids[k].in.Load(); o != nil && !o.stale.Load() {
					in.remember(i, o)
				}
				in.kids[i].leaf.Store(old.kids[k].leaf.Load())
				j = k + 1
				break
			}
		}
	}
}

// invalidate marks the copies of changed internal pages. The tree's seq is odd.
func (t *Tree) invalidate(nos ...page.No) {
	t.copyMu.Lock()
	for _, no := range nos {
		if in := t.copies[no]; in != nil {
			in.stale.Store(true)
		}
		if no == t.Root {
			t.top.Store(nil)
		}
	}
	t.copyMu.Unlock()
}

// forget drops copies of pages that left the tree.
func (t *Tree) forget(nos ...page.No) {
	t.invalidate(nos...)
	t.copyMu.Lock()
	for _, no := range nos {
		delete(t.copies, no)
	}
	t.copyMu.Unlock()
}

// path descends to the leaf for key and appends the internal steps to dst. below asks for
// the leaf with the keys just below key. again reports a structure change in between.
func (t *Tree) path(dst []step, key []byte, below bool, s uint64) (steps []step, again bool, err error) {
	in := t.top.Load()
	if in == nil || in.stale.Load() {
		in, err = t.loadInner(t.Root, s)
		if err != nil {
			return dst, false, err
		}
		if in == nil { // the root is a leaf, or the tree has changed
			return dst, t.seq.Load() != s, nil
		}
		t.top.Store(in)
	}
	for range maxDepth {
		i := 0
		if below {
			i = in.childBelow(key)
		} else {
			i = in.child(key)
		}
		dst = append(dst, step{in, i})
		if in.parentOfLeaf {
			return dst, false, nil
		}
		next := in.kids[i].in.Load()
		if next == nil || next.stale.Load() {
			next, err = t.loadInner(in.children[i], s)
			if err != nil {
				return dst, false, err
			}
			if next == nil {
				if t.seq.Load() != s {
					return dst, true, nil
				}
				return dst, false, t.wrap("descend", fmt.Errorf("page %d is no internal page", in.children[i]))
			}
			in.remember(i, next)
		}
		in = next
	}
	return dst, false, t.wrap("descend", fmt.Errorf("deeper than %d levels", maxDepth))
}

// leaf returns the latched leaf whose range holds key.
func (t *Tree) leaf(key []byte, m cache.Mode) (*cache.Frame, error) {
	var buf [maxDepth]step
	fr, _, err := t.leafPath(buf[:0], key, false, m)
	return fr, err
}

// leafPath is leaf with the steps that led to it.
func (t *Tree) leafPath(dst []step, key []byte, below bool, m cache.Mode) (*cache.Frame, []step, error) {
	for {
		s := t.awaitEven()
		steps, again, err := t.path(dst[:0], key, below, s)
		if again || (err != nil && t.seq.Load() != s) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		fr, err := t.latchLeaf(steps, m)
		if t.seq.Load() != s {
			if err == nil {
				unlatch(fr, m)
			}
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if !fr.P.Leaf() {
			unlatch(fr, m)
			return nil, nil, t.wrap("descend", fmt.Errorf("page %d is no leaf", fr.No()))
		}
		return fr, steps, nil
	}
}

// latchLeaf latches the leaf at the end of steps, by the remembered frame if it still holds
// the page.
func (t *Tree) latchLeaf(steps []step, m cache.Mode) (*cache.Frame, error) {
	if len(steps) == 0 {
		return t.env.Cache.Fetch(t.File, t.Root, m)
	}
	st := steps[len(steps)-1]
	no := st.in.children[st.i]
	slot := &st.in.kids[st.i].leaf
	if fr := slot.Load(); fr != nil {
		latch(fr, m)
		if fr.Is(t.File, no) && !t.File.Refuses(m) {
			fr.Touch()
			return fr, nil
		}
		unlatch(fr, m)
	}
	fr, err := t.env.Cache.Fetch(t.File, no, m)
	if err != nil {
		return nil, err
	}
	slot.Store(fr)
	return fr, nil
}

func latch(fr *cache.Frame, m cache.Mode) {
	if m == cache.Shared {
		fr.RLock()
	} else {
		fr.Lock()
	}
}

func unlatch(fr *cache.Frame, m cache.Mode) {
	if m == cache.Shared {
		fr.RUnlock()
	} else {
		fr.Unlock()
	}
}
