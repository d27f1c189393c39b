package report

import (
	"io"
	"strings"
)

// barDots is the length of a full bar.
const barDots = 51

// Bar is the progress bar that operators know. A nil Bar shows nothing. Each dot is written as
// it comes, so the writer must not buffer.
type Bar struct {
	w    io.Writer
	dots int
}

// NewBar begins a bar for an operation. It is nil for a Recorder: JSON has no bar.
func NewBar(w io.Writer, operation string) *Bar {
	if _, ok := w.(*Recorder); ok {
		return nil
	}
	p := &printer{w: w}
	title := operation + " Status (% complete)"
	p.printf("%s%s\n\n", strings.Repeat(" ", max(0, 36-len(title)/2)), title)
	p.printf("          0    10   20   30   40   50   60   70   80   90  100\n")
	p.printf("          |----|----|----|----|----|----|----|----|----|----|\n")
	p.printf("          ")
	return &Bar{w: w}
}

// At shows that done of total is done.
func (b *Bar) At(done, total int64) {
	if b == nil || total <= 0 {
		return
	}
	want := int(min(done, total) * barDots / total)
	if want > b.dots {
		_, _ = io.WriteString(b.w, strings.Repeat(".", want-b.dots))
		b.dots = want
	}
}

// End ends the line; the bar is full only when the operation went well.
func (b *Bar) End(err error) {
	if b == nil {
		return
	}
	if err == nil {
		b.At(1, 1)
	}
	_, _ = io.WriteString(b.w, "\n\n")
}
