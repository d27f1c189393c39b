// Package wal appends records to a stream of log generations and makes them durable.
//
// A Log appends and flushes, a Reader walks a stream from a position to its end and hands the
// End to Open, a Fetcher reads single records. Checkpoint is the checkpoint file.
//
//	Append -> [ring of unwritten log] -> FlushTo: one write, one sync -> E00.log
//	                                                 Prepare: renames -> E0000000001.log
//	                                                          next file -> E00tmp.log
//
// The format is docs/format-log.md. Invariants:
//  1. Records lie in the file in the order of Append; a position once returned never changes.
//  2. Durable never passes what a finished sync covers, and flushes never overlap: everything
//     before a FlushMark was synced before the mark was written.
//  3. A failed write or sync of the log is final (ErrLogDead); no sync is tried twice.
//  4. The successor of a generation is on disk, named in its folder, before End is written.
//  5. The ring holds the bytes of at most two generations: the one that is being closed and the
//     current one. A further roll first flushes.
//  6. What AppendChange and SetAside have set aside and AppendReserved and GiveBack have not yet given
//     back fits into the rest of the current file, the prepared one and the reserve files; nothing
//     else uses it.
//  7. Numbered files and E00.log always have a valid header; E00tmp.log may have any content.
//
// Lock order: prepMu, then mu. The flush leadership (flushMu with flushing) is taken with
// neither held; a leader takes mu for moments. The callbacks BeforeGeneration, OnDurable and
// OnEvent may run inside Append and FlushTo of any goroutine, so they must not wait for a lock
// that a caller of these holds, and must not call the Log's waiting methods.
//
// It does not know what records mean, but that some name an earlier one, which generations are
// still needed, or pages.
package wal
