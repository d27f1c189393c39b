// Package mail reads Internet messages (RFC 5322, MIME RFC 2045-2049): it maps the parts of a
// message of any size in one pass and bounded memory, scans header fields, decodes words,
// bodies and dates.
//
// Indexer takes the bytes and gives a Structure: a tree of Part with the offsets of every
// header and body and the Content-* fields, and the Envelope of each message in it. A Structure
// is kept as a small blob at delivery; IMAP's ENVELOPE, BODYSTRUCTURE and BODY[section] are
// answered from it without touching the message.
//
//	offset 0                                             Size
//	| header of the root      | body of the root              |
//	                          | preamble --b | part 1 | --b | part 2 | --b-- epilogue |
//	                                         | header | body |
//
// The blob: version byte, flags, size, then each part in pre-order with lengths relative to
// its parent (encode.go).
//
// Invariants:
//  1. Broken MIME never fails: what cannot be understood is text or an opaque part.
//  2. HeaderStart <= BodyStart <= End for each part; children lie in order inside their
//     parent's body and do not overlap. Decode refuses a blob in which this does not hold.
//  3. At most maxParts parts, maxDepth levels and MaxBlob bytes of blob. Past a limit no more
//     boundaries are looked for and the last part reaches to the end of the message.
//  4. The line break before a boundary belongs to the boundary (RFC 2046 5.1.1). A line ends
//     with LF; a CR before it belongs to the line end.
//  5. A promoted field is capped in bytes (capOf); of References the last 20 ids are kept.
//
// The package does no I/O but through the readers it is given, stores nothing, and checks no
// signature. A Structure is immutable once made and may be shared; an Indexer may not.
package mail
