//go:build !windows

package server

import (
	"io/fs"
	"os"
	"syscall"
)

// systemConfig is where packages put the config file.
func systemConfig() string { return "/etc/pillarbox/" + ConfigName }

// ownFolder tells whether a folder is ours and closed to others.
func ownFolder(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid() && info.Mode().Perm()&0o077 == 0
}
