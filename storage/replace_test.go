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
	info        *ese.BackupInfo
	tries       int
	replacement Replacement
}

const swapAt = "/d/a/a2.edb"

// backedUp is a server with mail before and after a full backup of group a.
func backedUp(t *testing.T, seed uint64) *swap {
	t.Helper()
	s := &swap{sim: &sim{
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 12)), sum: &crashCounts{},
	}}
	s.now, s.state = time.Unix(1_800_000_000, 0), make(map[int]string)
	s.disk = &esetest.CrashDisk{Mem: vfs.NewMem(), Rand: s.rng}
	s.open()
	s.users()
	s.deliver(2)
	s.info = s.backup(ese.BackupFull, "/set")
	s.deliver(3)
	return s
}

func (s *swap) backup(kind ese.BackupKind, dir string) *ese.BackupInfo {
	s.t.Helper()
	must(s.t, s.disk.MkdirAll(dir, 0o700))
	info, err := s.set.group("a").in.Backup(s.t.Context(), ese.BackupOptions{
		Kind: kind, Sink: memSink{s.disk.Mem, dir},
	})
	must(s.t, errors.Join(err, s.disk.Mem.SyncDir(dir)))
	return info
}

// restore makes the restored files from the full backup and the log in a folder.
func (s *swap) restore(log string) {
	s.t.Helper()
	s.tries++
	s.replacement = Replacement{
		From: fmt.Sprint("/d/a/restoring", s.tries), Aside: fmt.Sprint("/d/a/replaced", s.tries),
	}
	file, _, err := ese.RestoreDatabase(s.t.Context(), ese.RestoreOptions{
		Info: *s.info, Set: "/set", Logs: []string{log},
		Options: ese.Options{
			Dir: fmt.Sprint("/scratch", s.tries), FS: s.disk.Mem, CacheBytes: 1 << 20,
			Rand: s.rng.Uint32,
		},
	}, "a2.edb")
	must(s.t, err)
	must(s.t, s.disk.MkdirAll(s.replacement.From, 0o700))
	for _, ext := range []string{".stm", ".edb"} {
		must(s.t, s.disk.Mem.Rename(beside(file, ext), s.replacement.From+"/a2"+ext))
	}
	for _, dir := range []string{s.replacement.From, "/d/a"} {
		must(s.t, s.disk.Mem.SyncDir(dir))
	}
}

func newSwap(t *testing.T, seed uint64) *swap {
	t.Helper()
	s := backedUp(t, seed)
	must(t, s.set.DismountDatabase(t.Context(), "a/a2"))
	in := s.set.group("a").in
	must(t, in.WaitDurable(in.Durable()))
	s.restore("/d/a")
	return s
}

// newLost is a server that has lost a/a2 in a crash, with a transaction open in it, and goes on.
func newLost(t *testing.T, seed uint64) *swap {
	t.Helper()
	s := backedUp(t, seed)
	in := s.set.group("a").in
	tx := in.Begin()
	for _, db := range in.Databases() {
		_, err := tx.WriteStream(db, []byte("never committed"))
		must(t, err)
	}
	s.deliver(1)
	mem := s.disk.CrashClone(s.rng)
	s.kill()
	s.disk = &esetest.CrashDisk{Mem: mem, Rand: s.rng}
	for _, ext := range []string{".edb", ".stm", ".dw", ".jfm"} {
		must(t, mem.Remove(beside(swapAt, ext)))
	}
	must(t, mem.SyncDir("/d/a"))
	s.open()
	if lost := s.set.group("a").in.Lost(); len(lost) != 1 {
		t.Fatalf("lost are %v", lost)
	}
	s.deliver(1)
	return s
}

// messages compares the mailboxes with what was sent.
func (s *swap) messages(cut int) {
	s.t.Helper()
	for i, id := range s.ids {
		m, err := s.set.Mailbox(id)
		must(s.t, err)
		f, err := m.Folder("INBOX")
		must(s.t, err)
		if f.Messages != s.mails {
			s.t.Fatalf("cut %d: u%d has %d messages, not %d", cut, i, f.Messages, s.mails)
		}
	}
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

// swapped tells whether the old file has gone aside, and makes sure that it has not when the new one
// is still where it was made.
func (s *swap) swapped() bool {
	s.t.Helper()
	there := func(name string) bool {
		_, err := s.disk.Mem.Stat(name)
		return err == nil
	}
	aside, waits := there(s.replacement.Aside+"/a2.edb"), there(s.replacement.From+"/a2.edb")
	if !there(swapAt) || aside == waits {
		s.t.Fatalf("in place %v, aside %v, waits %v", there(swapAt), aside, waits)
	}
	return aside
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
	fresh = s.swapped()
	if answered && !fresh {
		t.Fatalf("cut %d: the restored database was there, and is not any more", n)
	}
	if r, _ := s.set.record("a/a2"); r.Replaced != nil {
		t.Fatalf("cut %d: groups.json still speaks of the swap", n)
	}
	s.deliver(1)
	s.messages(n)
	must(t, s.set.Close())
	esetest.Check(t, s.disk.Mem, swapAt)
	return done, fresh
}

// TestReplaceLostCut cuts the power on the way back of a database that was lost, while its group serves.
// It is there with all mail, or lost as before and restored again from the same backup. In the end it is
// lost once more, and comes from that backup a last time.
func TestReplaceLostCut(t *testing.T) {
	lost, back := 0, 0
	for n := 1; ; n += 1 + n/15 {
		done, was := replaceLostCut(t, n)
		if done {
			t.Logf("%d cuts left it lost, after %d it was back", lost, back)
			break
		}
		if was {
			lost++
		} else {
			back++
		}
	}
	if lost < 5 || back < 5 {
		t.Errorf("lost %d times, back %d times: too few to tell", lost, back)
	}
}

func replaceLostCut(t *testing.T, n int) (done, lost bool) {
	s := newLost(t, uint64(n))
	s.comeBack(n)
	done = s.disk.Cut == nil
	if !done {
		s.kill()
		s.disk = &esetest.CrashDisk{Mem: s.disk.Cut, Rand: s.rng}
		s.open()
		if lost = len(s.set.group("a").in.Lost()) == 1; lost {
			s.comeBack(0)
		}
	}
	s.disk.Left = 0
	s.mountAll()
	s.deliver(2)
	s.messages(n)

	mem := s.disk.CrashClone(s.rng)
	s.kill()
	s.disk = &esetest.CrashDisk{Mem: mem, Rand: s.rng}
	for _, ext := range []string{".edb", ".stm", ".dw", ".jfm"} {
		must(t, mem.Remove(beside(swapAt, ext)))
	}
	must(t, mem.SyncDir("/d/a"))
	s.restore("/d/a")
	must(t, replaceOffline(s.disk, "/d", "a/a2", s.replacement))
	s.open()
	s.deliver(1)
	s.messages(n)
	must(t, s.set.Close())
	esetest.Check(t, s.disk.Mem, swapAt)
	return done, lost
}

// comeBack restores the lost database while the group serves, with a cut at event n.
func (s *swap) comeBack(n int) {
	s.t.Helper()
	dir := fmt.Sprint("/log", s.tries)
	s.backup(ese.BackupLog, dir)
	s.restore(dir)
	s.disk.Left = n
	must(s.t, s.set.ReplaceDatabase(s.t.Context(), "a/a2", s.replacement))
}

// A replacement whose files are on a disk that is not there waits for it; one that cannot come any more
// is forgotten.
func TestReplaceWithoutDisk(t *testing.T) {
	s := newSwap(t, 1)
	must(t, s.set.Close())
	must(t, replaceOffline(s.disk, "/d", "a/a2", s.replacement))
	away := func(from, to string) {
		t.Helper()
		must(t, s.disk.MkdirAll(to, 0o700))
		for _, ext := range []string{".stm", ".edb"} {
			must(t, s.disk.Mem.Rename(from+"/a2"+ext, to+"/a2"+ext))
		}
	}
	away(s.replacement.From, "/away/new")
	away("/d/a", "/away")
	r := s.replacement
	r.From = "/not/there"
	must(t, replaceOffline(s.disk, "/d", "a/a2", r))
	s.open()
	if d, _ := s.set.record("a/a2"); d.Replaced == nil {
		t.Fatal("the replacement is forgotten while its disk is away")
	}
	away("/away/new", "/not/there")
	must(t, s.set.MountDatabase(t.Context(), "a/a2"))
	s.deliver(1)
	s.messages(0)
	must(t, s.set.Close())
	r.From = "/nowhere"
	must(t, replaceOffline(s.disk, "/d", "a/a2", r))
	s.open()
	if d, _ := s.set.record("a/a2"); d.Replaced != nil {
		t.Error("the replacement is kept although the database is in its place")
	}
	s.messages(0)
	must(t, s.set.Close())
	esetest.Check(t, s.disk.Mem, swapAt)
}
