package store

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
	"pillarbox/ese/vfs"
)

// memSink puts a backup into a folder of a disk in memory.
type memSink struct {
	fs  vfs.FS
	dir string
}

type memFile struct {
	vfs.File
	at int64
}

func (f *memFile) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, f.at)
	f.at += int64(n)
	return n, err
}

func (s memSink) Create(name string, _ int64) (io.WriteCloser, error) {
	if err := s.fs.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	f, err := s.fs.OpenFile(filepath.Join(s.dir, name), os.O_RDWR|os.O_CREATE, 0o600)
	return &memFile{File: f}, err
}

// seen is the highest of each number that a client can have been told of a mailbox.
type seen struct {
	validities map[string]uint32
	next       uint32
	id         int64
	cn         CN
}

func (b *bed) seen(m *Mailbox) (s seen) {
	b.t.Helper()
	s.validities = map[string]uint32{}
	folders, err := m.Folders()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, f := range folders {
		s.validities[f.Name] = f.UIDValidity
	}
	err = m.s.in.View(func(tx *ese.Tx) error {
		var v ese.RowView
		var buf []byte
		var r mailboxRow
		ok, err := tx.Get(m.b.d.mailbox.t, &v, &buf, ese.Int(m.b.mbx))
		if err == nil && !ok {
			err = ErrNoMailbox
		}
		r.read(&m.b.d.mailbox, &v)
		s.next, s.id, s.cn = r.nextUIDValidity, r.nextID, r.nextCN
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// restoreTo restores the backup in /set into /data of a disk, up to its own end.
func restoreTo(t *testing.T, fs vfs.FS, info *ese.BackupInfo) {
	t.Helper()
	for _, name := range []string{
		"priv1.edb", "priv1.stm", "priv1.dw", "priv1.jfm", "E00.chk", "E00.log", "E00tmp.log",
	} {
		if err := fs.Remove("/data/" + name); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	names, err := fs.ReadDir("/data")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if filepath.Ext(name) == ".log" {
			if err := fs.Remove("/data/" + name); err != nil {
				t.Fatal(err)
			}
		}
	}
	plan, err := ese.Restore(t.Context(), ese.RestoreOptions{
		Info: *info, Set: "/set", Options: ese.Options{FS: fs, Dir: "/data"}, NewStream: true,
	})
	if err != nil || !plan.Forks {
		t.Fatalf("restore: %+v, %v", plan, err)
	}
}

// After a restore nothing that a client may have been told in the lost time can come again, and
// what a second restore of the same backup gives differs from what the first one gave.
func TestIncarnation(t *testing.T) {
	fs := vfs.NewMem()
	in, err := ese.Open(ese.Options{FS: fs, Dir: "/data"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), in, Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{t: t, fs: fs, in: in, s: s}
	m := b.mailbox(1)
	b.mailbox(2)
	id := m.ID()
	before := b.seen(m)
	info, err := in.Backup(t.Context(), ese.BackupOptions{
		Kind: ese.BackupFull, Sink: memSink{fs, "/set"},
	})
	if err != nil {
		t.Fatal(err)
	}
	lost := b.live(m)
	if lost.next <= before.next || lost.id <= before.id || lost.cn <= before.cn {
		t.Fatalf("the lost time used nothing: %+v, %+v", before, lost)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		restoreTo(t, fs, info)
		now := reopened(t, fs, id, lost)
		lost = now
	}
}

// live makes folders and mail, and tells what was seen then.
func (b *bed) live(m *Mailbox) seen {
	b.t.Helper()
	for _, name := range []string{"one", "two", "three"} {
		if _, err := m.CreateFolder(b.t.Context(), name, RoleNone); err != nil {
			b.t.Fatal(err)
		}
	}
	r := strings.NewReader("Subject: lost\r\n\r\nin time\r\n")
	if _, err := m.Append(b.t.Context(), standardFolders()[0].fid, AppendRequest{}, r); err != nil {
		b.t.Fatal(err)
	}
	return b.seen(m)
}

// reopened opens the restored group and compares with what was seen in the lost time.
func reopened(t *testing.T, fs vfs.FS, id MailboxID, lost seen) seen {
	t.Helper()
	in, err := ese.Open(ese.Options{FS: fs, Dir: "/data"})
	if err != nil {
		t.Fatal(err)
	}
	var first seen
	var end seen
	for i := range 2 {
		s, err := Open(t.Context(), in, Options{})
		if err != nil {
			t.Fatal(err)
		}
		b := &bed{t: t, fs: fs, in: in, s: s}
		m, err := s.Mailbox(id)
		if err != nil {
			t.Fatal(err)
		}
		now := b.seen(m)
		b.check()
		if i == 0 {
			first = now
			compareSeen(t, lost, now)
			continue
		}
		if now.next != first.next || now.cn != first.cn {
			t.Error("the second opening of the same stream makes an incarnation again")
		}
		end = b.live(m)
		b.check()
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	esetest.Check(t, fs, "/data/priv1.edb")
	return end
}

func compareSeen(t *testing.T, lost, now seen) {
	t.Helper()
	if now.id < lost.id || now.cn < lost.cn {
		t.Errorf("numbers come again: %+v, lost %+v", now, lost)
	}
	if len(now.validities) < 6 {
		t.Errorf("folders %v", now.validities)
	}
	used := map[uint32]bool{}
	for _, v := range lost.validities {
		used[v] = true
	}
	for name, v := range now.validities {
		if used[v] {
			t.Errorf("%s has UIDVALIDITY %d, which was used in the lost time", name, v)
		}
		used[v] = true
	}
}
