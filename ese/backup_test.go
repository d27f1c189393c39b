package ese_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
	"pillarbox/ese/vfs"
)

// folderSink puts the files of a backup into a folder of a disk.
type folderSink struct {
	fs  vfs.FS
	dir string
}

type folderFile struct {
	vfs.File
	s  folderSink
	at int64
}

func (f *folderFile) Close() error {
	return errors.Join(f.SyncData(), f.File.Close(), f.s.fs.SyncDir(f.s.dir))
}

func (f *folderFile) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, f.at)
	f.at += int64(n)
	return n, err
}

func (s folderSink) Create(name string, _ int64) (io.WriteCloser, error) {
	if err := s.fs.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	f, err := s.fs.OpenFile(filepath.Join(s.dir, name), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	return &folderFile{File: f, s: s}, err
}

// shop is a storage group under load: a table of numbered rows with a stream for every eighth.
type shop struct {
	t    *testing.T
	g    *esetest.Group
	tb   *ese.Table
	next atomic.Int64

	mu    sync.Mutex
	acked map[int64]time.Time // when each row's commit was known, at the latest
}

func openShop(t *testing.T, fs vfs.FS) *shop {
	s := &shop{t: t, acked: map[int64]time.Time{}}
	s.g = esetest.Open(t, shopOptions(fs))
	db := s.g.Database("priv1.edb")
	if err := s.g.In.Update(t.Context(), func(tx *ese.Tx) (err error) {
		s.tb, err = tx.CreateTable(db, peopleDef())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return s
}

func shopOptions(fs vfs.FS) ese.Options {
	return ese.Options{
		FS: fs, Dir: "/live", GenerationBytes: 256 << 10, CacheBytes: 1 << 20, CheckpointDepth: 1 << 20,
	}
}

// sell adds n rows.
func (s *shop) sell(n int) {
	s.t.Helper()
	for range n {
		id := s.next.Add(1)
		err := s.g.In.Update(context.Background(), func(tx *ese.Tx) error {
			r := s.tb.NewRow().Set(col(s.t, s.tb, "ID"), ese.Int(id)).Set(col(s.t, s.tb, "Age"), ese.Int(id%90))
			r.Set(col(s.t, s.tb, "Name"), ese.String(fmt.Sprintf("ROW %d", id)))
			photo := make([]byte, rand.IntN(6000))
			for i := range photo {
				photo[i] = byte(id)
			}
			return tx.Insert(r.Set(col(s.t, s.tb, "Photo"), ese.Bytes(photo)))
		})
		if err != nil {
			s.t.Error(err)
			return
		}
		s.mu.Lock()
		s.acked[id] = time.Now()
		s.mu.Unlock()
	}
}

// during runs sell in the background while fn runs.
func (s *shop) during(fn func()) {
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					s.sell(5)
				}
			}
		})
	}
	fn()
	close(stop)
	wg.Wait()
}

func (s *shop) backup(kind ese.BackupKind, fs vfs.FS, dir string) ese.BackupInfo {
	s.t.Helper()
	info, err := s.g.In.Backup(s.t.Context(), ese.BackupOptions{Kind: kind, Sink: folderSink{fs, dir}})
	if err != nil {
		s.t.Fatal(err)
	}
	// It must survive being written down.
	text, err := json.Marshal(info)
	if err != nil {
		s.t.Fatal(err)
	}
	var read ese.BackupInfo
	if err := json.Unmarshal(text, &read); err != nil {
		s.t.Fatal(err)
	}
	return read
}

// rows opens the restored group, checks it whole, and returns the ids in it.
func rows(t *testing.T, o ese.Options) map[int64]bool {
	t.Helper()
	out := map[int64]bool{}
	t.Run("rows", func(t *testing.T) { readRows(t, o, out) }) // its end checks the databases
	return out
}

func readRows(t *testing.T, o ese.Options, out map[int64]bool) {
	g := esetest.Open(t, o)
	tb, err := g.Database("priv1.edb").Table("People")
	if err != nil {
		t.Fatal(err)
	}
	if err := g.In.View(func(tx *ese.Tx) error {
		c := tx.Cursor(tb.Primary())
		ok, err := c.First()
		for ; ok && err == nil; ok, err = c.Next() {
			id := c.Row().Int(col(t, tb, "ID"))
			photo, err := c.Row().Blob(col(t, tb, "Photo"), nil)
			if err != nil {
				return err
			}
			for _, b := range photo {
				if b != byte(id) {
					t.Errorf("row %d has the photo of another", id)
					break
				}
			}
			out[id] = true
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func (s *shop) mustHave(got map[int64]bool, from, to int64) {
	s.t.Helper()
	missing := 0
	for id := from; id <= to; id++ {
		if !got[id] {
			if missing++; missing < 4 {
				s.t.Errorf("row %d is missing", id)
			}
		}
	}
}

func restored(fs vfs.FS, dir string) ese.Options {
	o := shopOptions(fs)
	o.Dir = dir
	return o
}

// The seed story: a full backup under load, an incremental one, more work, the database disk is
// lost. Backup and all logs bring everything back; without the log disk everything up to the
// last backup; and to any moment between.
func TestRestore(t *testing.T) {
	fs := vfs.NewMem()
	s := openShop(t, fs)
	s.sell(300)
	var full, inc ese.BackupInfo
	s.during(func() { full = s.backup(ese.BackupFull, fs, "/full") })
	s.sell(200)
	middle, atMiddle := s.next.Load(), time.Now()
	time.Sleep(3 * time.Millisecond)
	s.sell(200)
	s.during(func() { inc = s.backup(ese.BackupIncremental, fs, "/inc") })
	if inc.Low != full.High+1 {
		t.Errorf("the incremental backup begins with generation %d, the full one ended with %d", inc.Low, full.High)
	}
	s.sell(150)
	last := s.next.Load()
	// Lost without an end in order: what is in the log is all there is.
	crash := fs.CrashClone(rand.New(rand.NewPCG(1, 1)))

	t.Run("everything", func(t *testing.T) {
		fs := crash.CrashClone(rand.New(rand.NewPCG(2, 2)))
		plan, err := ese.Restore(t.Context(), ese.RestoreOptions{
			Info: full, Set: "/full", Logs: []string{"/inc", "/live"}, Options: restored(fs, "/new"),
		})
		if err != nil {
			t.Fatal(err)
		}
		if plan.Forks {
			t.Error("it begins a new stream at the end of the log")
		}
		s.mustHave(rows(t, restored(fs, "/new")), 1, last)
	})
	t.Run("without the log disk", func(t *testing.T) {
		fs := crash.CrashClone(rand.New(rand.NewPCG(2, 2)))
		var told ese.RestorePlan
		_, err := ese.Restore(t.Context(), ese.RestoreOptions{
			Info: full, Set: "/full", Logs: []string{"/inc"}, Options: restored(fs, "/new"), NewStream: true,
			Announce: func(p ese.RestorePlan) error { told = p; return nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		if told.To != inc.To || !told.LastCommit.Equal(inc.LastCommit) || told.Why == "" {
			t.Errorf("it announces %+v, the backup ends at %v with %v", told, inc.To, inc.LastCommit)
		}
		got := rows(t, restored(fs, "/new"))
		for id := range got {
			if id > last {
				t.Errorf("row %d was never made", id)
			}
		}
		for id, at := range s.acked {
			if at.Before(inc.LastCommit) && !got[id] {
				t.Errorf("row %d is missing", id)
			}
		}
		in, err := ese.Open(restored(fs, "/new"))
		if err != nil {
			t.Fatal(err)
		}
		if sign, at := in.Parent(); sign != full.LogSignature || at != inc.To {
			t.Errorf("the new stream left %.16s at %v", sign, at)
		}
		if err := in.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("to a moment", func(t *testing.T) {
		fs := crash.CrashClone(rand.New(rand.NewPCG(2, 2)))
		plan, err := ese.Restore(t.Context(), ese.RestoreOptions{
			Info: full, Set: "/full", Logs: []string{"/inc", "/live"}, Options: restored(fs, "/new"), Time: atMiddle,
		})
		if err != nil {
			t.Fatal(err)
		}
		if !plan.Forks || plan.LastCommit.After(atMiddle) || !plan.NextCommit.After(atMiddle.Add(-time.Millisecond)) {
			t.Errorf("%v was asked for: %+v", atMiddle, plan)
		}
		got := rows(t, restored(fs, "/new"))
		s.mustHave(got, 1, middle)
		if len(got) != int(middle) {
			t.Errorf("%d rows, %d were there then", len(got), middle)
		}
	})
	t.Run("before the backup", func(t *testing.T) {
		_, err := ese.Restore(t.Context(), ese.RestoreOptions{
			Info: full, Set: "/full", Logs: []string{"/inc"}, Options: restored(crash.CrashClone(rand.New(rand.NewPCG(2, 2))), "/new"),
			Time: full.Begun.Add(-time.Hour),
		})
		if !errors.Is(err, ese.ErrBeforeBackup) {
			t.Errorf("a moment before the backup: %v", err)
		}
	})
	t.Run("a gap", func(t *testing.T) {
		fs := crash.CrashClone(rand.New(rand.NewPCG(2, 2)))
		name := fmt.Sprintf("/inc/E00%08X.log", inc.Low)
		if err := fs.Remove(name); err != nil {
			t.Fatal(err)
		}
		_, err := ese.Restore(t.Context(), ese.RestoreOptions{
			Info: full, Set: "/full", Logs: []string{"/inc"}, Options: restored(fs, "/new"),
		})
		if inc.High == inc.Low {
			t.Fatal("the incremental backup has one generation: there can be no gap")
		}
		var le *ese.LogError
		if !errors.As(err, &le) || !errors.Is(err, ese.ErrMissingLog) {
			t.Errorf("a missing generation: %v", err)
		}
	})
	t.Run("a used folder", func(t *testing.T) {
		_, err := ese.Restore(t.Context(), ese.RestoreOptions{
			Info: full, Set: "/full", Options: restored(crash.CrashClone(rand.New(rand.NewPCG(2, 2))), "/live"),
		})
		if !errors.Is(err, os.ErrExist) {
			t.Errorf("a restore over a live group: %v", err)
		}
	})
}

// Log goes when a backup has it, not before, and never under a running backup.
func TestBackupLogs(t *testing.T) {
	fs := vfs.NewMem()
	s := openShop(t, fs)
	if _, err := s.g.In.Backup(t.Context(), ese.BackupOptions{
		Kind: ese.BackupIncremental, Sink: folderSink{fs, "/no"},
	}); !errors.Is(err, ese.ErrNoFullBackup) {
		t.Errorf("an incremental backup before any full one: %v", err)
	}
	s.sell(1500)
	oldest := func() uint32 {
		names, err := fs.ReadDir("/live")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names { // sorted
			var gen uint32
			if n, _ := fmt.Sscanf(name, "E00%08X.log", &gen); n == 1 && filepath.Ext(name) == ".log" {
				return gen
			}
		}
		return s.g.In.Durable().Generation() // only the current one is left
	}
	s.backup(ese.BackupCopy, fs, "/copy")
	if got := oldest(); got != 1 {
		t.Errorf("the oldest log file is %d after a copy backup", got)
	}
	info, err := s.g.In.Backup(t.Context(), ese.BackupOptions{
		Kind: ese.BackupFull, Sink: folderSink{fs, "/held"}, Hold: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := oldest(); got != 1 {
		t.Errorf("the oldest log file is %d after a held backup, before it is confirmed", got)
	}
	needed := s.g.In.Checkpoint().Generation()
	if err := s.g.In.ConfirmBackup(info); err != nil {
		t.Fatal(err)
	}
	if got := oldest(); needed < 2 || got < needed {
		t.Errorf("the oldest log file is %d after the full backup of %d to %d, recovery needs %d", got, info.Low, info.High, needed)
	}
	s.sell(50)
	diff := s.backup(ese.BackupDifferential, fs, "/diff")
	inc := s.backup(ese.BackupIncremental, fs, "/inc")
	if diff.Low != info.High+1 || inc.Low != info.High+1 {
		t.Errorf("differential from %d, incremental from %d, the full one ended with %d", diff.Low, inc.Low, info.High)
	}
	// A sink that fails leaves everything as it was.
	if _, err := s.g.In.Backup(t.Context(), ese.BackupOptions{Kind: ese.BackupFull, Sink: badSink{}}); !errors.Is(err, errSink) {
		t.Errorf("a sink that fails: %v", err)
	}
	s.sell(50)
	again := s.backup(ese.BackupIncremental, fs, "/inc2")
	if again.Low != inc.High+1 {
		t.Errorf("the next incremental backup begins with %d, the last ended with %d", again.Low, inc.High)
	}
	if _, err := ese.Restore(t.Context(), ese.RestoreOptions{
		Info: *info, Set: "/held", Logs: []string{"/diff", "/inc2"}, Options: restored(fs, "/new"),
	}); err != nil {
		t.Fatal(err)
	}
	s.mustHave(rows(t, restored(fs, "/new")), 1, s.next.Load())
}

var errSink = errors.New("tape is full")

type badSink struct{}

func (badSink) Create(string, int64) (io.WriteCloser, error) { return nil, errSink }

// An instance that may not write has no log: what needs one says so.
func TestBackupOfReadOnlyInstance(t *testing.T) {
	fs := vfs.NewMem()
	in, err := ese.Open(ese.Options{FS: fs, Dir: "/ro"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.OpenDatabase("priv1.edb"); err != nil {
		t.Fatal(err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	esetest.Check(t, fs, "/ro/priv1.edb")
	if in, err = ese.Open(ese.Options{FS: fs, Dir: "/ro", ReadOnly: true}); err != nil {
		t.Fatal(err)
	}
	_, err = in.Backup(t.Context(), ese.BackupOptions{
		Kind: ese.BackupCopy, Sink: folderSink{fs, "/set"},
	})
	if !errors.Is(err, ese.ErrReadOnly) {
		t.Errorf("backup: %v", err)
	}
	if err := in.CopyLog(1, io.Discard); !errors.Is(err, ese.ErrReadOnly) {
		t.Errorf("copy log: %v", err)
	}
	if parent, at := in.Parent(); parent != "" || at != 0 {
		t.Errorf("parent %s at %v", parent, at)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
}
