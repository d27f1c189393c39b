// Package storage runs the storage groups of a server: it opens, mounts, dismounts and moves
// databases, and leads to the store in which a mailbox lives.
//
// Set is all groups with the directory; Group is one with its engine instance, store and queue;
// Queue is the queues of all groups; Place names a database as GROUP/DATABASE.
//
//	config, groups.json -> Set
//	    first group    instance, store, queue; the directory, which names each mailbox's Place
//	    further groups instance, store, queue; a copy of the directory
//	mailbox -> directory: Place -> Group -> store, or store.ErrUnmounted
//
// Invariants:
//  1. The directory alone says where a mailbox lives. A new user gets a place in the transaction
//     that makes it; a move changes it in one commit.
//  2. A group that cannot be opened, or fails, leaves the others serving: its mailboxes cannot be
//     reached for the time, and mail for them waits in the queue of another group.
//  3. A database that was made once is never made again where its file is missing.
//  4. groups.json is replaced as a whole, durably. A database is moved by copying its files while
//     it is dismounted; the name of the new place in groups.json is the one moment of the switch.
//  5. A restored database takes the place of the one that was there from the moment that groups.json
//     names its files; the renames that follow are gone on with at the next mount.
//  6. The log disk being full dismounts a group clean; it is mounted again when there is space. A
//     failed write or sync is left to the administrator.
//  7. Without the first group a copy of the directory stands in, read-only, if its version is not
//     below that of groups.json, which each change reaches before it is acknowledged (docs/store.md).
//  8. A database in another folder than its group's is locked (FILE.edb.lock) from before its group
//     is opened until it is dismounted: nobody writes it anew under the server.
//  9. A database or group is removed only when nobody lives there, which is looked at when nobody can
//     come any more. groups.json says in one change that it is gone and which files are to go aside;
//     none is deleted. The number of a removed database stays taken. Of what is lost for good nobody
//     can look: its mailboxes begin anew elsewhere before that change.
//  10. A mailbox that begins anew is a new incarnation (mail.md 15).
//  11. Making a group or database that fails leaves none of its files.
//
// Lock order: Group.changeMu, then those of the directory, then Set.changeMu, then Set.mu or Group.mu,
// which are leaves.
//
// Goroutines: one of the Set, unless Options.Still. It reads no config file and knows no protocol.
package storage
