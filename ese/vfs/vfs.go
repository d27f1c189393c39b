package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// File is an open file. ReadAt and WriteAt may be called from several goroutines at once.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// SyncData makes the file's bytes and its size durable (fdatasync, F_FULLFSYNC, FlushFileBuffers).
	// A failed sync must never be retried: the caller treats the file's unsynced bytes as lost.
	SyncData() error
	// Truncate sets the size in bytes; new bytes read as zero.
	Truncate(size int64) error
	// Allocate makes the file at least size bytes long, with room on the disk for all of them:
	// a later write below size meets no full disk. New bytes read as zero. ErrDiskFull when
	// there is no room; the size is then as before.
	Allocate(size int64) error
	// Size returns the size in bytes.
	Size() (int64, error)
}

// FS is everything the engine asks of an operating system's file system. Names are
// slash- or OS-separated paths as the os package takes them.
type FS interface {
	// OpenFile opens name with the os.O_* flags. A new file is durable only after SyncDir of its folder.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	Remove(name string) error
	// Rename replaces newName atomically; durable only after SyncDir.
	Rename(oldName, newName string) error
	// SyncDir makes creations, renames and removals in dir durable.
	SyncDir(dir string) error
	// ReadDir returns the base names in dir, sorted.
	ReadDir(dir string) ([]string, error)
	MkdirAll(dir string, perm fs.FileMode) error
	// Stat returns the size in bytes; the error is fs.ErrNotExist for a missing file.
	Stat(name string) (size int64, err error)
	// Lock takes an exclusive lock of the operating system on name (created when missing) and
	// holds it until Close or the end of the process. ErrLocked when somebody else has it.
	Lock(name string) (io.Closer, error)
}

// ErrDiskFull reports that a file cannot grow.
var ErrDiskFull = errors.New("disk full (-1808): make space on it; what needs no new space goes on")

// IsDiskFull tells whether err comes from a full disk, as Allocate or the operating system
// report it.
func IsDiskFull(err error) bool { return errors.Is(err, ErrDiskFull) || isOSFull(err) }

// diskFull marks an error of the operating system as ErrDiskFull where it is one.
func diskFull(err error) error {
	if err == nil || !isOSFull(err) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrDiskFull, err)
}

// ErrLocked reports that another process (or another opening in this one) holds the lock.
var ErrLocked = errors.New("locked by another process")
