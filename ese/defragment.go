package ese

import (
	"sync"
	"time"

	"pillarbox/ese/internal/btree"
	"pillarbox/ese/internal/page"
	"pillarbox/ese/internal/space"
)

// defrag is one database's online defragmentation: tree by tree neighbouring leaves that fit on
// one page are joined, pages behind where all would fit are moved to the front, and what a tree
// then has too much goes to the one above; at last the end of the file is cut. A tree is gone
// through in key order, one page a step. The passes end with the first that moves nothing.
type defrag struct {
	mu      sync.Mutex
	running bool
	wanted  bool // StartDefragment
	status  DefragmentStatus
	trees   []*btree.Tree // of this pass, still to be done
	key     []byte        // where the first of them goes on; nil = it has not begun
	walked  bool          // its pages are where they should be
	goal    space.Goal
	did     int // in this pass
}

// DefragmentStatus is how far a defragmentation is, or how the last one ended.
type DefragmentStatus struct {
	Running       bool
	Pass          int    // from 1
	Trees, Of     int    // gone through in this pass, of how many
	Visited       uint64 // leaves looked at, in all passes
	Moved, Joined uint64 // pages moved to the front; emptied into a neighbour
	Returned      uint64 // pages given back to the tree above, or to the database
	Before, After uint32 // pages of the database when it began, and when its end was freed
	Began         time.Time
	Took          time.Duration // of one that has ended
}

const (
	// defragPasses bounds the passes: writers may move the goal again and again.
	defragPasses        = 16
	defragProgressMoves = 1024
)

// StartDefragment asks for an online defragmentation now. Readers and writers go on; each page
// moved is one structure change, as safe from crashes as a split. The roots of trees and of their
// space trees stay where they are: a file ends behind the last of them.
func (db *Database) StartDefragment() {
	d := &db.defrag
	d.mu.Lock()
	d.wanted = true
	d.mu.Unlock()
}

// Defragmentation tells how far the defragmentation is.
func (db *Database) Defragmentation() DefragmentStatus {
	d := &db.defrag
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.status
}

// defragTick is the work of one tick of the background: as many pages as Options.DefragmentRate
// allows.
func (in *Instance) defragTick() error {
	perTick := in.o.DefragmentRate * int64(tick) / int64(time.Second)
	return in.defragStep(int(max(1, perTick/int64(in.o.PageSize))))
}

// defragStep goes on by up to n pages in each database where one is wanted.
func (in *Instance) defragStep(n int) error {
	for _, db := range in.databases() {
		if db.unmade || db.space == nil {
			continue
		}
		if err := db.defragStep(n); err != nil {
			return err
		}
	}
	return nil
}

func (db *Database) defragStep(n int) error {
	d := &db.defrag
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.running && !db.beginDefrag() {
		return nil
	}
	for ; n > 0; n-- {
		if len(d.trees) > 0 {
			if err := db.defragTree(d.trees[0]); err != nil {
				return err
			}
			continue
		}
		if d.did > 0 && d.status.Pass < defragPasses {
			db.beginPass()
			continue
		}
		return db.endDefrag()
	}
	return nil
}

// beginDefrag starts when one is wanted. d.mu is held, as in all below.
func (db *Database) beginDefrag() bool {
	d := &db.defrag
	if !d.wanted {
		return false
	}
	d.running, d.wanted = true, false
	d.status = DefragmentStatus{
		Running: true, Before: uint32(db.file.Pages()), Began: db.in.o.Now(),
	}
	db.beginPass()
	db.in.emit(Event{ID: EventDefragBegun, Database: db.name, N: uint64(d.status.Before)})
	return true
}

func (db *Database) beginPass() {
	d := &db.defrag
	d.trees, d.key, d.walked, d.did = db.currentTrees(), nil, false, 0
	d.status.Pass++
	d.status.Trees, d.status.Of = 0, len(d.trees)
}

// defragTree does one structure change of a tree, or looks at one leaf where nothing is to do.
func (db *Database) defragTree(t *btree.Tree) error {
	d := &db.defrag
	switch {
	case db.in.treeByID(t.ID()) != t: // dropped, and its pages given back
		db.nextTree()
		return nil
	case d.walked:
		return db.settleSpace(t)
	case d.key == nil:
		if err := db.plan(t.Root); err != nil {
			return err
		}
		d.key = []byte{}
	}
	next, did, err := t.Compact(d.key, func(m *btree.Mtr, no page.No) (page.No, error) {
		return db.space.Lower(m, t.Root, no, d.goal)
	})
	if err != nil {
		return err
	}
	d.status.Visited++
	db.countMoves(did.Moved, did.Merged, 0)
	d.key, d.walked = next, next == nil
	return nil
}

// countMoves adds to the counters, and tells now and then.
func (db *Database) countMoves(moved, joined, returned int) {
	d, c := &db.defrag, &db.in.stats
	d.did += moved + joined + returned
	d.status.Moved += uint64(moved)
	d.status.Joined += uint64(joined)
	d.status.Returned += uint64(returned)
	c.moved.Add(uint64(moved))
	c.joined.Add(uint64(joined))
	c.freed.Add(uint64(returned))
	if moved > 0 && d.status.Moved%defragProgressMoves == 0 {
		db.in.emit(Event{ID: EventDefragProgress, Database: db.name, N: d.status.Moved})
	}
}

// plan works out which pages of a tree are too far behind.
func (db *Database) plan(root page.No) error {
	_, err := db.changeSpace(func(m *btree.Mtr) (n int, err error) {
		db.defrag.goal, err = db.space.Plan(m, root)
		return 0, err
	})
	return err
}

// settleSpace moves a page of the tree's space trees to the front, or gives pages back; when
// there is no more of either the next tree's turn comes.
func (db *Database) settleSpace(t *btree.Tree) error {
	d := &db.defrag
	moved, err := db.changeSpace(func(m *btree.Mtr) (int, error) {
		ok, err := db.space.MoveSpace(m, t.Root, d.goal)
		if ok {
			return 1, err
		}
		return 0, err
	})
	if err != nil {
		return err
	}
	returned := 0
	if moved == 0 {
		returned, err = db.changeSpace(func(m *btree.Mtr) (int, error) {
			return db.space.Trim(m, t.Root)
		})
		if err != nil {
			return err
		}
	}
	db.countMoves(moved, 0, returned)
	if moved+returned == 0 {
		db.nextTree()
	}
	return nil
}

func (db *Database) nextTree() {
	d := &db.defrag
	d.trees, d.key, d.walked = d.trees[1:], nil, false
	d.status.Trees++
}

// endDefrag frees the end of the file; it is cut with the next checkpoint.
func (db *Database) endDefrag() error {
	d, s, in := &db.defrag, &db.scrub, db.in
	s.mu.Lock()
	err := db.shorten()
	after := db.file.Pages()
	if s.cut != 0 {
		after = s.cut + space.SparePages
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	d.running, d.status.Running = false, false
	d.status.After, d.status.Took = uint32(after), in.o.Now().Sub(d.status.Began)
	in.emit(Event{
		ID: EventDefragEnded, Database: db.name, N: d.status.Moved, Took: d.status.Took,
	})
	return nil
}

// defragmentIfLoose asks for a defragmentation where too much of the file is free.
func (db *Database) defragmentIfLoose() error {
	limit := db.in.o.DefragmentFree
	if limit < 0 {
		return nil
	}
	free := 0
	for _, t := range append(db.currentTrees(), nil) {
		root := space.RootPage
		if t != nil {
			root = t.Root
		}
		if _, err := db.changeSpace(func(m *btree.Mtr) (int, error) {
			n, err := db.space.Available(m, root)
			free += n
			return 0, err
		}); err != nil {
			return err
		}
	}
	// Of a small file there is nothing worth to be cut off.
	if end := int(db.file.Pages()); free*100 > end*limit && end > 4*int(space.MinPages) {
		db.StartDefragment()
	}
	return nil
}
