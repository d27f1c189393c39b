package report_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pillarbox/ese"
	"pillarbox/ese/inspect/report"
	"pillarbox/ese/offline"
	"pillarbox/ese/vfs"
)

func TestMetaSpacePage(t *testing.T) {
	disk := group(t, true)
	var out strings.Builder
	if err := report.Meta(&out, disk, "/d/priv1.edb"); err != nil {
		t.Fatal(err)
	}
	contains(t, out.String(), "MSysStreams ", "[+Stream +Offset]", "  Offset  ")
	out.Reset()
	if err := report.Space(t.Context(), &out, disk, "/d/priv1.edb"); err != nil {
		t.Fatal(err)
	}
	contains(t, out.String(), "Database                        Db             1           1    254-m")
	out.Reset()
	if err := report.Page(&out, disk, "/d/priv1.edb", 4); err != nil {
		t.Fatal(err)
	}
	contains(t, out.String(), "pgnoThis: 4 (0x4)\n", "objidFDP: 2 (0x2)\n", "TAG   1  ")
	if err := report.Page(io.Discard, disk, "/d/priv1.edb", 1<<20); err == nil {
		t.Error("a page behind the end of the file")
	}
	flip(t, disk, "/d/priv1.edb", 5*8192+100, 8)
	if err := report.Page(io.Discard, disk, "/d/priv1.edb", 4); !errors.Is(err, report.ErrDamaged) {
		t.Errorf("damaged page: %v", err)
	}
}

func TestLogChain(t *testing.T) {
	disk := group(t, true)
	var out strings.Builder
	if err := report.Log(t.Context(), &out, disk, "/d/E00"); err != nil {
		t.Fatal(err)
	}
	contains(t, out.String(), "Base name: E00\n", "lGeneration 1 (0x1)", " - OK\n", "Checkpoint: (0x")
	out.Reset()
	if err := report.Log(t.Context(), &out, disk, "/d/E0000000002.log"); err != nil {
		t.Fatal(err)
	}
	contains(t, out.String(), "lGeneration: 2 (0x2)\n", "  Stream ", "Signature: Create time:")
	if err := disk.Remove("/d/E0000000003.log"); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	err := report.Log(t.Context(), &out, disk, "/d/E00")
	if !errors.Is(err, ese.ErrMissingLog) {
		t.Errorf("missing generation: %v", err)
	}
	contains(t, out.String(), "Missing log files: generations 3 to 3")
	rec := &report.Recorder{}
	_ = report.Log(t.Context(), rec, disk, "/d/E00")
	b, err := json.Marshal(rec)
	if err != nil {
		t.Fatal(err)
	}
	contains(t, string(b), `"missingGenerations":[3]`)
}

func TestIntegrity(t *testing.T) {
	disk := group(t, true)
	var out strings.Builder
	if err := report.Integrity(t.Context(), &out, disk, "/d/priv1.edb"); err != nil {
		t.Fatal(err)
	}
	contains(t, out.String(), "Integrity check successful.\n",
		"          "+strings.Repeat(".", 51)+"\n")
	flip(t, disk, "/d/priv1.edb", 5*8192+100, 8)
	out.Reset()
	err := report.Integrity(t.Context(), &out, disk, "/d/priv1.edb")
	if !errors.Is(err, report.ErrCorrupted) {
		t.Errorf("damaged: %v", err)
	}
	contains(t, out.String(), "ERROR: page 4", "CORRUPTED")
	dirty := report.Integrity(t.Context(), io.Discard, group(t, false), "/d/priv1.edb")
	if !errors.Is(dirty, ese.ErrDirtyShutdown) || !strings.Contains(dirty.Error(), "eseutil /r") {
		t.Errorf("dirty: %v", dirty)
	}
}

func TestRecovery(t *testing.T) {
	disk := group(t, false)
	o := offline.RecoverOptions{FS: disk, Base: "E00", LogDir: "/d"}
	var out strings.Builder
	if err := report.Recovery(&out, o); err != nil {
		t.Fatal(err)
	}
	contains(t, out.String(), "Performing soft recovery...", "Replayed from (0x1,")
	if err := report.Integrity(t.Context(), io.Discard, disk, "/d/priv1.edb"); err != nil {
		t.Error(err)
	}
}

func TestRecoveryLacks(t *testing.T) {
	o := func(disk vfs.FS) offline.RecoverOptions {
		return offline.RecoverOptions{FS: disk, Base: "E00", LogDir: "/d"}
	}
	t.Run("logs", func(t *testing.T) {
		disk := group(t, false)
		for _, n := range []string{"/d/E00.chk", "/d/E0000000002.log", "/d/E0000000003.log"} {
			if err := disk.Remove(n); err != nil {
				t.Fatal(err)
			}
		}
		err := report.Recovery(io.Discard, o(disk))
		if !errors.Is(err, ese.ErrMissingLog) {
			t.Fatalf("got %v", err)
		}
		contains(t, err.Error(), "E0000000002.log, E0000000003.log")
	})
	t.Run("newest log accepted", func(t *testing.T) {
		disk := group(t, false)
		if err := disk.Remove("/d/E00.log"); err != nil {
			t.Fatal(err)
		}
		options := o(disk)
		if err := report.Recovery(io.Discard, options); !errors.Is(err, ese.ErrMissingLog) {
			t.Fatalf("without /a: %v", err)
		}
		options.AcceptLoss = true
		var out strings.Builder
		if err := report.Recovery(&out, options); err != nil {
			t.Fatal(err)
		}
		contains(t, out.String(), "LOST: generations ", "and nothing later", "replaced-")
		options.AcceptLoss = false
		if err := report.Recovery(io.Discard, options); err != nil {
			t.Fatalf("afterwards: %v", err)
		}
	})
	t.Run("all logs", func(t *testing.T) {
		disk := group(t, false)
		names, err := disk.ReadDir("/d")
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			if strings.HasSuffix(n, ".log") {
				if err := disk.Remove("/d/" + n); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := report.Recovery(io.Discard, o(disk)); !errors.Is(err, os.ErrNotExist) &&
			!errors.Is(err, ese.ErrMissingLog) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("database", func(t *testing.T) {
		disk := group(t, true)
		in, err := ese.Open(ese.Options{Dir: "/d", FS: disk, GenerationBytes: 64 << 10})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := in.OpenDatabase("priv1.edb"); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(in.Kill(), disk.Remove("/d/priv1.edb")); err != nil {
			t.Fatal(err)
		}
		options := o(disk)
		err = report.Recovery(io.Discard, options)
		if err == nil || !strings.Contains(err.Error(), "-1216") {
			t.Errorf("without /i: %v", err)
		}
		options.IgnoreMissing = true
		if err := report.Recovery(io.Discard, options); err != nil {
			t.Errorf("with /i: %v", err)
		}
	})
}

func TestRebuildModes(t *testing.T) {
	disk := group(t, true)
	var out strings.Builder
	o := offline.RebuildOptions{FS: disk, Path: "/d/priv1.edb"}
	if err := report.Defragment(t.Context(), &out, o); err != nil {
		t.Fatal(err)
	}
	contains(t, out.String(), "Defragmentation Status (% complete)", strings.Repeat(".", 51),
		" pages before, ", "make a full backup now")
	flip(t, disk, "/d/priv1.stm", 4096+5000, 8)
	err := report.Defragment(t.Context(), io.Discard, o)
	if !errors.Is(err, offline.ErrNeedsRepair) {
		t.Errorf("damaged stream: %v", err)
	}
	out.Reset()
	if err := report.Repair(t.Context(), &out, o); err != nil {
		t.Fatal(err)
	}
	contains(t, out.String(), "1 runs of the stream file", "/d/priv1.edb.repair.txt",
		"/d/priv1.edb.old")
	if err := report.Integrity(t.Context(), io.Discard, disk, "/d/priv1.edb"); err != nil {
		t.Error(err)
	}
	if err := report.Copy(t.Context(), io.Discard, disk, "/d/priv1.edb", "/d/c.edb", false); err != nil {
		t.Error(err)
	}
	rec := &report.Recorder{}
	o.Keep, o.Temp = true, "/d/kept.edb"
	if err := report.Repair(t.Context(), rec, o); err != nil {
		t.Error(err)
	}
	b, err := json.Marshal(rec)
	if err != nil {
		t.Fatal(err)
	}
	contains(t, string(b), `"streams":[{"stream":1,"page":0`)
	if err := report.Integrity(t.Context(), io.Discard, disk, "/d/kept.edb"); err != nil {
		t.Error(err)
	}
}

// TestModesOnSamples dumps and checks what Windows wrote.
func TestModesOnSamples(t *testing.T) {
	names, _ := filepath.Glob("../../../../shared/samples/edb/*.gz")
	if len(names) == 0 {
		t.Skip("../shared/samples is not there")
	}
	for _, name := range names {
		path := unpack(t, name)
		var out strings.Builder
		if err := report.Meta(&out, vfs.OS(), path); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := report.Space(t.Context(), &out, vfs.OS(), path); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := report.Page(&out, vfs.OS(), path, 4); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		contains(t, out.String(), "MSysObjects ", "RootObjects", " Pri ", "objidFDP: 2 (0x2)")
		err := report.Integrity(t.Context(), io.Discard, vfs.OS(), path)
		if err != nil && !errors.Is(err, ese.ErrDirtyShutdown) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
