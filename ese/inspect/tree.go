package inspect

import (
	"bytes"
	"errors"

	"pillarbox/ese/internal/page"
)

// maxDepth is more than any B-tree has (ESE's limit is 8), and stops circles.
const maxDepth = 16

// node is one entry of a leaf.
type node struct {
	page    page.No
	key     []byte // valid during the call
	data    []byte
	deleted bool
}

// nodeKey appends the key of a node, without the data part of non-unique trees.
func nodeKey(dst []byte, p page.Page, nd page.Node) []byte {
	if nd.Prefix > 0 && !p.Root() {
		dst = append(dst, p.External()[:nd.Prefix]...)
	}
	return append(dst, nd.Suffix...)
}

// errStop ends a walk early.
var errStop = errors.New("stop")

// walker visits the leaves of one tree in key order.
type walker struct {
	db      *Database
	visited int
	key     []byte
	fn      func(node) error
}

// walk calls fn for every node in the leaves of the tree, deleted ones included. fn may
// return errStop.
func (d *Database) walk(root page.No, fn func(node) error) error {
	w := &walker{db: d, fn: fn}
	if err := w.page(root, 0, nil); err != nil && !errors.Is(err, errStop) {
		return err
	}
	return nil
}

// walkFrom is walk for the nodes whose key is not below from.
func (d *Database) walkFrom(root page.No, from []byte, fn func(node) error) error {
	w := &walker{db: d, fn: fn}
	if err := w.page(root, 0, from); err != nil && !errors.Is(err, errStop) {
		return err
	}
	return nil
}

func (w *walker) page(no page.No, depth int, from []byte) error {
	p, err := w.db.Page(no)
	if err != nil {
		return err
	}
	// Two parents of one page could make a walk exponentially long.
	w.visited++
	if depth > maxDepth || w.visited > w.db.Pages() {
		return corruptPage(no, "the tree runs in a circle")
	}
	for i := range p.Len() {
		nd := p.Node(i)
		w.key = nodeKey(w.key[:0], p, nd)
		if p.Leaf() {
			if bytes.Compare(w.key, from) < 0 {
				continue
			}
			deleted := nd.Flags&page.NodeDeleted != 0
			if err := w.fn(node{no, w.key, nd.Data, deleted}); err != nil {
				return err
			}
			continue
		}
		// A separator is above all keys of its child; an empty one is above everything.
		if len(w.key) > 0 && bytes.Compare(w.key, from) < 0 {
			continue
		}
		if err := w.page(p.Child(i), depth+1, from); err != nil {
			return err
		}
	}
	return nil
}
