package report

import (
	"strings"
)

// Field is one label with its value.
type Field struct {
	Label string `json:"label"`
	Value string `json:"value"`
}

// Recorder is a writer for the functions of this package that keeps labels and values apart,
// for JSON. Results with more structure are in Data.
type Recorder struct {
	Fields []Field  `json:"fields,omitempty"`
	Lines  []string `json:"lines,omitempty"` // what is no field
	Data   any      `json:"data,omitempty"`

	part string // of a line
}

// Write takes text that is no field.
func (r *Recorder) Write(b []byte) (int, error) {
	lines := strings.Split(r.part+string(b), "\n")
	r.part = lines[len(lines)-1]
	for _, l := range lines[:len(lines)-1] {
		if l = strings.TrimSpace(l); l != "" {
			r.Lines = append(r.Lines, l)
		}
	}
	return len(b), nil
}

// data keeps a result for JSON; it reports whether there is no need to print it.
func (p *printer) data(v any) bool {
	r, ok := p.w.(*Recorder)
	if ok {
		r.Data = v
	}
	return ok
}
