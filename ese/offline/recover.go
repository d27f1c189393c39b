package offline

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"pillarbox/ese"
	"pillarbox/ese/internal/dbheader"
	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/wal"
	"pillarbox/ese/vfs"
)

// RecoverOptions says which storage group to recover. Empty folders are the current one; the
// databases and the checkpoint are where the logs are unless said otherwise.
type RecoverOptions struct {
	FS          vfs.FS
	Base        string // E00
	LogDir      string
	SystemDir   string // of the checkpoint
	DatabaseDir string
	// Truncate removes the log that is needed no more: all but the current file. The incremental
	// backups that would have needed it are then not possible.
	Truncate bool
	// IgnoreMissing goes on without databases that are not there. They can no more be brought
	// to the end of the log afterwards.
	IgnoreMissing bool
	Logger        *slog.Logger
	Observer      func(ese.Event)
}

// MissingLogsError lists generations that recovery needs and that are not there.
type MissingLogsError struct {
	Dir, Base   string
	Generations []uint32
}

func (e *MissingLogsError) Error() string {
	var names []string
	for _, g := range e.Generations {
		names = append(names, wal.NumberedName(e.Base, g))
	}
	return fmt.Sprintf("%v in %s: %s: put them there (from a backup or an archive), or restore",
		logrec.ErrMissingLog, e.Dir, strings.Join(names, ", "))
}

// Unwrap makes it an ese.ErrMissingLog.
func (e *MissingLogsError) Unwrap() error { return logrec.ErrMissingLog }

// Recover brings the databases of a storage group to the end of their log and closes them clean
// (soft recovery). Without log files it refuses: there is nothing to recover from.
func Recover(o RecoverOptions) (ese.RecoveryStats, error) {
	if o.LogDir == "" {
		o.LogDir = "."
	}
	if o.SystemDir == "" {
		o.SystemDir = o.LogDir
	}
	if o.DatabaseDir == "" {
		o.DatabaseDir = o.SystemDir
	}
	gens, err := wal.Generations(o.FS, o.LogDir, o.Base)
	if err != nil {
		return ese.RecoveryStats{}, fmt.Errorf("recover: %w", err)
	}
	if missing := o.missing(gens); len(missing) > 0 {
		return ese.RecoveryStats{}, fmt.Errorf("recover: %w",
			&MissingLogsError{o.LogDir, o.Base, missing})
	}
	if len(gens) == 0 {
		return ese.RecoveryStats{}, fmt.Errorf("recover: no log files %s*.log in %s: %w", o.Base,
			o.LogDir, fs.ErrNotExist)
	}
	in, err := ese.Open(ese.Options{
		FS: o.FS, Base: o.Base, Dir: o.DatabaseDir, LogDir: o.LogDir, CheckpointDir: o.SystemDir,
		PageSize: gens[0].Header.PageSize, GenerationBytes: gens[len(gens)-1].Header.Bytes,
		IgnoreMissing: o.IgnoreMissing, Logger: o.Logger, Observer: o.Observer, ScrubEvery: -1,
	})
	if err != nil {
		return ese.RecoveryStats{}, err
	}
	stats := in.Recovery()
	if err := in.Close(); err != nil || !o.Truncate {
		return stats, err
	}
	return stats, o.truncate()
}

// truncate removes the closed generations, the oldest first, after a clean end.
func (o *RecoverOptions) truncate() error {
	gens, err := wal.Generations(o.FS, o.LogDir, o.Base)
	if err != nil {
		return err
	}
	for _, g := range gens {
		if g.Name != wal.NumberedName(o.Base, g.Gen) {
			continue // the current one, or one prepared
		}
		if err := o.FS.Remove(filepath.Join(o.LogDir, g.Name)); err != nil {
			return fmt.Errorf("truncate the log: %w", err)
		}
	}
	return o.FS.SyncDir(o.LogDir)
}

// missing lists the generations between the first that is needed and the last that is there or
// is known to have been.
func (o *RecoverOptions) missing(gens []wal.GenInfo) []uint32 {
	low, high := o.required()
	have := make(map[uint32]bool)
	for i, g := range gens {
		have[g.Gen] = true
		if low == 0 && i == 0 {
			low = g.Gen
		}
		high = max(high, g.Gen)
	}
	const most = 1000 // more are named by the error of the folder that has none
	var out []uint32
	for n := low; n > 0 && n < high && len(out) < most; n++ {
		if !have[n] {
			out = append(out, n)
		}
	}
	return out
}

// required is what checkpoint and database headers say of the log. The last generation that a
// header names may only have been about to begin.
func (o *RecoverOptions) required() (low, high uint32) {
	if c, err := wal.ReadCheckpoint(o.FS, filepath.Join(o.SystemDir, o.Base+".chk")); err == nil {
		return c.Pos.Generation(), c.Pos.Generation()
	}
	names, err := o.FS.ReadDir(o.DatabaseDir)
	if err != nil {
		return 0, 0 // opening says so
	}
	for _, n := range names {
		if filepath.Ext(n) != ".edb" {
			continue
		}
		h, err := readHeader(o.FS, filepath.Join(o.DatabaseDir, n))
		if err != nil || h.State == dbheader.CleanShutdown {
			continue
		}
		if low == 0 || h.MinRequired < low {
			low = h.MinRequired
		}
		high = max(high, h.MaxRequired)
	}
	return low, high
}

func readHeader(fsys vfs.FS, path string) (dbheader.Header, error) {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return dbheader.Header{}, err
	}
	h, _, err := dbheader.Read(f)
	return h, errors.Join(err, f.Close())
}
