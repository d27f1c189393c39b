//go:build linux || darwin

package vfs

import "syscall"

// Space is the disk of a folder: bytes that can still be written, and all.
func (osFS) Space(dir string) (free, total int64, err error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, 0, err
	}
	size := int64(s.Bsize)
	return int64(s.Bavail) * size, int64(s.Blocks) * size, nil
}
