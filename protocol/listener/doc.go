// Package listener accepts the connections of a protocol server and ends them.
//
//	Serve ---accept--> admit --Conn.Serve--> forget
//	                     \--too many, or shutting down--> one line of refusal
//	Shutdown: close the listeners, Conn.Stop each, wait; when its time is over Conn.Cut each
//
// An Acceptor serves any number of listeners. The protocol makes the connections and knows
// what is said on them.
//
// Invariants:
//  1. Every connection that was admitted is served to its end, and Shutdown returns after the
//     last one.
//  2. After Shutdown has begun no connection is admitted.
//  3. Neither the accept loop nor Shutdown waits for a client: a refusal has a tenth of a
//     second, Stop returns at once.
//  4. A failed Accept is tried again until the listener is closed: descriptors come back.
//
// Locks: mu is held while a Conn is made, never while one is served, stopped or cut.
package listener
