//go:build unix && !linux

package program

import "syscall"

func dieWithTest(*syscall.SysProcAttr) {}
