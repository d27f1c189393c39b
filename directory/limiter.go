package directory

import (
	"strings"
	"sync"
	"time"
)

// Failures allowed in a window. An account's limit is the higher one, since a stranger can
// use it up for its owner.
const (
	failureWindow   = 10 * time.Minute
	perAddress      = 20
	perAccount      = 60
	maxLimiterItems = 20_000
)

// limit is one counter that a failure counts against.
type limit struct {
	key string
	max int
}

// limiter counts failed logins. It is bounded in memory.
type limiter struct {
	now func() time.Time
	mu  sync.Mutex
	m   map[string]*failureCount
}

type failureCount struct {
	n     int
	until time.Time // the count is void after it
}

func (l *limiter) init(now func() time.Time) {
	l.now, l.m = now, make(map[string]*failureCount)
}

// limits names the counters of a login: its network address, an IPv6 one by its /64, and the
// account. Loopback has none unless it is configured.
func (d *Directory) limits(l *Login, e *entry) []limit {
	addr := l.Remote.Unmap()
	if addr.IsLoopback() && !d.o.ThrottleLoopback {
		return nil
	}
	account := "account " + strings.ToLower(l.Name[:min(len(l.Name), 400)])
	if e != nil {
		account = "account " + e.Address
	}
	limits := []limit{{account, perAccount}}
	if addr.IsValid() {
		bits := addr.BitLen()
		if addr.Is6() {
			bits = 64
		}
		net, err := addr.WithZone("").Prefix(bits)
		if err == nil {
			limits = append(limits, limit{"from " + net.Masked().String(), perAddress})
		}
	}
	return limits
}

// allowed tells whether none of the counters is used up.
func (l *limiter) allowed(limits []limit) bool {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, x := range limits {
		if c := l.m[x.key]; c != nil && now.Before(c.until) && c.n >= x.max {
			return false
		}
	}
	return true
}

// failed counts a failure.
func (l *limiter) failed(limits []limit) {
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, x := range limits {
		c := l.m[x.key]
		if c == nil {
			l.makeRoom(now)
			c = &failureCount{}
			l.m[x.key] = c
		}
		if !now.Before(c.until) {
			*c = failureCount{until: now.Add(failureWindow)}
		}
		c.n++
	}
}

// makeRoom drops what is void; where that is not enough, whatever comes first.
func (l *limiter) makeRoom(now time.Time) {
	if len(l.m) < maxLimiterItems {
		return
	}
	for k, c := range l.m {
		if !now.Before(c.until) {
			delete(l.m, k)
		}
	}
	for k := range l.m {
		if len(l.m) < maxLimiterItems {
			return
		}
		delete(l.m, k)
	}
}
