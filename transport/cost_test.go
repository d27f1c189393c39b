package transport

import (
	"context"
	"errors"
	"strings"
	"testing"

	"pillarbox/ese/vfs"
)

// TestCost shows that accepting a message waits for one sync of the log and nothing else
// (mail.md 1), whoever it is for.
func TestCost(t *testing.T) {
	const (
		size   = 4096
		rounds = 20
		most   = 16 << 10 // bytes of log a message
	)
	msg := text + strings.Repeat("0123456789abcd\r\n", (size-len(text))/16)
	tests := []struct {
		name string
		to   []string
	}{
		{"one mailbox", []string{"alice@here.test"}},
		{"one elsewhere", []string{"x@there.test"}},
		{"both, and more", []string{"alice@here.test", "bob@here.test", "x@there.test", "y@other.test"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			fs := vfs.NewCounter(vfs.NewMem())
			w.fs, w.opt.Manual, w.to.Outbound = fs, true, Off
			if err := w.open(); err != nil {
				t.Fatal(err)
			}
			w.accept(envelope("joe@there.test", tt.to...), msg) // makes the mailboxes
			before := fs.Counts()
			for range rounds {
				w.accept(envelope("joe@there.test", tt.to...), msg)
			}
			after := fs.Counts()
			for ext, c := range after {
				n, want := c.Syncs-before[ext].Syncs, int64(0)
				if ext == ".log" {
					want = rounds
				}
				if n != want {
					t.Errorf("%d messages cost %d syncs of %q files, want %d", rounds, n, ext, want)
				}
			}
			logged := after[".log"].WrittenBytes - before[".log"].WrittenBytes
			if logged/rounds > most {
				t.Errorf("a message of %d bytes logs %d, more than %d", size, logged/rounds, most)
			}
			w.check()
			if err := errors.Join(w.tr.Close(), w.in.Close()); err != nil {
				t.Error(err)
			}
		})
	}
}

// BenchmarkAccept is the work of one delivery of 4 KiB, without a disk.
func BenchmarkAccept(b *testing.B) {
	w := newWorld(nil)
	if err := w.open(); err != nil {
		b.Fatal(err)
	}
	msg := text + strings.Repeat("0123456789abcd\r\n", 250)
	e := envelope("joe@there.test", "alice@here.test")
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.tr.Accept(context.Background(), e, strings.NewReader(msg)); err != nil {
			b.Fatal(err)
		}
	}
	if err := errors.Join(w.tr.Close(), w.in.Close()); err != nil {
		b.Error(err)
	}
}
