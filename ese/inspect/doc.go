// Package inspect reads and checks databases of the ESE format, apart from the engine, so that
// it can judge what the engine writes.
//
// Database is an open file: its catalog, tables, rows and long values. It opens clean and
// dirty databases of all revisions and never writes. Check proves the integrity of a whole
// file and lists what is wrong as Findings.
//
//	header, shadow | page 1: database root
//	                   |- space: owned extents (OE), available extents (AE)
//	                   |- page 4: MSysObjects, the catalog   (each table: a root with its own
//	                   |- page 24: MSysObjectsShadow          space, taken from the parent's)
//	                   `- tables
//	                        |- secondary indexes
//	                        `- long values
//
// What Check proves (docs/format-edb.md has the rules):
//  1. Every page that was ever written has its checksum; every page in use has a good
//     structure and a dbtime not above the header's.
//  2. Each tree: object ids and flags, key order, separators above their children, equal
//     depth, sibling links.
//  3. Space: what a tree owns lies in its parent's pages; each owned page is either used by
//     exactly one tree or available in exactly one; none is neither (leaked).
//  4. Each row parses and has the key its columns make; each index has exactly the entries
//     its rows make.
//  5. Long values: chunks without gaps, sizes as said, as many references as counted.
//  6. The catalog and its shadow have the same rows.
//
// Keys of Unicode text are Windows' own and are not recomputed; of such indexes only the
// bookmarks are compared. Memory is bounded by the schema and about five bytes for each page.
//
// It does not repair, and does not read logs: a dirty database is taken as it stands.
package inspect
