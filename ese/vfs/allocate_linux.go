package vfs

import (
	"errors"
	"os"
	"syscall"
)

// allocate uses fallocate, which writes no data; where the file system lacks it, zeros.
func allocate(f *os.File, from, size int64) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var callErr error
	err = conn.Control(func(fd uintptr) {
		for {
			callErr = syscall.Fallocate(int(fd), 0, from, size-from)
			if !errors.Is(callErr, syscall.EINTR) {
				return
			}
		}
	})
	switch {
	case err != nil:
		return err
	case errors.Is(callErr, syscall.EOPNOTSUPP) || errors.Is(callErr, syscall.ENOSYS):
		return writeZeros(f, from, size)
	case callErr != nil:
		return &os.PathError{Op: "fallocate", Path: f.Name(), Err: callErr}
	}
	return nil
}
