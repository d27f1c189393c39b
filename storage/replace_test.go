package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
	"pillarbox/ese/vfs"
	"pillarbox/mail/address"
	"pillarbox/transport"
)

// memSink takes a backup into a folder.
type memSink struct {
	fs  vfs.FS
	dir string
}

type memSinkFile struct {
	vfs.File
	at int64
}

func (f *memSinkFile) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, f.at)
	f.at += int64(n)
	return n, err
}

func (f *memSinkFile) Close() error { return errors.Join(f.SyncData(), f.File.Close()) }

func (s memSink) Create(name string, _ int64) (io.WriteCloser, error) {
	f, err := s.fs.OpenFile(filepath.Join(s.dir, name), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	return &memSinkFile{File: f}, err
}

// swap is a server whose database a/a2 is about to be replaced by a restored one.
type swap struct {
	*sim
	mails       int64
	old, fresh  string // the signatures in the headers
	replacement Replacement
}

const swapAt = "/d/a/a2.edb"

func newSwap(t *testing.T, seed uint64) *swap {
	t.Helper()
	s := &swap{
		sim:         &sim{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 12)), sum: &crashCounts{}},
		replacement: Replacement{From: "/d/a/restoring", Aside: "/d/a/replaced"},
	}
	s.now, s.state = time.Unix(1_800_000_000, 0), make(map[int]string)
	s.disk = &esetest.CrashDisk{Mem: vfs.NewMem(), Rand: s.rng}
	s.open()
	s.users()
	s.deliver(2)
	g := s.set.group("a")
	must(t, s.disk.MkdirAll("/set", 0o700))
	info, err := g.in.Backup(t.Context(), ese.BackupOptions{
		Kind: ese.BackupFull, Sink: memSink{s.disk.Mem, "/set"},
	})
	must(t, err)
	s.deliver(3)
	must(t, s.set.DismountDatabase(t.Context(), "a/a2"))
	must(t, g.in.WaitDurable(g.in.Durable()))
	file, _, err := ese.RestoreDatabase(t.Context(), ese.RestoreOptions{
		Info: *info, Set: "/set", Logs: []string{"/d/a"},
		Options: ese.Options{Dir: "/scratch", FS: s.disk.Mem, CacheBytes: 1 << 20, Rand: s.rng.Uint32},
	}, "a2.edb")
	must(t, err)
	must(t, s.disk.MkdirAll(s.replacement.From, 0o700))
	for _, ext := range []string{".stm", ".edb"} {
		must(t, s.disk.Mem.Rename(beside(file, ext), s.replacement.From+"/a2"+ext))
	}
	for _, dir := range []string{s.replacement.From, "/d/a"} {
		must(t, s.disk.Mem.SyncDir(dir))
	}
	s.old, s.fresh = s.signature(swapAt), s.signature(s.replacement.From+"/a2.edb")
	if s.old == s.fresh {
		t.Fatal("the restored database cannot be told from the other one")
	}
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// deliver sends everybody n messages.
func (s *swap) deliver(n int) {
	s.t.Helper()
	for range n {
		e := &transport.Envelope{}
		for i := range simUsers {
			a, err := address.Parse(fmt.Sprintf("u%d@here.test", i))
			must(s.t, err)
			e.Recipients = append(e.Recipients, transport.Recipient{Address: a})
		}
		s.mails++
		text := fmt.Sprintf("Subject: m%d\r\n\r\nbody\r\n", s.mails)
		_, err := s.set.Queue().Accept(s.t.Context(), e, strings.NewReader(text))
		must(s.t, err)
		s.pump()
	}
}

// signature is that in the header of a database file; "" where there is none.
func (s *swap) signature(path string) string {
	f, err := s.disk.Mem.OpenFile(path, os.O_RDONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return ""
	}
	must(s.t, err)
	b := make([]byte, 28)
	_, err = f.ReadAt(b, 24)
	must(s.t, errors.Join(err, f.Close()))
	return string(b)
}

// TestReplaceCut cuts the power at every single write, sync and rename of the swap that ends a
// restore of one database, and at every fifth of the mount behind it, with the server running and without, and
// often once more while the group is opened again. The database is the old one or the restored one,
// whole, with all mail; the restored one for certain once that was answered.
func TestReplaceCut(t *testing.T) {
	for _, online := range []bool{true, false} {
		t.Run(fmt.Sprintf("online %v", online), func(t *testing.T) {
			old, fresh := 0, 0
			for n := 1; ; n += 1 + 4*min(n/30, 1) {
				done, was := replaceCut(t, uint64(n), n, online)
				if done {
					t.Logf("%d cuts left the old one, %d the restored one", old, fresh)
					break
				}
				if was {
					fresh++
				} else {
					old++
				}
			}
			if old < 3 || fresh < 10 {
				t.Errorf("%d old, %d new: too few to tell", old, fresh)
			}
		})
	}
}

// replaceCut cuts at event n; done when the swap had ended before. fresh tells which database is there.
func replaceCut(t *testing.T, seed uint64, n int, online bool) (done, fresh bool) {
	s := newSwap(t, seed)
	ctx := context.Background()
	if !online {
		must(t, s.set.Close())
		s.set = nil
	}
	s.disk.Left, s.disk.Cut = n, nil
	answered := false
	s.disk.OnCut = nil
	if online {
		err := s.set.ReplaceDatabase(ctx, "a/a2", s.replacement)
		must(t, err)
		answered = s.disk.Cut == nil
	} else {
		must(t, replaceOffline(s.disk, "/d", "a/a2", s.replacement))
		answered = s.disk.Cut == nil
		s.open()
	}
	done = s.disk.Cut == nil
	if done {
		s.disk.Left, s.disk.Cut = 0, s.disk.CrashClone(s.rng)
	}
	s.reopen()
	got := s.signature(swapAt)
	if got != s.old && got != s.fresh {
		t.Fatalf("cut %d: neither the old nor the restored database is in place", n)
	}
	fresh = got == s.fresh
	if answered && !fresh {
		t.Fatalf("cut %d: the restored database was there, and is not any more", n)
	}
	if fresh && s.signature(s.replacement.Aside+"/a2.edb") != s.old {
		t.Fatalf("cut %d: the old database is not aside", n)
	}
	if r, _ := s.set.record("a/a2"); r.Replaced != nil {
		t.Fatalf("cut %d: groups.json still speaks of the swap", n)
	}
	s.deliver(1)
	for i, id := range s.ids {
		m, err := s.set.Mailbox(id)
		must(t, err)
		f, err := m.Folder("INBOX")
		must(t, err)
		if f.Messages != s.mails {
			t.Fatalf("cut %d: u%d has %d messages, not %d", n, i, f.Messages, s.mails)
		}
	}
	must(t, s.set.Close())
	esetest.Check(t, s.disk.Mem, swapAt)
	return done, fresh
}
