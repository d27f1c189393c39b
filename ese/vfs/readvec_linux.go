//go:build amd64 || arm64

package vfs

import (
	"io"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

// ReadVecAt fills the buffers, one behind the other, from the file at off by one call of the
// system (preadv). Fewer bytes come with io.EOF.
func (f *osFile) ReadVecAt(bufs [][]byte, off int64) (int, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	want := 0
	var room [32]syscall.Iovec
	vec := room[:0]
	for _, b := range bufs {
		if len(b) > 0 {
			v := syscall.Iovec{Base: &b[0]}
			v.SetLen(len(b))
			vec = append(vec, v)
		}
		want += len(b)
	}
	if want == 0 {
		return 0, nil
	}
	n, errno := uintptr(0), syscall.Errno(0)
	err = conn.Control(func(fd uintptr) {
		for {
			n, _, errno = syscall.Syscall6(syscall.SYS_PREADV, fd, uintptr(unsafe.Pointer(&vec[0])),
				uintptr(len(vec)), uintptr(off), 0, 0)
			if errno != syscall.EINTR {
				return
			}
		}
	})
	runtime.KeepAlive(bufs)
	switch {
	case err != nil:
		return 0, err
	case errno != 0:
		return 0, os.NewSyscallError("preadv", errno)
	case int(n) < want:
		return int(n), io.EOF
	}
	return want, nil
}
