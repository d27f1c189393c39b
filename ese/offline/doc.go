// Package offline changes the files of a storage group that no server has open.
//
//	Recover      brings the databases to the end of the log (soft recovery)
//	Try          says what that would reach, and changes nothing
//	Repair       saves what can be read of a damaged database, and tells what was lost
//	Defragment   writes a database anew without gaps
//	Copy         copies a file
//
// Repair and Defragment write a new file tree by tree, bottom up, and rename it over the old:
//
//	source: scan every page --> forest of each tree: leaves that inner pages lead to,
//	        |                   and in the gaps those that say they belong to it
//	catalog, shadow --> tables --> rows --> output: leaves, long values, indexes made of the rows
//	                                  \--> Loss: keys, ranges, columns, streams
//
// Invariants:
//  1. A row is brought over byte for byte, or the Loss names it: by its key where the row or an
//     index tells it, else by the range of keys that its page held. A row whose long value is
//     lost comes over with NULL in that column, and is named.
//  2. A row that was deleted does not come back: a leaf that nothing leads to counts only where
//     keys are missing, when no tree has it as free and its neighbours know it; of a database
//     that was closed clean a row in it counts only if no index shows that there is none.
//  3. The new file takes the old one's name in one rename, after it and the loss report are
//     durable. A repair leaves the stream file as it is, but for a lost header or end; a
//     defragmentation writes it anew where it has gaps, durably before that rename, and gives
//     it its name after: cut between the two, the next opening does so (dbheader.FinishSwap).
//  4. The new file is in Clean Shutdown, with a signature of its own: log and backups of before
//     are refused with it, or passed over. The header's stream signature is that of the stream
//     file that belongs to it.
//  5. Defragment refuses what Repair would lose anything of, and makes sure of the space first.
//  6. No server has the folder open meanwhile: the lock of the storage group is held.
//
// Rows that a unique index has no place for are named too: of two with one key the one whose page
// was changed later is saved.
//
// Memory: some bytes for each page and long value, and 64 MiB of index entries; more of these are
// sorted in TEMP.sort. It does not read logs for a repair, and knows nothing of mail.
package offline
