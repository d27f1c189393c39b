// Package program runs other programs for tests, so that none of them can hang a test run.
//
// A test that waits for a program without a limit takes its whole package down with it, and
// then nobody learns what the program was doing. Here every program has a deadline of its own:
//
//	Run      runs it to its end and returns what it said
//	Start    leaves it running: a server, a tracer
//	Terminal gives it a terminal, which mutt wants
//
// Invariants:
//  1. A program has its own process group, which is killed whole; on Linux it also dies with
//     the test that started it.
//  2. At the deadline the group gets SIGQUIT, at which a Go program prints its goroutines, and
//     soon after SIGKILL. The error is ErrDeadline and has all that was said until then.
//  3. A child of the program that keeps its output open does not keep Wait.
//  4. The program reads an empty input unless the test gives it another. It never reads the
//     terminal of the one who runs the tests.
package program
