package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"pillarbox/backup"
	"pillarbox/ese"
	"pillarbox/ese/inspect/report"
	"pillarbox/ese/vfs"
)

// errPlanned ends a restore that was only to say what it would do.
var errPlanned = errors.New("only planned")

func keysOf(c *command) (backup.Keys, error) {
	if c.opts["e"] == "" {
		return backup.Keys{}, nil
	}
	return backup.LoadKeys(c.opts["e"])
}

// setFile is the JSON of a file of a set.
type setFile struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
	Error string `json:"error,omitempty"`
}

// checksumSet proves the hashes of a backup set, and the checksums of its databases' pages where
// they lie in it as they are.
func checksumSet(ctx context.Context, w io.Writer, c *command) error {
	x, err := backup.OpenSet(c.path)
	if err != nil {
		return err
	}
	keys, err := keysOf(c)
	if err != nil {
		return err
	}
	report.WriteField(w, "Backup Set", "%s", x.ID)
	_, _ = fmt.Fprintln(w)
	bar := report.NewBar(w, "Checksum")
	var files []setFile
	done := int64(0)
	err = x.CheckFiles(ctx, keys, func(f *backup.File, err error) {
		s := setFile{Name: f.Name, Bytes: f.Bytes}
		if err != nil {
			s.Error = err.Error()
		}
		files = append(files, s)
		done += f.Bytes
		bar.At(done, x.Bytes())
	})
	bar.End(err)
	bad := printSet(w, files)
	if err == nil && x.Plain() {
		err = checksumPages(ctx, w, x)
	}
	report.SetData(w, files)
	switch {
	case err != nil:
		return fmt.Errorf("%w (%w)", report.ErrDamaged, err)
	case bad == 0:
		_, _ = fmt.Fprintln(w, "The backup set is whole.")
	}
	return nil
}

func printSet(w io.Writer, files []setFile) (bad int) {
	for _, f := range files {
		how := "OK"
		if f.Error != "" {
			how = "ERROR: " + f.Error
			bad++
		}
		_, _ = fmt.Fprintf(w, "      File: %s - %s\n", f.Name, how)
	}
	_, _ = fmt.Fprintln(w)
	return bad
}

// checksumPages proves the pages of the databases in a set.
func checksumPages(ctx context.Context, w io.Writer, x *backup.Set) error {
	for i := range x.Files {
		name := filepath.Join(x.Dir, filepath.FromSlash(x.Files[i].Name))
		if !strings.EqualFold(filepath.Ext(name), ".edb") {
			continue
		}
		if err := report.Checksum(ctx, w, vfs.OS(), name); err != nil {
			return err
		}
		_, _ = fmt.Fprintln(w)
	}
	return nil
}

// dumpSet prints what a backup set holds, as the restore environment was printed.
func dumpSet(_ context.Context, w io.Writer, c *command) error {
	x, err := backup.OpenSet(c.path)
	if err != nil {
		return err
	}
	e := &x.Engine
	field := func(label, format string, args ...any) { report.WriteField(w, label, format, args...) }
	field("Restore Path", "%s", x.Dir)
	field("Annotation", "Pillarbox %s backup %s", e.Kind, x.ID)
	field("Backup Instance", "%s (%s)", x.Group, x.Computer)
	field("Backup Time", "%s - %s", e.Begun.Format(time.DateTime), e.Ended.Format(time.DateTime))
	field("Last Commit", "%s", e.LastCommit.Format("2006-01-02 15:04:05.000"))
	field("Log Signature", "%s", e.LogSignature)
	field("Databases", "%d database(s)", len(e.Databases))
	for _, d := range e.Databases {
		stm := strings.TrimSuffix(d.Name, filepath.Ext(d.Name)) + ".stm"
		field("Database Name", "%s", filepath.Base(d.Name))
		field("Source Files", "%s %s", filepath.Join(x.Dir, filepath.Base(d.Name)),
			filepath.Join(x.Dir, filepath.Base(stm)))
		field("Destination Files", "%s %s", d.Name, stm)
	}
	field("Log files range", "%s%08X.log - %s%08X.log", e.Base, e.Low, e.Base, e.High)
	if x.HasDatabases() {
		field("Replay from", "%v", e.From)
	}
	field("Log ends", "%v", e.To)
	field("Files", "%d of %d bytes", len(x.Files), x.Bytes())
	field("Stored", "%s", storedAs(x))
	report.SetData(w, x.Manifest)
	return nil
}

func storedAs(x *backup.Set) string {
	if x.Plain() {
		return "as they are"
	}
	return strings.TrimSpace(x.Compress + " " + x.Encrypt)
}

// restoreSet brings a storage group back from a set and the log there is (hard recovery).
func restoreSet(ctx context.Context, w io.Writer, c *command) (err error) {
	x, err := backup.OpenSet(c.path)
	switch {
	case err != nil:
		return err
	case c.opts["d"] == "":
		return fmt.Errorf("/%s needs /d with the folder of the databases", c.mode.flag)
	case !x.HasDatabases():
		return fmt.Errorf("%s holds log only: name a full or copy backup, and this one with /f", x.ID)
	}
	o := ese.Options{
		FS: vfs.OS(), Base: x.Engine.Base, Dir: c.opts["d"], LogDir: c.opts["l"],
		CheckpointDir: c.opts["s"], PageSize: x.Engine.PageSize, ScrubEvery: -1,
	}
	o.Locate = func(name string) string { return filepath.Join(o.Dir, filepath.Base(name)) }
	set, clean, err := unpacked(ctx, x, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clean()) }()
	report.WriteField(w, "Restore Path", "%s", x.Dir)
	report.WriteField(w, "Database Directory", "%s", o.Dir)
	report.WriteField(w, "Log files", "%s", orDefault(o.LogDir, o.Dir))
	report.WriteField(w, "System files", "%s", orDefault(o.CheckpointDir, o.Dir))
	if c.mode.flag == "cs" {
		// What the log leads to is only known where it lies together.
		dir, err := os.MkdirTemp("", "eseutil-plan-")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		o.Dir, o.LogDir, o.CheckpointDir = dir, dir, dir
	}
	r := ese.RestoreOptions{Info: x.Engine, Set: set, Options: o}
	if !x.Plain() {
		keys, err := keysOf(c)
		if err != nil {
			return err
		}
		r.Open = func(name string) (io.ReadCloser, error) { return x.Open(ctx, name, keys) }
	}
	if c.opts["f"] != "" {
		r.Logs = []string{c.opts["f"]}
	}
	var bar *report.Bar
	r.Announce = func(p ese.RestorePlan) error {
		report.WriteField(w, "Recovers from", "%v", p.From)
		report.WriteField(w, "Recovers to", "%v", p.To)
		report.WriteField(w, "Last Commit", "%s", p.LastCommit.UTC().Format("2006-01-02 15:04:05.000"))
		report.WriteField(w, "No further", "%s", p.Why)
		report.SetData(w, p)
		if c.mode.flag == "cs" {
			return errPlanned
		}
		_, _ = fmt.Fprintln(w)
		bar = report.NewBar(w, "Restore")
		return nil
	}
	r.Progress = func(done, total int64) { bar.At(done, total) }
	_, err = ese.Restore(ctx, r)
	if errors.Is(err, errPlanned) {
		return nil
	}
	bar.End(err)
	return err
}

func orDefault(dir, def string) string {
	if dir == "" {
		return def
	}
	return dir
}

// unpacked is the folder of a set as the engine reads it, but for databases that have to be unpacked,
// and what removes it again.
func unpacked(ctx context.Context, x *backup.Set, c *command) (string, func() error, error) {
	none := func() error { return nil }
	if x.Plain() {
		return x.Dir, none, nil // the engine compares each file that it reads
	}
	keys, err := keysOf(c)
	if err != nil {
		return "", none, err
	}
	if err := os.MkdirAll(c.opts["d"], 0o700); err != nil {
		return "", none, err
	}
	dir, err := os.MkdirTemp(c.opts["d"], "unpacked-")
	if err != nil {
		return "", none, err
	}
	clean := func() error { return os.RemoveAll(dir) }
	if err := x.UnpackLog(ctx, filepath.Join(dir, x.ID), keys); err != nil {
		return "", none, errors.Join(err, clean())
	}
	return filepath.Join(dir, x.ID), clean, nil
}
