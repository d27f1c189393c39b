//go:build linux

package backupbench_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Mail is as in the mail benchmark: nine of ten messages have 4 KB of text, the tenth an attachment
// of 50 KB.
type letters struct {
	small, large []string
}

func newLetters() *letters {
	rng := rand.New(rand.NewPCG(1, 2))
	l := &letters{}
	for range 64 {
		l.small = append(l.small, prose(rng, 4<<10))
	}
	noise, src := make([]byte, 34<<10), rand.NewChaCha8([32]byte{3})
	for range 32 {
		_, _ = src.Read(noise) // never fails
		text := base64.StdEncoding.EncodeToString(noise)
		var b strings.Builder
		b.WriteString(prose(rng, 2<<10))
		for len(text) > 76 {
			b.WriteString(text[:76] + "\r\n")
			text = text[76:]
		}
		l.large = append(l.large, b.String())
	}
	return l
}

func prose(rng *rand.Rand, n int) string {
	var b strings.Builder
	for line := 0; b.Len() < n; {
		word := make([]byte, 2+rng.IntN(9))
		for i := range word {
			word[i] = byte('a' + rng.IntN(26)*rng.IntN(26)/26)
		}
		b.Write(word)
		if line += len(word) + 1; line > 70 {
			b.WriteString("\r\n")
			line = 0
		} else {
			b.WriteByte(' ')
		}
	}
	b.WriteString("\r\n")
	return b.String()
}

// message is the nth one.
func (l *letters) message(n int, big bool) string {
	body := l.small[n%len(l.small)]
	if big || n%10 == 0 {
		body = l.large[n%len(l.large)]
	}
	return fmt.Sprintf("From: sender%d@elsewhere.test\r\nTo: user%d@bench.test\r\nSubject: letter %d\r\n"+
		"Date: Thu, 26 Nov 2026 03:00:00 +0000\r\nMessage-ID: <%d@elsewhere.test>\r\n"+
		"Content-Type: text/plain\r\n\r\n%s.\r\n", n%997, n%users, n, n, body)
}

// load is what a number of connections delivered.
type load struct {
	n     int
	took  time.Duration
	times []time.Duration // from MAIL FROM to the answer to the final dot
}

func (l *load) rate() float64 { return float64(l.n) / l.took.Seconds() }

func (l *load) percentile(p float64) time.Duration {
	slices.Sort(l.times)
	return l.times[min(len(l.times)-1, int(p*float64(len(l.times))))]
}

const connections = 16

// deliver sends mail on all connections until enough says so.
func (s *site) deliver(l *letters, big bool, enough func(n int) bool) *load {
	s.t.Helper()
	out, errs := &load{}, make([]error, connections)
	var next, sent atomic.Int64
	next.Store(int64(s.sent))
	var mu sync.Mutex
	var wg sync.WaitGroup
	began := time.Now()
	for i := range connections {
		wg.Go(func() {
			times, err := deliverOn(s.smtp, func() (string, int, bool) {
				if enough(int(sent.Load())) {
					return "", 0, false
				}
				n := int(next.Add(1))
				return l.message(n, big), n % users, true
			}, &sent)
			errs[i] = err
			mu.Lock()
			out.times = append(out.times, times...)
			mu.Unlock()
		})
	}
	wg.Wait()
	out.took, out.n = time.Since(began), len(out.times)
	s.sent = int(next.Load())
	if err := errors.Join(errs...); err != nil {
		s.t.Fatal(err)
	}
	return out
}

func deliverOn(
	addr string, next func() (text string, user int, ok bool), sent *atomic.Int64,
) (times []time.Duration, err error) {
	c, err := textproto.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if _, _, err = c.ReadResponse(220); err != nil {
		return nil, err
	}
	if err := say(c, 250, "EHLO bench.test"); err != nil {
		return nil, err
	}
	for {
		text, user, ok := next()
		if !ok {
			return times, say(c, 221, "QUIT")
		}
		began := time.Now()
		err := say(c, 250, "MAIL FROM:<sender@elsewhere.test>")
		if err == nil {
			err = say(c, 250, fmt.Sprintf("RCPT TO:<user%d@bench.test>", user))
		}
		if err == nil {
			err = say(c, 354, "DATA")
		}
		if err == nil {
			err = say(c, 250, strings.TrimSuffix(text, "\r\n"))
		}
		if err != nil {
			return times, err
		}
		times = append(times, time.Since(began))
		sent.Add(1)
	}
}

func say(c *textproto.Conn, want int, line string) error {
	if _, err := c.W.WriteString(line + "\r\n"); err != nil {
		return err
	}
	if err := c.W.Flush(); err != nil {
		return err
	}
	_, _, err := c.ReadResponse(want)
	return err
}

// fill delivers until the databases have grown to n bytes.
func (s *site) fill(t *testing.T, l *letters, n int64) {
	began, before := time.Now(), s.sent
	for {
		s.deliver(l, true, func(sent int) bool { return sent >= 2000 })
		if _, have := sizeOf(t, s.path("data/store"), ".edb", ".stm"); have >= n {
			t.Logf("filled with %d messages, %.2f GB, in %v", s.sent-before, float64(have)/1e9,
				time.Since(began).Round(time.Second))
			return
		}
	}
}
