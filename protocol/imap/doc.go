// Package imap is an IMAP4rev1 server (RFC 3501) without a store: the wire, the commands and
// each session's view of its selected folder. What mail there is comes from a Backend.
//
// Server accepts connections; Backend, Session and Mailbox are what it asks of the store.
// LITERAL+ (7888), SASL-IR (4959), IDLE (2177), UIDPLUS (4315), NAMESPACE (2342), SPECIAL-USE
// (6154), LIST-EXTENDED (5258), LIST-STATUS (5819), CHILDREN (3348), UNSELECT (3691), MOVE
// (6851), ENABLE (5161), ID (2971), ESEARCH (4731), CONDSTORE (7162), STATUS=SIZE (8438) and
// APPENDLIMIT (7889) are spoken. One file holds one command.
//
//	client            conn                view           Mailbox (backend)
//	C: a FETCH 1:2 -> parse -> resolve -> uids 7:9   ->  Fetch(7:9, want, fn)
//	S: * 1 FETCH.. <- write literal  <-  7 is seq 1  <-  fn(row 7)
//	S: * 3 EXISTS  <- poll           <-  apply       <-  Changes(since)
//	S: a OK
//
// Invariants:
//  1. The server alone owns sequence numbers: a view is the sorted list of the UIDs that the
//     client was told of. The backend speaks of UIDs and change numbers only.
//  2. A view changes only in poll. EXPUNGE is never sent during FETCH, STORE or SEARCH nor
//     while no command runs (RFC 3501 7.4.1); what vanished meanwhile keeps its number.
//  3. A command is at most maxCommand bytes in memory, a line maxLine, a literal maxLiteral,
//     and all commands together Options.CommandMemory. The message of APPEND is streamed to the
//     backend and not counted.
//  4. Nothing that came before STARTTLS is run after it, in either direction.
//  5. Message bytes go to the client through one copy buffer. When they fail in the middle of a
//     literal the connection is closed, since nothing else can be said there.
//  6. A connection that waits for a command holds no buffers; they return to the server's pools.
//
// Concurrency: one goroutine for each connection; in IDLE a second one waits for the store and
// is the only writer while the first reads. Package listener accepts and ends the connections;
// conn.mu guards what Shutdown looks at and is not held over I/O.
//
// The package keeps no mail, checks no password, knows no quota; \Recent is never set, as in
// IMAP4rev2 (RFC 9051).
package imap
