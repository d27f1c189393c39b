// Package mutants plants known bugs in a copy of the engine, one at a time, and demands that
// the crash simulation finds each (engine.md rule 31). It has tests only: the usual run makes
// sure that every plant still fits the code; `make mutants` runs them.
package mutants
