//go:build unix

package server

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pillarbox/archive"
	"pillarbox/ese"
)

// hang makes a file of an archive one that nobody can open to read.
func hang(t *testing.T, at string) {
	t.Helper()
	if err := errors.Join(syscall.Mkfifo(at+".fifo", 0o600), os.Rename(at+".fifo", at)); err != nil {
		t.Fatal(err)
	}
}

// hangs waits until somebody reads it, who then waits for f to be closed.
func hangs(t *testing.T, at string) (f *os.File) {
	t.Helper()
	until(t, "somebody reads", func() (ok bool) {
		var err error
		f, err = os.OpenFile(at, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		return err == nil
	})
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// endsAnyway ends a server whose archive hangs: the databases are closed, and the log says what
// hangs.
func endsAnyway(t *testing.T, r *running, dir string, says ...string) {
	t.Helper()
	r.stop()
	select {
	case err := <-r.done:
		if err != nil {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("not ended")
	}
	text, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range append(says, "Clean Shutdown") {
		if !strings.Contains(string(text), s) {
			t.Errorf("the log does not say %q:\n%s", s, text)
		}
	}
}

// An archive on a mount that hangs, before the end or from then on, does not keep the databases
// from being closed clean.
func TestEndWithHungArchive(t *testing.T) {
	dir, place := t.TempDir(), t.TempDir()
	begin := func(every time.Duration) (*running, string) {
		r := startWith(t, dir, func(cfg *Config) {
			cfg.Groups[0].Archive, cfg.Groups[0].ArchiveEvery = place, Duration(every)
		})
		c := r.s.core
		until(t, "archived at first", func() bool { return archivedAll(t, c, "store") })
		in, err := c.instance(&r.cfg.Groups[0])
		if err != nil {
			t.Fatal(err)
		}
		return r, filepath.Join(place, archive.FolderOf(in.LogSignature()), "owner.json")
	}
	r, owner := begin(10 * time.Millisecond)
	text, err := os.ReadFile(owner)
	if err != nil {
		t.Fatal(err)
	}
	hang(t, owner)
	addUser(t, r.s.core, "late@pillarbox.test")
	f := hangs(t, owner)
	endsAnyway(t, r, dir, "does not wait any longer", "archive of store in "+place)
	if err := errors.Join(f.Close(), os.Remove(owner), os.WriteFile(owner, text, 0o600)); err != nil {
		t.Fatal(err)
	}
	r, owner = begin(time.Hour)
	hang(t, owner)
	endsAnyway(t, r, dir, "its archive does not answer: the next start goes on")
	if err := hangs(t, owner).Close(); err != nil { // who reads is let go
		t.Error(err)
	}
}

// stuckSink is on a disk that does not answer until it is let go.
type stuckSink struct{ begun, goOn chan struct{} }

func (s *stuckSink) Create(string, int64) (io.WriteCloser, error) {
	close(s.begun)
	<-s.goOn
	return nil, errors.New("let go")
}

// A backup that hangs holds up the closing for a limited time only, where that is said.
func TestCloseWithin(t *testing.T) {
	cfg, _ := backedUp(t)
	c := visit(t, cfg)
	in, err := c.instance(&cfg.Groups[0])
	if err != nil {
		t.Fatal(err)
	}
	sink := &stuckSink{make(chan struct{}), make(chan struct{})}
	ended := make(chan error, 1)
	go func() {
		_, err := in.Backup(t.Context(), ese.BackupOptions{Kind: ese.BackupCopy, Sink: sink})
		ended <- err
	}()
	<-sink.begun
	if err := c.closeWithin(50 * time.Millisecond); !errors.Is(err, errStuck) {
		t.Errorf("closed with %v", err)
	}
	close(sink.goOn)
	if err := <-ended; !errors.Is(err, ese.ErrClosed) {
		t.Errorf("the backup ended with %v", err)
	}
	closeCores(t, c)
}
