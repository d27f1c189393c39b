package server

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// slowWriter takes a time for each write.
type slowWriter time.Duration

func (w slowWriter) Write(p []byte) (int, error) {
	time.Sleep(time.Duration(w))
	return len(p), nil
}

// A backup waits beside commits, as long as it takes and no longer than the longest wait; it waits for
// nothing where nobody commits, nor where it was called off.
func TestGivingWay(t *testing.T) {
	const pieces = 10
	quiet := func() uint64 { return 7 }
	commits := uint64(0)
	busy := func() uint64 { commits++; return commits }
	for _, x := range []struct {
		name string
		off  bool
		work func() uint64
		took time.Duration // a write of half a piece
		want time.Duration
	}{
		{"quiet", false, quiet, time.Millisecond, 2 * pieces * time.Millisecond},
		{"busy", false, busy, time.Millisecond, 2 * pieces * (1 + waitFactor) * time.Millisecond},
		{"slow", false, busy, time.Second, pieces * (2*time.Second + longestWait)},
		{"called off", true, busy, time.Millisecond, 2 * pieces * time.Millisecond},
	} {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				if x.off {
					cancel()
				}
				begun := time.Now()
				g := &givingWay{
					ctx: ctx, w: slowWriter(x.took), work: x.work, seen: 7, last: begun,
				}
				for range 2 * pieces {
					if n, err := g.Write(make([]byte, pieceBytes/2)); err != nil || n != pieceBytes/2 {
						t.Fatal(n, err)
					}
				}
				if took := time.Since(begun); took != x.want {
					t.Errorf("it took %v, not %v", took, x.want)
				}
			})
		})
	}
}
