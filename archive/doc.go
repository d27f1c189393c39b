// Package archive keeps the log of storage groups beside the machine's own disk (docs/backup.md,
// "The archive").
//
// Store is where: Folder, or Bucket in an S3-compatible store (package s3). Stream is the log of one
// log stream in it.
//
//	ROOT/<begin of the stream's signature>/E000000002A.log   a closed generation, once
//	                                       E00.log           the current one, again and again
//	                                       owner.json        who writes here
//
// Invariants:
//  1. A file appears under its name whole, and in a folder durable; it may take another's place.
//  2. Of the current generation what is durable on the machine is there, and zeros; Fetch gives
//     each file the length that the engine gave it.
//  3. What RemoveBelow leaves has no gap that was not there before: the oldest go first.
//  4. A folder has one writer (Owner), and only ever log that leads on from what is there (CheckTip).
//
// It does not know what the log means, and opens no storage group.
package archive
