package space

import (
	"errors"
	"fmt"

	"pillarbox/ese/internal/btree"
	"pillarbox/ese/internal/page"
)

// Goal says which pages are too far behind (docs/format-edb.md, "Pages moved").
type Goal struct {
	Tree page.No // the tree's pages would all fit up to there, in what it owns
	File page.No // what all trees own would fit up to there
}

// loweredBy is the most that a tree takes from the one above for pages to be moved.
const loweredBy = 64

// Plan works out the goal for a tree.
func (s *Manager) Plan(m *btree.Mtr, root page.No) (Goal, error) {
	var g Goal
	d, err := s.open(m, root)
	if err != nil {
		return g, err
	}
	owned, free, err := s.sum(m, d)
	if err != nil {
		return g, err
	}
	left := owned - free
	if err := s.each(m, d.oe, func(last page.No, n int) bool {
		if left > 0 {
			g.Tree = last - page.No(n) + page.No(min(n, left))
		}
		left -= n
		return left > 0
	}); err != nil {
		return g, err
	}
	top, err := s.open(m, RootPage)
	if err != nil {
		return g, err
	}
	owned, free, err = s.sum(m, top)
	g.File = page.No(owned - free)
	return g, err
}

// sum counts the pages that a tree owns, and those of them that are available.
func (s *Manager) sum(m *btree.Mtr, d *fdp) (owned, free int, err error) {
	err = s.each(m, d.oe, func(_ page.No, n int) bool {
		owned += n
		return true
	})
	if err == nil {
		err = s.each(m, d.ae, func(_ page.No, n int) bool {
			free += n
			return true
		})
	}
	return owned, free, err
}

// Available counts the available pages of a tree.
func (s *Manager) Available(m *btree.Mtr, root page.No) (int, error) {
	if s.gone[root] {
		return 0, nil
	}
	d, err := s.open(m, root)
	if err != nil {
		return 0, err
	}
	_, free, err := s.sum(m, d)
	return free, err
}

// Lower takes a page for one that is behind the goal, in front of it; 0 when there is none, or
// when the page is where it should be. The caller gives m up then.
func (s *Manager) Lower(m *btree.Mtr, root, no page.No, g Goal) (page.No, error) {
	if no <= g.Tree && no <= g.File {
		return 0, nil
	}
	d, err := s.open(m, root)
	if err != nil {
		return 0, err
	}
	first, err := s.lowest(m, d)
	if err != nil {
		return 0, err
	}
	if no > g.File && (first == 0 || first > g.File) {
		if first, err = s.lowerExtent(m, d, g.File, first); err != nil {
			return 0, err
		}
	}
	if first == 0 || first >= no || first > g.File && no <= g.Tree {
		return 0, nil
	}
	return s.take(m, d, 0)
}

// lowest is the first available page of a tree; 0 when there is none.
func (s *Manager) lowest(m *btree.Mtr, d *fdp) (page.No, error) {
	k, data, ok, err := d.ae.Ceil(m, btree.ExtentKey(0))
	if err != nil || !ok {
		return 0, err
	}
	last, n, err := extent(k, data)
	return last - page.No(n) + 1, err
}

// lowerExtent gets a tree an extent that begins in front of limit and returns its lowest
// available page, which was first.
func (s *Manager) lowerExtent(m *btree.Mtr, d *fdp, limit, first page.No) (page.No, error) {
	last, n, err := s.extentBelow(m, d, limit)
	if err != nil || n == 0 {
		return first, err
	}
	if err := s.own(m, d, last, n); err != nil {
		return 0, err
	}
	return s.lowest(m, d)
}

// extentBelow takes an extent in front of limit for a tree from the one above, or through it
// from those above that. n is 0 when there is none.
func (s *Manager) extentBelow(
	m *btree.Mtr, d *fdp, limit page.No,
) (last page.No, n int, err error) {
	if d.root == RootPage {
		return 0, 0, nil
	}
	up, err := s.open(m, d.parent)
	if err != nil {
		return 0, 0, err
	}
	for range 2 {
		last, n, err = s.takeBelow(m, up, limit)
		if err != nil || n > 0 {
			return last, n, err
		}
		more, got, err := s.extentBelow(m, up, limit)
		if err != nil || got == 0 {
			return 0, 0, err
		}
		if err := s.own(m, up, more, got); err != nil {
			return 0, 0, err
		}
	}
	return 0, 0, nil
}

// takeBelow takes pages from the first available extent in front of limit that is long enough to
// split a space tree with.
func (s *Manager) takeBelow(m *btree.Mtr, d *fdp, limit page.No) (last page.No, n int, err error) {
	var at page.No
	size := 0
	if err := s.each(m, d.ae, func(l page.No, c int) bool {
		if first := l - page.No(c) + 1; first+treePages > limit {
			return false
		}
		if c >= treePages {
			at, size = l, c
		}
		return size == 0
	}); err != nil || size == 0 {
		return 0, 0, err
	}
	first := at - page.No(size) + 1
	n = min(size, loweredBy, int(limit-first)+1)
	if size-n > 0 && size-n < treePages {
		n = size // a rest that nobody could take would stay for ever
	}
	return first + page.No(n) - 1, n, s.shorten(m, d, at, size, n)
}

// MoveSpace moves one page of a tree's space trees to the front. Their roots stay beside the
// tree's own.
func (s *Manager) MoveSpace(m *btree.Mtr, root page.No, g Goal) (bool, error) {
	d, err := s.open(m, root)
	if err != nil {
		return false, err
	}
	for _, t := range []btree.Plain{d.oe, d.ae} {
		pages, err := t.Below(m)
		if err != nil {
			return false, err
		}
		for _, no := range pages {
			to, err := s.Lower(m, root, no, g)
			if err != nil {
				return false, err
			}
			if to == 0 {
				continue
			}
			if err := t.Move(m, no, to); err != nil {
				return false, err
			}
			return true, s.addFree(m, d, no, 1)
		}
	}
	return false, nil
}

// errNoPage: a space tree must split and has no page for it.
var errNoPage = errors.New("no page for a split of a space tree")

// Trim gives the available pages at one end of an owned extent back to the tree above, where
// they are worth it. It returns how many, 0 when there are none.
func (s *Manager) Trim(m *btree.Mtr, root page.No) (int, error) {
	if root == RootPage || s.gone[root] {
		return 0, nil
	}
	d, err := s.open(m, root)
	if err != nil {
		return 0, err
	}
	up, err := s.open(m, d.parent)
	if err != nil {
		return 0, err
	}
	own, end, n, err := s.freeEnd(m, d)
	if err != nil || n == 0 {
		return 0, err
	}
	if err := s.takeExtent(m, d, end, n); err != nil {
		return 0, err
	}
	if err := s.disown(m, d, own, end, n); err != nil {
		if errors.Is(err, errNoPage) {
			return 0, nil
		}
		return 0, err
	}
	d.owned -= n
	return n, s.addFree(m, up, end, n)
}

// disown takes the n pages up to end, at an end of the owned extent own, out of the owned ones.
func (s *Manager) disown(m *btree.Mtr, d *fdp, own run, end page.No, n int) error {
	switch {
	case n == own.n:
		return d.oe.Delete(m, btree.ExtentKey(own.last))
	case end < own.last:
		return d.oe.Replace(m, btree.ExtentKey(own.last), count(own.n-n))
	}
	if err := d.oe.Delete(m, btree.ExtentKey(own.last)); err != nil {
		return err
	}
	over, err := d.oe.Insert(m, btree.ExtentKey(own.last-page.No(n)), count(own.n-n),
		func(k int) ([]page.No, error) { return s.spares(m, d, k) })
	for i := 0; i < len(over) && err == nil; i++ {
		err = s.addFree(m, d, over[i], 1)
	}
	return err
}

// spares takes n available pages for a split of the tree's own space trees.
func (s *Manager) spares(m *btree.Mtr, d *fdp, n int) ([]page.No, error) {
	out := make([]page.No, 0, n)
	for range n {
		no, err := s.take(m, d, 0)
		if err != nil {
			return nil, err
		}
		if no == 0 {
			return nil, fmt.Errorf("space of the tree at page %d of %s: %w", d.root, s.file.Name, errNoPage)
		}
		out = append(out, no)
	}
	return out, nil
}

// freeEnd finds an owned extent with available pages at one of its ends, and the last and the
// number of these. Ends shorter than what a tree can be given stay.
func (s *Manager) freeEnd(m *btree.Mtr, d *fdp) (own run, end page.No, n int, err error) {
	var all []run
	if err := s.each(m, d.oe, func(last page.No, n int) bool {
		all = append(all, run{last, n})
		return true
	}); err != nil {
		return own, 0, 0, err
	}
	for _, r := range all {
		first := r.last - page.No(r.n) + 1
		for _, at := range []page.No{r.last, first} {
			k, data, ok, err := d.ae.Ceil(m, btree.ExtentKey(at))
			if err != nil {
				return own, 0, 0, err
			}
			l, c, err := extentOr(k, data, ok)
			if err != nil {
				return own, 0, 0, err
			}
			from := max(l-page.No(c)+1, first)
			if !ok || from > at {
				continue
			}
			to := min(l, r.last)
			if n := int(to-from) + 1; n >= min(treePages, r.n) {
				return r, to, n, nil
			}
		}
	}
	return own, 0, 0, nil
}
