// Package soak runs the engine under mixed load for a long time and kills it every few seconds.
//
// A child process works on a storage group on the real disk: four goroutines insert, change and
// delete rows with long values, write and delete streams, and say on standard output what was
// acknowledged. The test kills it (SIGKILL), starts it again, lets it check itself, and compares
// what it has with what was said. The population is bounded, so memory and files must be too.
//
// It knows nothing of mail: test/kill does the same to the server.
package soak
