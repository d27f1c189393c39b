//go:build unix

package program

import (
	"os"
	"os/exec"
	"syscall"
)

const quit = syscall.SIGQUIT

// ownGroup makes the program the leader of a group, unless it leads a session already.
func ownGroup(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = !cmd.SysProcAttr.Setsid
	dieWithTest(cmd.SysProcAttr)
}

// ownTerminal makes the program's input its controlling terminal. A program that shares one
// with others is stopped as soon as it reads from the background.
func ownTerminal(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
}

func signalGroup(p *os.Process, s os.Signal) error {
	return syscall.Kill(-p.Pid, s.(syscall.Signal))
}
