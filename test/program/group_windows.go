package program

import (
	"os"
	"os/exec"
)

// Windows has neither groups nor SIGQUIT: the program itself is killed.
var quit = os.Kill

func ownGroup(*exec.Cmd) {}

func ownTerminal(*exec.Cmd) {}

func signalGroup(p *os.Process, s os.Signal) error { return p.Signal(s) }
