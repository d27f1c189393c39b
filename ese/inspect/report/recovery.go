package report

import (
	"io"

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
	Truncated bool `json:"truncated,omitempty"`
}

// Recovery runs soft recovery and prints what it did.
func Recovery(w io.Writer, o offline.RecoverOptions) error {
	p := &printer{w: w}
	p.field("Logfile base name", "%s", o.Base)
	p.field("Log files", "%s", orCurrent(o.LogDir))
	p.field("System files", "%s", orCurrent(o.SystemDir))
	p.field("Database Directory", "%s", orCurrent(o.DatabaseDir))
	p.printf("\nPerforming soft recovery...\n\n")
	bar := NewBar(w, "Restore")
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
	s, err := offline.Recover(o)
	bar.End(err)
	if err != nil {
		return err
	}
	out := recovery{
		s.From.String(), s.To.String(), s.Applied, s.Skipped, s.Undone, s.Torn, s.Took.Seconds(),
		o.Truncate,
	}
	if p.data(out) {
		return p.err
	}
	p.printf("Replayed from %s to %s: %d changes made again, %d were there, %d transactions undone, "+
		"%d torn pages restored.\n", out.From, out.To, out.Applied, out.Skipped, out.Undone, out.Torn)
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
