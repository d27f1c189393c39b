package server

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pillarbox/ese"
)

// Warnings come when the backup is too old, when there is none, and when log went uncovered.
func TestWarnings(t *testing.T) {
	cfg, _ := backedUp(t)
	c := visit(t, cfg)
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	const day = 24 * time.Hour
	n := c.backups.notes()
	one := func(n *BackupNotes, at time.Time, want string) {
		t.Helper()
		got := strings.Join(c.warnings(n, at), "; ")
		if got == "" && want != "" || !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("warned %q, not %q", got, want)
		}
	}
	now := time.Now()
	one(&n, now, "")
	one(&n, now.Add(8*day), "the last backup is 8 days old")
	one(&BackupNotes{}, now.Add(6*day), "")
	one(&BackupNotes{}, now.Add(8*day), "there is no backup, and mail since ")
	c.observe(cfg.Groups[0].Name, ese.Event{ID: ese.EventLogRemoved, Gen: 7})
	one(&n, now, "")
	one(&BackupNotes{}, now, "log files below generation 7 are gone, and no backup covers them")
	cfg.Backup.WarnAfter = Keep{}
	one(&n, now.Add(8*day), "")

	// Drills at their times, a failed one sooner.
	cfg.Backup.DrillEvery = Keep{7 * day, true}
	for _, d := range []struct {
		drill *NotedDrill
		due   bool
		want  string
	}{
		{nil, true, ""},
		{&NotedDrill{At: now.Add(-6 * day)}, false, ""},
		{&NotedDrill{At: now.Add(-7 * day)}, true, ""},
		{&NotedDrill{At: now.Add(-20 * day)}, true, "the last restore drill is 20 days old"},
		{&NotedDrill{At: now.Add(-time.Hour), Reason: "no"}, false, "the last restore drill failed: no"},
		{&NotedDrill{At: now.Add(-25 * time.Hour), Reason: "no"}, true, "failed: no"},
	} {
		n.Drill = d.drill
		one(&n, now, d.want)
		if got := cfg.Backup.drillDue(now, &n); got != d.due {
			t.Errorf("%+v: due %v", d.drill, got)
		}
	}
	if cfg.Backup.drillDue(now, &BackupNotes{}) {
		t.Error("a drill without a backup")
	}
}

// The log is told once a day of each.
func TestWarnOnce(t *testing.T) {
	cfg, _ := backedUp(t)
	c := visit(t, cfg)
	var text bytes.Buffer
	c.logger = slog.New(slog.NewTextHandler(&text, nil))
	told := make(map[string]time.Time)
	now := time.Now().Add(8 * 24 * time.Hour)
	for range 30 {
		c.warn(told, now)
		now = now.Add(time.Hour)
	}
	if n := strings.Count(text.String(), "the last backup is"); n != 2 {
		t.Errorf("told %d times:\n%s", n, text.String())
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// A drill of the schedule notes what came back, and one of a damaged set why it did not.
func TestScheduledDrill(t *testing.T) {
	cfg, sets := backedUp(t)
	cfg.Backup.To, cfg.Backup.DrillScratch = sets, filepath.Join(t.TempDir(), "scratch")
	left := filepath.Join(cfg.Backup.DrillScratch, drillFolder+"old")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	c := visit(t, cfg)
	m := boxOf(t, c, "one@pillarbox.test")
	put(t, m, "INBOX", "anna@out.test", "lunch")
	if _, err := Backup(t.Context(), c, BackupOptions{Kind: "incremental", To: sets}); err != nil {
		t.Fatal(err)
	}
	c.removeDrills()
	c.drill(t.Context())
	d := c.backups.notes().Drill
	if d == nil || d.Reason != "" || d.Messages != 1 || d.Accounts != 2 || d.Took == 0 || d.Reaches == "" {
		t.Errorf("%+v", d)
	}
	if entries, err := os.ReadDir(cfg.Backup.DrillScratch); err != nil || len(entries) != 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
	edb, err := filepath.Glob(filepath.Join(sets, "*-full", "priv1.edb"))
	if err != nil || len(edb) != 1 {
		t.Fatal(edb, err)
	}
	if err := os.Truncate(edb[0], 100_000); err != nil {
		t.Fatal(err)
	}
	c.drill(t.Context())
	if d := c.backups.notes().Drill; d == nil || d.Reason == "" {
		t.Errorf("%+v", d)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
