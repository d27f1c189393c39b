package space

import (
	"encoding/binary"
	"fmt"
	"math"
	"sync"

	"pillarbox/ese/internal/btree"
	"pillarbox/ese/internal/cache"
	"pillarbox/ese/internal/page"
	"pillarbox/ese/vfs"
)

// RootPage is the root of a database's space.
const RootPage page.No = 1

// Growth of the file and of trees, in pages.
const (
	minFileGrowth = 256
	maxFileGrowth = 8192
	minTreeGrowth = 4
	maxTreeGrowth = 1024
	// treePages is the first extent of a tree: root, OE, AE and one to grow into.
	treePages = 4
	// sparePages is how much longer than what the root owns a file is made: a rollback that
	// must split a page on a full disk takes them.
	sparePages = 32
)

// Manager hands out the pages of one database.
type Manager struct {
	mu    sync.Mutex
	env   *btree.Env
	file  *cache.File
	roots map[page.No]*fdp
	gone  map[page.No]bool // roots of trees that were given back, until used again
}

var _ btree.Allocator = (*Manager)(nil)

// fdp is what is known of one tree's space.
type fdp struct {
	root   page.No
	parent page.No
	oe, ae btree.Plain
	owned  int // pages, roughly: for the size of the next extent
}

// NewManager opens the space of a database.
func NewManager(env *btree.Env, f *cache.File) *Manager {
	return &Manager{env: env, file: f, roots: make(map[page.No]*fdp), gone: make(map[page.No]bool)}
}

// Lock takes the manager's lock for a structure change.
func (s *Manager) Lock() { s.mu.Lock() }

// Unlock releases it.
func (s *Manager) Unlock() { s.mu.Unlock() }

// header encodes a root page's space header.
func header(primary int, parent, oe page.No) []byte {
	b := make([]byte, 16)
	binary.LittleEndian.PutUint32(b, uint32(primary))
	binary.LittleEndian.PutUint32(b[4:], uint32(parent))
	binary.LittleEndian.PutUint32(b[8:], 1) // multiple extents
	binary.LittleEndian.PutUint32(b[12:], uint32(oe))
	return b
}

// open reads the space header of a tree.
func (s *Manager) open(m *btree.Mtr, root page.No) (*fdp, error) {
	if d := s.roots[root]; d != nil {
		return d, nil
	}
	pg, err := m.Get(s.file, root, cache.Exclusive)
	if err != nil {
		return nil, err
	}
	h := pg.P().External()
	if len(h) != 16 || binary.LittleEndian.Uint32(h[8:])&1 == 0 {
		return nil, fmt.Errorf("page %d of %s: no space header with extents", root, s.file.Name)
	}
	oe := page.No(binary.LittleEndian.Uint32(h[12:]))
	d := s.newFDP(root, page.No(binary.LittleEndian.Uint32(h[4:])), oe)
	err = s.each(m, d.oe, func(_ page.No, n int) bool {
		d.owned += n
		return true
	})
	if err != nil {
		return nil, err
	}
	s.roots[root] = d
	return d, nil
}

func (s *Manager) newFDP(root, parent, oe page.No) *fdp {
	return &fdp{
		root: root, parent: parent,
		oe: btree.Plain{File: s.file, Root: oe}, ae: btree.Plain{File: s.file, Root: oe + 1},
	}
}

// each calls fn for the extents of a space tree until it says false.
func (s *Manager) each(m *btree.Mtr, t btree.Plain, fn func(last page.No, n int) bool) error {
	key := btree.ExtentKey(0)
	for {
		k, data, ok, err := t.Ceil(m, key)
		if err != nil || !ok {
			return err
		}
		last, n, err := extent(k, data)
		if err != nil {
			return err
		}
		if !fn(last, n) {
			return nil
		}
		key = btree.ExtentKey(last + 1)
	}
}

func extent(k, data []byte) (last page.No, n int, err error) {
	if len(k) != 4 || len(data) != 4 {
		return 0, 0, fmt.Errorf("space tree: malformed extent %x %x", k, data)
	}
	last = page.No(binary.BigEndian.Uint32(k))
	n = int(binary.LittleEndian.Uint32(data))
	if n < 1 || page.No(n) > last || last > math.MaxInt32 {
		return 0, 0, fmt.Errorf("space tree: extent of %d pages ends at %d", n, last)
	}
	return last, n, nil
}

func count(n int) []byte { return binary.LittleEndian.AppendUint32(nil, uint32(n)) }

// Alloc takes a page for a tree, behind near where that is free.
func (s *Manager) Alloc(m *btree.Mtr, t *btree.Tree, near page.No) (page.No, error) {
	d, err := s.open(m, t.Root)
	if err != nil {
		return 0, err
	}
	for range 2 {
		no, err := s.take(m, d, near)
		if no != 0 || err != nil {
			return no, err
		}
		last, n, err := s.getExtent(m, d.parent, growth(m, d.owned))
		if err != nil {
			return 0, err
		}
		if err := s.own(m, d, last, n); err != nil {
			return 0, err
		}
	}
	return 0, fmt.Errorf("tree at page %d of %s: no page after a new extent", t.Root, s.file.Name)
}

// growth is how many pages a tree takes at a time. A rollback takes few: a full disk has not many.
func growth(m *btree.Mtr, owned int) int {
	if m.Undo {
		return treePages
	}
	return min(max(owned/4, minTreeGrowth), maxTreeGrowth)
}

// take removes one page from the available extents: the first at or after near. 0 when
// there is none.
func (s *Manager) take(m *btree.Mtr, d *fdp, near page.No) (page.No, error) {
	k, data, ok, err := d.ae.Ceil(m, btree.ExtentKey(near))
	if err == nil && !ok {
		k, data, ok, err = d.ae.Ceil(m, btree.ExtentKey(0))
	}
	if err != nil || !ok {
		return 0, err
	}
	last, n, err := extent(k, data)
	if err != nil {
		return 0, err
	}
	return last - page.No(n) + 1, s.shorten(m, d, last, n, 1)
}

// shorten takes the first cut pages off an available extent.
func (s *Manager) shorten(m *btree.Mtr, d *fdp, last page.No, n, cut int) error {
	if n == cut {
		return d.ae.Delete(m, btree.ExtentKey(last))
	}
	return d.ae.Replace(m, btree.ExtentKey(last), count(n-cut))
}

// getExtent takes want pages, or fewer when only shorter extents are there, from a tree's
// available extents, its parents' or the end of the file.
func (s *Manager) getExtent(m *btree.Mtr, root page.No, want int) (last page.No, n int, err error) {
	d, err := s.open(m, root)
	if err != nil {
		return 0, 0, err
	}
	var best page.No
	bestN, seen := 0, 0
	err = s.each(m, d.ae, func(l page.No, n int) bool {
		if n > bestN {
			best, bestN = l, n
		}
		seen++
		return bestN < want && seen < 64
	})
	if err != nil {
		return 0, 0, err
	}
	if bestN >= min(want, treePages) {
		n := min(bestN, want)
		return best - page.No(bestN) + page.No(n), n, s.shorten(m, d, best, bestN, n)
	}
	if root == RootPage {
		if err := s.growFile(m, d, want); err != nil {
			return 0, 0, err
		}
		return s.getExtent(m, root, want)
	}
	last, n, err = s.getExtent(m, d.parent, max(want, growth(m, d.owned)))
	if err != nil {
		return 0, 0, err
	}
	if err := s.own(m, d, last, n); err != nil {
		return 0, 0, err
	}
	return s.getExtent(m, root, min(want, n))
}

// own adds an extent to a tree's owned and available ones.
func (s *Manager) own(m *btree.Mtr, d *fdp, last page.No, n int) error {
	first := last - page.No(n) + 1
	spare := func(k int) ([]page.No, error) {
		var out []page.No
		for ; k > 0; k-- {
			if first > last {
				return nil, fmt.Errorf("extent of %d pages too short to split the owned-extent tree", n)
			}
			out = append(out, first)
			first++
		}
		return out, nil
	}
	over, err := d.oe.Insert(m, btree.ExtentKey(last), count(n), spare)
	if err != nil {
		return err
	}
	d.owned += n
	if first <= last {
		if err := s.addFree(m, d, last, int(last-first)+1); err != nil {
			return err
		}
	}
	for _, no := range over {
		if err := s.addFree(m, d, no, 1); err != nil {
			return err
		}
	}
	return nil
}

// growFile makes the file longer and gives the new pages to the root. The file may be longer
// than what the root owns: an earlier growth was given up, or a crash undid it.
func (s *Manager) growFile(m *btree.Mtr, d *fdp, want int) error {
	var was page.No
	owned := 0
	if err := s.each(m, d.oe, func(last page.No, n int) bool {
		was, owned = last, n
		return true
	}); err != nil {
		return err
	}
	last, err := s.lengthen(m, was, want)
	if err != nil {
		return err
	}
	n := int(last - was)
	if err := d.oe.Delete(m, btree.ExtentKey(was)); err != nil {
		return err
	}
	if _, err := d.oe.Insert(m, btree.ExtentKey(last), count(owned+n), noSpare); err != nil {
		return err
	}
	d.owned += n
	return s.addFree(m, d, last, n)
}

// lengthen makes the file longer than was by a sixteenth, or by want pages at least, and
// returns its new end. The spare pages behind it are for rollbacks.
func (s *Manager) lengthen(m *btree.Mtr, was page.No, want int) (page.No, error) {
	end := was + page.No(max(min(max(int(was)/16, minFileGrowth), maxFileGrowth), want))
	if have := s.file.Pages(); have > end+sparePages {
		end = have - sparePages
	}
	err := s.file.Grow(end + sparePages)
	if err == nil || !vfs.IsDiskFull(err) {
		return end, err
	}
	end = was + page.No(want)
	if s.file.Grow(end+sparePages) == nil {
		return end, nil
	}
	if m.Undo && s.file.Pages() >= end {
		return end, nil // the rest is for others that must roll back
	}
	return 0, err
}

func noSpare(int) ([]page.No, error) {
	return nil, fmt.Errorf("the root's owned-extent tree is full")
}

// Free gives a page back to its tree's available extents.
func (s *Manager) Free(m *btree.Mtr, t *btree.Tree, no page.No) error {
	d, err := s.open(m, t.Root)
	if err != nil {
		return err
	}
	return s.addFree(m, d, no, 1)
}

// addFree adds an extent to the available ones, joined with its neighbours.
func (s *Manager) addFree(m *btree.Mtr, d *fdp, last page.No, n int) error {
	first := last - page.No(n) + 1
	if first > 1 {
		k, data, ok, err := d.ae.Ceil(m, btree.ExtentKey(first-1))
		if err != nil {
			return err
		}
		if l, c, err := extentOr(k, data, ok); err != nil {
			return err
		} else if ok && l == first-1 {
			if err := d.ae.Delete(m, k); err != nil {
				return err
			}
			n += c
			first -= page.No(c)
		}
	}
	k, data, ok, err := d.ae.Ceil(m, btree.ExtentKey(last+1))
	if err != nil {
		return err
	}
	l, c, err := extentOr(k, data, ok)
	if err != nil {
		return err
	}
	if ok && l-page.No(c) == last {
		return d.ae.Replace(m, k, count(c+n))
	}
	over, err := d.ae.Insert(m, btree.ExtentKey(last), count(n),
		func(k int) ([]page.No, error) { return s.spares(m, d, k) })
	if err != nil {
		return err
	}
	for _, no := range over {
		if err := s.addFree(m, d, no, 1); err != nil {
			return err
		}
	}
	return nil
}

func extentOr(k, data []byte, ok bool) (page.No, int, error) {
	if !ok {
		return 0, 0, nil
	}
	return extent(k, data)
}
