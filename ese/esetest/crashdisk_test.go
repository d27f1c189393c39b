package esetest

import (
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"pillarbox/ese/vfs"
)

// The cut comes at the event that was asked for, before it happens, and once.
func TestCrashDisk(t *testing.T) {
	cuts := 0
	d := &CrashDisk{
		Mem: vfs.NewMem(), Rand: rand.New(rand.NewPCG(1, 1)), Left: 4, OnCut: func() { cuts++ },
	}
	f, err := d.OpenFile("a", os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	write := func(text string) {
		t.Helper()
		_, err := f.WriteAt([]byte(text), 0)
		must(t, err)
	}
	write("one")
	must(t, f.SyncData())
	must(t, d.SyncDir("."))
	if d.Cut != nil {
		t.Fatal("the power was cut too early")
	}
	write("two")
	if d.Cut == nil || cuts != 1 {
		t.Fatalf("%d cuts at the fourth event", cuts)
	}
	write("six")
	must(t, d.Rename("a", "b"))
	if cuts != 1 {
		t.Errorf("%d cuts", cuts)
	}
	left, err := d.Cut.OpenFile("a", os.O_RDONLY, 0)
	must(t, err)
	b := make([]byte, 3)
	if _, err := left.ReadAt(b, 0); err != nil && err != io.EOF || string(b) != "one" {
		t.Errorf("the cut left %q, %v", b, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
