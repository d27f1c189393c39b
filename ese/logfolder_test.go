package ese_test

import (
	"bytes"
	"errors"
	"io/fs"
	"testing"

	"pillarbox/ese"
	"pillarbox/ese/vfs"
)

// The log of a group that is closed is read up to its end, which is where the next opening goes on, and
// nobody opens the group meanwhile.
func TestLogFolder(t *testing.T) {
	o := ese.Options{
		Dir: "/d", LogDir: "/l", FS: vfs.NewMem(), Manual: true, GenerationBytes: 64 << 10,
	}
	for round := range 3 {
		in, err := ese.Open(o)
		if err != nil {
			t.Fatal(err)
		}
		_, tb, c, err := numbers(in, "a.edb")
		if err != nil {
			t.Fatal(err)
		}
		for n := range 300 {
			if err := insertNumber(in, tb, c, int64(1000*round+n)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := ese.OpenLogFolder(o); !errors.Is(err, ese.ErrLocked) {
			t.Errorf("of an open group: %v", err)
		}
		sign, before := in.LogSignature(), in.Durable()
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
		l, err := ese.OpenLogFolder(o)
		if err != nil {
			t.Fatal(err)
		}
		if l.LogSignature() != sign || l.Durable() <= before {
			t.Errorf("round %d: ends at %v, and durable was %v", round, l.Durable(), before)
		}
		if _, err := ese.Open(o); !errors.Is(err, ese.ErrLocked) {
			t.Errorf("opened meanwhile: %v", err)
		}
		for gen := uint32(1); gen <= l.Durable().Generation(); gen++ {
			var b bytes.Buffer
			if err := l.CopyLog(gen, &b); err != nil || b.Len() != 64<<10 {
				t.Errorf("generation %d: %d bytes, %v", gen, b.Len(), err)
			}
		}
		if err := l.CopyLog(l.Durable().Generation()+7, &bytes.Buffer{}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a generation that is not there: %v", err)
		}
		end := l.Durable()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if in, err = ese.Open(o); err != nil {
			t.Fatal(err)
		}
		if in.Durable() != end {
			t.Errorf("opened at %v, the folder ends at %v", in.Durable(), end)
		}
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
	}
	o.Dir, o.LogDir = "/none", "/none"
	if _, err := ese.OpenLogFolder(o); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing is there: %v", err)
	}
}
