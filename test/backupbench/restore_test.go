//go:build linux

package backupbench_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// logBytes is how much log is replayed.
const logBytes = 1 << 30

// TestReplay recovers a storage group from a backup of its beginning and the log since: in place, as
// after the loss of the database disk.
func TestReplay(t *testing.T) {
	s := newSite(t)
	s.start()
	s.verb("backup", "full", "--to", s.path("sets"))
	l := newLetters()
	for n := int64(0); n < logBytes; {
		s.deliver(l, false, func(sent int) bool { return sent >= 5000 })
		_, n = sizeOf(t, s.path("data/store"), ".log")
	}
	s.stop()
	logs, n := sizeOf(t, s.path("data/store"), ".log")
	t.Logf("%d messages, %d log files of %.2f GB", s.sent, len(logs), float64(n)/1e9)
	one := s.path("one") // what dd reads: 200 files would cost it 200 starts
	s.must("sh", append([]string{"-c", `cat "$@" >` + one, "cat"}, logs...)...)
	var plain, whole, replay, ratio, wholeRatio spread
	for range *rounds {
		settle(t)
		began := time.Now()
		s.must("dd", "if="+one, "of=/dev/null", "bs=1M")
		read := rate(n, time.Since(began))
		settle(t)
		all, marked := s.phases("This reaches", "restore", "--config", s.config, "--from", s.path("sets"))
		s.putBack()
		plain, whole = append(plain, read), append(whole, rate(n, all))
		replay = append(replay, rate(n, all-marked))
		ratio, wholeRatio = append(ratio, rate(n, all-marked)/read), append(wholeRatio, rate(n, all)/read)
	}
	t.Logf("MB/s: dd reads the logs %v; replay %v; the whole restore %v", plain, replay, whole)
	t.Logf("ratio to dd: replay %v; the whole restore %v", ratio, wholeRatio)
}

func rate(n int64, took time.Duration) float64 { return float64(n) / 1e6 / took.Seconds() }

// putBack takes a restore in place back.
func (s *site) putBack() {
	store := s.path("data/store")
	aside, err := filepath.Glob(filepath.Join(store, "replaced-*"))
	if err != nil || len(aside) != 1 {
		s.t.Fatalf("what the restore replaced lies in %q: %v", aside, err)
	}
	entries, err := os.ReadDir(store)
	for _, e := range entries {
		if err == nil && e.Type().IsRegular() && !strings.HasSuffix(e.Name(), ".lock") {
			err = os.Remove(filepath.Join(store, e.Name()))
		}
	}
	if err == nil {
		entries, err = os.ReadDir(aside[0])
	}
	for _, e := range entries {
		err = errors.Join(err, os.Rename(filepath.Join(aside[0], e.Name()), filepath.Join(store, e.Name())))
	}
	if err = errors.Join(err, os.Remove(aside[0])); err != nil {
		s.t.Fatal(err)
	}
}

// TestRestore builds a server anew from a full set, and copies the same files by dd.
func TestRestore(t *testing.T) {
	s := newSite(t)
	s.start()
	s.fill(t, newLetters(), int64(*size*1e9))
	s.verb("backup", "full", "--to", s.path("sets"))
	s.stop()
	sets, err := filepath.Glob(s.path("sets/*"))
	if err != nil || len(sets) != 1 {
		t.Fatalf("sets %q: %v", sets, err)
	}
	if err := os.RemoveAll(s.path("data")); err != nil {
		t.Fatal(err)
	}
	files, n := sizeOf(t, sets[0], ".edb", ".stm", ".log")
	t.Logf("%d files of %.2f GB", len(files), float64(n)/1e9)
	var plain, ours, pages, ratio, pagesRatio spread
	for range *rounds {
		settle(t)
		began := time.Now()
		for _, name := range files {
			s.must("dd", "if="+name, "of="+s.path("copy-"+filepath.Base(name)), "bs=1M", "conv=fsync")
		}
		copied := rate(n, time.Since(began))
		for _, name := range files {
			if err := os.Remove(s.path("copy-" + filepath.Base(name))); err != nil {
				t.Fatal(err)
			}
		}
		settle(t)
		all, marked := s.phases("This reaches", "restore", "--into", s.path("new"), "--from", s.path("sets"))
		if err := os.RemoveAll(s.path("new")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		plain, ours = append(plain, copied), append(ours, rate(n, all))
		ratio = append(ratio, rate(n, all)/copied)
		pages, pagesRatio = append(pages, rate(n, all-marked)), append(pagesRatio, rate(n, all-marked)/copied)
	}
	t.Logf("MB/s: dd with fsync %v; the whole restore %v; from the announcement on %v", plain, ours, pages)
	t.Logf("ratio to dd: the whole restore %v; from the announcement on %v", ratio, pagesRatio)
}
