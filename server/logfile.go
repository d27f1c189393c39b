package server

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
)

// logOutput is standard error, or a file that can be opened anew after it was renamed.
type logOutput struct {
	path string

	mu sync.Mutex // guards w and closer
	w  io.Writer
	f  *os.File
}

func openLog(c LogConfig) (*slog.Logger, *logOutput, error) {
	out := &logOutput{path: c.File, w: os.Stderr}
	if err := out.reopen(); err != nil {
		return nil, nil, err
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		return nil, nil, fmt.Errorf("log.level: %w", err)
	}
	o := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(out, o)), out, nil
	}
	return slog.New(slog.NewTextHandler(out, o)), out, nil
}

// reopen opens the file again, as log rotation asks for; standard error stays.
func (o *logOutput) reopen() error {
	if o.path == "" {
		return nil
	}
	f, err := os.OpenFile(o.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	o.mu.Lock()
	old := o.f
	o.w, o.f = f, f
	o.mu.Unlock()
	if old != nil {
		return old.Close()
	}
	return nil
}

// Write writes one event.
func (o *logOutput) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.w.Write(b)
}

// Close closes the file; later events go to standard error.
func (o *logOutput) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	f := o.f
	o.w, o.f = os.Stderr, nil
	if f == nil {
		return nil
	}
	return f.Close()
}
