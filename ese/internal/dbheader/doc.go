// Package dbheader is the codec of the header of a database file, and reads and writes its
// two copies (docs/format-edb.md, "File header").
//
//	page of the file:   0        1        2 ...
//	                  | header | shadow | page 1 ...
//
// A header is one page: a checksum (the exclusive or of all other words), a magic number,
// 668 bytes of fields, and zeros. Bytes from 668 on are never written, since older readers
// take the checksum over the first 668 bytes only.
//
// Invariants:
//  1. Write makes the shadow durable before it touches the primary, so that one copy is
//     always whole.
//  2. Read takes the primary when it is whole, else the shadow; the next Write mends the
//     other.
//  3. Encode and Parse go through one list of fields (layout), so they cannot disagree.
//
// The package does not know what states mean for recovery, and caches nothing.
package dbheader
