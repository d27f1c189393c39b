package space

import (
	"pillarbox/ese/internal/btree"
	"pillarbox/ese/internal/page"
)

// Give back space that is not used (docs/format-edb.md, "Space given back").
const (
	// keepFree is what stays available at the end of a file that is made shorter.
	keepFree = 64
	// minCut is the least that a file is made shorter by.
	minCut = 128
)

// Return gives one extent that a tree owns and nothing of it uses back to the tree above. It
// returns its pages, 0 when there is none.
func (s *Manager) Return(m *btree.Mtr, root page.No) (int, error) {
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
	last, n, err := s.unused(m, d)
	if err != nil || n == 0 {
		return 0, err
	}
	if err := s.takeExtent(m, d, last, n); err != nil {
		return 0, err
	}
	if err := d.oe.Delete(m, btree.ExtentKey(last)); err != nil {
		return 0, err
	}
	d.owned -= n
	return n, s.addFree(m, up, last, n)
}

// unused finds an owned extent all of whose pages are available; n is 0 when there is none.
func (s *Manager) unused(m *btree.Mtr, d *fdp) (last page.No, n int, err error) {
	var all []run
	if err := s.each(m, d.oe, func(last page.No, n int) bool {
		all = append(all, run{last, n})
		return true
	}); err != nil {
		return 0, 0, err
	}
	for _, r := range all {
		k, data, ok, err := d.ae.Ceil(m, btree.ExtentKey(r.last))
		if err != nil {
			return 0, 0, err
		}
		if l, c, err := extentOr(k, data, ok); err != nil {
			return 0, 0, err
		} else if ok && l-page.No(c) <= r.last-page.No(r.n) {
			return r.last, r.n, nil
		}
	}
	return 0, 0, nil
}

// takeExtent removes the n pages up to last, which are available, from the available ones.
func (s *Manager) takeExtent(m *btree.Mtr, d *fdp, last page.No, n int) error {
	k, data, _, err := d.ae.Ceil(m, btree.ExtentKey(last))
	if err != nil {
		return err
	}
	l, c, err := extent(k, data)
	if err != nil {
		return err
	}
	left, right := int(last)-n-(int(l)-c), int(l-last)
	if right > 0 {
		err = d.ae.Replace(m, k, count(right))
	} else {
		err = d.ae.Delete(m, k)
	}
	if err != nil || left == 0 {
		return err
	}
	return s.addFree(m, d, last-page.No(n), left)
}

// Shorten takes available pages at the end of the database away from its root, but for some.
// It returns the end that is left; ok is false when it is not worth while.
func (s *Manager) Shorten(m *btree.Mtr) (end page.No, ok bool, err error) {
	d, err := s.open(m, RootPage)
	if err != nil {
		return 0, false, err
	}
	last, owned, err := s.end(m, d)
	if err != nil {
		return 0, false, err
	}
	k, data, found, err := d.ae.Ceil(m, btree.ExtentKey(last))
	if err != nil || !found {
		return last, err == nil && s.file.Pages() >= last+sparePages+minCut, err
	}
	l, free, err := extent(k, data)
	cut := min(free-keepFree, int(last-MinPages))
	if err != nil || l != last || cut < minCut || free == cut {
		// The file may be too long all the same: an end given up before a close.
		return last, err == nil && s.file.Pages() >= last+sparePages+minCut, err
	}
	end = last - page.No(cut)
	if err := d.oe.Delete(m, btree.ExtentKey(last)); err != nil {
		return 0, false, err
	}
	if _, err := d.oe.Insert(m, btree.ExtentKey(end), count(owned-cut), noSpare); err != nil {
		return 0, false, err
	}
	if err := d.ae.Delete(m, k); err != nil {
		return 0, false, err
	}
	d.owned -= cut
	return end, true, s.addFree(m, d, end, free-cut)
}

// end is the last page the root owns, and how many the last extent has.
func (s *Manager) end(m *btree.Mtr, d *fdp) (last page.No, n int, err error) {
	err = s.each(m, d.oe, func(l page.No, c int) bool {
		last, n = l, c
		return true
	})
	return last, n, err
}

// SparePages is how much longer a file may be than what its root owns.
const SparePages = sparePages
