package smtpd

import (
	"context"
	"errors"
	"syscall"

	"pillarbox/directory"
	"pillarbox/ese"
	"pillarbox/protocol/smtp"
	"pillarbox/store"
	"pillarbox/transport"
)

func reply(code int, enhanced [3]int, message string) *smtp.Error {
	return &smtp.Error{Code: code, Enhanced: enhanced, Message: message}
}

// answer is the one table from errors to replies (mail.md 8). What is no *smtp.Error and not in
// the table is trouble of ours: the client may try again.
func answer(err error) error {
	var e *smtp.Error
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e):
		return e
	case is(smtp.ErrDataLost):
		return err // no reply: the connection ends
	case is(directory.ErrNotFound):
		return reply(550, [3]int{5, 1, 1}, "no such user here")
	case is(directory.ErrNotLocal):
		return reply(550, [3]int{5, 7, 1}, "relaying denied: log in first")
	case is(directory.ErrBadLogin):
		return reply(535, [3]int{5, 7, 8}, "wrong user name or password")
	case is(directory.ErrThrottled):
		return reply(454, [3]int{4, 7, 0}, "too many failed logins, try again later")
	case is(store.ErrQuota, store.ErrLimit):
		return reply(452, [3]int{4, 2, 2}, "mailbox is full")
	case is(transport.ErrClosed, context.Canceled):
		return reply(421, [3]int{4, 3, 2}, "shutting down")
	case is(ese.ErrVersionStoreFull, ese.ErrLogDiskFull, ese.ErrDiskFull, ese.ErrDismounted, syscall.ENOSPC):
		return reply(452, [3]int{4, 3, 1}, "out of storage, try again later")
	case is(store.ErrUnmounted, store.ErrElsewhere, store.ErrMoved, ese.ErrDetached):
		return reply(451, [3]int{4, 3, 0}, "the store is not available, try again later")
	case is(ese.ErrOutcomeUnknown, ese.ErrLogDead, ese.ErrClosed):
		return reply(451, [3]int{4, 3, 0}, "the store is not available, try again later")
	}
	return reply(451, [3]int{4, 3, 0}, "local trouble, try again later")
}
