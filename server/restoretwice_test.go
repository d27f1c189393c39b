package server

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A second restore of a group while the first is on its way is refused, and the first goes on: it would
// take the files in place for those of one that was killed. What a killed one had unpacked goes.
func TestRestoreTwiceAtOnce(t *testing.T) {
	cfg, sets := backedUp(t)
	left := filepath.Join(cfg.Groups[0].Dir, unpackedPrefix+"1", "priv1.edb")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	tried := false
	err := Restore(t.Context(), cfg, RestoreOptions{
		From: sets, Say: func(format string, _ ...any) {
			if tried || !strings.HasPrefix(format, "This reaches") {
				return
			}
			tried = true
			err := Restore(t.Context(), cfg, RestoreOptions{From: sets, Say: say(t)})
			if !errors.Is(err, errRestoring) {
				t.Errorf("a second restore: %v", err)
			}
		},
	})
	if err != nil || !tried {
		t.Fatalf("the first restore: %v, the second one was tried: %v", err, tried)
	}
	if n := users(t, cfg); n != 2 {
		t.Errorf("%d accounts, not 2", n)
	}
	if _, err := os.Stat(filepath.Dir(left)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what a killed restore unpacked is still there: %v", err)
	}
}
