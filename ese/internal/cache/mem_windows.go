package cache

import (
	"syscall"
	"unsafe"
)

const (
	memCommitReserve = 0x3000
	memRelease       = 0x8000
	pageReadWrite    = 4
)

// mapMemory takes n bytes from the operating system, outside the Go heap.
func mapMemory(n int) ([]byte, error) {
	k := syscall.NewLazyDLL("kernel32.dll")
	p, _, err := k.NewProc("VirtualAlloc").Call(0, uintptr(n), memCommitReserve, pageReadWrite)
	if p == 0 {
		return nil, err
	}
	return unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&p))), n), nil
}

func unmapMemory(b []byte) error {
	k := syscall.NewLazyDLL("kernel32.dll")
	r, _, err := k.NewProc("VirtualFree").Call(uintptr(unsafe.Pointer(&b[0])), 0, memRelease)
	if r == 0 {
		return err
	}
	return nil
}
