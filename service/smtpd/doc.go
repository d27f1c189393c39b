// Package smtpd serves SMTP for mail that comes in (port 25) and for users who submit
// (587, 465, and 25 when authenticated): it binds protocol/smtp to the transport, the
// directory and the store.
//
// New makes the server of one port. A session asks the directory at MAIL and RCPT, the store
// for room, and hands the message to the transport.
//
//	AUTH  directory.Authenticate
//	MAIL  sender: known if ours, owned by who logged in, resolvable if so configured
//	RCPT  recipient: ours, or any for who logged in; room in the mailbox
//	DATA  transport.Accept; header From owned by who logged in
//
// Invariants:
//  1. Mail for other domains is taken only from users who logged in.
//  2. A session that logged in has the rights of a submission, on whatever port (mail.md 10).
//  3. Every error becomes a reply in one table, errors.go; what is no fault of the client is
//     4yz.
//
// It has no locks of its own and keeps no state but that of the sessions.
package smtpd
