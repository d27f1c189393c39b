package ese_test

import (
	"log/slog"
	"strings"
	"testing"

	"pillarbox/ese"
	"pillarbox/ese/vfs"
)

// A killed instance is not said to open clean, even when its last checkpoint left nothing to
// replay.
func TestKilledWithNothingToReplay(t *testing.T) {
	fs := vfs.NewMem()
	var logged strings.Builder
	logger := slog.New(slog.NewTextHandler(&logged, nil))
	open := func() *ese.Instance {
		t.Helper()
		logged.Reset()
		in, err := ese.Open(ese.Options{FS: fs, Dir: "d", Manual: true, Logger: logger})
		must(t, err)
		return in
	}
	in := open()
	_, err := in.OpenDatabase("a.edb")
	must(t, err)
	for range 3 { // pages, then the checkpoint
		for n := range ese.Steps {
			must(t, in.Step(n))
		}
	}
	for in.Stats().Cache.Dirty > 0 {
		must(t, in.Step(2))
	}
	must(t, in.Step(0))
	must(t, in.Step(4))
	must(t, in.Kill())
	in = open()
	if n := in.Recovery().Applied; n != 0 {
		t.Errorf("%d changes were replayed: the test proves nothing", n)
	}
	if s := logged.String(); strings.Contains(s, "opened clean") || !strings.Contains(s, "recovery ended") {
		t.Errorf("after a kill the log says:\n%s", s)
	}
	must(t, in.Close())
	in = open()
	if s := logged.String(); !strings.Contains(s, "opened clean") {
		t.Errorf("after a clean end the log says:\n%s", s)
	}
	must(t, in.Close())
}
