// Package page lays out one page of an ESE database: header, tags, nodes, checksum.
//
// A Page is the bytes of one page of 2, 4, 8, 16 or 32 KiB; all methods work in place and
// allocate nothing. Pages of 4 to 32 KiB are written (docs/format-edb.md, "Page").
//
//	0        40 (80)                ibMicFree                              size-4n    size
//	| header | tag 0 | node | node ... | contiguous free space | tag n-1 ... tag 1 | tag 0 |
//
//	tag:   u16 size, u16 offset; above the offset three flag bits (up to 8 KiB), or those
//	       bits above the first word of the node (16 and 32 KiB)
//	node:  [u16 cbPrefix, if compressed] [u16 cbSuffix] suffix data
//	key  = tag 0's bytes [0:cbPrefix] + suffix
//
// Invariants:
//  1. cbFree = size - header - sum of the tags' sizes - 4*tags, whatever the fragmentation.
//  2. No two tags overlap; every tag lies between the header and ibMicFree.
//  3. Nodes are in key order; a node's index here is its tag less one.
//  4. On an internal page the last node's key is empty and means "above everything".
//  5. A page whose Verify is Good came whole from disk; nothing else is known of it: Check
//     proves 1 to 3, and every accessor stays inside the page only after Check (or after this
//     process wrote the page itself).
//
// It knows nothing of trees, transactions or logs, and takes no locks: the caller holds the
// page's latch.
package page
