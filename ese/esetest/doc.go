// Package esetest opens storage groups for tests and proves them sound when the test ends.
//
// A Group is an instance on a memory disk. Reopen closes it clean, Crash drops it as a power
// cut would, with what was not synced partly lost; both run the full check of
// pillarbox/ese/inspect on every database that is clean, and so does the end of the test.
//
// A CrashDisk is the disk of a simulation: it keeps what a power cut at its n-th event would leave.
//
// It is for tests only and knows no mail.
package esetest
