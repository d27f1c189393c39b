package server

import (
	"os"
	"path/filepath"
	"testing"
)

// A backup made when nothing has happened since the last one can be restored by itself.
func TestBackupsOfAQuietServer(t *testing.T) {
	cfg, _ := backedUp(t)
	c := visit(t, cfg)
	var sets []string
	for _, kind := range []string{"full", "full", "copy", "full"} {
		to := filepath.Join(t.TempDir(), "sets")
		sets = append(sets, to)
		if _, err := Backup(t.Context(), c, BackupOptions{Kind: kind, To: to}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(cfg.Groups[0].Dir); err != nil {
		t.Fatal(err)
	}
	for i, from := range sets {
		wrong, n, err := VerifyBackups(t.Context(), from, "", func(string) {})
		if err != nil || n != 1 || len(wrong) != 0 {
			t.Errorf("set %d: %v, %v", i, wrong, err)
		}
		res, err := Drill(t.Context(), DrillOptions{From: from, Scratch: t.TempDir()})
		if err != nil || res.Accounts != 2 {
			t.Errorf("set %d: %+v, %v", i, res, err)
		}
	}
}
