package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"pillarbox/ese/inspect/report"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run returns the exit status: 0 success, 1 failure or damage found, 2 wrong usage.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c, ok := parse(args, modes())
	if !ok {
		_, _ = io.WriteString(stderr, usage)
		return 2
	}
	w := &errWriter{w: stdout}
	var err error
	if c.json {
		err = c.runJSON(ctx, w)
	} else {
		err = c.runText(ctx, w)
	}
	switch {
	case err != nil:
		return 1
	case w.err != nil:
		_, _ = fmt.Fprintln(stderr, "eseutil:", w.err)
		return 1
	}
	return 0
}

// errWriter keeps the first error. It does not buffer: the progress bar goes dot by dot.
type errWriter struct {
	w   io.Writer
	err error
}

func (e *errWriter) Write(b []byte) (int, error) {
	if e.err == nil {
		_, e.err = e.w.Write(b)
	}
	return len(b), e.err
}

func (c *command) runText(ctx context.Context, w io.Writer) error {
	if !c.bare {
		_, _ = fmt.Fprintf(w, "\nExtensible Storage Engine Utilities for Pillarbox\nVersion %s\n\n", version)
	}
	_, _ = fmt.Fprintf(w, "Initiating %s mode...\n\n", c.mode.title)
	start := time.Now()
	err := c.mode.run(ctx, w, c)
	took := time.Since(start).Seconds()
	if err != nil {
		_, _ = fmt.Fprintf(w, "\nOperation terminated with error %s after %.3f seconds.\n\n",
			describe(err), took)
	} else {
		_, _ = fmt.Fprintf(w, "\nOperation completed successfully in %.3f seconds.\n\n", took)
	}
	return err
}

// result is the JSON of a run.
type result struct {
	Mode string `json:"mode"`
	File string `json:"file"`
	*report.Recorder
	Error   string  `json:"error,omitempty"`
	Code    int     `json:"code,omitempty"`
	Seconds float64 `json:"seconds"`
}

func (c *command) runJSON(ctx context.Context, w io.Writer) error {
	r := result{Mode: c.mode.flag, File: c.path, Recorder: &report.Recorder{}}
	start := time.Now()
	err := c.mode.run(ctx, r.Recorder, c)
	r.Seconds = time.Since(start).Seconds()
	if err != nil {
		r.Error, r.Code = err.Error(), codeOf(err)
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if eerr := e.Encode(r); err == nil {
		err = eerr
	}
	return err
}
