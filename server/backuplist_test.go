package server

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"pillarbox/archive"
)

// lastSpan lists what can be reached, and gives the last span.
func lastSpan(t *testing.T, cfg *Config, sets string, o ListOptions) (n int, last time.Time, archived bool) {
	t.Helper()
	l, err := ListReachable(t.Context(), cfg, sets, o)
	if err != nil || len(l.Spans) == 0 || len(l.Unread) > 0 {
		t.Fatalf("%+v, %v", l, err)
	}
	s := l.Spans[len(l.Spans)-1]
	return len(l.Spans), s.Last, s.Archive
}

// The list says which moments can be reached with the archive: it leads on from the newest set, and joins
// sets between which no set has the log.
func TestListWithArchive(t *testing.T) {
	noEnvironment(t)
	for _, kind := range []string{"folder", "store"} {
		cfg, sets, _ := withStore(t, "")
		if kind == "folder" {
			cfg.Groups[0].Archive = t.TempDir()
		}
		_, alone, _ := lastSpan(t, cfg, sets, ListOptions{IgnoreArchive: true})
		if _, last, archived := lastSpan(t, cfg, sets, ListOptions{}); archived || !last.Equal(alone) {
			t.Errorf("%s: an empty archive reaches %v (%v)", kind, last, archived)
		}
		c := visit(t, cfg)
		a := mustArchive(t, c)
		for i := range 60 {
			addUser(t, c, fmt.Sprintf("u%d@pillarbox.test", i))
		}
		before := time.Now()
		time.Sleep(3 * time.Millisecond)
		addUser(t, c, "late@pillarbox.test")
		step(t, a)
		n, last, archived := lastSpan(t, cfg, sets, ListOptions{})
		if !archived || last.Before(before.Truncate(time.Millisecond)) || last.After(time.Now()) {
			t.Errorf("%s: reaches %v (%v), the last commit was after %v", kind, last, archived, before)
		}
		if _, same, _ := lastSpan(t, nil, sets, ListOptions{}); !same.Equal(alone) {
			t.Errorf("%s: without a config %v, alone %v", kind, same, alone)
		}
		if kind == "folder" {
			o := ListOptions{Logs: []string{cfg.Groups[0].Archive}}
			if _, named, _ := lastSpan(t, nil, sets, o); !named.Equal(last) {
				t.Errorf("named it reaches %v, by the config %v", named, last)
			}
		}
		if _, err := Backup(t.Context(), c, BackupOptions{Kind: "copy", To: sets}); err != nil {
			t.Fatal(err)
		}
		closeCores(t, c)
		gaps, _, _ := lastSpan(t, cfg, sets, ListOptions{IgnoreArchive: true})
		if joined, _, _ := lastSpan(t, cfg, sets, ListOptions{}); joined > n || joined > gaps {
			t.Errorf("%s: %d spans, %d without the archive, %d before", kind, joined, gaps, n)
		}
		// A generation is lost: nothing leads over it.
		gens, err := a.stream.Generations(t.Context())
		if err != nil || len(gens) < 3 {
			t.Fatal(gens, err)
		}
		folder := archive.FolderOf(a.in.LogSignature())
		if err := a.stream.Store.Remove(t.Context(), folder, archive.Name(gens[len(gens)-2])); err != nil {
			t.Fatal(err)
		}
		if split, _, _ := lastSpan(t, cfg, sets, ListOptions{}); split < gaps {
			t.Errorf("%s: over a gap there are %d spans, %d without the archive", kind, split, gaps)
		}
	}
}

// An archive that cannot be read is told, and the sets are listed.
func TestListWithoutItsArchive(t *testing.T) {
	cfg, sets := backedUp(t)
	bad := t.TempDir() + "/file"
	if err := os.WriteFile(bad, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Groups[0].Archive = bad
	l, err := ListReachable(t.Context(), cfg, sets, ListOptions{})
	if err != nil || len(l.Spans) != 1 || len(l.Unread) != 1 || !strings.Contains(l.Unread[0], bad) {
		t.Errorf("%+v, %v", l, err)
	}
}
