package server

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// A restore into a new folder that was cut short anywhere leaves no server that would begin anew.
func TestHalfRestoredInto(t *testing.T) {
	_, sets := backedUp(t)
	into := filepath.Join(t.TempDir(), "new")
	stopped := false
	_, err := RestoreInto(t.Context(), into, RestoreOptions{From: sets, Say: func(string, ...any) {
		if stopped {
			return
		}
		stopped = true
		// What a kill here would leave.
		cfg, err := LoadConfig(filepath.Join(into, ConfigName))
		if err != nil {
			t.Error(err)
			return
		}
		c, err := openCore(t.Context(), cfg, coreOptions{logger: quietLogger(), still: true})
		if !errors.Is(err, errHalfMade) {
			t.Errorf("half restored, but: %v", err)
			if err == nil {
				_ = c.Close()
			}
		}
	}})
	if err != nil || !stopped {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(into, intoName)); !errors.Is(err, os.ErrNotExist) {
		t.Error("the note is left")
	}
	cfg, err := LoadConfig(filepath.Join(into, ConfigName))
	if err != nil {
		t.Fatal(err)
	}
	if n := users(t, cfg); n != 1 && n != 2 {
		t.Errorf("%d accounts", n)
	}
}
