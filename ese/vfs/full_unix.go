//go:build !windows

package vfs

import (
	"errors"
	"syscall"
)

// isOSFull knows the errors of a full disk and of a used-up quota.
func isOSFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
