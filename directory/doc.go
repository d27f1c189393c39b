// Package directory knows who there is: domains, recipients, their aliases and credentials.
//
// Directory keeps them in tables of the engine and an image of them in memory, from which all
// questions are answered; Recipient is what an address leads to; Copy is a copy of the tables in
// another database, for the time when the directory's own is not there.
//
//	Domain     (name)         -> created
//	Recipient  (guid)         -> address, kind, target, bits    UQ (address key)
//	Alias      (address key)  -> guid
//	Credential (guid, number) -> argon2id hash, SCRAM-SHA-256 keys
//	State                     -> version
//
//	change -> own database -> image -> copies that follow -> Options.Note -> answer
//
// Invariants:
//  1. A recipient's GUID is its identity for ever: mailboxes, members and owners are named by
//     it, never by an address (mail.md 12).
//  2. An address key leads to one recipient, as primary address or as alias (mail.md 23).
//  3. The image changes only after the commit is durable.
//  4. At most one password is hashed per core at a time. A verified login is remembered for
//     ten minutes as a keyed hash and forgotten when the password changes (mail.md 11).
//  5. Who is removed leaves no address, alias or password; the GUID is given to nobody else.
//  6. Each change has a higher Version than the one before, written with it. A copy has a version
//     only while it is that state as a whole, but for 7.
//  7. Before a home changes, the copies say that it is not known, under a version that is noted.
//  8. No change is acknowledged before its version is noted: a copy with a lower version than the
//     noted one may lack changes, and is not to be used.
//  9. Without its own database a directory answers from the image and refuses changes.
//
// Lock order: Directory.changeMu (held over a change, its sync and its copies), then mu (the image)
// or the locks inside the login memory and the limiter, which are leaves.
//
// The package sends nothing, stores no mail and makes no mailbox: the store makes it when it is
// first used. Which copies there are, and which may be used, is package storage's.
package directory
