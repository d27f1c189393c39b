// Package pop3d serves POP3: it binds protocol/pop3 to the directory's logins and the store's
// maildrops.
//
// New makes the server of one port.
//
//	USER/PASS, AUTH  directory.Authenticate, then store.Mailbox.Maildrop
//	RETR, TOP        store.Maildrop.Open: a stream, no transaction is open
//	QUIT             store.Maildrop.Remove
//
// Invariants:
//  1. One session at a time has a maildrop (RFC 1939 3); the next one is told IN-USE.
//  2. Every error becomes a reply in one table, answer.
//
// It has no locks of its own.
package pop3d
