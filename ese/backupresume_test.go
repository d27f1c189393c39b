package ese_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"pillarbox/ese"
	"pillarbox/ese/vfs"
)

// cutSink ends a backup after so many bytes, and remembers what it was told to note.
type cutSink struct {
	folderSink
	left  int64
	made  []string
	noted *ese.BackupInfo
}

type cutFile struct {
	io.WriteCloser
	s *cutSink
}

var errCut = errors.New("cut")

func (s *cutSink) Create(name string, size int64) (io.WriteCloser, error) {
	s.made = append(s.made, name)
	w, err := s.folderSink.Create(name, size)
	return cutFile{w, s}, err
}

func (f cutFile) Write(p []byte) (int, error) {
	if f.s.left -= int64(len(p)); f.s.left < 0 {
		return 0, errCut
	}
	return f.WriteCloser.Write(p)
}

func (s *cutSink) Note(info *ese.BackupInfo) error {
	text, err := json.Marshal(info)
	if err == nil {
		s.noted = &ese.BackupInfo{}
		err = json.Unmarshal(text, s.noted)
	}
	return err
}

// A backup is cut anywhere, again and again, while the databases change and the server is started
// anew between. Resumed, it copies nothing twice that was finished, and leads to a state that has
// every row.
func TestResumedBackup(t *testing.T) {
	resumed := 0
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 5))
		mem := vfs.NewMem()
		b := &twoBooks{rng: rng}
		var err error
		open := func() {
			if b.in, err = ese.Open(twoOptions(mem, rng)); err != nil {
				t.Fatal(err)
			}
		}
		open()
		if err := b.write(100); err != nil {
			t.Fatal(err)
		}
		sink := &cutSink{folderSink: folderSink{mem, "/set"}}
		var info *ese.BackupInfo
		for try := range 7 {
			before := sink.noted
			sink.left, sink.made = int64(2<<20+rng.IntN(3<<20)), nil
			if try == 6 {
				sink.left = 1 << 40
			}
			info, err = b.in.Backup(t.Context(), ese.BackupOptions{
				Kind: ese.BackupFull, Sink: sink, Resume: before,
			})
			if before != nil {
				resumed++
				for _, f := range before.Files {
					if slices.Contains(sink.made, f.Name) {
						t.Fatalf("seed %d: %s was finished and is copied again", seed, f.Name)
					}
				}
			}
			if err == nil {
				break
			}
			if !errors.Is(err, errCut) {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if err := b.write(rng.IntN(50)); err != nil {
				t.Fatal(err)
			}
			if rng.IntN(3) == 0 {
				mem = mem.CrashClone(rng)
				_ = b.in.Kill()
				sink.fs = mem
				open()
			}
		}
		want := b.committed
		if len(info.Databases) != 2 || info.Attached != nil {
			t.Fatalf("seed %d: %+v", seed, info)
		}
		if err := b.in.Close(); err != nil {
			t.Fatal(err)
		}
		o := twoOptions(mem, rng)
		o.Dir = "/new"
		if _, err := ese.Restore(t.Context(), ese.RestoreOptions{Info: *info, Set: "/set", Options: o}); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if b.in, err = ese.Open(o); err != nil {
			t.Fatal(err)
		}
		b.committed = want
		b.check(t)
		if err := b.in.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if resumed < 10 {
		t.Errorf("only %d backups were resumed", resumed)
	}
}

// What an interrupted backup cannot be resumed for is told.
func TestBackupNotResumed(t *testing.T) {
	mem := vfs.NewMem()
	rng := rand.New(rand.NewPCG(1, 5))
	in, err := ese.Open(twoOptions(mem, rng))
	if err != nil {
		t.Fatal(err)
	}
	b := &twoBooks{rng: rng, in: in}
	if err := b.write(50); err != nil {
		t.Fatal(err)
	}
	sink := &cutSink{folderSink: folderSink{mem, "/set"}, left: 1 << 40}
	full := func(resume *ese.BackupInfo, kind ese.BackupKind) error {
		_, err := in.Backup(t.Context(), ese.BackupOptions{Kind: kind, Sink: sink, Resume: resume})
		return err
	}
	if err := full(nil, ese.BackupFull); err != nil {
		t.Fatal(err)
	}
	noted := sink.noted
	for i, harm := range []func(*ese.BackupInfo){
		func(r *ese.BackupInfo) { r.Kind = ese.BackupCopy },
		func(r *ese.BackupInfo) { r.LogSignature = "00" },
		func(r *ese.BackupInfo) { r.Attached = []ese.BackupDatabase{{Name: "gone.edb"}} },
		func(r *ese.BackupInfo) { r.Files = nil },
		func(r *ese.BackupInfo) { r.Low = 0 },
	} {
		r := *noted
		harm(&r)
		if err := full(&r, ese.BackupFull); !errors.Is(err, ese.ErrCannotResume) {
			t.Errorf("case %d: %v", i, err)
		}
	}
	// The log since then went with another backup.
	if err := b.write(200); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		for n := range ese.Steps {
			if err := in.Step(n); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := full(nil, ese.BackupFull); err != nil {
		t.Fatal(err)
	}
	if err := full(noted, ese.BackupFull); !errors.Is(err, ese.ErrCannotResume) {
		t.Errorf("the log is gone: %v", err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(fmt.Errorf("close: %w", err))
	}
}
