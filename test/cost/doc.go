// Package cost holds the proofs of what a delivery may cost: syncs, log bytes, copies, memory
// (the rules of mail.md and engine.md that a user pays for when they break). It has tests
// only.
package cost
