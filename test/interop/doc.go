// Package interop holds the real server against real mail, real mail programs and bad input. It
// has tests only.
//
// Each test builds the program once, starts it by quickstart on a folder of its own, and speaks
// to it as anybody would:
//
//	corpora_test.go   every message of the corpora in by SMTP, out by IMAP and POP3
//	clients_test.go   mutt, mbsync, fetchmail, swaks and curl
//	badinput_test.go  what breaks the rules of a protocol
//	damaged_test.go   files that are not what the server left
//	recovery_test.go  backup, loss, restore: every acknowledged message, or up to a moment
//	archive_test.go   the machine is lost but for a backup and an archive in moto_server
//	memory_test.go    large messages and many connections (-memory)
//
// Invariants:
//  1. A server that a test started ends with the test, by SIGTERM with status 0 where the test
//     asks for no other end.
//  2. Tests use the ports 11000 to 20999, next ones where these are taken, one test at a time.
//  3. Every program runs by package program, with a deadline of its own.
//  4. A program or corpus that is missing skips the test visibly.
package interop
