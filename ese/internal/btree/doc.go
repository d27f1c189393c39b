// Package btree is a B+ tree over cached pages: transactional nodes in the leaves, atomic
// structure changes, cursors that see a snapshot.
//
// A Tree is one tree of a database: a table's rows, an index, long values. A Mtr is a
// structure change: it latches the pages it needs, changes them, and logs all of it as one
// macro record. Plain is a tree changed only inside Mtrs: the space trees.
//
//	root (fixed page) -> internal pages -> leaves, linked left and right
//	internal node: separator, child; all keys in the child are below the separator
//
// Reading writes no shared memory above the leaf: internal pages are read from immutable
// copies behind atomic pointers; only the leaf is latched, shared and briefly. A structure
// change makes Tree.seq odd before it touches a page and even after it; a reader that meets
// another seq after it has latched its leaf starts again.
//
// Invariants:
//  1. While a reader holds a leaf's latch and seq is what it was before the descent, the leaf
//     is the one whose range holds the key.
//  2. A node is removed from its page only when no change of it is kept in the version store.
//  3. Every change of a page goes through logrec's Apply, so redo does the same.
//  4. A structure change is complete in the log or not there; it is never undone.
//  5. There is one copy of an internal page at a time; all copies of an instance together take
//     at most Env.CopyBytes, and one that is dropped is marked stale like one replaced.
//  6. A page is moved (Compact) as a whole, in one record with all that leads to it; the root never.
//  7. An internal page has at least one node; its last separator is empty (above everything).
//
// Lock order: Tree.smo, then the Allocator's lock, then page latches (a single change of a
// leaf takes only that latch; a Mtr takes several but only pages that its locks own), then
// the version store. Tree.copyMu and the list of copies come last, neither inside the other.
//
// It does not choose pages (Allocator does), knows no columns, and starts no goroutine.
package btree
