package transport

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
	"pillarbox/ese/vfs"
)

var (
	crashSeeds = flag.Int("seeds", 40, "seeds of the crash simulation")
	crashFirst = flag.Uint64("seed", 1, "first seed of the crash simulation")
)

// TestCrash cuts the power at random writes and syncs while messages are accepted, sent and
// reported, and looks what became of each: what was acknowledged is in each mailbox once, went
// to each recipient elsewhere at least once, and each failure was reported once.
func TestCrash(t *testing.T) {
	var sum crashCounts
	for i := range *crashSeeds {
		seed := *crashFirst + uint64(i)
		s := &sim{seed: seed, rng: rand.New(rand.NewPCG(seed, 5)), sum: &sum}
		s.w = newWorld(t)
		s.run()
		if t.Failed() {
			t.Fatalf("seed %d: repeat with -run TestCrash -seed %d -seeds 1", seed, seed)
		}
	}
	t.Logf("%d seeds: %+v", *crashSeeds, sum)
	if *crashSeeds >= 40 && (sum.InAccept < 5 || sum.InStep < 5 || sum.InOpen < 5 || sum.Twice < 1 ||
		sum.Notices < 20 || sum.Lost < 1) || sum.Survived < *crashSeeds/100 { // some 1 in 30 seeds
		t.Error("too little was met: the simulation proves nothing")
	}
}

// crashCounts tell what the simulation met.
type crashCounts struct {
	InAccept, InStep, InOpen int // cuts
	Survived, Lost           int // messages not acknowledged that were there, or not
	Sent, Twice, Notices     int
}

// simMessage is one message and what must become of it.
type simMessage struct {
	id      QueueID
	text    string
	from    string
	local   []string // users
	remote  []string // addresses
	bad     []string // addresses that fail for ever
	acked   bool
	dropped bool // perhaps
}

type sim struct {
	seed uint64
	rng  *rand.Rand
	w    *world
	disk *esetest.CrashDisk
	msgs []*simMessage
	sum  *crashCounts
	// got is what the peers had when the power was cut.
	got int
}

func (s *sim) fatal(format string, args ...any) {
	s.w.t.Helper()
	s.w.t.Fatalf("seed %d: %s", s.seed, fmt.Sprintf(format, args...))
}

func (s *sim) run() {
	s.w.rng = s.rng
	s.w.opt = ese.Options{
		Dir: "/d", Manual: true, GenerationBytes: 64 << 10, CheckpointDepth: 256 << 10,
		PageSize: 4096 + 4096*int(s.seed%2), StreamBytes: 256 << 10, LogKeep: 128 << 10,
		CacheBytes: int64([]int{64, 128, 512}[s.rng.IntN(3)]) * 8192,
		Now:        s.w.clock, Rand: s.w.random,
	}
	s.newDisk(vfs.NewMem())
	s.open(false)
	for range 2 + s.rng.IntN(3) {
		s.disk.Left = 1 + s.rng.IntN(250)
		for s.disk.Cut == nil {
			s.step()
			if s.w.t.Failed() {
				return
			}
		}
		s.open(true)
		s.checkMailboxes()
	}
	s.finish()
}

func (s *sim) newDisk(mem *vfs.Mem) {
	s.disk = &esetest.CrashDisk{Mem: mem, Rand: s.rng, OnCut: func() { s.got = len(s.w.got) }}
	s.w.fs = s.disk
}

// open opens everything, after a crash when there was one; then the power may fail again.
func (s *sim) open(again bool) {
	for try := 0; ; try++ {
		if s.w.in != nil {
			_ = s.w.tr.Close()
			_ = s.w.in.Kill()
			s.w.in = nil
		}
		if s.disk.Cut != nil {
			// What was sent after the cut was never sent.
			s.w.got = s.w.got[:s.got]
			s.newDisk(s.disk.Cut)
		}
		s.w.advance(time.Second)
		if again && try < 3 && s.rng.IntN(2) == 0 {
			s.disk.Left = 1 + s.rng.IntN(60)
		}
		err := s.w.open()
		if s.disk.Cut != nil {
			s.sum.InOpen++
			continue
		}
		if err != nil {
			s.fatal("open: %v", err)
		}
		s.disk.Left = 0
		return
	}
}

// step does one random thing.
func (s *sim) step() {
	ctx := context.Background()
	switch k := s.rng.IntN(20); {
	case k < 8:
		s.accept()
	case k < 13:
		if _, err := s.w.tr.Step(ctx); err != nil {
			s.fatal("step: %v", err)
		}
		if s.disk.Cut != nil {
			s.sum.InStep++
		}
	case k < 15:
		s.w.advance(time.Duration(s.rng.IntN(7200)) * time.Second)
	case k < 16:
		clear(s.w.temp)
		s.w.lose = s.rng.IntN(2) == 0
	case k < 17:
		if len(s.msgs) > 0 {
			m := s.msgs[s.rng.IntN(len(s.msgs))]
			err := s.w.tr.Drop(ctx, m.id)
			if err != nil && !errors.Is(err, ErrNotQueued) {
				s.fatal("drop: %v", err)
			}
			m.dropped = m.dropped || err == nil
		}
	default:
		err := s.w.in.Step(s.rng.IntN(ese.Steps))
		if err != nil && !errors.Is(err, ese.ErrWriteConflict) {
			s.fatal("background: %v", err)
		}
	}
}

// accept offers a message to random recipients.
func (s *sim) accept() {
	n := len(s.msgs)
	m := &simMessage{from: []string{"alice@here.test", "joe@else.test", ""}[s.rng.IntN(3)]}
	for _, u := range []string{"alice", "bob", "carol"} {
		if s.rng.IntN(3) == 0 {
			m.local = append(m.local, u)
		}
	}
	for i := range s.rng.IntN(4) {
		a := fmt.Sprintf("x%d.%d@h%d.test", n, i, s.rng.IntN(3))
		switch s.rng.IntN(4) {
		case 0:
			m.bad = append(m.bad, "bad"+a)
		case 1:
			s.w.temp[strings.Split(a, "@")[0]] = true
			m.remote = append(m.remote, a)
		default:
			m.remote = append(m.remote, a)
		}
	}
	e := envelope(m.from, append(append([]string(nil), m.remote...), m.bad...)...)
	for _, u := range m.local {
		e.Recipients = append(e.Recipients, Recipient{Address: addr(u + "@here.test")})
	}
	if len(e.Recipients) == 0 {
		return
	}
	size := s.rng.IntN(3000)
	if s.rng.IntN(8) == 0 {
		size = s.rng.IntN(150 << 10)
	}
	m.text = fmt.Sprintf("Subject: m%d\r\n\r\n%s\r\nend of %d\r\n", n,
		strings.Repeat("0123456789abcde\r\n", size/17), n)
	id, err := s.w.tr.Accept(context.Background(), e, strings.NewReader(m.text))
	if err != nil {
		s.fatal("accept: %v", err)
	}
	m.id, m.acked = id, s.disk.Cut == nil
	if !m.acked {
		s.sum.InAccept++
	}
	s.msgs = append(s.msgs, m)
}

// checkMailboxes looks for each message in each mailbox: all have it once, or none has it and
// it was not acknowledged.
func (s *sim) checkMailboxes() {
	boxes := make(map[string][]string)
	for _, u := range []string{"alice", "bob", "carol"} {
		boxes[u] = s.w.inbox(u)
	}
	for _, m := range s.msgs {
		for i, u := range m.local {
			n := 0
			for _, text := range boxes[u] {
				if strings.HasSuffix(text, "\r\n"+m.text) && strings.Contains(text, " id "+string(m.id)) {
					n++
				}
			}
			if i == 0 && !m.acked {
				if m.acked = n == 1; m.acked {
					s.sum.Survived++
				} else {
					s.sum.Lost++
				}
			}
			if want := map[bool]int{true: 1}[m.acked]; n != want {
				s.fatal("%s has %d copies of %s, want %d", u, n, m.id, want)
			}
		}
	}
}

// finish works off the queue and settles accounts.
func (s *sim) finish() {
	w := s.w
	clear(w.temp)
	w.lose = false
	for range 100 {
		w.advance(4 * time.Hour)
		w.step()
		clear(w.temp)
	}
	w.count("0 messages, 0 recipients")
	s.checkMailboxes()
	w.check()
	sent, notices := s.tally()
	for _, m := range s.msgs {
		for _, a := range m.remote {
			n := sent[a]
			s.sum.Sent += n
			if n > 1 {
				s.sum.Twice++
			}
			if n == 0 && m.acked && !m.dropped {
				s.fatal("message %s was never sent to %s", m.id, a)
			}
		}
		for _, a := range m.bad {
			n := notices[a]
			s.sum.Notices += n
			want := 1
			if m.from == "" {
				want = 0
			}
			lost := n == 0 && (m.dropped || !m.acked)
			// To a sender elsewhere a notice is sent like any message: at least once.
			if n != want && !lost && (n < want || m.from != "joe@else.test") {
				s.fatal("%d notices about %s of message %s from %q", n, a, m.id, m.from)
			}
		}
	}
	if err := errors.Join(w.tr.Close(), w.in.Close()); err != nil {
		s.fatal("close: %v", err)
	}
	esetest.Check(w.t, s.disk.Mem, "/d/priv1.edb")
}

// tally counts by recipient what was sent and what was reported.
func (s *sim) tally() (sent, notices map[string]int) {
	sent, notices = make(map[string]int), make(map[string]int)
	report := func(text string) {
		for part := range strings.SplitSeq(text, "Final-Recipient: rfc822; ") {
			if a, _, ok := strings.Cut(part, "\r\n"); ok && strings.HasPrefix(a, "bad") {
				notices[a]++
			}
		}
	}
	for _, r := range s.w.got {
		for _, a := range r.to {
			sent[a]++
		}
		if r.from == "" && strings.Contains(r.text, "multipart/report") {
			report(r.text)
		}
	}
	for _, text := range s.w.inbox("alice") {
		if strings.Contains(text, "multipart/report") {
			report(text)
		}
	}
	return sent, notices
}
