// Package server is where all parts of Pillarbox meet: it reads the config file, opens the
// storage groups (package storage), binds the services to them, listens, and in the end drains
// and closes.
//
// Config is the file, Core the opened storage groups with the directory, Server a Core with its
// listeners. Admin is what the command line asks for: of a running server through its socket,
// else of a Core that it opens itself.
//
//	config -> storage.Open (recovery) -> directory, stores, queues    Core
//	       -> certificates -> listeners, all bound before one serves  Server
//	       -> ready line, READY=1
//	SIGTERM -> STOPPING=1 -> 421/BYE, at most 10 s -> queue stops -> Clean Shutdown
//
// Invariants:
//  1. All addresses are bound before the first connection is accepted, so that a server serves
//     wholly or not at all.
//  2. Services end before the transport, the transport before the storage groups.
//  3. The admin socket has mode 0600 and lies in the data folder.
//  4. A certificate that cannot be loaded again leaves the former one in use.
//  5. Standard input is never read.
//  6. A backup lets log go only when it is confirmed, which is after its set is durable.
//  7. Items recovered from a group beside are added; nothing that is there changes.
//  8. What is deleted is purged only by keepPurging, at its times; a removed account's mailbox is
//     marked before the account goes.
//  9. A restore deletes nothing that was there; until it is proved, no server mounts the group.
//  10. The log of a group with an archive stays until it is there, up to archive_keep: what is released
//     to the engine (Instance.Archived) is in the archive, durably.
//  11. A log stream has one writer in an archive, and only log goes there that leads on from what is there
//     (archiveowner.go).
//
// It holds no protocol and no storage code.
package server
