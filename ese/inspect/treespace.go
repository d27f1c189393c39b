package inspect

import (
	"context"

	"pillarbox/ese/internal/page"
)

// The kinds of trees with space of their own, as eseutil /ms names them.
const (
	KindDatabase  = "Db"
	KindTable     = "Pri"
	KindIndex     = "Idx"
	KindLongValue = "LV"
)

// TreeSpace is the space of one tree.
type TreeSpace struct {
	Name      string     `json:"name"`
	Table     string     `json:"table,omitempty"` // of an index or long values: whose they are
	Kind      string     `json:"kind"`
	ObjID     page.ObjID `json:"objid"`
	Root      page.No    `json:"pgnoFDP"`
	Primary   uint32     `json:"primaryExtent"`
	Multiple  bool       `json:"multipleExtents"`
	Owned     int        `json:"owned"`
	Available int        `json:"available"` // those that its own space trees set aside counted
}

// Space returns the space of all trees: the database, then each table, its indexes and its long
// values. What a tree owns is counted in the trees above it as well.
func (d *Database) Space(ctx context.Context) ([]TreeSpace, error) {
	c := &checker{
		ctx: ctx, db: d, opts: CheckOptions{MaxFindings: 1}, report: &Report{},
		space: newSpaceMap(d.lastPage),
	}
	all := []TreeSpace{{Name: "Database", Kind: KindDatabase, ObjID: databaseID, Root: rootPage}}
	for _, t := range d.tables {
		all = append(all, TreeSpace{Name: t.Name, Kind: KindTable, ObjID: t.ObjID, Root: t.Root})
		for i := range t.Indexes {
			if x := &t.Indexes[i]; x.Root != t.Root {
				all = append(all, TreeSpace{
					Name: x.Name, Table: t.Name, Kind: KindIndex, ObjID: x.ObjID, Root: x.Root,
				})
			}
		}
		if t.LongValueRoot != 0 {
			all = append(all, TreeSpace{
				Name: "<Long Values>", Table: t.Name, Kind: KindLongValue,
				ObjID: t.LongValueObjID, Root: t.LongValueRoot,
			})
		}
	}
	for i := range all {
		if err := c.countSpace(&all[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// countSpace fills in the numbers of one tree.
func (c *checker) countSpace(s *TreeSpace) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	p, err := c.db.Page(s.Root)
	if err != nil {
		return err
	}
	h, ok := parseSpaceHeader(p.External())
	if !ok {
		return corruptPage(s.Root, "space header of %d bytes", len(p.External()))
	}
	s.Primary, s.Multiple = h.primary, h.flags&spaceMultiple != 0
	if !s.Multiple {
		s.Owned = int(h.primary)
		for i := uint32(1); i < min(h.primary, 33); i++ {
			s.Available += int(h.space >> (i - 1) & 1)
		}
		return nil
	}
	oe, ae := page.No(h.space), page.No(h.space)+1
	available := func(page.No) { s.Available++ }
	if err := c.extents(oe, "OE", func(page.No) { s.Owned++ }); err != nil {
		return err
	}
	if err := c.extents(ae, "AE", available); err != nil {
		return err
	}
	if err := c.splitBuffer(oe, available); err != nil {
		return err
	}
	return c.splitBuffer(ae, available)
}
