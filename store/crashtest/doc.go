// Package crashtest cuts the power while a store works and looks what is left.
//
// Run does it for one seed: it opens a store on a disk in memory, works on it step by step,
// takes what a power cut would leave at a random write or sync, and goes on from there. Before
// the cut every operation is compared with State, the model; after it the store must show the
// state before or after the operation that was cut, and nothing else.
//
//	life 1: open, operations ... cut -> clone
//	life 2: open (recovery, perhaps cut again), compare, check, operations ... cut -> clone
//
// Invariants it asks for:
//  1. Everything acknowledged is there, byte for byte; nothing half done is.
//  2. No UID and no change number that was acknowledged is given to anything else.
//  3. Store.Check finds nothing, and after the last life the engine's checker neither.
//
// The package is single-threaded: a seed reproduces a run.
package crashtest
