package space

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"pillarbox/ese/internal/btree"
	"pillarbox/ese/internal/cache"
	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/page"
	"pillarbox/ese/vfs"
)

const testPage = 4096

// heap is a log that keeps its records.
type heap struct {
	records [][]byte
	refuse  error // of the next record
}

func (h *heap) Put(_ logrec.Type, b []byte) (start, end logrec.LogPos, err error) {
	if h.refuse != nil {
		return 0, 0, h.refuse
	}
	h.records = append(h.records, bytes.Clone(b))
	n := logrec.LogPos(len(h.records))
	return n, n + 1, nil
}

func (h *heap) PutChange(
	_ int64, _ logrec.LogPos, typ logrec.Type, b []byte,
) (start, end logrec.LogPos, err error) {
	return h.Put(typ, b)
}

func (h *heap) PutReserved(
	_ int64, _ logrec.LogPos, typ logrec.Type, b []byte,
) (start, end logrec.LogPos, err error) {
	return h.Put(typ, b)
}

func (h *heap) FlushTo(logrec.LogPos) error { return nil }
func (h *heap) End() logrec.LogPos          { return logrec.LogPos(len(h.records) + 1) }

// land is a database file with trees, and a model of who uses which page.
type land struct {
	t    *testing.T
	log  *heap
	env  *btree.Env
	file *cache.File
	s    *Manager
	disk *vfs.Mem

	trees map[page.No]*tract // by root
	obj   page.ObjID
}

// tract is what the model knows of a tree.
type tract struct {
	parent page.No
	tree   *btree.Tree
	used   map[page.No]bool
}

func newLand(t *testing.T) *land {
	l := &land{t: t, log: &heap{}, disk: vfs.NewMem(), trees: map[page.No]*tract{}, obj: 1}
	open := func(name string) vfs.File {
		f, err := l.disk.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		l.must(err)
		return f
	}
	c, err := cache.New(cache.Options{PageSize: testPage, Bytes: 4096 * testPage, Log: l.log})
	l.must(err)
	t.Cleanup(func() { l.must(c.Close()) })
	l.env = &btree.Env{Cache: c, Log: l.log}
	l.file, err = c.Register(1, "a.edb", open("/a.edb"), open("/a.dw"), 0)
	l.must(err)
	l.s = NewManager(l.env, l.file)
	l.must(l.change(func(m *btree.Mtr) error { return l.s.Init(m) }))
	l.trees[RootPage] = &tract{tree: l.tree(RootPage), used: map[page.No]bool{}}
	return l
}

func (l *land) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *land) tree(root page.No) *btree.Tree {
	return btree.NewTree(l.env, l.file, l.obj, root, false, l.s)
}

// errIdle gives a change up that does nothing.
var errIdle = errors.New("nothing to do")

// change runs one structure change.
func (l *land) change(fn func(*btree.Mtr) error) error {
	l.s.Lock()
	defer l.s.Unlock()
	m := l.env.NewMtr()
	if err := fn(m); err != nil {
		m.Abort()
		if errors.Is(err, errIdle) {
			return nil
		}
		return err
	}
	return m.Commit()
}

func (l *land) newTree(parent page.No) page.No {
	l.obj++
	var root page.No
	l.must(l.change(func(m *btree.Mtr) (err error) {
		root, err = l.s.NewTree(m, parent, l.obj, 0, 0)
		return err
	}))
	l.trees[root] = &tract{parent: parent, tree: l.tree(root), used: map[page.No]bool{}}
	return root
}

func (l *land) alloc(root, near page.No) page.No {
	var no page.No
	l.must(l.change(func(m *btree.Mtr) (err error) {
		no, err = l.s.Alloc(m, l.trees[root].tree, near)
		return err
	}))
	if l.trees[root].used[no] {
		l.t.Fatalf("page %d is given out twice", no)
	}
	l.trees[root].used[no] = true
	return no
}

func (l *land) free(root, no page.No) {
	l.must(l.change(func(m *btree.Mtr) error { return l.s.Free(m, l.trees[root].tree, no) }))
	delete(l.trees[root].used, no)
}

// amount runs a change that returns how many pages it gave back.
func (l *land) amount(fn func(*btree.Mtr) (int, error)) (n int) {
	l.must(l.change(func(m *btree.Mtr) (err error) {
		if n, err = fn(m); err == nil && n == 0 {
			err = errIdle
		}
		return err
	}))
	return n
}

// lower moves a page the way a tree does; it reports whether there was a place.
func (l *land) lower(root, no page.No, g Goal) bool {
	var to page.No
	l.must(l.change(func(m *btree.Mtr) (err error) {
		if to, err = l.s.Lower(m, root, no, g); err != nil {
			return err
		}
		if to == 0 {
			return errIdle
		}
		return l.s.Free(m, l.trees[root].tree, no)
	}))
	if to == 0 {
		return false
	}
	if to >= no {
		l.t.Fatalf("page %d goes back to %d", no, to)
	}
	delete(l.trees[root].used, no)
	l.trees[root].used[to] = true
	return true
}

// set is the pages of a space tree's extents.
func (l *land) set(m *btree.Mtr, t btree.Plain) map[page.No]bool {
	out := map[page.No]bool{}
	end := page.No(0)
	l.must(l.s.each(m, t, func(last page.No, n int) bool {
		if last-page.No(n) < end {
			l.t.Errorf("tree %d: extents overlap at %d", t.Root, last)
		}
		end = last
		for i := range n {
			out[last-page.No(i)] = true
		}
		return true
	}))
	return out
}

// check holds the space trees against the model (invariants 1 and 2).
func (l *land) check() {
	l.t.Helper()
	l.s.Lock()
	defer l.s.Unlock()
	m := l.env.NewMtr()
	defer m.Abort()
	fresh := NewManager(l.env, l.file) // what is on the pages, not what is remembered
	owned := map[page.No]map[page.No]bool{}
	who := map[page.No]string{}
	claim := func(no page.No, by string) {
		if was := who[no]; was != "" {
			l.t.Errorf("page %d is %s and %s", no, was, by)
		}
		who[no] = by
	}
	for root, tr := range l.trees {
		d, err := fresh.open(m, root)
		l.must(err)
		if d.parent != tr.parent {
			l.t.Errorf("tree %d has the parent %d, want %d", root, d.parent, tr.parent)
		}
		owned[root] = l.set(m, d.oe)
		for no := range l.set(m, d.ae) {
			claim(no, fmt.Sprintf("available to %d", root))
		}
		mine := []page.No{root, root + 1, root + 2}
		for _, t := range []btree.Plain{d.oe, d.ae} {
			below, err := t.Below(m)
			l.must(err)
			mine = append(mine, below...)
		}
		for no := range tr.used {
			mine = append(mine, no)
		}
		for _, no := range mine {
			claim(no, fmt.Sprintf("used by %d", root))
			if !owned[root][no] {
				l.t.Errorf("page %d of tree %d is not its own", no, root)
			}
		}
	}
	for root, tr := range l.trees {
		for no := range owned[root] {
			if tr.parent != 0 && !owned[tr.parent][no] {
				l.t.Errorf("page %d of tree %d is not its parent's", no, root)
			}
			if who[no] == "" {
				l.t.Errorf("page %d is lost", no)
			}
		}
	}
	if n := len(owned[RootPage]); page.No(n) > l.file.Pages() {
		l.t.Errorf("%d pages in a file of %d", n, l.file.Pages())
	}
}

// replay makes all pages anew from the records and compares them (invariant 3).
func (l *land) replay() {
	l.t.Helper()
	pages := map[page.No]page.Page{}
	for _, r := range l.log.records {
		l.must(logrec.EachMacroPage(r, func(mp logrec.MacroPage) error {
			p := pages[mp.Page]
			if p == nil {
				p = make(page.Page, testPage)
				pages[mp.Page] = p
			}
			if p.DBTime() != mp.Before && !mp.Absolute() {
				return fmt.Errorf("page %d is at %d, the record begins at %d", mp.Page, p.DBTime(), mp.Before)
			}
			return mp.Apply(p)
		}))
	}
	for no, p := range pages {
		fr, err := l.env.Cache.Fetch(l.file, no, cache.Shared)
		l.must(err)
		same := bytes.Equal(p.Used(), fr.P.Used()) && bytes.Equal(p.TagBytes(), fr.P.TagBytes())
		fr.RUnlock()
		if !same {
			l.t.Errorf("page %d is another after its records", no)
		}
	}
}

// TestSpace makes trees, takes and gives pages, drops trees, gives extents and ends back and moves
// pages, by chance, and holds the space trees against a model.
func TestSpace(t *testing.T) {
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 6))
		l := newLand(t)
		l.newTree(l.newTree(RootPage))
		for step := range 1500 {
			roots := l.roots()
			root := roots[rng.IntN(len(roots))]
			switch k := rng.IntN(40); {
			case k == 0 && len(roots) < 12:
				l.newTree([]page.No{RootPage, root}[rng.IntN(2)])
			case k == 1 && len(roots) > 4:
				l.drop(root)
			case k < 24:
				l.alloc(root, page.No(rng.IntN(int(l.file.Pages()))))
			case k < 34:
				if no := l.pick(rng, root); no != 0 {
					l.free(root, no)
				}
			case k < 36:
				l.amount(func(m *btree.Mtr) (int, error) { return l.s.Return(m, root) })
			case k < 38:
				l.amount(func(m *btree.Mtr) (int, error) { return l.s.Trim(m, root) })
			default:
				g := l.plan(root)
				if no := l.pick(rng, root); no != 0 {
					l.lower(root, no, g)
				}
				l.moveSpace(root, g)
			}
			if step%50 == 0 {
				l.check()
			}
			if t.Failed() {
				t.Fatalf("seed %d, step %d", seed, step)
			}
		}
		l.check()
		l.replay()
	}
}

func (l *land) roots() []page.No {
	out := make([]page.No, 0, len(l.trees))
	for root := range l.trees {
		if root != RootPage {
			out = append(out, root)
		}
	}
	slices.Sort(out)
	return out
}

func (l *land) pick(rng *rand.Rand, root page.No) page.No {
	var all []page.No
	for no := range l.trees[root].used {
		all = append(all, no)
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[rng.IntN(len(all))]
}

// drop frees a tree with all inside of it.
func (l *land) drop(root page.No) {
	for child, tr := range l.trees {
		if tr.parent == root {
			l.drop(child)
		}
	}
	parent := l.trees[root].parent
	l.must(l.change(func(m *btree.Mtr) error { return l.s.FreeTree(m, root, parent) }))
	delete(l.trees, root)
}

func (l *land) plan(root page.No) (g Goal) {
	l.must(l.change(func(m *btree.Mtr) (err error) {
		if g, err = l.s.Plan(m, root); err == nil {
			err = errIdle
		}
		return err
	}))
	return g
}

func (l *land) moveSpace(root page.No, g Goal) (did bool) {
	l.amount(func(m *btree.Mtr) (n int, err error) {
		if did, err = l.s.MoveSpace(m, root, g); did {
			n = 1
		}
		return n, err
	})
	return did
}

// TestSplitSpaceTrees makes space trees of many pages by freeing every second page, moves them to
// the front, and gives everything back: the file becomes as short as a new one.
func TestSplitSpaceTrees(t *testing.T) {
	l := newLand(t)
	a := l.newTree(RootPage)
	b := l.newTree(RootPage)
	var pages []page.No
	for range 3000 {
		pages = append(pages, l.alloc(a, 0))
		l.alloc(b, 0)
	}
	full := l.file.Pages()
	for i, no := range pages {
		if i%2 == 0 {
			l.free(a, no)
		}
	}
	l.check()
	for no := range l.trees[b].used {
		l.free(b, no)
	}
	for _, root := range []page.No{a, b} {
		g := l.plan(root)
		for no := range l.trees[root].used {
			l.lower(root, no, g)
		}
		for l.moveSpace(root, g) {
		}
		for l.amount(func(m *btree.Mtr) (int, error) { return l.s.Trim(m, root) }) > 0 {
		}
		l.check()
	}
	// Now that there are low extents, what is left goes there.
	g := l.plan(a)
	used := slices.Sorted(maps.Keys(l.trees[a].used))
	slices.Reverse(used)
	for _, no := range used {
		l.lower(a, no, g)
	}
	for l.amount(func(m *btree.Mtr) (int, error) { return l.s.Trim(m, a) }) > 0 {
	}
	l.check()
	var end page.No
	l.must(l.change(func(m *btree.Mtr) (err error) {
		ok := false
		if end, ok, err = l.s.Shorten(m); err == nil && !ok {
			err = errIdle
		}
		return err
	}))
	if end == 0 || end > full/3 {
		t.Errorf("the file had %d pages; 1,500 in use end it at %d", full, end)
	}
	l.check()
	l.replay()
}

// TestSpaceRefused shows that a change whose record the log refuses leaves no trace.
func TestSpaceRefused(t *testing.T) {
	l := newLand(t)
	root := l.newTree(RootPage)
	no := l.alloc(root, 0)
	l.log.refuse = errors.New("planted")
	for what, err := range map[string]error{
		"a page": l.change(func(m *btree.Mtr) error {
			_, err := l.s.Alloc(m, l.trees[root].tree, 0)
			return err
		}),
		"a tree": l.change(func(m *btree.Mtr) error {
			_, err := l.s.NewTree(m, RootPage, 99, 0, 40)
			return err
		}),
		"a page back": l.change(func(m *btree.Mtr) error {
			return l.s.Free(m, l.trees[root].tree, no)
		}),
	} {
		if !errors.Is(err, l.log.refuse) {
			t.Errorf("%s: %v", what, err)
		}
	}
	l.log.refuse = nil
	l.check()
	l.alloc(root, 0)
	l.check()
}

// TestRollbackOnFullDisk: what rollbacks need on a full disk comes from the spare pages, a little at a
// time, however large the tree is; others get nothing of it.
func TestRollbackOnFullDisk(t *testing.T) {
	l := newLand(t)
	large, small := l.newTree(RootPage), l.newTree(RootPage)
	for range 900 {
		l.alloc(large, 0)
	}
	l.disk.SetCapacity(l.disk.Used())
	take := func(root page.No, undo bool) error {
		return l.change(func(m *btree.Mtr) error {
			m.Undo = undo
			no, err := l.s.Alloc(m, l.trees[root].tree, 0)
			if err == nil {
				l.trees[root].used[no] = true
			}
			return err
		})
	}
	use := func(root page.No) {
		t.Helper()
		for n := 0; ; n++ {
			if err := take(root, false); errors.Is(err, vfs.ErrDiskFull) {
				return
			} else if err != nil || n > 5000 {
				t.Fatalf("after %d pages: %v", n, err)
			}
		}
	}
	use(small)
	use(large)
	for n := range 24 {
		root := []page.No{large, small}[n/treePages%2]
		if err := take(root, true); err != nil {
			t.Fatalf("page %d for rollbacks: %v", n, err)
		}
		if n%(2*treePages) == 2*treePages-1 {
			use(large)
			use(small)
		}
	}
	l.check()
	l.disk.SetCapacity(0)
	l.alloc(large, 0)
	l.check()
	l.replay()
}

// TestMalformedSpace gives errors for roots and extents that cannot be.
func TestMalformedSpace(t *testing.T) {
	l := newLand(t)
	root := l.newTree(RootPage)
	l.must(l.change(func(m *btree.Mtr) error {
		pg, err := m.Get(l.file, root+2, cache.Exclusive)
		if err == nil {
			pg.Edit().Insert(pg.P().Len(), 0, 0, []byte{0, 1}, []byte{1, 0, 0, 0})
		}
		return err
	}))
	fresh := NewManager(l.env, l.file)
	open := func(no page.No) error {
		m := l.env.NewMtr()
		defer m.Abort()
		d, err := fresh.open(m, no)
		if err == nil {
			_, _, err = fresh.sum(m, d)
		}
		return err
	}
	if err := open(root); err == nil {
		t.Error("an extent with a key of two bytes is taken")
	}
	if err := open(root + 1); err == nil {
		t.Error("a page that is no root is taken for one")
	}
	for _, x := range []struct {
		last page.No
		n    uint32
	}{{5, 0}, {5, 6}, {1 << 31, 1}} {
		data := binary.LittleEndian.AppendUint32(nil, x.n)
		if _, _, err := extent(btree.ExtentKey(x.last), data); err == nil {
			t.Errorf("an extent of %d pages up to %d is taken", x.n, x.last)
		}
	}
}
