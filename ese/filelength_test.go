package ese_test

import (
	"context"
	"testing"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
	"pillarbox/ese/vfs"
)

// A database grows after its backup by more than it uses, and is closed clean: the restored one is as
// long as it says, and opens. So is one that was made after the backup.
func TestRestoreOfGrownFile(t *testing.T) {
	fs := vfs.NewMem()
	o := ese.Options{FS: fs, Dir: "/live", CacheBytes: 8 << 20}
	g := esetest.Open(t, o)
	fill := func(name string, mib int) {
		db := g.Database(name)
		err := g.In.Update(context.Background(), func(tx *ese.Tx) error {
			tb, err := tx.CreateTable(db, peopleDef())
			if err != nil {
				return err
			}
			for i := range mib {
				r := tb.NewRow().Set(col(t, tb, "ID"), ese.Int(int64(i))).
					Set(col(t, tb, "Photo"), ese.Bytes(make([]byte, 1<<20)))
				if err := tx.Insert(r); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	g.Database("priv1.edb")
	info, err := g.In.Backup(t.Context(), ese.BackupOptions{
		Kind: ese.BackupFull, Sink: folderSink{fs, "/set"},
	})
	if err != nil {
		t.Fatal(err)
	}
	fill("priv1.edb", 41)
	fill("priv2.edb", 41)
	if err := g.In.Close(); err != nil {
		t.Fatal(err)
	}
	o.Dir = "/new"
	_, err = ese.Restore(t.Context(), ese.RestoreOptions{
		Info: *info, Set: "/set", Logs: []string{"/live"}, Options: o,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"priv1.edb", "priv2.edb"} {
		want, err := fs.Stat("/live/" + name)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			esetest.Open(t, o).Database(name)
			if got, err := fs.Stat("/new/" + name); err != nil || got > want {
				t.Errorf("%d bytes, the live one has %d: %v", got, want, err)
			}
		})
	}
}
