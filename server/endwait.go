package server

import (
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// The end of the server waits for its work in the background, but not for ever: what reads or
// writes on a disk that does not answer, such as a network mount that hangs, cannot be told to end.
// The databases are closed without it, and the process ends with it.

const (
	// workTime is how long the end waits for work that has been told to end.
	workTime = 6 * time.Second
	// stuckTime is how long the storage groups get to close where some of it has not ended.
	stuckTime = 8 * time.Second
	// stillTick is how often is said that the end takes its time.
	stillTick = 10 * time.Second
)

// workers are goroutines that end with the server.
type workers struct {
	wg    sync.WaitGroup
	mu    sync.Mutex
	names map[string]int // of what they do just now
}

// Go runs fn. The name says what it is, for people.
func (w *workers) Go(name string, fn func()) {
	w.wg.Go(func() {
		defer w.begin(name)()
		fn()
	})
}

// begin notes work, until end is called.
func (w *workers) begin(name string) (end func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.names == nil {
		w.names = make(map[string]int)
	}
	w.names[name]++
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.names[name]--; w.names[name] == 0 {
			delete(w.names, name)
		}
	}
}

// wait waits until all have ended, for a time at most, and names what has not.
func (w *workers) wait(limit time.Duration) (left []string) {
	done := make(chan struct{})
	go func() { // ends with the last of them
		defer close(done)
		w.wg.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-time.After(limit):
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.names))
}

// errStuck: a disk does not let the storage groups be closed.
var errStuck = errors.New("a disk that does not answer holds up the closing of the storage groups")

// endWork waits for the work in the background, and tells whether all of it has ended.
func (c *Core) endWork() bool {
	left := c.work.wait(workTime)
	for _, name := range left {
		c.logger.Error("the server's end does not wait any longer: the disk or mount of it does not answer",
			"work", name, "waited", workTime)
	}
	return len(left) == 0
}

// closeCore closes the storage groups, and archives what is left of their logs.
func closeCore(c *Core, logger *slog.Logger) error {
	limit := time.Duration(0)
	if !c.endWork() {
		limit = stuckTime
	}
	start := time.Now()
	if err := c.closeWithin(limit); err != nil {
		logger.Error("storage group not closed clean: the next start recovers it", "err", err)
		return err
	}
	logger.Info("storage group closed: Clean Shutdown", "took", time.Since(start))
	c.finishArchives()
	return nil
}

// closeWithin is Close that says when it takes its time, and gives up after a limit, if there is
// one.
func (c *Core) closeWithin(limit time.Duration) error {
	done := make(chan error, 1)
	go func() { done <- c.Close() }() // where it gives up, the process ends with it
	var stuck <-chan time.Time
	if limit > 0 {
		stuck = time.After(limit)
	}
	tick := time.NewTicker(stillTick)
	defer tick.Stop()
	for start := time.Now(); ; {
		select {
		case err := <-done:
			return err
		case <-stuck:
			return errStuck
		case <-tick.C:
			c.logger.Warn("the storage groups are still being closed: pages are written, or a disk does not "+
				"answer", "since", time.Since(start).Round(time.Second))
		}
	}
}
