package offline

import (
	"errors"
	"slices"
	"testing"

	"pillarbox/ese/vfs"
)

// A copy that a full disk ends leaves nothing that passes for the whole: neither what was to be copied,
// nor the old file that a repair keeps, nor the new one. The next try goes through.
func TestFullDiskLeavesNoPart(t *testing.T) {
	disk := fill(t, 4096, 50)
	before, err := disk.ReadDir("/d")
	if err != nil {
		t.Fatal(err)
	}
	nobody := func(int64, int64) {}
	tries := map[string]func(vfs.FS) error{
		"copy.edb": func(fs vfs.FS) error {
			_, err := Copy(t.Context(), fs, path, "/d/copy.edb", false, nobody)
			return err
		},
		"priv1.edb.old": func(fs vfs.FS) error {
			_, err := Repair(t.Context(), RebuildOptions{FS: fs, Path: path})
			return err
		},
	}
	for name, try := range tries {
		fault := vfs.NewFault(disk)
		full := fault.Inject(vfs.Rule{Op: vfs.OpWrite, Path: name, Err: vfs.ErrDiskFull})
		if err := try(fault); !vfs.IsDiskFull(err) || full.Hits() == 0 {
			t.Fatalf("%s on a full disk: %v", name, err)
		}
		after, err := disk.ReadDir("/d")
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range after {
			report := n == "priv1.edb.repair.txt" || n == "priv1.edb.repair.json"
			if !slices.Contains(before, n) && !report {
				t.Errorf("%s on a full disk leaves %s", name, n)
			}
		}
		if err := try(disk); err != nil {
			t.Errorf("%s again: %v", name, err)
		}
		if err := disk.Remove("/d/" + name); err != nil {
			t.Error(err)
		}
	}
}

// A database that a server has, in whatever folder, is not written anew; that another one in the folder
// is mounted is no matter.
func TestRepairOfMountedDatabase(t *testing.T) {
	disk := fill(t, 4096, 5)
	for name, refused := range map[string]bool{path + ".lock": true, "/d/other.edb.lock": false} {
		l, err := disk.Lock(name)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Repair(t.Context(), RebuildOptions{FS: disk, Path: path})
		if errors.Is(err, vfs.ErrLocked) != refused || !refused && err != nil {
			t.Errorf("repair with %s held: %v", name, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
