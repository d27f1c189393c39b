// Package directory knows who there is: domains, recipients, their aliases and credentials.
//
// Directory keeps them in tables of the engine and a copy of them in memory, from which all
// questions are answered; Recipient is what an address leads to.
//
//	Domain     (name)         -> created
//	Recipient  (guid)         -> address, kind, target, bits    UQ (address key)
//	Alias      (address key)  -> guid
//	Credential (guid, number) -> argon2id hash, SCRAM-SHA-256 keys
//
// Invariants:
//  1. A recipient's GUID is its identity for ever: mailboxes, members and owners are named by
//     it, never by an address (mail.md 12).
//  2. An address key leads to one recipient, as primary address or as alias (mail.md 23).
//  3. The copy in memory changes only after the commit is durable.
//  4. At most one password is hashed per core at a time. A verified login is remembered for
//     ten minutes as a keyed hash and forgotten when the password changes (mail.md 11).
//  5. Who is removed leaves no address, alias or password; the GUID is given to nobody else.
//
// Lock order: Directory.changeMu (held over a change and its sync), then mu (the copy) or the
// locks inside the login memory and the limiter, which are leaves.
//
// The package sends nothing, stores no mail and makes no mailbox: the store makes it when it is
// first used.
package directory
