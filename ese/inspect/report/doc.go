// Package report prints what operators of ESE databases ask eseutil for, with the labels that
// they and their scripts know.
//
//	Header, Checkpoint, Log   /mh /mk /ml: headers of database, stream, checkpoint and log files
//	Meta, Space, Page         /mm /ms /m: catalog, space of each tree, one page
//	Checksum, Integrity       /k /g: the proof of all checksums, of everything
//	Recovery, Repair,         /r /p /d /y: what package offline does, with its progress
//	Defragment, Copy
//
// A writer that is a Recorder gets labels and values apart, and structures, for JSON; any other
// gets the classic text, and a Bar of 51 dots for what takes long.
//
// Invariants:
//  1. Nothing is ever written but by package offline.
//  2. A file that is not whole gives an error, however much was printed.
//  3. Memory is bounded: a database is read in pieces, a log one generation at a time.
//
// It does not look at what the pages mean; that is package inspect.
package report
