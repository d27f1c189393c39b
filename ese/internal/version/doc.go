// Package version is the version store: which transactions run, what each may see, and the
// earlier states of the rows that running transactions have changed or may still read.
//
// A page always holds the newest state of a node. Every change made by a transaction leaves a
// Change here with the state before it; a reader walks the chain of a node from the newest
// change back until it meets one that its snapshot includes:
//
//	node on the page  <-  Change (tx 9, open)  <-  Change (tx 7, committed at 41)  <- ...
//	     state now         state before tx 9          state before tx 7
//
// Invariants:
//  1. Commit sequence numbers rise in the order of the commit records in the log.
//  2. A node has at most one open transaction in its chain, and it is the newest change; but
//     deltas (escrow) of any number of open transactions may stand above all else. What a
//     snapshot sees is the page's number less every delta that is not in it.
//  3. A change stays while a snapshot older than its commit runs or may still begin: read-only
//     snapshots begin at the durable horizon, which lies behind the pre-commit horizon.
//  4. A transaction with Latest set works on the newest committed state of a node. Then a lock of
//     the caller's gives the node to one transaction from its first look to its end.
//  5. Changes are added and removed for rollback only under the exclusive latch of the node's
//     page, so that page and chain always agree for whoever holds that latch.
//
// Lock order: page latch, then Store.commitMu, then pendingMu, then activeMu or a shard's lock.
//
// It is empty after a restart; recovery undoes from the log. When half of its memory is used,
// before-images go to a temporary file; past a limit updates fail with ErrFull. A failure of
// the file refuses the change or the read that needs it.
package version
