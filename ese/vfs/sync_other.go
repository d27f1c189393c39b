//go:build !linux

package vfs

import "os"

// syncData is the strongest flush the os package has: F_FULLFSYNC on Darwin (a plain fsync
// there leaves the bytes in the drive's cache), FlushFileBuffers on Windows.
func syncData(f *os.File) error { return f.Sync() }
