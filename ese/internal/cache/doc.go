// Package cache keeps the pages of an instance's databases in memory and writes them back.
//
// A Frame holds one page; its memory lies outside the Go heap, so that the collector neither
// scans nor doubles it. Whoever works on a page holds the frame's latch: shared to read,
// exclusive to change. A latched frame is never given to another page.
//
//	clean --Dirty(pos)--> dirty --copied--> in flight --synced--> clean
//	                        ^                   |
//	                        +-- changed again --+
//
// Write-back of a batch: copy the pages under their latches; sync the log up to their newest
// change; write them to the double-write file and sync it; write them in place and sync.
//
// Invariants:
//  1. A page is written only when the log is durable up to its newest change (the WAL rule).
//  2. The double-write file holds whole every page that may be torn, but for those whose
//     unwritten changes begin with one that brings the page whole (DirtyWhole): redo does not
//     read them. It never holds an older state of a page than the disk has.
//  3. first of a dirty frame is at or before the log record of its oldest unwritten change; it
//     is set before that record is appended, so a checkpoint that reads the log's end first
//     and the frames after it never passes a change.
//  4. A page that fails its checksum is never handed out; one flipped bit is mended. Nor is one
//     whose flush type is not that of its last write, where that is known; redo takes pages as
//     they are, since they may have been written after the flush map was saved. Every write
//     gives a page the next type, but for one without a log record (a flipped bit put right).
//  5. After Close no frame holds a page and Fetch gives ErrClosed, so nobody touches memory that
//     was given back.
//  6. A page's next time stamp is above its last one, or the change is refused (ErrStamp).
//  7. Of a File that was unregistered no page is handed out (ErrDetached), though another may
//     have its number.
//
// Lock order: frame latches, then flushMu, then a shard's lock or a frame's state lock. The
// writer never waits for a latch (it skips latched frames), so it may run in a goroutine that
// holds latches.
//
// It knows no trees and no transactions. It starts no goroutine.
package cache
