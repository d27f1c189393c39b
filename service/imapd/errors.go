package imapd

import (
	"errors"
	"syscall"

	"pillarbox/directory"
	"pillarbox/ese"
	"pillarbox/protocol/imap"
	"pillarbox/store"
)

// loginError is what a failed login is told; it does not tell which part was wrong.
func loginError(err error) error {
	switch {
	case errors.Is(err, directory.ErrBadLogin):
		return &imap.Error{Code: imap.CodeAuthenticationFailed, Text: "wrong user name or password"}
	case errors.Is(err, directory.ErrThrottled):
		return &imap.Error{Code: imap.CodeUnavailable, Text: "too many failed logins, try again later"}
	}
	return &imap.Error{Code: imap.CodeUnavailable, Text: "login is not possible now, try again later"}
}

// responses is the one table from errors of store and engine to IMAP (mail.md 8).
var responses = []struct {
	err  error
	code string
	text string
}{
	{store.ErrNoFolder, imap.CodeNonExistent, "no such mailbox"},
	{store.ErrNoMailbox, imap.CodeNonExistent, "no such mailbox"},
	{store.ErrExists, imap.CodeAlreadyExists, "mailbox exists already"},
	{store.ErrBadName, imap.CodeCannot, "that name cannot be used"},
	{store.ErrReserved, imap.CodeCannot, "that cannot be done with this mailbox"},
	{store.ErrQuota, imap.CodeOverQuota, "quota exceeded: delete something first"},
	{store.ErrLimit, imap.CodeLimit, "a limit of the mailbox is reached"},
	{store.ErrElsewhere, imap.CodeUnavailable, "the mailbox has moved, connect again"},
	{ese.ErrDetached, imap.CodeUnavailable, "the database of this mailbox is not mounted, try again later"},
	{ese.ErrTooBig, imap.CodeTooBig, "too big"},
	{ese.ErrVersionStoreFull, imap.CodeLimit, "too much at once, try with fewer messages"},
	{ese.ErrLogDiskFull, imap.CodeUnavailable, "out of storage, try again later"},
	{ese.ErrDiskFull, imap.CodeUnavailable, "out of storage, try again later"},
	{ese.ErrDismounted, imap.CodeUnavailable, "out of storage, try again later"},
	{syscall.ENOSPC, imap.CodeUnavailable, "out of storage, try again later"},
	{ese.ErrOutcomeUnknown, imap.CodeUnavailable, "storage failed, the outcome is unknown: look before you repeat"},
	{ese.ErrLogDead, imap.CodeUnavailable, "storage is not available, try again later"},
	{ese.ErrClosed, imap.CodeUnavailable, "server is shutting down"},
}

// translate makes an IMAP error of a store error. What the table does not know is logged
// with its place and becomes [UNAVAILABLE].
func (b *Backend) translate(err error) error {
	var ie *imap.Error
	if err == nil || errors.As(err, &ie) {
		return err
	}
	if errors.Is(err, store.ErrMoved) || errors.Is(err, store.ErrUnmounted) {
		// This session's handle is of no use any more; a new one finds the mailbox, or is told.
		return &imap.Error{Status: imap.StatusBye, Text: "the mailbox was moved or dismounted, connect again"}
	}
	for _, r := range responses {
		if errors.Is(err, r.err) {
			return &imap.Error{Code: r.code, Text: r.text}
		}
	}
	b.log.Error("store error", "service", "imap", "error", err.Error())
	return &imap.Error{Code: imap.CodeUnavailable, Text: "internal error, see the server's log"}
}
