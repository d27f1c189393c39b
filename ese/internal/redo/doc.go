// Package redo brings databases forward along the log and takes back what was open.
//
// Redo replays every record from the checkpoint on: a page record is applied when the page's
// dbtime is the record's "before", skipped when the page is at "after" or later, and an error
// otherwise (a lost write, or a page from another history). What is left open at the end of
// the log are the losers; Undo takes their changes back, newest first, writing compensation
// records, so that a crash inside recovery repeats nothing.
//
// Invariants:
//  1. Applying a record twice is the same as applying it once.
//  2. No order between pages is assumed.
//  3. A compensation is never undone; it names the record to be undone next.
//  4. What a compensation covers counts for its own database alone. A transaction with changes of a
//     lost database has no end in the log until that is there again. The log says so (TypeLeft): a
//     redo that does not see its first records leaves it alone.
//  5. All changes of a page are made by one goroutine in the order of the log; creation,
//     attachment and detachment wait for all changes before them, and end before those after.
//
// With Workers its goroutines live from the begin of Run to its end.
//
// It opens no files and decides nothing about which databases are attached: Target does.
package redo
