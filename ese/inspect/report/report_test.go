package report_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pillarbox/ese"
	"pillarbox/ese/inspect/report"
	"pillarbox/ese/vfs"
)

// group makes a storage group with a stream in it, on a memory disk, closed or killed.
func group(t *testing.T, clean bool) *vfs.Mem {
	t.Helper()
	disk := vfs.NewMem()
	in, err := ese.Open(ese.Options{Dir: "/d", FS: disk, GenerationBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	db, err := in.OpenDatabase("priv1.edb")
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		err := in.Update(t.Context(), func(tx *ese.Tx) error {
			_, err := tx.WriteStream(db, bytes.Repeat([]byte("0123456789"), 10_000))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	end := in.Close
	if !clean {
		end = in.Kill
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
	return disk
}

func flip(t *testing.T, disk vfs.FS, name string, off int64, n int) {
	t.Helper()
	f, err := disk.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, n)
	if _, err := f.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	for i := range b {
		b[i] ^= byte(17*i + 1) // the page checksum is a parity: equal changes cancel
	}
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func contains(t *testing.T, out string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(out, w) {
			t.Errorf("%q is not in\n%s", w, out)
		}
	}
}

func TestOurFiles(t *testing.T) {
	disk := group(t, true)
	var out strings.Builder
	if err := report.Header(&out, disk, "/d/priv1.edb"); err != nil {
		t.Fatal(err)
	}
	contains(t, out.String(), "            State: Clean Shutdown\n", "         cbDbPage: 8192\n",
		"     Log Required: 0-0 (0x0-0x0)", "   File Type: Database\n")
	out.Reset()
	if err := report.Header(&out, disk, "/d/priv1.stm"); err != nil {
		t.Fatal(err)
	}
	contains(t, out.String(), "File Type: Streaming File\n")
	out.Reset()
	if err := report.Checkpoint(&out, disk, "/d/E00.chk"); err != nil {
		t.Fatal(err)
	}
	contains(t, out.String(), "Checkpoint: (0x", "Signature: Create time:")
	for _, name := range []string{"priv1.edb", "priv1.stm", "E00.log", "E00", "E00.chk"} {
		out.Reset()
		if err := report.Checksum(t.Context(), &out, disk, "/d/"+name); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out.String())
		}
	}
}

func TestDirtyShutdown(t *testing.T) {
	disk := group(t, false)
	var out strings.Builder
	if err := report.Header(&out, disk, "/d/priv1.edb"); err != nil {
		t.Fatal(err)
	}
	contains(t, out.String(), "State: Dirty Shutdown\n")
}

func TestDamage(t *testing.T) {
	tests := []struct {
		name, file string
		off        int64
		want       string
	}{
		{"database page", "priv1.edb", 3*8192 + 100, "1 bad checksums"},
		{"stream run", "priv1.stm", 4096 + 5000, "1 bad runs"},
		{"closed log file", "E0000000001.log", 20_000, "ERROR"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			disk := group(t, true)
			name := "/d/" + tt.file
			if strings.HasSuffix(name, ".log") {
				name = firstClosedLog(t, disk)
			}
			flip(t, disk, name, tt.off, 8)
			var out strings.Builder
			if err := report.Checksum(t.Context(), &out, disk, name); err == nil {
				t.Errorf("no error:\n%s", out.String())
			}
			contains(t, out.String(), tt.want)
		})
	}
}

func firstClosedLog(t *testing.T, disk vfs.FS) string {
	t.Helper()
	names, err := disk.ReadDir("/d")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if strings.HasPrefix(n, "E00000") && strings.HasSuffix(n, ".log") {
			return "/d/" + n
		}
	}
	t.Fatalf("no closed log file in %v", names)
	return ""
}

func TestMissing(t *testing.T) {
	err := report.Checksum(t.Context(), io.Discard, vfs.NewMem(), "/nothing.edb")
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestSamples(t *testing.T) {
	names, _ := filepath.Glob("../../../../shared/samples/edb/*.gz")
	if len(names) == 0 {
		t.Skip("../shared/samples is not there")
	}
	for _, name := range names {
		path := unpack(t, name)
		var out strings.Builder
		if err := report.Header(&out, vfs.OS(), path); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		contains(t, out.String(), "Shutdown\n", "DB Signature: Create time:")
		out.Reset()
		if err := report.Checksum(context.Background(), &out, vfs.OS(), path); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		contains(t, out.String(), "\n0 bad checksums\n", "\n0 wrong page numbers\n")
	}
}

func unpack(t *testing.T, name string) string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "sample.edb")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
