//go:build linux

package backupbench_test

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"pillarbox/test/program"
)

const (
	// window is how long delivery is measured at a time, at most; beside a backup it ends with that.
	window = 15 * time.Second
	// least is the shortest measurement that says something.
	least = 2 * time.Second
)

// TestDelivery delivers mail without and with a full backup running beside it, in turns.
func TestDelivery(t *testing.T) {
	s := newSite(t)
	s.start()
	l := newLetters()
	s.fill(t, l, int64(*size*1e9))
	s.deliverFor(l, window/3, nil) // warm
	var alone, beside, ratio, p99, p99Beside, p99Ratio, backups spread
	measureAlone := func() *load { return s.deliverFor(l, window, nil) }
	for i := range *rounds {
		var without, with *load
		if i%2 == 0 {
			without = measureAlone()
		}
		run := s.backup()
		began := time.Now()
		with = s.deliverFor(l, window, run.Done())
		if with.took < least {
			t.Errorf("the backup ended after %v: the store is too small", with.took)
		}
		if err := run.Wait(); err != nil {
			t.Fatalf("%v\n%s", err, run.Output())
		}
		backups = append(backups, time.Since(began).Seconds())
		if err := os.RemoveAll(s.path("sets")); err != nil {
			t.Fatal(err)
		}
		syscall.Sync()
		if i%2 == 1 {
			without = measureAlone()
		}
		alone, beside = append(alone, without.rate()), append(beside, with.rate())
		ratio = append(ratio, with.rate()/without.rate())
		a, b := ms(without.percentile(0.99)), ms(with.percentile(0.99))
		p99, p99Beside, p99Ratio = append(p99, a), append(p99Beside, b), append(p99Ratio, b/a)
	}
	s.stop()
	t.Logf("messages/s: alone %v, beside a backup %v, ratio %v", alone, beside, ratio)
	t.Logf("p99 ms: alone %v, beside a backup %v, ratio %v", p99, p99Beside, p99Ratio)
	t.Logf("the backups took %v s", backups)
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }

// backup begins a full backup, and returns when it is under way.
func (s *site) backup() *program.Program {
	s.t.Helper()
	run, err := program.Start(limit,
		exec.Command(s.bin, "backup", "full", "--config", s.config, "--to", s.path("sets")))
	if err != nil {
		s.t.Fatal(err)
	}
	for range 200 {
		if _, err := os.Stat(s.path("sets")); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return run
}

// deliverFor delivers for a time, and no longer than until done is closed.
func (s *site) deliverFor(l *letters, d time.Duration, done <-chan struct{}) *load {
	end := time.Now().Add(d)
	return s.deliver(l, false, func(int) bool {
		select {
		case <-done:
			return true
		default:
			return time.Now().After(end)
		}
	})
}
