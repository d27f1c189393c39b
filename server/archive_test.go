package server

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pillarbox/archive"
	"pillarbox/ese"
)

// The machine is lost but for backups and archive: all comes back that had been archived.
func TestArchiveCoversTheLossOfTheMachine(t *testing.T) {
	cfg, sets := backedUp(t)
	g := &cfg.Groups[0]
	g.Archive = t.TempDir()
	c := visit(t, cfg)
	a, err := newArchiver(c, g)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		addUser(t, c, fmt.Sprintf("user%d@pillarbox.test", i))
		if i%50 == 7 {
			step(t, a)
		}
	}
	if a.next < 4 {
		t.Fatalf("only generation %d: the test proves little", a.next)
	}
	step(t, a)
	addUser(t, c, "late@pillarbox.test")
	stream := a.in.LogSignature()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	gens, err := closedIn(g.Archive, stream)
	if err != nil || len(gens) < 3 {
		t.Fatal(gens, err)
	}
	for i := range gens {
		if gens[i] != gens[0]+uint32(i) {
			t.Errorf("the archive has a gap: %v", gens)
		}
	}
	if err := os.RemoveAll(g.Dir); err != nil {
		t.Fatal(err)
	}
	if err := Restore(t.Context(), cfg, RestoreOptions{From: sets, Say: say(t)}); err != nil {
		t.Fatal(err)
	}
	if n := users(t, cfg); n != 302 {
		t.Errorf("%d accounts, archived were 302", n)
	}
	// Another machine is told of the archive as a whole.
	into := filepath.Join(t.TempDir(), "new")
	o := RestoreOptions{From: sets, Logs: []string{g.Archive}, Say: say(t)}
	config, err := RestoreInto(t.Context(), into, o)
	if err != nil {
		t.Fatal(err)
	}
	other, err := LoadConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if n := users(t, other); n != 302 {
		t.Errorf("elsewhere %d accounts, archived were 302", n)
	}
}

// closedIn are the generations of a stream in an archive.
func closedIn(root, stream string) ([]uint32, error) {
	return archive.NewStream(archive.Folder(root), stream).Generations(context.Background())
}

func step(t *testing.T, a *archiver) {
	t.Helper()
	if err := a.step(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// An archiver that begins anew goes on where the last one ended, and prune leaves what the
// oldest set needs.
func TestArchiveGoesOnAndIsPruned(t *testing.T) {
	cfg, sets := backedUp(t)
	g := &cfg.Groups[0]
	g.Archive = t.TempDir()
	for round := range 3 {
		c := visit(t, cfg)
		a, err := newArchiver(c, g)
		if err != nil {
			t.Fatal(err)
		}
		step(t, a)
		for i := range 100 {
			addUser(t, c, fmt.Sprintf("user%d-%d@pillarbox.test", round, i))
		}
		step(t, a)
		if round == 2 {
			if _, err := Backup(t.Context(), c, BackupOptions{Kind: "full", To: sets}); err != nil {
				t.Fatal(err)
			}
		}
		stream := a.in.LogSignature()
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		gens, err := closedIn(g.Archive, stream)
		if err != nil || !slices.IsSorted(gens) || int(gens[len(gens)-1]-gens[0]) != len(gens)-1 {
			t.Fatalf("round %d: %v, %v", round, gens, err)
		}
	}
	l, err := ListBackups(sets)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := PruneBackups(sets, "1", false, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := cfg.pruneArchives(t.Context(), sets); err != nil {
		t.Fatal(err)
	}
	dirs, err := os.ReadDir(g.Archive)
	if err != nil || len(dirs) != 1 {
		t.Fatal(dirs, err)
	}
	gens, err := closedIn(g.Archive, dirs[0].Name())
	if err != nil {
		t.Fatal(err)
	}
	low := l.Sets[len(l.Sets)-1].Low
	if len(gens) > 0 && gens[0] < low {
		t.Errorf("generations %v are left, the kept set begins with %d", gens, low)
	}
	if err := os.RemoveAll(g.Dir); err != nil {
		t.Fatal(err)
	}
	if err := Restore(t.Context(), cfg, RestoreOptions{From: sets, Say: say(t)}); err != nil {
		t.Fatal(err)
	}
	if n := users(t, cfg); n != 302 {
		t.Errorf("%d accounts, not 302", n)
	}
}

func TestBackupsDue(t *testing.T) {
	b := &BackupConfig{To: "/b", FullAt: "03:00", IncrementalEvery: Duration(time.Hour)}
	at := func(day, hour, minute int) time.Time {
		return time.Date(2026, 11, day, hour, minute, 0, 0, time.Local)
	}
	noted := func(full, inc time.Time) *GroupBackups {
		n := &GroupBackups{Last: map[ese.BackupKind]NotedBackup{}}
		n.Last[ese.BackupFull] = NotedBackup{Stream: "a", Ended: full}
		if !inc.IsZero() {
			n.Last[ese.BackupIncremental] = NotedBackup{Stream: "a", Ended: inc}
		}
		return n
	}
	none := time.Time{}
	failed := noted(at(24, 3, 1), none)
	failed.Failure = &NotedFailure{At: at(25, 3, 0)}
	for _, c := range []struct {
		name string
		now  time.Time
		n    *GroupBackups
		want ese.BackupKind
	}{
		{"never before", at(25, 12, 0), &GroupBackups{}, ese.BackupFull},
		{"before its time", at(25, 2, 59), noted(at(24, 3, 1), at(25, 2, 30)), ""},
		{"at its time", at(25, 3, 0), noted(at(24, 3, 1), at(25, 2, 30)), ese.BackupFull},
		{"done", at(25, 3, 30), noted(at(25, 3, 1), at(25, 2, 30)), ""},
		{"an hour after full", at(25, 4, 1), noted(at(25, 3, 1), at(25, 2, 30)), ese.BackupIncremental},
		{"an hour after incremental", at(25, 5, 1), noted(at(25, 3, 1), at(25, 4, 1)), ese.BackupIncremental},
		{"within the hour", at(25, 4, 59), noted(at(25, 3, 1), at(25, 4, 1)), ""},
		{"missed for days", at(29, 1, 0), noted(at(25, 3, 1), none), ese.BackupFull},
		{"failed just now", at(25, 3, 4), failed, ""},
		{"failed a while ago", at(25, 3, 5), failed, ese.BackupFull},
	} {
		if got := b.due(c.now, c.n, "a"); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	if got := b.due(at(25, 3, 30), noted(at(25, 3, 1), none), "b"); got != ese.BackupFull {
		t.Errorf("on a new log stream: %q", got)
	}
}

// A server with a schedule makes its first backup by itself, and one that fails is told.
func TestScheduledBackup(t *testing.T) {
	cfg, _ := backedUp(t)
	cfg.Backup = BackupConfig{To: filepath.Join(t.TempDir(), "sets"), FullAt: "03:00", Keep: "2"}
	c := visit(t, cfg)
	n := c.backups.notes()
	if kind := cfg.Backup.due(time.Now(), &n.GroupBackups, "another stream"); kind != ese.BackupFull {
		t.Fatalf("due is %q", kind)
	}
	for range 4 {
		c.scheduled(t.Context(), cfg.Groups[0].Name, ese.BackupFull)
	}
	l, err := ListBackups(cfg.Backup.To)
	if err != nil || len(l.Sets) != 2 {
		t.Errorf("keep 2 of 4 leaves %d: %v", len(l.Sets), err)
	}
	cfg.Backup.To = filepath.Join(cfg.path, "below a file")
	c.scheduled(t.Context(), cfg.Groups[0].Name, ese.BackupIncremental)
	s, err := c.status()
	if err != nil || s.Backups.Failure == nil || !strings.Contains(s.Backups.Failure.Reason, "not a directory") {
		t.Errorf("a failure is not told: %+v, %v", s, err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}
