package ese

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"pillarbox/ese/internal/dbheader"
	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/redo"
	"pillarbox/ese/internal/wal"
)

// A single database is brought to the end of its group's log in a folder of its own: the log is
// copied there and redone without the other databases. What is open at the end is not taken back
// there: that is done in the group's own log, so that it and every older backup lead on from the
// result. A group that is opened with the file in its place does so by recovery, one that is open by
// SettleLost.
//
// Of such a file the header says Dirty, from where recovery has to read to meet what is open, and in
// CurrentBackup how far redo has come: GenHigh tells it from the copy in a backup. A database that
// the log had detached at the end is clean, as it was.

// ErrNotInBackup: the backup does not hold the database.
var ErrNotInBackup = errors.New("the backup does not hold the database: take one that does")

// RestoreDatabase restores one database of a backup to the end of the log, into the folders of
// r.Options, which are of no use to anybody else and may be removed afterwards. file is where the
// .edb lies then, with the .stm beside it. The log that is left must reach to the end of the
// group's: Time, Pos and NewStream have no meaning here.
func RestoreDatabase(
	ctx context.Context, r RestoreOptions, name string,
) (file string, plan *RestorePlan, err error) {
	i := slices.IndexFunc(r.Info.Databases, func(d BackupDatabase) bool { return d.Name == name })
	if i < 0 {
		return "", nil, fmt.Errorf("restore %s: %w", name, ErrNotInBackup)
	}
	r.Info.Databases = r.Info.Databases[i : i+1]
	o, err := r.Options.withDefaults()
	if err != nil {
		return "", nil, err
	}
	r.Options = o
	others := filepath.Join(o.Dir, "others")
	if err := makeFolder(o.FS, others); err != nil {
		return "", nil, fmt.Errorf("restore: %w", err)
	}
	file = filepath.Join(o.Dir, filepath.Base(name))
	r.Options.IgnoreMissing = true
	r.Options.Locate = func(n string) string {
		if n == name {
			return file
		}
		// The log may tell of the making of another one.
		return filepath.Join(others, strings.NewReplacer("/", "_", `\`, "_", ":", "_").Replace(n))
	}
	if plan, err = r.assemble(ctx); err != nil {
		return "", nil, err
	}
	if err := r.redoOne(name, file); err != nil {
		return "", nil, fmt.Errorf("restore: %w", err)
	}
	return file, plan, nil
}

// redoOne replays the log that was put together, and undoes nothing.
func (r *RestoreOptions) redoOne(name, file string) error {
	lock, err := lockGroup(&r.Options)
	if err != nil {
		return err
	}
	in := newInstance(r.Options, lock)
	defer in.close()
	gens, err := wal.Generations(in.o.FS, in.o.LogDir, in.o.Base)
	if err == nil {
		err = in.makeCache()
	}
	if err == nil {
		err = in.redoTo(gens, name, r.Info.Low)
	}
	if errors.Is(err, ErrMissingLog) {
		err = in.o.missingLogs(gens, err)
	}
	if err = errors.Join(err, in.release()); err != nil {
		return err
	}
	h, err := in.o.readHeader(file)
	if err == nil && h.State != dbheader.CleanShutdown && h.CurrentBackup.GenHigh == 0 {
		err = fmt.Errorf("%s: %w", file, ErrDirtyShutdown)
	}
	return err
}

// redoTo redoes to the end of the log, and leaves the database with that name as it is then.
func (in *Instance) redoTo(gens []wal.GenInfo, name string, low uint32) error {
	r, _, end, err := in.redo(gens)
	if err != nil {
		return err
	}
	for _, db := range in.databases() {
		if db.name == name {
			return db.handOver(r, end.Pos, low)
		}
	}
	return nil // detached
}

// handOver writes all that redo has made, and notes in the header what is left to do.
func (db *Database) handOver(r *redo.Redo, end LogPos, low uint32) error {
	in := db.in
	log := wal.NewFetcher(in.o.FS, in.o.LogDir, in.o.Base)
	open, _, err := redo.Changed(log.At, r.All(), db.id)
	if err = errors.Join(err, log.Close()); err != nil {
		return err
	}
	first := end
	for _, l := range open {
		first = min(first, l.First)
	}
	rt := &redoTarget{in: in}
	if err := rt.lengthen(db); err != nil {
		return err
	}
	if err := db.stream.WriteAll(); err != nil {
		return err
	}
	if err := in.cache.WriteFile(db.file); err != nil {
		return err
	}
	return db.changeHeader(func(h *header) {
		h.HeaderFlush = logrec.Signature{}
		h.MinRequired, h.MaxRequired = first.Generation(), end.Generation()
		h.MaxCommitted = end.Generation()
		h.CurrentBackup = dbheader.Backup{
			Mark: end, Time: in.logTime(), GenLow: low, GenHigh: end.Generation(),
		}
	})
}

// restored tells that the files come from RestoreDatabase and were not opened since.
func restored(h *header) bool {
	return h.State != dbheader.CleanShutdown && h.CurrentBackup.GenHigh != 0
}

// endReturns takes note that databases which recovery found restored are whole now, and that what it
// found closed was covered by the backups of the others.
func (in *Instance) endReturns() error {
	for _, db := range in.databases() {
		db.headerMu.Lock()
		h := db.header
		db.headerMu.Unlock()
		inc := in.coveredMeanwhile(db)
		if !restored(&h) && (!db.returned || inc == h.IncBackup) {
			continue
		}
		err := db.changeHeader(func(h *header) {
			h.CurrentBackup, h.IncBackup = dbheader.Backup{}, inc
		})
		if err != nil {
			return err
		}
	}
	return nil
}
