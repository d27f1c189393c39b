package backup

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"pillarbox/ese"
)

// TestInterruptedIsNoTrouble: what a killed backup left is no finding, whenever it was killed; a
// set that lost its manifest is one.
func TestInterruptedIsNoTrouble(t *testing.T) {
	dir := t.TempDir()
	set := made{kind: ese.BackupFull, stream: "s", low: 1, high: 2, at: hour(3)}.put(t, dir)
	for i, files := range [][]string{{}, {lockName}, {lockName, "priv1.edb"}, {noteName, "priv1.edb"}} {
		at := filepath.Join(dir, NewID(hour(4+i), "store", ese.BackupFull))
		must(t, os.Mkdir(at, 0o700))
		for _, name := range files {
			must(t, os.WriteFile(filepath.Join(at, name), []byte("{}"), 0o600))
		}
	}
	if found := findings(t, dir); len(found) != 0 {
		t.Errorf("interrupted backups are findings: %v", found)
	}
	must(t, os.Remove(filepath.Join(dir, set, manifestName)))
	if found := findings(t, dir); len(found) != 1 || !errors.Is(found[0].Err, ErrNotSet) {
		t.Errorf("a set without its manifest: %v", found)
	}
}

func findings(t *testing.T, dir string) []Finding {
	t.Helper()
	s, err := OpenShelf(dir)
	must(t, err)
	found, err := s.Verify(t.Context(), Verifying{})
	must(t, err)
	return found
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
