package storage

import (
	"context"
	"errors"
	"io"
	"testing"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
)

// heldSink takes a backup and stops it in its first file until it is let go.
type heldSink struct {
	memSink
	begun, goOn chan struct{}
}

func (s *heldSink) Create(name string, size int64) (io.WriteCloser, error) {
	if s.begun != nil {
		close(s.begun)
		s.begun = nil
		<-s.goOn
	}
	return s.memSink.Create(name, size)
}

// TestReplaceWaitsForBackup brings a lost database back while a backup of its group is running. It
// waits, says for what when it is told to give up, and keeps nobody else from the group meanwhile.
func TestReplaceWaitsForBackup(t *testing.T) {
	s := newLost(t, 7)
	s.backup(ese.BackupLog, "/log")
	s.restore("/log")
	must(t, s.disk.MkdirAll("/slow", 0o700))
	sink := &heldSink{memSink{s.disk.Mem, "/slow"}, make(chan struct{}), make(chan struct{})}
	begun := sink.begun
	backup := make(chan error, 1)
	go func() {
		_, err := s.set.group("a").in.Backup(t.Context(), ese.BackupOptions{
			Kind: ese.BackupCopy, Sink: sink,
		})
		backup <- err
	}()
	<-begun

	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("the operator has gone")
	cancel(stopped)
	err := s.set.ReplaceDatabase(ctx, "a/a2", s.replacement)
	if !errors.Is(err, ese.ErrBackupRunning) || !errors.Is(err, stopped) {
		t.Fatalf("given up with %v", err)
	}
	if r, _ := s.set.record("a/a2"); r.Replaced != nil {
		t.Fatal("groups.json speaks of what was given up")
	}

	done := make(chan error, 1)
	go func() { done <- s.set.ReplaceDatabase(t.Context(), "a/a2", s.replacement) }()
	for range 3 {
		s.set.Look()
	}
	select {
	case err := <-done:
		t.Fatalf("did not wait for the backup: %v", err)
	default:
	}
	close(sink.goOn)
	must(t, <-backup)
	must(t, <-done)
	s.disk.Left = 0
	s.mountAll()
	s.deliver(1)
	s.messages(0)
	must(t, s.set.Close())
	esetest.Check(t, s.disk.Mem, swapAt)
}
