package space

import (
	"fmt"

	"pillarbox/ese/internal/btree"
	"pillarbox/ese/internal/cache"
	"pillarbox/ese/internal/page"
)

// MinPages is the size of a new database in pages, headers not counted.
const MinPages page.No = 254

// Init lays out the space of an empty database: page 1 with its OE and AE on pages 2 and 3.
func (s *Manager) Init(m *btree.Mtr) error {
	if err := s.file.Grow(MinPages); err != nil {
		return err
	}
	return s.format(m, 1, RootPage, 0, MinPages, int(MinPages))
}

// NewTree makes an empty tree in the space of parent and returns its root page. flags are
// those of its leaves beyond root and leaf; pages is the size of its first extent, 0 for the
// usual.
func (s *Manager) NewTree(m *btree.Mtr, parent page.No, obj page.ObjID, flags page.Flags, pages int) (page.No, error) {
	last, n, err := s.getExtent(m, parent, max(pages, treePages))
	if err != nil {
		return 0, err
	}
	if n < 3 {
		return 0, fmt.Errorf("%s: extent of %d pages is too short for a tree", s.file.Name, n)
	}
	root := last - page.No(n) + 1
	return root, s.formatFlags(m, obj, root, parent, last, n, flags)
}

func (s *Manager) format(m *btree.Mtr, obj page.ObjID, root, parent, last page.No, n int) error {
	return s.formatFlags(m, obj, root, parent, last, n, 0)
}

// formatFlags initialises root, OE and AE of a tree that owns the n pages up to last.
func (s *Manager) formatFlags(m *btree.Mtr, obj page.ObjID, root, parent, last page.No, n int, flags page.Flags) error {
	oe := root + 1
	f := page.FlagRoot | page.FlagLeaf
	pg, err := m.Get(s.file, root, cache.Fresh)
	if err != nil {
		return err
	}
	pg.Edit().Init(obj, f|flags, header(n, parent, oe))
	for i := range page.No(2) {
		sp, err := m.Get(s.file, oe+i, cache.Fresh)
		if err != nil {
			return err
		}
		sp.Edit().Init(obj, f|page.FlagSpaceTree|flags&(page.FlagIndex|page.FlagLongValue), make([]byte, 16))
	}
	d := s.newFDP(root, parent, oe)
	d.owned = n
	if _, err := d.oe.Insert(m, btree.ExtentKey(last), count(n), noSpare); err != nil {
		return err
	}
	if n > 3 {
		if err := s.addFree(m, d, last, n-3); err != nil {
			return err
		}
	}
	s.roots[root] = d
	delete(s.gone, root)
	return nil
}

// run is an extent.
type run struct {
	last page.No
	n    int
}

// FreeTree gives all extents of a tree back to its parent. Its pages must not be used again.
func (s *Manager) FreeTree(m *btree.Mtr, root, parent page.No) error {
	d, err := s.open(m, root)
	if err != nil {
		return err
	}
	up, err := s.open(m, parent)
	if err != nil {
		return err
	}
	var runs []run
	if err := s.each(m, d.oe, func(last page.No, n int) bool {
		runs = append(runs, run{last, n})
		return true
	}); err != nil {
		return err
	}
	for _, r := range runs {
		if err := s.addFree(m, up, r.last, r.n); err != nil {
			return err
		}
	}
	delete(s.roots, root)
	s.gone[root] = true
	for no, d := range s.roots { // trees inside of it are gone as well
		if d.parent == root {
			delete(s.roots, no)
		}
	}
	return nil
}

// Restore makes the file as long as the root says it is: a crash may have taken back a
// growth whose pages nobody has written yet.
func (s *Manager) Restore() error {
	end, err := s.Owned()
	if err != nil {
		return err
	}
	return s.file.Grow(end)
}

// Owned is the last page that the database's root owns: a file that was closed clean is at
// least that long.
func (s *Manager) Owned() (page.No, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.End()
}

// End is Owned for who holds the lock.
func (s *Manager) End() (page.No, error) {
	m := s.env.NewMtr()
	defer m.Abort()
	d, err := s.open(m, RootPage)
	if err != nil {
		return 0, err
	}
	end, _, err := s.end(m, d)
	return end, err
}
