package ese_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"testing"
	"time"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
	"pillarbox/ese/vfs"
)

var updateGolden = flag.Bool("update", false, "write testdata/v1 anew (only while no release has it)")

// TestGolden opens the files of format version 1, closed clean and left dirty, for ever.
func TestGolden(t *testing.T) {
	for _, state := range []string{"clean", "dirty"} {
		t.Run(state, func(t *testing.T) {
			dir := filepath.Join("testdata", "v1", state)
			if *updateGolden {
				writeGolden(t, dir, state == "clean")
			}
			readGolden(t, dir)
		})
	}
}

func goldenOptions(m *vfs.Mem) ese.Options {
	now := time.Unix(1_790_000_000, 0)
	rng := rand.New(rand.NewPCG(1, 1))
	return ese.Options{
		Dir: "/g", FS: m, PageSize: 4096, GenerationBytes: 64 << 10, Manual: true, LogKeep: 1,
		Now: func() time.Time { now = now.Add(time.Millisecond); return now }, Rand: rng.Uint32,
	}
}

// goldenRows is what the files hold.
const goldenRows = 300

func goldenPhoto(i int) []byte { return bytes.Repeat([]byte{byte(i), byte(i >> 8), 7}, i*11%2500) }

func writeGolden(t *testing.T, dir string, clean bool) {
	m := vfs.NewMem()
	in, err := ese.Open(goldenOptions(m))
	must(t, err)
	db, err := in.OpenDatabase("a.edb")
	must(t, err)
	var tb *ese.Table
	must(t, in.Update(context.Background(), func(tx *ese.Tx) (err error) {
		tb, err = tx.CreateTable(db, peopleDef())
		return err
	}))
	for i := range goldenRows {
		must(t, in.Update(context.Background(), func(tx *ese.Tx) error {
			r := tb.NewRow().Set(col(t, tb, "ID"), ese.Int(i)).Set(col(t, tb, "Age"), ese.Int(i%50))
			r.Set(col(t, tb, "Name"), ese.String(fmt.Sprintf("ROW %d", i))).Set(col(t, tb, "Photo"), ese.Bytes(goldenPhoto(i)))
			if i%10 == 0 {
				id, err := tx.WriteStream(db, goldenPhoto(i+1))
				if err != nil {
					return err
				}
				r.Set(col(t, tb, "Key"), ese.Bytes(fmt.Append(nil, id)))
			}
			return tx.Insert(r)
		}))
		if i%20 == 0 {
			must(t, in.Step(i/20%ese.Steps))
		}
	}
	tx := in.Begin() // a loser for recovery to undo
	must(t, tx.Delete(tb, ese.Int(5)))
	must(t, in.Step(0))
	if clean {
		must(t, tx.Rollback())
		must(t, in.Close())
	} else {
		m = m.CrashClone(rand.New(rand.NewPCG(3, 3)))
	}
	must(t, os.RemoveAll(dir))
	must(t, os.MkdirAll(dir, 0o755))
	names, err := m.ReadDir("/g")
	must(t, err)
	for _, n := range names {
		f, err := m.OpenFile("/g/"+n, os.O_RDONLY, 0)
		must(t, err)
		size, err := f.Size()
		must(t, err)
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, err = io.Copy(z, io.NewSectionReader(f, 0, size))
		must(t, err)
		must(t, z.Close())
		must(t, os.WriteFile(filepath.Join(dir, n+".gz"), b.Bytes(), 0o644))
	}
}

// readGolden opens a copy of the files and reads everything.
func readGolden(t *testing.T, dir string) {
	m := vfs.NewMem()
	must(t, m.MkdirAll("/g", 0o700))
	files, err := os.ReadDir(dir)
	must(t, err)
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		must(t, err)
		z, err := gzip.NewReader(bytes.NewReader(b))
		must(t, err)
		data, err := io.ReadAll(z)
		must(t, err)
		out, err := m.OpenFile("/g/"+f.Name()[:len(f.Name())-3], os.O_RDWR|os.O_CREATE, 0o600)
		must(t, err)
		_, err = out.WriteAt(data, 0)
		must(t, err)
		must(t, out.SyncData())
	}
	must(t, m.SyncDir("/g"))
	in, err := ese.Open(goldenOptions(m))
	must(t, err)
	db, err := in.OpenDatabase("a.edb")
	must(t, err)
	tb, err := db.Table("People")
	must(t, err)
	var ids []int
	must(t, in.View(func(tx *ese.Tx) error {
		c := tx.Cursor(tb.Primary())
		ok, err := c.First()
		for ; ok && err == nil; ok, err = c.Next() {
			if err := goldenRow(t, tx, db, tb, c.Row()); err != nil {
				return err
			}
			ids = append(ids, int(c.Row().Int(col(t, tb, "ID"))))
		}
		return err
	}))
	if !sort.IntsAreSorted(ids) || len(ids) != goldenRows {
		t.Errorf("%d rows of %d", len(ids), goldenRows)
	}
	must(t, in.Close())
	esetest.Check(t, m, "/g/a.edb")
}

func goldenRow(t *testing.T, tx *ese.Tx, db *ese.Database, tb *ese.Table, v *ese.RowView) error {
	i := int(v.Int(col(t, tb, "ID")))
	photo, err := v.Blob(col(t, tb, "Photo"), nil)
	if err != nil {
		return err
	}
	if v.String(col(t, tb, "Name")) != fmt.Sprintf("ROW %d", i) || !bytes.Equal(photo, goldenPhoto(i)) {
		return fmt.Errorf("row %d reads otherwise", i)
	}
	if v.IsNull(col(t, tb, "Key")) {
		return nil
	}
	var id ese.StreamID
	if _, err := fmt.Sscan(v.String(col(t, tb, "Key")), &id); err != nil {
		return err
	}
	r, err := tx.OpenStream(db, id)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	got := make([]byte, r.Size())
	if _, err := r.ReadAt(got, 0); err != nil && len(got) > 0 {
		return err
	}
	if !bytes.Equal(got, goldenPhoto(i+1)) {
		return fmt.Errorf("stream of row %d reads otherwise", i)
	}
	return nil
}
