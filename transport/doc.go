// Package transport accepts messages, queues what is for elsewhere, sends it, and reports what
// failed.
//
// Transport is the queue with its runner; Envelope is one message that arrives; Entry is what
// an administrator sees of a queued one.
//
//	Accept: content -> store.ContentWriter; one transaction of the store writes
//	    content, placements of local recipients           (Deliverer)
//	    Queue     (id)         sender, content, pending    one row a message
//	    QueueRcpt (id, n)      address, next, attempts     one row a recipient still to serve
//	runner: QueueRcpt by next -> job (message, destination) -> MX or smarthost -> result
//	result: one transaction: rows changed or removed, and the DSN accepted in their place
//
// A row whose target is a mailbox is an internal delivery: that mailbox had no room when the
// message came, lives in another storage group, or could not be reached. It is idempotent by queue
// id; while the mailbox cannot be reached the row stays as it is, and never expires.
//
// Invariants:
//  1. Accept has returned an id if and only if the rows are on disk.
//  2. Queue.pending is the number of QueueRcpt rows of the message, and never 0. The message
//     holds one reference to its content.
//  3. A recipient's row goes away in the transaction that follows its delivery, its DSN, or an
//     administrator's drop; so a failure is reported once, also around a crash. A message is
//     sent twice only when the confirmation of the first time was lost: by the connection, or
//     by a crash between the peer's 250 and our commit (RFC 5321 4.5.3.2.6, 6.1).
//  4. A DSN has the sender <> and is never an answer to <> (RFC 5321 4.5.5).
//  5. No transaction is open while the network is waited for.
//  6. A row is worked on by one job at a time: it is leased under mu, with a snapshot begun
//     under mu, and its lease ends after its result is on disk.
//  7. Memory is bounded: jobs by MaxSending, recipients of a job by rcptsPerJob.
//
// Lock order: mu is a leaf but for reads of the engine in pick.
//
// The package does not speak to clients, check senders or passwords, or sign messages. Success
// notifications (NOTIFY=SUCCESS) are not sent, so services must not offer DSN.
package transport
