// Package store is the Information Store: mailboxes, folders, messages and their changes in
// tables of the engine (docs/store.md).
//
// Store is the store on one instance; Mailbox is a handle to one mailbox; Content is a message
// that has arrived and is not yet placed.
//
//	Mailbox (mbx)            counters: next_cn, next_id, next_uidvalidity
//	  Folder (mbx, fid)      uidvalidity, uidnext, highest_modseq, counts
//	    Msg (mbx, fid, uid)  flags, modseq, email id, thread id --+
//	  Tomb (mbx, cn)         what is gone                         |
//	  folder 64, hidden      Msg: what was deleted and can come back
//	Content (cid)            refs, structure, hash  <-------------+
//	  stream in the .stm     the bytes as they came
//
// Invariants (Check recounts them; CheckIntegrity does so beside all work, and mends):
//  1. One change counter per mailbox serves all protocols; each changed object takes one number.
//  2. A UID is given once in (folder, uidvalidity); a uidvalidity once in a mailbox.
//  3. Counters equal a recount; Content.refs is the number of placements plus Content.held.
//  4. Content never changes. The row and its stream go with the last reference, in the same
//     transaction.
//  5. Folder.highest_modseq is the highest number of its messages, tombstones and creation.
//  6. What a caller is told is durable. Changes are published after that, as hints.
//  7. What is deleted can be brought back until Purge lets it go (docs/store.md).
//
// Lock order: Store.createMu, then the write locks of mailboxes by (database, mbx), then
// Store.mu or box.mu, which are leaves. A write lock is held from the beginning of the
// transaction to its pre-commit, never while the log is synced, so that deliveries to one
// mailbox share a sync (docs/design: two horizons). No transaction is open between calls.
//
// A mailbox lives where Options.Home says, moves by a copy that nobody sees and one switch
// (move.go), and handles to what has moved or was dismounted end with an error.
//
// The package knows no protocol, no address and no user: mailboxes are named by the directory's
// object GUID; Purge asks who has an owner. It starts no goroutine: Purge.Step is called. It keeps
// no search terms yet.
package store
