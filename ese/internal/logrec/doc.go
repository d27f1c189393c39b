// Package logrec holds the pieces of the log format that its writers and readers share: the log
// position, the frame around each record, times and signatures, and the errors a log can give.
//
// A frame, at a multiple of 8 bytes (docs/format-log.md, "Records"):
//
//	+--------+--------+--------+------+-------+------+-----------+
//	| crc 4  | len 4  | prev 4 | typ 1| flags1| 0  2 | payload.. | zeros up to 8
//	+--------+--------+--------+------+-------+------+-----------+
//
// Invariants:
//  1. crc covers the frame's own position, so a frame is valid at one place of one generation.
//  2. prev is the crc of the frame before; the first of a generation has ChainStart.
//  3. len is at least FrameHeaderSize; a zero length never begins a frame.
//  4. Decoding never reads outside of the bytes it is given and never panics.
//
// It does no input or output and knows nothing of what the engine's payloads mean beyond types.go.
package logrec
