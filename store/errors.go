package store

import (
	"errors"
	"fmt"
)

// Errors that callers act on. Errors of the engine are wrapped and found with errors.Is:
// ese.ErrLogDead, ese.ErrOutcomeUnknown, ese.ErrVersionStoreFull, ese.ErrClosed and so on.
var (
	// ErrNoMailbox: the GUID has no mailbox.
	ErrNoMailbox = errors.New("no such mailbox")
	// ErrNoFolder: no folder of this name or id, or one that only holds others.
	ErrNoFolder = errors.New("no such folder")
	// ErrNoMessage: no message with this UID any more.
	ErrNoMessage = errors.New("no such message")
	// ErrExists: the name is taken.
	ErrExists = errors.New("name exists already")
	// ErrBadName: a folder name or keyword that cannot be.
	ErrBadName = errors.New("invalid name")
	// ErrReserved: INBOX cannot be deleted, nothing can be made its own child.
	ErrReserved = errors.New("not possible with this folder")
	// ErrQuota: the mailbox has no room for it.
	ErrQuota = errors.New("mailbox is over quota")
	// ErrLimit: too many keywords, or a folder that has given all its UIDs.
	ErrLimit = errors.New("limit of the mailbox reached")
	// ErrInUse: another session has the maildrop.
	ErrInUse = errors.New("maildrop is in use")
	// ErrTooOld: changes since that number are no longer known; read everything anew.
	ErrTooOld = errors.New("change number is too old")
	// ErrRemoving: the removal of the mailbox has begun; it cannot be had back.
	ErrRemoving = fmt.Errorf("%w any more: its removal has begun", ErrNoMailbox)
	// ErrConnected: the mailbox has an owner.
	ErrConnected = errors.New("the mailbox has an owner")
	// ErrHold: the mailbox is on hold.
	ErrHold = errors.New("the mailbox is on hold")
	// ErrUnmounted: the database in which the mailbox lives is not mounted.
	ErrUnmounted = errors.New("not mounted")
	// ErrElsewhere: the mailbox lives in another storage group.
	ErrElsewhere = errors.New("mailbox lives in another storage group")
	// ErrMoved: the mailbox has moved to another database. Open it again.
	ErrMoved = errors.New("mailbox has moved to another database")
	// ErrNewer: a newer version made the tables.
	ErrNewer = errors.New("the store was written by a newer version: open it with that version")
)

// Damage reports stored data that breaks an invariant.
type Damage struct {
	Table, Place, Reason string
}

func (d *Damage) Error() string {
	return fmt.Sprintf("store damaged: %s %s: %s", d.Table, d.Place, d.Reason)
}
