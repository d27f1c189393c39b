package cost_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pillarbox/ese"
	"pillarbox/ese/inspect"
	"pillarbox/test/program"
)

// An independent reader, Debian's esedbexport, lists every table and every row of a database
// of 10,000 delivered messages and reports no checksum mismatch.
func TestEsedbexport(t *testing.T) {
	tool, err := exec.LookPath("esedbexport")
	if err != nil {
		t.Skip("esedbexport is not installed (libesedb-utils)")
	}
	n := 10_000
	if testing.Short() {
		n = 1000
	}
	s := open(t)
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 3))
			for i := range n / 16 {
				if err := s.deliver(message(rng, 300+rng.IntN(3000)), (w*31+i)%40, (w+i)%40); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	rows := s.countRows()
	s.shut = true
	if err := errors.Join(s.tr.Close(), s.in.Close()); err != nil {
		t.Fatal(err)
	}
	db := filepath.Join(s.dir, "priv1.edb")
	out := filepath.Join(t.TempDir(), "out")
	said, err := program.Run(t, 2*time.Minute, exec.Command(tool, "-v", "-t", out, db))
	if err != nil {
		t.Fatalf("esedbexport: %v\n%s", err, tail(said))
	}
	for _, l := range strings.Split(said, "\n") {
		if strings.Contains(l, "mismatch") || strings.Contains(l, "corrupt") {
			t.Errorf("esedbexport says: %s", l)
		}
	}
	exported, err := exportedRows(out + ".export")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range rows {
		if got, ok := exported[name]; !ok || got != want {
			t.Errorf("table %s: %d rows exported (%v), %d stored", name, got, ok, want)
		}
	}
	t.Logf("%d tables, %d Msg rows exported", len(exported), exported["Msg"])
	f, err := os.Open(db)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := inspect.Check(context.Background(), osFile{f}, inspect.CheckOptions{})
	if err != nil || !rep.OK() {
		t.Errorf("our checker: %v %v", rep.Findings, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func tail(s string) string { return s[max(0, len(s)-2000):] }

// osFile is an *os.File as a vfs.File for reading.
type osFile struct{ *os.File }

func (osFile) SyncData() error { return nil }

func (osFile) Allocate(int64) error { return os.ErrPermission }

func (f osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// countRows counts the rows of every table.
func (s *site) countRows() map[string]int {
	s.t.Helper()
	db, err := s.in.OpenDatabase("priv1.edb")
	if err != nil {
		s.t.Fatal(err)
	}
	out := make(map[string]int)
	err = s.in.View(func(tx *ese.Tx) error {
		for _, name := range db.Tables() {
			t, err := db.Table(name)
			if err != nil {
				return err
			}
			c := tx.Cursor(t.Primary())
			ok, err := c.First()
			for ; ok && err == nil; ok, err = c.Next() {
				out[name]++
			}
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// exportedRows counts the lines of each file NAME.n, less the one with the columns.
func exportedRows(dir string) (map[string]int, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	out := make(map[string]int)
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			return nil, err
		}
		name, _, _ := strings.Cut(f.Name(), ".")
		out[name] = strings.Count(string(b), "\n") - 1
	}
	return out, nil
}
