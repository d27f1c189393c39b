// Package line reads the command lines of SMTP and POP3.
//
// Invariants:
//  1. Only CRLF ends a line. One that ends with a bare LF ends the session (ErrBareLF), since what
//     follows may be commands hidden in something else (mail.md 6).
//  2. A line is held in memory up to the limit and no further. One that is longer is read to its
//     end, so that the session goes on, unless it is longer than skip (ErrSkipped).
//
// It sets no deadlines and writes nothing.
package line
