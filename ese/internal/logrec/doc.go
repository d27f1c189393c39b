// Package logrec holds the pieces of the log format that its writers and readers share: the log
// position, the frame around each record, times and signatures, and the errors a log can give.
//
// A frame, at any byte (docs/format-log.md, "Records"):
//
//	+--------+--------+-------+------------+-------------+-----------+
//	| crc 4  | prev 4 | typ 1 | len 1 to 4 | link 0 to 9 | payload.. |
//	+--------+--------+-------+------------+-------------+-----------+
//
// Invariants:
//  1. crc covers the frame's own position, so a frame is valid at one place of one generation.
//  2. prev is the crc of the frame before; the first of a generation has ChainStart.
//  3. Type 0 never begins a frame, and a length is written in one way only.
//  4. A link leads to a record before its own.
//  5. Decoding never reads outside of the bytes it is given and never panics.
//
// It does no input or output and knows nothing of what the engine's payloads mean beyond types.go.
package logrec
