// Package smtp speaks SMTP on both sides of the wire, and stores nothing.
//
// A Server accepts connections and calls a Backend; a Client sends over one connection. Path is
// an address as the envelope has it, Error a reply in the negative.
//
//	Server.Serve -> conn (a goroutine) -> command -> Session.Mail, Rcpt, Data -> reply
//	                                      DATA    -> dataReader  (CRLF.CRLF ends, dots removed)
//	                                      BDAT    -> chunkReader (takes the next BDAT itself)
//
// Invariants of the server:
//  1. Only CRLF ends a line, only CRLF.CRLF ends DATA. A bare CR, a bare LF or a NUL in a message
//     refuses it after it was read to its end; nothing of it is ever run as a command.
//  2. When the end of a message cannot be known (time-out, lost connection) the connection ends.
//  3. Nothing that came before a TLS handshake is looked at behind it.
//  4. Memory per connection is bounded: one command line, and what Session.Data keeps.
//  5. Replies are written when the input read so far is used up, so pipelined commands cost one
//     write (RFC 2920); before any read that may wait, they are out.
//  6. A Session is used by one goroutine, and its Close is the last call.
//
// The only lock is conn.mu; package listener accepts and ends the connections.
//
// It does not look up users or DNS, add trace headers, queue, or retry.
package smtp
