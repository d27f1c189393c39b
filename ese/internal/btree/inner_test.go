package btree

import (
	"testing"

	"pillarbox/ese/internal/page"
)

// The list never holds more than its limit, and what it drops is forgotten everywhere.
func TestCopyList(t *testing.T) {
	tree := &Tree{copies: make(map[page.No]*inner)}
	parent := &inner{t: tree, no: 1, keys: make([]byte, 4096), kids: make([]kid, 100)}
	tree.copies[1] = parent
	tree.top.Store(parent)
	var l copyList
	if out := l.add(parent, 10*5000); len(out) != 0 {
		t.Fatal("the first copy is dropped at once")
	}
	for i := range 100 {
		in := &inner{t: tree, no: page.No(10 + i), keys: make([]byte, 4096), kids: make([]kid, 10)}
		tree.copies[in.no] = in
		parent.remember(i, in)
		for _, old := range l.add(in, 10*5000) {
			old.drop()
		}
		if l.bytes > 10*5000 {
			t.Fatalf("%d bytes of copies, at most %d", l.bytes, 10*5000)
		}
	}
	if !parent.stale.Load() || tree.top.Load() != nil || tree.copies[1] != nil {
		t.Error("the oldest copy, the root's, is still known")
	}
	held := 0
	for i := range parent.kids {
		if parent.kids[i].in.Load() != nil {
			held++
		}
	}
	if held != len(l.queue) || held != len(tree.copies) {
		t.Errorf("%d copies remembered above, %d in the list, %d in the tree", held, len(l.queue), len(tree.copies))
	}
}
