package ese_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"pillarbox/ese"
	"pillarbox/ese/vfs"
)

// A backup made when nothing has been logged since the last one can be restored by itself: it
// holds a log file that replay begins with.
func TestBackupsOfAQuietInstance(t *testing.T) {
	fs := vfs.NewMem()
	s := openShop(t, fs)
	s.sell(50)
	s.g.Reopen() // writes all pages, so that the checkpoint comes to the end of the log
	s.g.Database("priv1.edb")
	kinds := []ese.BackupKind{ese.BackupFull, ese.BackupFull, ese.BackupCopy, ese.BackupFull}
	infos := make([]ese.BackupInfo, 0, len(kinds))
	for i, kind := range kinds {
		infos = append(infos, s.backup(kind, fs, fmt.Sprintf("/set%d", i)))
	}
	for i, info := range infos {
		if info.High < info.Low {
			t.Errorf("set %d holds generations %d to %d", i, info.Low, info.High)
		}
		disk := fs.CrashClone(rand.New(rand.NewPCG(1, uint64(i))))
		_, err := ese.Restore(t.Context(), ese.RestoreOptions{
			Info: info, Set: fmt.Sprintf("/set%d", i), Options: restored(disk, "/new"),
		})
		if err != nil {
			t.Fatalf("set %d: %v", i, err)
		}
		if got := rows(t, restored(disk, "/new")); len(got) != 50 {
			t.Errorf("set %d: %d rows of 50", i, len(got))
		}
	}
}
