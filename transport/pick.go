package transport

import (
	"strings"
	"time"

	"pillarbox/ese"
	"pillarbox/mail/address"
)

// rcptsPerJob is how many recipients one transaction names: all servers take 100 (RFC 5321
// 4.5.3.1.8).
const rcptsPerJob = 100

// job is one message to one destination.
type job struct {
	id          QueueID
	destination string // a domain, or one of those below
	rcpts       []*recipient
}

// Destinations that are no domains.
const (
	viaSmarthost = "smarthost"
	toMailboxes  = "mailboxes"
)

// destination is where a recipient's message goes; empty when it is held.
func (t *Transport) destination(c *recipient) string {
	switch {
	case c.kind == rcptMailbox && !t.reachable(c.mailbox):
		return ""
	case c.kind != rcptRemote:
		return toMailboxes
	case t.o.Outbound == Off:
		return ""
	case t.o.Outbound == ViaSmarthost:
		return viaSmarthost
	}
	if d := c.address.Domain; strings.HasPrefix(d, "[") {
		return strings.ToLower(d)
	}
	return address.DomainKey(c.address.Domain)
}

// pick leases the rows that are due and for which there is room. next is when to look again,
// zero when only a wake-up can give work.
func (t *Transport) pick() (jobs []*job, next time.Time, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done {
		return nil, time.Time{}, nil
	}
	now := t.o.Now()
	// The snapshot begins under mu: a lease that is gone has its result in it.
	err = t.o.Instance.View(func(tx *ese.Tx) error {
		jobs = nil
		rs := &rows{t: t, tx: tx}
		next, err = rs.due(now, func(c *recipient) bool {
			return t.offer(&jobs, c)
		})
		return err
	})
	if err != nil {
		return nil, now.Add(longestSleep), err
	}
	if t.jobs+len(jobs) >= t.o.MaxSending {
		next = time.Time{} // the end of a job wakes the runner
	}
	for _, j := range jobs {
		for _, c := range j.rcpts {
			t.leased[lease{c.id, c.n}] = true
		}
		t.running[j.destination]++
		t.jobs++
	}
	return jobs, next, nil
}

// offer adds a due row to the jobs if there is room. It returns false when no more can be used.
func (t *Transport) offer(jobs *[]*job, c *recipient) bool {
	d := t.destination(c)
	if d == "" || t.leased[lease{c.id, c.n}] {
		return true
	}
	same := 0
	for _, j := range *jobs {
		if j.destination != d {
			continue
		}
		if j.id == c.id && len(j.rcpts) < rcptsPerJob {
			j.rcpts = append(j.rcpts, c)
			return true
		}
		same++
	}
	if t.jobs+len(*jobs) >= t.o.MaxSending {
		return false
	}
	if t.running[d]+same < t.o.MaxPerDestination {
		*jobs = append(*jobs, &job{id: c.id, destination: d, rcpts: []*recipient{c}})
	}
	return true
}

// release ends the lease of a job whose result is on disk, or that left its rows alone.
func (t *Transport) release(j *job) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range j.rcpts {
		delete(t.leased, lease{c.id, c.n})
	}
	if t.running[j.destination]--; t.running[j.destination] == 0 {
		delete(t.running, j.destination)
	}
	t.jobs--
}
