// Package stream keeps the bytes of a .stm file: runs of pages, each with a checksum, written
// behind the log.
//
//	.stm:  header (4 KiB) | page 0 | page 1 | ...           pages of 4 KiB
//	run:   header (32 bytes) | payload                      1 to 16 pages
//	header: magic, payload length, crc of payload, codec 0, key id 0, stream id, crc of header
//
// A run is logged first (TypeStream records); its bytes stay in memory until the log is
// durable past them, then go to the file, and the file is synced when the checkpoint wants to
// pass them. So a lone commit costs no sync of the .stm.
//
// Invariants:
//  1. A run is written to the file only when its log records are durable.
//  2. The checkpoint does not pass a run that is not synced (Oldest).
//  3. A run is never handed to a reader unless its checksum holds.
//  4. At most the limit given to NewFile is held in memory; past it a writer waits for the
//     log and the disk.
//
// Lock order: writeMu, then mu. It knows neither streams' owners nor free space: those are
// tables of the engine.
package stream
