//go:build !windows

package vfs

import "os"

// writeZeros makes sure of disk space by using it.
func writeZeros(f *os.File, from, size int64) error {
	zeros := make([]byte, min(1<<20, size-from))
	for from < size {
		n := min(int64(len(zeros)), size-from)
		if _, err := f.WriteAt(zeros[:n], from); err != nil {
			return err
		}
		from += n
	}
	return nil
}
