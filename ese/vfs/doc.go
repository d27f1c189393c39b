// Package vfs is the file system as the storage engine sees it, and the disks that tests
// put in its place.
//
// OS is the operating system's file system. Mem is a disk in memory that remembers what was
// made durable, so that CrashClone can answer "what would a power cut leave?". Fault and
// Counter wrap any FS: the first injects errors, torn and lost writes and bit flips by
// rule, the second counts calls and bytes per kind of file.
//
// One file of Mem, in sectors of 512 bytes ("o" old durable, "n" new, not yet synced):
//
//	           0    512  1024 1536 2048 2560
//	current    | o  | n  | o  | n  | n  |      size 2560
//	synced     | o  | o' | o  | o' |           size 2048
//	crash      | o  | n  | o  | o' | -  |      any mix of both, sizes 2048 to 2560
//
// Invariants of Mem:
//  1. SyncData makes the bytes and the size of a file durable, under whatever name it has;
//     it never makes the name durable.
//  2. SyncDir makes all creations, renames and removals in that folder durable. What was
//     not synced survives as a prefix of its order (a journaling file system). A rename
//     between two folders and the creation of a folder are durable at once.
//  3. A sector is written whole or not at all; sectors are independent of one another.
//  4. With SetCapacity only writes and Allocate need space, each file from its start to the
//     last byte it ever wrote or allocated.
//  5. A clone shares no mutable state with its origin.
//
// Locks: Mem.mu guards the whole disk. Fault.mu is not held while the inner FS works.
//
// The package does not buffer, retry or order anything; that is the engine's business.
package vfs
