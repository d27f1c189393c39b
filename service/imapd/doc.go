// Package imapd binds the IMAP server of protocol/imap to the store and the directory.
//
// Backend checks a login with the directory and opens the user's mailbox; session and
// mailbox translate between IMAP's words and the store's. They hold no state of their own
// beyond the folder's id: every answer comes from a durable snapshot of the store.
//
// Invariants:
//  1. No store transaction is open while the protocol writes to a client: messages are read
//     in batches, and bodies through readers that outlive their transaction.
//  2. Every store error becomes an IMAP response by one table (errors.go).
//
// It keeps no sequence numbers (the protocol does) and knows no sockets.
package imapd
