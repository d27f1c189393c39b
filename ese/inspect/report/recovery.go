package report

import (
	"io"
	"time"

	"pillarbox/ese"
	"pillarbox/ese/offline"
)

// The JSON of Recovery.
type recovery struct {
	From    string  `json:"from"`
	To      string  `json:"to"`
	Applied uint64  `json:"applied"`
	Skipped uint64  `json:"skipped"`
	Undone  int     `json:"undone"`
	Torn    int     `json:"tornPages"`
	Seconds float64 `json:"seconds"`
	// Truncated: the log that is needed no more was removed.
	Truncated bool  `json:"truncated,omitempty"`
	Loss      *loss `json:"loss,omitempty"`
}

// loss is what was given up of the log.
type loss struct {
	First      uint32 `json:"first"`
	Last       uint32 `json:"last"`
	To         string `json:"to"`
	LastCommit string `json:"lastCommit"`
	Aside      string `json:"aside"`
}

func lossOf(l *ese.Loss) *loss {
	if l == nil {
		return nil
	}
	return &loss{
		l.First, l.Last, l.To.String(), l.LastCommit.UTC().Format(time.RFC3339Nano), l.Aside,
	}
}

// beginRecovery prints what recovery is to work on, and has its progress shown.
func (p *printer) beginRecovery(o *offline.RecoverOptions) *Bar {
	p.field("Logfile base name", "%s", o.Base)
	p.field("Log files", "%s", orCurrent(o.LogDir))
	p.field("System files", "%s", orCurrent(o.SystemDir))
	p.field("Database Directory", "%s", orCurrent(o.DatabaseDir))
	p.printf("\nPerforming soft recovery...\n\n")
	bar := NewBar(p.w, "Restore")
	first := uint32(0)
	o.Observer = func(e ese.Event) {
		if e.ID != ese.EventRecoveryProgress {
			return
		}
		if first == 0 {
			first = e.Gen
		}
		bar.At(int64(e.Gen-first), int64(e.N)-int64(first)+1)
	}
	return bar
}

// The JSON of Trial.
type trial struct {
	recovery
	LastCommit string `json:"lastCommit,omitempty"`
}

// Trial says what soft recovery would reach with the log up to a generation, or all of it for 0.
func Trial(w io.Writer, o offline.RecoverOptions, last uint32) error {
	p := &printer{w: w}
	bar := p.beginRecovery(&o)
	t, err := offline.Try(o, last)
	bar.End(err)
	if err != nil {
		return err
	}
	s := &t.RecoveryStats
	out := trial{recovery: recovery{
		s.From.String(), s.To.String(), s.Applied, s.Skipped, s.Undone, s.Torn, s.Took.Seconds(),
		false, nil,
	}}
	until := "no commit since the checkpoint"
	if !t.LastCommit.IsZero() {
		out.LastCommit = t.LastCommit.Format(time.RFC3339Nano)
		until = "the commit of " + out.LastCommit
	}
	if p.data(out) {
		return p.err
	}
	p.printf("Recovery would go from %s to %s, %s: %d changes to be made, %d are there, %d transactions "+
		"to be undone, %d torn pages.\nStopped before that (/u): nothing has changed, and more log "+
		"may be put there.\n", out.From, out.To, until, out.Applied, out.Skipped, out.Undone, out.Torn)
	return p.err
}

// Recovery runs soft recovery and prints what it did.
func Recovery(w io.Writer, o offline.RecoverOptions) error {
	p := &printer{w: w}
	bar := p.beginRecovery(&o)
	s, given, err := offline.Recover(o)
	bar.End(err)
	if err != nil {
		return err
	}
	out := recovery{
		s.From.String(), s.To.String(), s.Applied, s.Skipped, s.Undone, s.Torn, s.Took.Seconds(),
		o.Truncate, lossOf(given),
	}
	if p.data(out) {
		return p.err
	}
	p.printf("Replayed from %s to %s: %d changes made again, %d were there, %d transactions undone, "+
		"%d torn pages restored.\n", out.From, out.To, out.Applied, out.Skipped, out.Undone, out.Torn)
	if out.Loss != nil {
		p.printf("LOST: generations %d (0x%x) to %d (0x%x) of the log were given up. The databases hold "+
			"every commit up to %s, at %s, and nothing later. A new log stream has begun: make a full "+
			"backup now. The log of before lies in %s.\n", out.Loss.First, out.Loss.First, out.Loss.Last,
			out.Loss.Last, out.Loss.To, out.Loss.LastCommit, out.Loss.Aside)
	}
	if o.Truncate {
		p.printf("Log files that are needed no more were removed.\n")
	}
	return p.err
}

func orCurrent(dir string) string {
	if dir == "" {
		return "<where the log files are>"
	}
	return dir
}
