// Package space hands out the pages of a database: the owned-extent and available-extent
// trees of each tree's root page (docs/format-edb.md, "Space").
//
//	page 1, the database's root: owns the whole file
//	  +- a table's root: owns extents taken from page 1's available ones
//	       +- an index's or long-value tree's root: owns extents taken from the table's
//	root page, tag 0: cpgPrimary, parent's root, flags, OE root (the AE root is the next page)
//	OE, AE: key = last page of the extent, big-endian; data = number of pages
//
// Invariants:
//  1. Every page of the file is used by exactly one tree or lies in exactly one AE.
//  2. An extent in a tree's OE is not in its parent's AE; it stays in the parent's OE.
//  3. All changes are part of the caller's structure change: they are in the log with it.
//  4. A space tree that must split takes the page from its own available extents or from the
//     extent being added, so a split never asks for space of another.
//  5. Space goes back where all of an extent, or of one end of it (Trim), is available; the file
//     is cut only behind what the root owns and its spare pages.
//  6. Lower gives only pages in front of the one that is to be moved.
//
// Lock: Manager's own, taken by the caller for the whole structure change.
//
// It moves no pages but those of space trees, and leaves it to its user when the file may be cut.
package space
