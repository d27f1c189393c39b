//go:build unix && !solaris && !illumos && !aix

package vfs

import (
	"errors"
	"os"
	"syscall"
)

// lockFile takes the exclusive lock of the open file, without waiting.
func lockFile(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EWOULDBLOCK):
			return ErrLocked
		}
		return err
	}
}
