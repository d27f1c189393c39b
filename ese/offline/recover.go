package offline

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"pillarbox/ese"
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
	// IgnoreMissing goes on without databases that are not there (ese.Options.IgnoreMissing).
	IgnoreMissing bool
	// AcceptLoss goes on without the newest log files where they are gone (ese.Options.AcceptLoss).
	AcceptLoss bool
	Logger     *slog.Logger
	Observer   func(ese.Event)
}

// Recover brings the databases of a storage group to the end of their log and closes them clean
// (soft recovery). Without log files it refuses: there is nothing to recover from. The Loss is
// what was given up of the log, if anything.
func Recover(o RecoverOptions) (ese.RecoveryStats, *ese.Loss, error) {
	o.setFolders()
	gens, err := o.generations()
	if err != nil {
		return ese.RecoveryStats{}, nil, err
	}
	in, err := ese.Open(o.engine(gens))
	if err != nil {
		return ese.RecoveryStats{}, nil, err
	}
	stats, loss := in.Recovery(), in.Loss()
	if loss != nil {
		stats = loss.Recovery
	}
	lost := in.Lost()
	if err := in.Close(); err != nil || !o.Truncate {
		return stats, loss, err
	}
	if len(lost) > 0 {
		return stats, loss, fmt.Errorf("the log is kept: %w: %s", ese.ErrDatabaseLost,
			strings.Join(lost, ", "))
	}
	return stats, loss, o.truncate()
}

func (o *RecoverOptions) setFolders() {
	if o.LogDir == "" {
		o.LogDir = "."
	}
	if o.SystemDir == "" {
		o.SystemDir = o.LogDir
	}
	if o.DatabaseDir == "" {
		o.DatabaseDir = o.SystemDir
	}
}

// generations are the log files, of which there must be one.
func (o *RecoverOptions) generations() ([]wal.GenInfo, error) {
	gens, err := wal.Generations(o.FS, o.LogDir, o.Base)
	if err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	if len(gens) == 0 {
		return nil, o.noLog()
	}
	return gens, nil
}

// engine opens the group as its log says.
func (o *RecoverOptions) engine(gens []wal.GenInfo) ese.Options {
	return ese.Options{
		FS: o.FS, Base: o.Base, Dir: o.DatabaseDir, LogDir: o.LogDir, CheckpointDir: o.SystemDir,
		PageSize: gens[0].Header.PageSize, GenerationBytes: gens[len(gens)-1].Header.Bytes,
		IgnoreMissing: o.IgnoreMissing, AcceptLoss: o.AcceptLoss, Logger: o.Logger,
		Observer: o.Observer, ScrubEvery: -1,
	}
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
