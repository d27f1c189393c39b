package ese

import (
	"errors"

	"pillarbox/ese/internal/btree"
	"pillarbox/ese/internal/cache"
	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/record"
	"pillarbox/ese/internal/redo"
	"pillarbox/ese/internal/stream"
	"pillarbox/ese/internal/version"
	"pillarbox/ese/internal/wal"
	"pillarbox/ese/vfs"
)

// Errors that callers act on. Errors with a place are *PageError, *StreamError and
// *LogError.
var (
	// ErrWriteConflict: another transaction changed the row first. Roll back and try again
	// (Instance.Update does).
	ErrWriteConflict = version.ErrConflict
	// ErrKeyExists: a unique index holds the key already.
	ErrKeyExists = btree.ErrKeyExists
	// ErrNotFound: no such row, table, column, index or stream.
	ErrNotFound = btree.ErrNotFound
	// ErrTooBig: a record or key is larger than a page can hold twice.
	ErrTooBig = btree.ErrTooBig
	// ErrVersionStoreFull: a transaction has changed too much, or an old one keeps too many
	// earlier states alive.
	ErrVersionStoreFull = version.ErrFull
	// ErrVersionFile: the version store's temporary file cannot be written or read. The change
	// or the read is refused; nothing else is harmed.
	ErrVersionFile = version.ErrSpill
	// ErrLogDead: a write or sync of the log failed; the instance must be opened again.
	ErrLogDead = wal.ErrLogDead
	// ErrLogDiskFull: there is no disk for more log. Changes are refused; what has begun can
	// commit or roll back, and reads go on. Changes are taken again by themselves once there
	// is space; until then for Options.DiskFullLimit.
	ErrLogDiskFull = wal.ErrFull
	// ErrDiskFull: a database or stream file cannot grow. Only this change is refused.
	ErrDiskFull = vfs.ErrDiskFull
	// ErrDismounted: the log disk was full for longer than Options.DiskFullLimit. The databases
	// are in Clean Shutdown.
	ErrDismounted = errors.New("dismounted clean after the log disk was full for too long (-529): make space and open again")
	// ErrOutcomeUnknown: the log failed while this commit waited; opening again tells.
	ErrOutcomeUnknown = wal.ErrOutcomeUnknown
	// ErrLocked: another process has the storage group open.
	ErrLocked = vfs.ErrLocked
	// ErrMissingLog: a log generation that recovery needs is not there.
	ErrMissingLog = logrec.ErrMissingLog
	// ErrLogCorrupt: a log generation is damaged where it had been committed.
	ErrLogCorrupt = logrec.ErrLogCorrupt
	// ErrLogSignature: a log file of another stream lies among these.
	ErrLogSignature = logrec.ErrLogSignature
	// ErrLogSequence: log files do not follow each other, or one is there twice.
	ErrLogSequence = logrec.ErrLogSequence
	// ErrLostWrite: the disk said that it had written a page, and shows an older one.
	ErrLostWrite = cache.ErrLostWrite
	// ErrDBTimeTooOld and ErrDBTimeTooNew: page and log do not fit together.
	ErrDBTimeTooOld = redo.ErrDBTimeTooOld
	ErrDBTimeTooNew = redo.ErrDBTimeTooNew

	// ErrTxDone: the transaction has ended.
	ErrTxDone = errors.New("transaction has ended")
	// ErrTxTooLong: the transaction was open for longer than Options.TxLimit. It holds back the
	// checkpoint, or earlier states of rows, until it ends; it can still commit or roll back.
	ErrTxTooLong = errors.New("transaction was open for longer than Options.TxLimit: " +
		"commit or roll it back, and do the rest in shorter ones")
	// ErrBuilding: the index is not complete in the transaction's snapshot.
	ErrBuilding = errors.New("index is being built: wait for Index.State to be ready, or use another")
	// ErrNotASCII: a text key holds what has no order that is the same everywhere.
	ErrNotASCII = record.ErrNotASCII
	// ErrTooDeep: more than seven levels of savepoints.
	ErrTooDeep = errors.New("transaction nested deeper than 7 levels (-1103): release a savepoint first")
	// ErrSavepoint: the savepoint was released, or one around it was rolled back.
	ErrSavepoint = errors.New("savepoint is not open")
	// ErrReadOnly: a change in a read-only transaction.
	ErrReadOnly = errors.New("transaction is read-only")
	// ErrDetached: the database was closed, or is about to be (Instance.CloseDatabase).
	ErrDetached = cache.ErrDetached
	// ErrInUse: a database cannot be closed while transactions have changes of it.
	ErrInUse = errors.New("database is in use by a transaction that goes on: try again")
	// ErrClosed: the instance is closed.
	ErrClosed = cache.ErrClosed
	// ErrBadValue: a value does not fit its column.
	ErrBadValue = errors.New("value does not fit the column")
	// ErrSchema: a table definition that cannot be.
	ErrSchema = errors.New("invalid table definition")
	// ErrDirtyShutdown: a database was not closed, and this opening cannot recover it: the log
	// is not its own, or the opening is read-only.
	ErrDirtyShutdown = errors.New("database is in Dirty Shutdown state (-550)")
	// ErrWrongSignature: a database or stream file does not belong to this log.
	ErrWrongSignature = errors.New("signature mismatch (-531): the file belongs to another storage group or an older copy")
	// ErrNewerFormat: a newer version wrote the file with features this one lacks.
	ErrNewerFormat = errors.New("the file was written by a newer version: open it with that version")
)

// PageError reports a damaged page.
type PageError = cache.PageError

// StreamError reports a damaged run of a .stm file.
type StreamError = stream.BadRunError

// LogError reports damage in a log file.
type LogError = logrec.CorruptError

// LogPos is a position in the log stream: generation, sector, byte.
type LogPos = logrec.LogPos
