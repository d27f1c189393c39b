package server

import (
	"errors"
	"io/fs"
	"net"
	"syscall"

	"pillarbox/backup"
	"pillarbox/directory"
	"pillarbox/ese"
	"pillarbox/storage"
	"pillarbox/store"
	"pillarbox/transport"
)

// advisedError is an error with what to do next.
type advisedError struct {
	err    error
	advice string
}

func (e *advisedError) Error() string { return e.err.Error() + "; " + e.advice }
func (e *advisedError) Unwrap() error { return e.err }

// Advise adds to an error what a person can do about it, where that is known.
func Advise(err error) error {
	var done *advisedError
	if err == nil || errors.As(err, &done) {
		return err
	}
	if advice := adviceFor(err); advice != "" {
		return &advisedError{err, advice}
	}
	return err
}

// adviceFor is the one table from errors to next steps.
func adviceFor(err error) string {
	var listening *net.OpError
	var config *ConfigError
	switch {
	case errors.As(err, &config):
		return "" // says it itself
	case errors.Is(err, directory.ErrNotLocal):
		return "make the domain local first: pillarbox domain add DOMAIN"
	case errors.Is(err, directory.ErrAdministrator):
		return "nothing was changed"
	case errors.Is(err, store.ErrQuota):
		return "it needs room in the mailbox: delete something else, or raise the quota"
	case errors.Is(err, store.ErrHold):
		return "pillarbox mailbox hold ADDRESS off first"
	case errors.Is(err, errNoDeleted), errors.Is(err, errManyDeleted):
		return "pillarbox mailbox list --deleted shows what there is"
	case errors.Is(err, directory.ErrNotFound):
		return "pillarbox user list and alias list show what there is"
	case errors.Is(err, directory.ErrExists):
		return "nothing was changed"
	case errors.Is(err, directory.ErrReadOnly):
		return "mount or restore the first storage group: pillarbox group list shows why it is not mounted"
	case errors.Is(err, directory.ErrSyntax):
		return "addresses look like name@example.org, domains like example.org"
	case errors.Is(err, directory.ErrBadSecret):
		return "passwords have 1 to 1024 bytes, hashes begin with $argon2id$ or $2b$"
	case errors.Is(err, transport.ErrNotQueued):
		return "pillarbox queue list shows the ids"
	case errors.Is(err, storage.ErrNoGroup):
		return "pillarbox group list shows the storage groups"
	case errors.Is(err, storage.ErrNoDatabase):
		return "pillarbox database list shows the databases"
	case errors.Is(err, storage.ErrMounted):
		return "dismount it first: pillarbox database dismount GROUP/DATABASE"
	case errors.Is(err, errGroupMounted):
		return "dismount it first (pillarbox group dismount GROUP), which leaves the others serving, or end the " +
			"server"
	case errors.Is(err, errReadmission):
		return "end the server, restore, and start it again"
	case errors.Is(err, errOnlyLatest):
		return "go to an earlier moment with the whole group (leave --database out), or fetch single " +
			"items of it: pillarbox restore --beside NAME, then pillarbox recover"
	case errors.Is(err, storage.ErrInhabited):
		return "move them first: pillarbox mailbox move ADDRESS --to GROUP/DATABASE; " +
			"pillarbox mailbox list shows where each lives"
	case errors.Is(err, storage.ErrRecoverable):
		return "purge them or bring them back (pillarbox mailbox list --deleted shows them, mailbox purge, " +
			"mailbox restore), or let them go aside with the files: --recoverable-too"
	case errors.Is(err, storage.ErrHeld):
		return "pillarbox mailbox list --deleted shows them: bring them back and move them, or take the hold " +
			"off (pillarbox mailbox hold ID off)"
	case errors.Is(err, storage.ErrMoving):
		return "wait for its end; one that was interrupted goes on when it is asked for again: " +
			"pillarbox mailbox move ADDRESS --to GROUP/DATABASE"
	case errors.Is(err, storage.ErrMailWaits):
		return "pillarbox queue list shows it: wait, pillarbox queue retry ID, or queue drop ID"
	case errors.Is(err, storage.ErrInConfig):
		return "take it out of the config, start the server again, and then remove it. A [[group]] is gone with " +
			"the first: move its mailboxes before; its files stay where they are"
	case errors.Is(err, storage.ErrLastDatabase):
		return "remove the whole group instead: pillarbox group remove GROUP"
	case errors.Is(err, storage.ErrFirstGroup):
		return "nothing was changed"
	case errors.Is(err, storage.ErrFirst):
		return "dismount the whole group instead: pillarbox group dismount GROUP"
	case errors.Is(err, storage.ErrLost):
		return "nothing was changed: put the file back in its place, or restore the folder from a backup"
	case errors.Is(err, ese.ErrNeedsLostLog):
		return "nothing was changed: pillarbox restore --plan says what a backup and the archive reach"
	case errors.Is(err, ese.ErrWrongHash):
		return "the backup set is damaged: name another copy of it with --from, or go to a moment that " +
			"another set reaches (--to-time); pillarbox backup verify names all files that are damaged"
	case errors.Is(err, ese.ErrMissingLog):
		return "put the named files back from a backup or an archive, or restore the whole folder; if they " +
			"are the newest and gone for good: pillarbox group mount GROUP --accept-loss (docs/recovery.md)"
	case errors.Is(err, ese.ErrLogCorrupt),
		errors.Is(err, ese.ErrWrongSignature), errors.Is(err, ese.ErrDBTimeTooOld),
		errors.Is(err, ese.ErrDBTimeTooNew):
		return "put the named file back from a backup, or restore the whole folder; " +
			"eseutil /k shows what is damaged, docs/operating.md what to do"
	case errors.Is(err, errHalfMade):
		return "what lies there is of no use: remove the folder, and restore into a new one"
	case errors.Is(err, errHalfRestored):
		return "run pillarbox restore again: it goes on from there (docs/recovery.md)"
	case errors.Is(err, errNothingBeside):
		return "restore one there first: pillarbox restore --beside NAME --from DIR"
	case errors.Is(err, backup.ErrNoBase):
		return "pillarbox backup list shows which moments can be reached"
	case errors.Is(err, ese.ErrBeyondLog), errors.Is(err, ese.ErrBeforeBackup):
		return "pillarbox backup list shows which moments can be reached"
	case errors.Is(err, ese.ErrLocked):
		return "a server runs on this folder: end it, or name another folder"
	case errors.Is(err, syscall.EADDRINUSE):
		return "another program has this port: end it, or choose others by --base-port or [listen]"
	case errors.Is(err, fs.ErrPermission) && errors.As(err, &listening):
		return "ports below 1024 need root or CAP_NET_BIND_SERVICE, see packaging/pillarbox.service"
	case errors.Is(err, fs.ErrPermission):
		return "run it as the user who owns the data folder"
	}
	return ""
}
