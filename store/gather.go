package store

import (
	"sync"
	"time"
)

// maxGather bounds how long a committed operation waits for others before it asks for a sync.
const maxGather = 2 * time.Millisecond

// gathering lets operations that run at the same time share one sync of the log, also on a
// disk so fast that one would be over before the next has committed: an operation waits for
// those that began before it committed. A lone one waits for nothing.
type gathering struct {
	mu            sync.Mutex
	entered, left uint64
	waiting       []gatherer // by target
}

// gatherer waits until so many operations have left.
type gatherer struct {
	target uint64
	ready  chan struct{}
}

// enter says that an operation begins; it ends with leave.
func (g *gathering) enter() {
	g.mu.Lock()
	g.entered++
	g.mu.Unlock()
}

// leave says that an operation has pre-committed or failed.
func (g *gathering) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.left++
	n := 0
	for n < len(g.waiting) && g.waiting[n].target <= g.left {
		close(g.waiting[n].ready)
		n++
	}
	g.waiting = append(g.waiting[:0], g.waiting[n:]...)
}

// wait returns when as many operations have left as had entered, or after maxGather.
func (g *gathering) wait() {
	g.mu.Lock()
	if g.left >= g.entered {
		g.mu.Unlock()
		return
	}
	w := gatherer{g.entered, make(chan struct{})}
	g.waiting = append(g.waiting, w)
	g.mu.Unlock()
	timer := time.NewTimer(maxGather)
	defer timer.Stop()
	select {
	case <-w.ready:
	case <-timer.C:
	}
}
