// Package pop3 serves POP3 (RFC 1939) on the wire, and stores nothing.
//
// A Server accepts connections; a Backend checks a login and gives the Maildrop, which stays as
// it was at login until the session ends.
//
//	AUTHORIZATION: CAPA STLS UTF8 USER PASS AUTH QUIT   -> Backend.Login -> Maildrop
//	TRANSACTION:   STAT LIST UIDL RETR TOP DELE RSET NOOP CAPA QUIT
//	UPDATE:        only behind QUIT                     -> Maildrop.Remove
//
// Invariants:
//  1. Only CRLF ends a command. Nothing that came before a TLS handshake is looked at behind it.
//  2. Messages are removed by QUIT alone: a lost connection, a time-out or Shutdown removes none.
//  3. A message of which reading fails in the middle is never ended with a dot: the connection
//     is cut, so that the client does not take the half for the whole.
//  4. Memory per connection is bounded: a command line, an output buffer, a mark per message.
//  5. Replies are written when the input read so far is used up, so that pipelined commands cost
//     one write (RFC 2449 6.6).
//
// The only lock is conn.mu; package listener accepts and ends the connections.
//
// It does not know users, mailboxes or folders, and offers neither APOP nor LAST.
package pop3
