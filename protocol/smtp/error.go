package smtp

import (
	"errors"
	"fmt"
	"strings"

	"pillarbox/protocol/listener"
)

// Error is a negative reply: from a Backend it becomes the reply to the client, from a Client
// it is what the server said.
type Error struct {
	Code     int    // 4xx or 5xx
	Enhanced [3]int // RFC 2034; zero means class.0.0
	Message  string // lines are separated by \n
}

func (e *Error) Error() string {
	return fmt.Sprintf("%d %s %s", e.Code, e.enhanced(), strings.ReplaceAll(e.Message, "\n", " / "))
}

// Temporary reports whether the same may be tried again later.
func (e *Error) Temporary() bool { return e.Code/100 == 4 }

func (e *Error) enhanced() string {
	if e.Enhanced == [3]int{} {
		return fmt.Sprintf("%d.0.0", e.Code/100)
	}
	return fmt.Sprintf("%d.%d.%d", e.Enhanced[0], e.Enhanced[1], e.Enhanced[2])
}

// What the reader given to Session.Data returns when the message cannot be taken. A Session
// returns the error, wrapped or not; the server answers accordingly in any case.
var (
	ErrBareNewline = &Error{554, [3]int{5, 6, 0}, "message contains a bare CR or LF"}
	ErrNUL         = &Error{554, [3]int{5, 6, 0}, "message contains a NUL"}
	ErrLongLine    = &Error{554, [3]int{5, 6, 0}, "message contains a line that is too long"}
	ErrTooLarge    = &Error{552, [3]int{5, 3, 4}, "message is larger than the limit"}
)

// ErrDataLost is what that reader returns when the end of the message did not arrive: time-out,
// lost connection, RSET between chunks. No reply, or only 421, is sent.
var ErrDataLost = errors.New("smtp: the message did not arrive in full")

// ErrServerClosed is returned by Serve after Shutdown.
var ErrServerClosed = listener.ErrClosed

// replyFor makes the reply of an error from the Backend: its own Error, or the fallback.
func replyFor(err error, fallback *Error) *Error {
	var e *Error
	if errors.As(err, &e) && e.Code >= 400 && e.Code <= 599 {
		return e
	}
	return fallback
}
