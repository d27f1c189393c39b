// Package address reads and writes mail addresses: SMTP paths (RFC 5321 4.1.2 and RFC 6531)
// and the address lists of header fields (RFC 5322 3.4 and its obsolete forms).
//
// Address is a local part and a domain. Entry is what a header list holds: a mailbox with its
// display name, or the beginning or the end of a group.
//
//	To: "Doe, J." <@relay:jdoe@example.org>, team: ann@example.org;
//	    |Name        |Route |Local |Domain   |GroupStart          |GroupEnd
//
// Invariants:
//  1. Local is without quotes and escapes; String puts them back where the syntax asks for them.
//  2. ParseList never fails and never returns more than the entries it was asked for: mail that
//     is already here must be shown. Parse and ParsePath are strict: mail that comes in is
//     judged.
//  3. Key is equal for two spellings of one address and is what directories compare.
//
// The package does not decode RFC 2047 words in display names (package mail does) and knows
// nothing of which domains are local.
package address
