// Package record is the codec of table rows, of column values and of index keys, as pure
// functions on bytes. It follows the ESE format (docs/format-edb.md, "Record" and "Keys").
//
// A record:
//
//	u8 fixedLast | u8 varLast | u16 endOfFixed |
//	fixed columns 1..fixedLast, packed | NULL bits, one for each, set = NULL |   <- endOfFixed
//	u16 end of each variable column 128..varLast, bit 15 = NULL | variable data |
//	{u16 id, u16 offset and flags} of each tagged column | tagged data
//
// Offsets of variable columns count from the end of their table, offsets of tagged columns
// from the start of their array. A tagged value may begin with a header byte (always on
// large pages, 16 and 32 KiB).
//
// A key is one segment for each column, compared as bytes: a prefix byte (00 NULL, 40 empty,
// 7f data, ff limit) and the value in a form whose byte order is the value order. All bytes of
// a descending segment are complemented.
//
// Invariants:
//  1. Parse checks every offset; no method of a Record it returned panics.
//  2. A Record and what it returns are views of the caller's bytes.
//  3. Encode writes what Parse accepts; columns beyond the last present one cost nothing.
//
// The package knows no schema beyond the places of the fixed columns, and does not convert
// values: data is in record byte order (little-endian).
package record
