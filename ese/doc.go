// Package ese is a transactional storage engine: B+ tree tables with typed columns in real
// ESE database files (.edb), byte streams beside them (.stm), one write-ahead log for a group
// of databases, snapshot isolation, and recovery from any crash.
//
//	in, err := ese.Open(ese.Options{Dir: "data"})
//	db, err := in.OpenDatabase("priv1.edb")
//	err = in.Update(ctx, func(tx *ese.Tx) error { return tx.Insert(row) })
//
// An Instance is a storage group: the log E00.log and its generations, the checkpoint
// E00.chk, up to six Databases. A Tx is a transaction over all of them. A Table has a
// clustered primary Index and secondary ones; a Cursor walks an index as its transaction
// sees it. A LongValue reads and writes a long column in pieces; Streams hold bytes of any
// size outside the tables.
//
//	Commit:  change pages in the cache, append records --> append the commit record
//	         --> one write and sync of the log, shared by all who wait --> return
//	Later:   pages go to the .edb, streams to the .stm, the checkpoint moves
//	Open:    redo from the checkpoint, undo what was not committed
//
// Invariants:
//
//  1. Commit returns only when its record is durable; what it wrote survives any crash.
//
//  2. A read-only transaction sees only what a crash cannot take back, and never waits.
//
//  3. A read-write transaction sees all commits before it began, durable or not: what it
//     learns may reach a client only after WaitDurable(Horizon()). Update and Commit do this.
//
//  4. Two transactions that change or lock the same row: the second gets ErrWriteConflict at
//     once, also when the first committed after the second began. Tx.Add is the exception:
//     additions to escrow columns get on with each other.
//
//  5. After a failed write or sync nothing more is accepted: the instance must be opened
//     again, and recovery tells what became of the last commits.
//
//  6. A full disk refuses changes (ErrLogDiskFull, ErrDiskFull) and leaves no trace of them;
//     what has begun can always commit or roll back, and reads go on.
//
//  7. The schema is part of the snapshot: a transaction sees tables, columns and indexes as they
//     were when it began, and its own changes of them. Writers keep an index up to date from
//     the commit that made it, though they may not read by it before it is built; a dropped
//     tree keeps its pages until no snapshot is older than the drop.
//
//  8. A page is handed out only as it was last written: a flipped bit is put right, anything
//     else is an error that names the page.
//
//  9. A Backup holds what Restore needs for one state of all databases; log that no backup has
//     is kept once there is a first one, and a restore to an earlier moment begins a new log
//     stream. Log that an archive has not taken stays up to Options.ArchiveKeep, as long as the
//     disk has space.
//
//  10. Background work moves pages in use only to the front of the file, each as one step that a
//     crash leaves whole or undone; no reader waits for it longer than for a split.
//
//  11. Before a page or stream byte is written, the header of its database names the generation of
//     log that it needs (MaxRequired). Newer log may be given up where it is lost
//     (Options.AcceptLoss): exactly what was committed before is there then, on a new log stream.
//
//  12. A database whose file is missing (Options.IgnoreMissing) keeps its number and all log until it is
//     there again, or restored: it comes to the end of the log, less what was open in the crash. That is
//     taken back in the group's own log, so that every older backup leads on from it.
//
// Limits: rows of 3,478 bytes at 8 KiB pages without their long values (15,746 at 32 KiB); index
// keys of 2,000 bytes (1,000 at 4 KiB); long values under 2 GiB; six databases.
//
// Goroutines: two per instance (clean-up, write-behind) and two of the log, and while it
// recovers up to eight of redo; none with
// Options.Manual. It does not compress streams, encrypt or replicate, and knows nothing of mail.
package ese
