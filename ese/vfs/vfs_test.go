package vfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

const createFlags = os.O_RDWR | os.O_CREATE

func create(t *testing.T, fsys FS, name string) File {
	t.Helper()
	f, err := fsys.OpenFile(name, createFlags, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func write(t *testing.T, f File, data []byte, off int64) {
	t.Helper()
	if n, err := f.WriteAt(data, off); err != nil || n != len(data) {
		t.Fatalf("WriteAt = %d, %v", n, err)
	}
}

func syncFile(t *testing.T, f File) {
	t.Helper()
	if err := f.SyncData(); err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, fsys FS, name string) []byte {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, size)
	if _, err := f.ReadAt(data, 0); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return data
}

// TestContract holds for every FS.
func TestContract(t *testing.T) {
	for name, fsys := range map[string]FS{
		"os": OS(), "mem": NewMem(), "fault": NewFault(NewMem()), "counter": NewCounter(OS()),
	} {
		t.Run(name, func(t *testing.T) { testContract(t, fsys, filepath.Join(t.TempDir(), "db")) })
	}
}

func testContract(t *testing.T, fsys FS, dir string) {
	a, b := filepath.Join(dir, "a.edb"), filepath.Join(dir, "b.edb")
	if _, err := fsys.OpenFile(a, createFlags, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("open in a missing folder: %v", err)
	}
	if err := fsys.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := fsys.Stat(a); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("stat: %v", err)
	}
	f := create(t, fsys, a)
	if _, err := fsys.OpenFile(a, createFlags|os.O_EXCL, 0o600); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("exclusive open: %v", err)
	}
	write(t, f, []byte("world"), 70_000)
	write(t, f, []byte("hello"), 65_533)
	got := make([]byte, 10)
	if n, err := f.ReadAt(got, 69_998); n != 7 || !errors.Is(err, io.EOF) {
		t.Fatalf("ReadAt over the end = %d, %v", n, err)
	}
	if string(got[:7]) != "\x00\x00world" {
		t.Fatalf("read %q", got)
	}
	if _, err := f.ReadAt(got[:5], 65_533); err != nil || string(got[:5]) != "hello" {
		t.Fatalf("read %q, %v", got[:5], err)
	}
	if err := f.Truncate(65_536); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(65_540); err != nil {
		t.Fatal(err)
	}
	syncFile(t, f)
	want := []byte("\x00\x00\x00hel\x00\x00\x00\x00")
	if data := content(t, fsys, a); !bytes.Equal(data[65_530:], want) {
		t.Fatalf("after truncate: %q", data[65_530:])
	}
	write(t, create(t, fsys, b), []byte("gone"), 0)
	if err := fsys.Rename(a, b); err != nil {
		t.Fatal(err)
	}
	if err := fsys.SyncDir(dir); err != nil {
		t.Fatal(err)
	}
	if names, err := fsys.ReadDir(dir); err != nil || !slices.Equal(names, []string{"b.edb"}) {
		t.Fatalf("ReadDir = %v, %v", names, err)
	}
	if size, err := fsys.Stat(b); err != nil || size != 65_540 {
		t.Fatalf("Stat = %d, %v", size, err)
	}
	testLock(t, fsys, filepath.Join(dir, "lock"))
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(got, 0); !errors.Is(err, fs.ErrClosed) {
		t.Fatalf("write after close: %v", err)
	}
	if err := fsys.Remove(b); err != nil {
		t.Fatal(err)
	}
	if err := fsys.Remove(b); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("second remove: %v", err)
	}
}

func testLock(t *testing.T, fsys FS, name string) {
	t.Helper()
	lock, err := fsys.Lock(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fsys.Lock(name); !errors.Is(err, ErrLocked) {
		t.Fatalf("second lock: %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	lock, err = fsys.Lock(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestFault(t *testing.T) {
	boom := errors.New("boom")
	mem := NewMem()
	fault := NewFault(mem)
	f := create(t, fault, "x.log")

	second := fault.Inject(Rule{Op: OpWrite, Path: "*.log", After: 1, Times: 1, Err: boom})
	write(t, f, []byte("aaaa"), 0)
	if _, err := f.WriteAt([]byte("bbbb"), 0); !errors.Is(err, boom) {
		t.Fatalf("second write: %v", err)
	}
	write(t, f, []byte("cccc"), 0)
	if second.Hits() != 1 {
		t.Fatalf("hits %d", second.Hits())
	}

	short := fault.Inject(Rule{Op: OpWrite, ShortBytes: 2, Times: 1})
	if n, err := f.WriteAt([]byte("dddd"), 0); n != 2 || !errors.Is(err, io.ErrShortWrite) {
		t.Fatalf("short write = %d, %v", n, err)
	}
	if got := content(t, mem, "x.log"); string(got) != "ddcc" || short.Hits() != 1 {
		t.Fatalf("content %q", got)
	}

	lost := fault.Inject(Rule{Op: OpWrite, DropWrite: true})
	write(t, f, []byte("eeee"), 0)
	lost.Remove()
	flip := fault.Inject(Rule{Op: OpRead, FlipBit: 9, Times: 1})
	got := make([]byte, 4)
	if _, err := f.ReadAt(got, 0); err != nil || string(got) != "dfcc" || flip.Hits() != 1 {
		t.Fatalf("flipped read %q, %v", got, err)
	}
	fault.Inject(Rule{Op: OpWrite, FlipBit: 0, Times: 1})
	data := []byte("ffff")
	write(t, f, data, 0)
	if got := content(t, mem, "x.log"); string(got) != "gfff" || string(data) != "ffff" {
		t.Fatalf("flipped write %q, caller's %q", got, data)
	}

	for op, call := range map[Op]func() error{
		OpSync:     f.SyncData,
		OpTruncate: func() error { return f.Truncate(0) },
		OpSyncDir:  func() error { return fault.SyncDir(".") },
		OpRename:   func() error { return fault.Rename("x.log", "y.log") },
		OpRemove:   func() error { return fault.Remove("x.log") },
		OpOpen:     func() error { _, err := fault.OpenFile("x.log", 0, 0); return err },
	} {
		rule := fault.Inject(Rule{Op: op, Times: 1, Err: boom})
		if err := call(); !errors.Is(err, boom) || rule.Hits() != 1 {
			t.Errorf("op %d: %v", op, err)
		}
	}
	if size, err := mem.Stat("x.log"); err != nil || size != 4 {
		t.Errorf("a failed operation reached the disk: %d, %v", size, err)
	}
}

func TestCounter(t *testing.T) {
	c := NewCounter(NewMem())
	log, other := create(t, c, "E00.LOG"), create(t, c, "x.txt")
	write(t, log, make([]byte, 100), 0)
	write(t, log, make([]byte, 20), 100)
	syncFile(t, log)
	write(t, other, make([]byte, 7), 0)
	if _, err := log.ReadAt(make([]byte, 60), 90); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if err := c.SyncDir("."); err != nil {
		t.Fatal(err)
	}
	want := Counts{Reads: 1, ReadBytes: 30, Writes: 2, WrittenBytes: 120, Syncs: 1}
	if got := c.Counts()[".log"]; got != want {
		t.Errorf("log counts %+v", got)
	}
	if c.Writes(".log") != 2 || c.WrittenBytes(".tmp") != 7 || c.Syncs(".log") != 1 ||
		c.Reads(".edb") != 0 || c.DirSyncs() != 1 {
		t.Errorf("counts %+v", c.Counts())
	}
}
