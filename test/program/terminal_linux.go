package program

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"
)

func dieWithTest(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGKILL }

// openTerminal makes a terminal of 24 lines by 80.
func openTerminal() (*terminal, error) {
	near, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	var number, unlocked uint32
	size := struct{ rows, cols, x, y uint16 }{24, 80, 0, 0}
	err = ioctl(near, syscall.TIOCSPTLCK, unsafe.Pointer(&unlocked))
	if err == nil {
		err = ioctl(near, syscall.TIOCGPTN, unsafe.Pointer(&number))
	}
	if err == nil {
		err = ioctl(near, syscall.TIOCSWINSZ, unsafe.Pointer(&size))
	}
	if err == nil {
		var far *os.File
		far, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
		if err == nil {
			return &terminal{near: near, far: far}, nil
		}
	}
	_ = near.Close()
	return nil, err
}

func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var no syscall.Errno
	if err := c.Control(func(fd uintptr) {
		_, _, no = syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(arg))
	}); err != nil {
		return err
	}
	if no != 0 {
		return no
	}
	return nil
}
