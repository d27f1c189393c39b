package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// progress shows how far a long job is: a bar on a terminal, else a line now and then.
type progress struct {
	out      io.Writer
	terminal bool
	what     string
	begun    time.Time
	last     time.Time
	open     bool               // a bar stands on the line
	unit     func(int64) string // writes a number of what is counted
}

const (
	barEvery  = 200 * time.Millisecond
	lineEvery = 30 * time.Second
	barWidth  = 30
)

func newProgress(f *os.File, what string) *progress {
	now := time.Now()
	p := &progress{out: f, terminal: isTerminal(f), what: what, begun: now, last: now, unit: formatBytes}
	return p
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// update is told how much is done and, where it is known, the total.
func (p *progress) update(done, total int64) {
	every := lineEvery
	if p.terminal {
		every = barEvery
	}
	now := time.Now()
	if now.Sub(p.last) < every {
		return
	}
	p.last = now
	line := p.what + " " + p.text(done, total, now.Sub(p.begun))
	if p.terminal {
		p.open = true
		_, _ = fmt.Fprintf(p.out, "\r%-78s", line) // a bar that nobody sees ends nothing
		return
	}
	_, _ = fmt.Fprintln(p.out, line)
}

// end leaves the line of the bar.
func (p *progress) end() {
	if p.open {
		_, _ = fmt.Fprintln(p.out)
		p.open = false
	}
}

// text is a bar with rate and time left.
func (p *progress) text(done, total int64, took time.Duration) string {
	rate := int64(float64(done) / max(took.Seconds(), 0.001))
	if total <= done || done == 0 {
		return fmt.Sprintf("%s, %s/s", p.unit(done), p.unit(rate))
	}
	part := float64(done) / float64(total)
	left := time.Duration((1 - part) / part * float64(took)).Round(time.Second)
	text := fmt.Sprintf("%3.0f%% %s of %s, %s/s, %v left", 100*part, p.unit(done),
		p.unit(total), p.unit(rate), left)
	if p.terminal {
		n := int(part * barWidth)
		text = "[" + strings.Repeat("#", n) + strings.Repeat(".", barWidth-n) + "] " + text
	}
	return text
}

// countText writes a number of messages.
func countText(n int64) string { return fmt.Sprintf("%d messages", n) }

func formatBytes(n int64) string {
	const units = "KMGT"
	f, i := float64(n), -1
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	if i < 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %ciB", f, units[i])
}
