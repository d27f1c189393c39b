// Package cold measures the engine on a disk that nothing has warmed: the open of a large
// database after kill -9 with a checkpoint depth of random updates, and streams of 1 MiB read
// for the first time, beside what the disk gives to a plain sequential read.
//
// It is a test that only runs when it is asked for (`make cold`): it fills COLD_GB gigabytes,
// and empties the page cache of the system, for which it must be root.
package cold
