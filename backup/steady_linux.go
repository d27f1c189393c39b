//go:build linux && (amd64 || arm64)

package backup

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// As in linux/fs.h and linux/fadvise.h.
const (
	waitBefore = 1
	startWrite = 2
	waitAfter  = 4
	dontNeed   = 4
)

// writeSoon has the system begin to write a part of a file.
func writeSoon(f *os.File, from, to int64) error { return syncRange(f, from, to, startWrite) }

// writeNow waits until a part of a file has reached the disk, which may still hold it in its cache, and
// lets the system forget it.
func writeNow(f *os.File, from, to int64) error {
	err := syncRange(f, from, to, waitBefore|startWrite|waitAfter)
	if err == nil {
		// Advice: what it comes to is no matter.
		_, _, _ = syscall.Syscall6(syscall.SYS_FADVISE64, f.Fd(), uintptr(from), uintptr(to-from), dontNeed, 0, 0)
	}
	return err
}

func syncRange(f *os.File, from, to int64, how int) error {
	err := syscall.SyncFileRange(int(f.Fd()), from, to-from, how)
	switch {
	case err == nil, errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENOSYS),
		errors.Is(err, syscall.ESPIPE), errors.Is(err, syscall.EINTR):
		return nil // Sync at the end does it
	}
	return fmt.Errorf("write %s: %w", f.Name(), err)
}
