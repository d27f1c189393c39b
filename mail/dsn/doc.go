// Package dsn writes delivery status notifications: the multipart/report of RFC 3464 and
// RFC 6522 that tells a sender that a message failed or is delayed.
//
// Report holds what is known of one message and its recipients; WriteTo streams the
// notification, the original included, in bounded memory.
//
//	header             From: Mail Delivery System, To: sender, Auto-Submitted: auto-replied
//	text/plain         for the person
//	message/delivery-status            or message/global-delivery-status (RFC 6533)
//	message/rfc822 | text/rfc822-headers   or message/global | message/global-headers
//
// Invariants:
//  1. The notification is sent with the null reverse path and never answers one: the caller
//     must not build a Report for "<>" (RFC 3464 2, RFC 5321 4.5.5).
//  2. No text of a peer can begin a line or a field: control characters become blanks and long
//     lines are folded.
//  3. The boundary is random, so no original can contain it by design.
//  4. An ASCII report is plain RFC 3464; the global types appear only where an address or the
//     original header needs them. NeedsUTF8 then tells that sending needs SMTPUTF8.
//
// The package does not decide when a report is due, and reads no message but to copy it.
package dsn
