package server

import (
	"context"
	"io"
	"time"
)

// A backup takes all that processor and disk have where nothing else goes on. Beside commits it takes a
// part of the time: after each piece it waits several times as long as the piece took. The longest wait
// keeps it at some 20 MB a second on a server that is never quiet.
const (
	pieceBytes  = 1 << 20
	waitFactor  = 10
	longestWait = 50 * time.Millisecond
)

// givingWay is a writer that lets other work go first.
type givingWay struct {
	ctx  context.Context
	w    io.Writer
	work func() uint64 // grows with each commit
	seen uint64
	last time.Time
	n    int
}

func (c *Core) givingWay(ctx context.Context, w io.Writer) io.Writer {
	return &givingWay{ctx: ctx, w: w, work: c.committed, last: time.Now()}
}

// committed grows with each commit, in whatever storage group.
func (c *Core) committed() (sum uint64) {
	for _, g := range c.store.Groups() {
		if in, err := g.Instance(); err == nil {
			sum += uint64(in.Durable())
		}
	}
	return sum
}

func (g *givingWay) Write(p []byte) (int, error) {
	n, err := g.w.Write(p)
	if g.n += n; g.n < pieceBytes || err != nil {
		return n, err
	}
	g.n = 0
	now := g.work()
	if busy := now != g.seen; busy {
		wait := time.NewTimer(min(waitFactor*time.Since(g.last), longestWait))
		select {
		case <-wait.C:
		case <-g.ctx.Done():
			wait.Stop()
		}
		now = g.work()
	}
	g.seen, g.last = now, time.Now()
	return n, err
}
