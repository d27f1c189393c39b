package report

import (
	"fmt"
	"io"

	"pillarbox/ese/internal/dbheader"
	"pillarbox/ese/internal/logrec"
)

// printer keeps the first error of a writer.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

// WriteField prints one label with its value, as all dumps do.
func WriteField(w io.Writer, label, format string, args ...any) {
	(&printer{w: w}).field(label, format, args...)
}

// SetData keeps the result of a run for JSON; it reports whether there is no need to print it.
func SetData(w io.Writer, v any) bool { return (&printer{w: w}).data(v) }

// field prints one label, right-aligned as eseutil does.
func (p *printer) field(label, format string, args ...any) {
	value := fmt.Sprintf(format, args...)
	if r, ok := p.w.(*Recorder); ok {
		r.Fields = append(r.Fields, Field{label, value})
		return
	}
	p.printf("%17s: %s\n", label, value)
}

func formatTime(t logrec.LogTime) string {
	if t.IsZero() {
		return "00/00/1900 00:00:00.000"
	}
	return t.Time().Format("01/02/2006 15:04:05.000")
}

// stampTime is a time with its zone; the low bit of the seventh byte tells UTC.
func stampTime(t logrec.LogTime) string {
	zone := "LOC"
	if t[6]&1 != 0 {
		zone = "UTC"
	}
	return formatTime(t) + " " + zone
}

func formatSignature(s logrec.Signature) string {
	n := 0
	for n < len(s.Computer) && s.Computer[n] != 0 {
		n++
	}
	return fmt.Sprintf("Create time:%s Rand:%d Computer:%s", formatTime(s.Created), s.Random,
		printable(s.Computer[:n]))
}

func printable(b []byte) string {
	out := make([]byte, len(b))
	for i, c := range b {
		if c < ' ' || c > '~' {
			c = '?'
		}
		out[i] = c
	}
	return string(out)
}

// place is a position with its time.
func place(pos logrec.LogPos, t logrec.LogTime) string {
	if pos == 0 && t.IsZero() {
		return fmt.Sprintf("%v  %s", pos, formatTime(t))
	}
	return fmt.Sprintf("%v  %s", pos, stampTime(t))
}

// generations is a range as a-b (0xa-0xb).
func generations(low, high uint32) string {
	return fmt.Sprintf("%d-%d (0x%x-0x%x)", low, high, low, high)
}

func (p *printer) backup(title string, b dbheader.Backup) {
	p.printf("%s:\n", title)
	p.field("Log Gen", "%s", generations(b.GenLow, b.GenHigh))
	p.field("Mark", "%v", b.Mark)
	p.field("Mark", "%s", formatTime(b.Time))
}

// count prints an event counter as none or found (n), with its history.
func (p *printer) count(name string, c dbheader.Count) {
	if c.N == 0 {
		p.field(name+" Count", "none")
	} else {
		p.field(name+" Count", "found (%d)", c.N)
		p.field("Last "+name+" Date", "%s", formatTime(c.Time))
	}
	if c.Old == 0 {
		p.field("Old "+name+" Count", "none")
	} else {
		p.field("Old "+name+" Count", "found (%d)", c.Old)
	}
}
