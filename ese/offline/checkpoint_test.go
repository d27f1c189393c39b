package offline

import (
	"errors"
	"fmt"
	"testing"

	"pillarbox/ese"
	"pillarbox/ese/vfs"
)

// A defragmented database opens where the checkpoint is lost too: the log of before, which knows it
// under its former signature, is passed over, and what came after is replayed.
func TestDefragmentedWithoutCheckpoint(t *testing.T) {
	for _, opened := range []string{"never", "clean", "killed"} {
		for _, repair := range []bool{false, true} {
			t.Run(fmt.Sprint(opened, repair), func(t *testing.T) {
				disk := fill(t, 4096, 200)
				before := rows(t, disk)
				fn := Defragment
				if repair {
					fn = Repair
				}
				if _, err := fn(t.Context(), RebuildOptions{FS: disk, Path: path}); err != nil {
					t.Fatal(err)
				}
				if opened != "never" {
					in, db := open(t, disk, 4096)
					addRow(t, in, db, 5000)
					end := in.Close
					if opened == "killed" {
						end = in.Kill
					}
					if err := end(); err != nil {
						t.Fatal(err)
					}
				}
				if err := disk.Remove("/d/E00.chk"); err != nil {
					t.Fatal(err)
				}
				in, db := open(t, disk, 4096)
				addRow(t, in, db, 5001)
				if err := in.Close(); err != nil {
					t.Fatal(err)
				}
				have := rows(t, disk)
				want := len(before["Mail"]) + 1
				if opened != "never" {
					want++
				}
				if len(have["Mail"]) != want {
					t.Errorf("%d rows, not %d", len(have["Mail"]), want)
				}
				sound(t, disk, 4096)
			})
		}
	}
}

func addRow(t *testing.T, in *ese.Instance, db *ese.Database, id int) {
	t.Helper()
	err := in.Update(t.Context(), func(tx *ese.Tx) error {
		m, err := tx.Table(db, "Mail")
		if err != nil {
			return err
		}
		c, err := m.Column("ID")
		name, nerr := m.Column("Name")
		if err := errors.Join(err, nerr); err != nil {
			return err
		}
		return tx.Insert(m.NewRow().Set(c, ese.Int(id)).Set(name, ese.String(fmt.Sprint("added ", id))))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Another database under the name is refused all the same, and not written over.
func TestForeignWithoutCheckpoint(t *testing.T) {
	disk := fill(t, 4096, 50)
	other := fill(t, 4096, 60)
	for _, name := range []string{path, stm} {
		if err := copyBetween(t, other, disk, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := disk.Remove("/d/E00.chk"); err != nil {
		t.Fatal(err)
	}
	before := rows(t, disk)
	_, err := ese.Open(ese.Options{Dir: "/d", FS: disk, PageSize: 4096, ScrubEvery: -1, Manual: true})
	if !errors.Is(err, ese.ErrWrongSignature) {
		t.Errorf("got %v", err)
	}
	compare(t, before, rows(t, disk))
}

func copyBetween(t *testing.T, from, to vfs.FS, name string) error {
	t.Helper()
	a, err := from.OpenFile(name, 0, 0)
	if err != nil {
		return err
	}
	size, err := a.Size()
	if err != nil {
		return err
	}
	b := make([]byte, size)
	if _, err := a.ReadAt(b, 0); err != nil {
		return err
	}
	f, err := to.OpenFile(name, 2, 0)
	if err != nil {
		return err
	}
	if err := f.Truncate(size); err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	return errors.Join(err, a.Close(), f.Close())
}
