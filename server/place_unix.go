//go:build !windows

package server

// systemConfig is where packages put the config file.
func systemConfig() string { return "/etc/pillarbox/" + ConfigName }
