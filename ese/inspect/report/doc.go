// Package report prints what operators of ESE databases ask eseutil for: the header of a
// database or stream file (/mh), the checkpoint (/mk), and the proof of all checksums (/k).
//
//	Header      *.edb *.stm  ->  labels as eseutil /mh
//	Checkpoint  *.chk        ->  labels as eseutil /mk
//	Checksum    *.edb *.stm *.log *.chk, or a log base name such as E00
//
// Invariants:
//  1. Nothing is ever written.
//  2. A file that is not whole gives an error, however much was printed.
//  3. Memory is bounded: a database is read in pieces, a log one generation at a time.
//
// The labels, their order and their alignment are those that scripts of operators look for. It
// does not look at what the pages mean; that is package inspect.
package report
