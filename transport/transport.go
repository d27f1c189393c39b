package transport

import (
	"bufio"
	"context"
	"fmt"
	"sync"
	"time"
)

// Transport accepts messages and runs the queue. It is safe for concurrent use.
type Transport struct {
	o     Options
	queue queueTable
	rcpt  rcptTable

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wake   chan struct{} // holds one token
	wg     sync.WaitGroup

	buffers sync.Pool // *bufio.Reader of copyBuffer bytes, for messages that arrive

	mu      sync.Mutex
	leased  map[lease]bool
	running map[string]int // jobs by destination
	jobs    int
	done    bool
}

// lease names a recipient's row that a job works on.
type lease struct {
	id QueueID
	n  int
}

// Open opens the queue and starts its runner.
func Open(ctx context.Context, o Options) (*Transport, error) {
	o.setDefaults()
	t := &Transport{
		o: o, wake: make(chan struct{}, 1),
		leased: make(map[lease]bool), running: make(map[string]int),
	}
	t.buffers.New = func() any { return bufio.NewReaderSize(nil, copyBuffer) }
	if err := t.openTables(ctx); err != nil {
		return nil, err
	}
	t.ctx, t.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if !o.Manual {
		t.wg.Go(t.run)
	}
	return t, nil
}

// Close stops sending, and waits until nothing of it runs. What was under way is tried again
// when the queue is opened anew.
func (t *Transport) Close() error {
	t.mu.Lock()
	t.done = true
	t.mu.Unlock()
	t.cancel()
	t.wg.Wait()
	return nil
}

func (t *Transport) closed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.done
}

// Wake makes the runner look at the queue: mailboxes that could not be reached may be there
// again.
func (t *Transport) Wake() { t.wakeUp() }

// wakeUp makes the runner look at the queue.
func (t *Transport) wakeUp() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// wakeFor wakes the runner when a new message gives it work.
func (t *Transport) wakeFor(p *plan) {
	remote := len(p.queued) - p.unknown - p.elsewhere
	if remote > 0 && t.o.Outbound != Off || p.unknown+p.elsewhere > 0 {
		t.wakeUp()
	}
}

// longestSleep bounds how long a step of the wall clock goes unnoticed.
const longestSleep = time.Minute

// slowPick is a look at the queue that is rather not repeated at once.
const slowPick = 5 * time.Millisecond

// run starts jobs as they become due.
func (t *Transport) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-t.ctx.Done():
			return
		case <-t.wake:
		case <-timer.C:
		}
		began := time.Now()
		jobs, next, err := t.pick()
		took := time.Since(began)
		if err != nil {
			t.o.Logger.Error("queue not readable", "error", err)
		}
		for _, j := range jobs {
			t.wg.Go(func() {
				t.work(t.ctx, j)
				t.wakeUp()
			})
		}
		sleep := longestSleep
		if !next.IsZero() {
			sleep = min(max(next.Sub(t.o.Now()), 0), sleep)
		}
		timer.Reset(sleep)
		// A long queue that waits for one slow destination must not be read for each message
		// that joins it: reading takes at most a fifth of the time.
		if took > slowPick {
			t.sleep(t.ctx, 4*took)
		}
	}
}

// Step runs the jobs that are due now, one after the other, and returns how many they were.
func (t *Transport) Step(ctx context.Context) (int, error) {
	jobs, _, err := t.pick()
	for _, j := range jobs {
		t.work(ctx, j)
	}
	return len(jobs), err
}

// work does a job and ends its lease.
func (t *Transport) work(ctx context.Context, j *job) {
	defer t.release(j)
	if err := t.do(ctx, j); err != nil && ctx.Err() == nil {
		// The rows are as they were, and due: tried again when the sleep below is over.
		t.o.Logger.Error("queue job failed", "id", string(j.id), "to", j.destination,
			"error", fmt.Sprint(err))
		// Keeps a job that the engine refuses from being tried in a loop.
		if !t.o.Manual {
			t.sleep(ctx, 10*time.Second)
		}
	}
}

// sleep waits for a time or for ctx.
func (t *Transport) sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
