package cache

import (
	"os"
	"testing"

	"pillarbox/ese/vfs"
)

// Any bytes of a double-write file are passed by, or restore pages whose sums are right.
func FuzzRestoreTorn(f *testing.F) {
	f.Add([]byte{}, uint8(0))
	f.Add(make([]byte, doubleHeader+4096), uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, large uint8) {
		disk := vfs.NewMem()
		db, err := disk.OpenFile("a.edb", os.O_RDWR|os.O_CREATE, 0)
		if err != nil {
			t.Fatal(err)
		}
		double, err := disk.OpenFile("a.dw", os.O_RDWR|os.O_CREATE, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := double.WriteAt(b, 0); err != nil {
			t.Fatal(err)
		}
		size := 4096 << (large % 4)
		n, err := RestoreTorn(db, double, size)
		if err != nil || n*size > len(b) {
			t.Fatalf("%d pages out of %d bytes: %v", n, len(b), err)
		}
	})
}
