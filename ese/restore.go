package ese

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"pillarbox/ese/internal/dbheader"
	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/wal"
	"pillarbox/ese/vfs"
)

// RestoreOptions says what to restore, from where, to where. Info, Set and Options must be set.
type RestoreOptions struct {
	// Info is that of the full or copy backup in the folder Set.
	Info BackupInfo
	Set  string
	// Open reads a database's file of the set, .edb or .stm, from its beginning, where they do not lie in
	// the folder as they are. Default: they do.
	Open func(name string) (io.ReadCloser, error)
	// Logs are further folders with log files of the stream: incremental backups, an archive,
	// the log folder of the lost storage group.
	Logs []string
	// Sums are, by path, the SHA-256 (hex) of files in Logs that are known: each must be there, and one
	// that is used is compared while it is copied, as those of Set are with Info.
	Sums map[string]string
	// Options opens the restored storage group: its folders must hold neither log, checkpoint
	// nor the databases. Locate says where each database goes.
	Options Options
	// Time and Pos are how far to go: every commit at or before the time, every record before
	// the position, nothing later. Zero: as far as the log goes.
	Time time.Time
	Pos  LogPos
	// NewStream begins a new log stream also at the end of the log: there may have been more of
	// it, that is lost.
	NewStream bool
	// Announce is told what will be done before any database is written. An error ends it.
	Announce func(RestorePlan) error
	Progress func(done, total int64)
}

// RestorePlan is what a restore will reach.
type RestorePlan struct {
	From, To LogPos
	// LastCommit is the newest commit that will be there, NextCommit the oldest that will not;
	// zero where there is none.
	LastCommit, NextCommit time.Time
	// Why says why it goes no further.
	Why string
	// Forks tells that a new log stream begins.
	Forks bool
}

// Errors of restoring.
var (
	// ErrBeyondLog: the log ends before the moment asked for.
	ErrBeyondLog = errors.New("the log does not reach the moment asked for")
	// ErrBeforeBackup: the moment asked for lies before the end of the backup.
	ErrBeforeBackup = errors.New("the moment asked for lies before the end of the backup: take an older one")
	// ErrWrongHash: a file of a backup is not the one that was written.
	ErrWrongHash = wal.ErrWrongHash
)

// Restore brings a storage group back from a backup and log (hard recovery). It copies log and
// databases into place, replays, undoes what was open, and leaves the group in Clean Shutdown.
// On an error the folders hold nothing of use.
func Restore(ctx context.Context, r RestoreOptions) (*RestorePlan, error) {
	plan, err := r.assemble(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.replay(plan); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	return plan, nil
}

// assemble copies log and databases into place.
func (r *RestoreOptions) assemble(ctx context.Context) (*RestorePlan, error) {
	o, err := r.Options.withDefaults()
	if err != nil {
		return nil, err
	}
	r.Options = o
	for _, dir := range []string{o.Dir, o.LogDir, o.CheckpointDir} {
		if err := makeFolder(o.FS, dir); err != nil {
			return nil, fmt.Errorf("restore: %w", err)
		}
	}
	if err := r.refuseUsed(); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	plan, err := r.logs()
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	if r.Announce != nil {
		if err := r.Announce(*plan); err != nil {
			return nil, err
		}
	}
	if err := r.databases(ctx); err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	return plan, nil
}

// refuseUsed makes sure that nothing is overwritten.
func (r *RestoreOptions) refuseUsed() error {
	o := &r.Options
	gens, err := wal.Generations(o.FS, o.LogDir, o.Base)
	if err != nil {
		return err
	}
	used := []string{filepath.Join(o.CheckpointDir, o.Base+".chk"), o.lossPath()}
	for _, g := range gens {
		used = append(used, filepath.Join(o.LogDir, g.Name))
	}
	for _, d := range r.Info.Databases {
		used = append(used, r.place(d.Name), sidePath(r.place(d.Name), ".stm"))
	}
	for _, name := range used {
		if _, err := o.FS.Stat(name); err == nil {
			return fmt.Errorf("%s: %w: move it aside first", name, fs.ErrExist)
		}
	}
	return nil
}

// place is where a database of the backup goes.
func (r *RestoreOptions) place(name string) string {
	in := Instance{o: r.Options}
	return in.dbPath(name)
}

// logs brings the log together in its folder and cuts it at the moment asked for.
func (r *RestoreOptions) logs() (*RestorePlan, error) {
	o := &r.Options
	sign, err := parseSignature(r.Info.LogSignature)
	if err != nil {
		return nil, err
	}
	sums, err := r.sums()
	if err != nil {
		return nil, err
	}
	dirs := append([]string{r.Set}, r.Logs...)
	sources, why, err := wal.Collect(o.FS, dirs, o.Base, sign, r.Info.From.Generation())
	if err != nil {
		return nil, err
	}
	if err := o.wholeLogs(sources, sums); err != nil {
		return nil, err
	}
	wo := wal.Options{Now: o.Now, Rand: o.Rand}
	if wo.Rand == nil {
		wo.Rand = wal.CryptoRand
	}
	if err := wal.Assemble(o.FS, o.LogDir, o.Base, sources, wo); err != nil {
		return nil, err
	}
	plan := &RestorePlan{From: r.Info.From, Why: why, Forks: r.NewStream}
	stop, err := r.findEnd(plan, sources)
	if err != nil {
		return nil, err
	}
	switch {
	case stop == 0 && plan.To < r.Info.To:
		return nil, fmt.Errorf("the backup needs the log up to %v: %s: %w", r.Info.To, why, logrec.ErrMissingLog)
	case stop == 0:
		return plan, nil
	case stop < r.Info.To:
		return nil, fmt.Errorf("%w: it ends at %v, with the commits up to %v", ErrBeforeBackup,
			r.Info.To, r.Info.LastCommit.Format(time.RFC3339Nano))
	}
	plan.To, plan.Forks = stop, true
	return plan, wal.Cut(o.FS, o.LogDir, o.Base, stop)
}

// sums are the hashes that are known, of all files in Set and Logs.
func (r *RestoreOptions) sums() (map[string]string, error) {
	sums := make(map[string]string, len(r.Info.Files)+len(r.Sums))
	for name, sum := range r.Sums {
		if _, err := r.Options.FS.Stat(name); err != nil {
			return nil, fmt.Errorf("a file of a backup is not there: %w", err)
		}
		sums[filepath.Clean(name)] = sum
	}
	for _, f := range r.Info.Files {
		sums[filepath.Join(r.Set, f.Name)] = f.SHA256
	}
	return sums, nil
}

// wholeLogs gives the sources the hashes that are known. Backups hold whole generations only: where
// one of them did not turn out whole, what follows must not pass for the end of the log.
func (o *Options) wholeLogs(sources []wal.Source, sums map[string]string) error {
	for i := range sources {
		s := &sources[i]
		s.SHA256 = sums[filepath.Clean(s.Path)]
		if s.Closed {
			continue
		}
		for name := range sums {
			if filepath.Base(name) == wal.NumberedName(o.Base, s.Header.Gen) {
				return fmt.Errorf("%s: %w", name, ErrWrongHash)
			}
		}
	}
	return nil
}

// findEnd walks the log up to where replay is to stop: 0 for its end, which plan.To then is. Where
// nothing but the end ends it, what was found out of the sources tells most.
func (r *RestoreOptions) findEnd(plan *RestorePlan, sources []wal.Source) (stop LogPos, err error) {
	o, from := &r.Options, r.Info.From
	if r.Time.IsZero() && r.Pos == 0 {
		from = max(from, logrec.MakePos(sources[len(sources)-1].Header.Gen, logrec.SectorSize))
		for i := range sources {
			if ms := sources[i].LastCommit; ms != 0 {
				plan.LastCommit = time.UnixMilli(ms).UTC()
			}
		}
	}
	rd, err := wal.NewReader(o.FS, o.LogDir, o.Base, from, wal.ReaderOptions{})
	if err != nil {
		return 0, err
	}
	limit := int64(1<<63 - 1)
	if !r.Time.IsZero() {
		limit = r.Time.UnixMilli()
	}
	for {
		rec, err := rd.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, err
		}
		if r.Pos != 0 && rec.Pos >= r.Pos {
			plan.Why = fmt.Sprintf("position %v was asked for", r.Pos)
			return rec.Pos, nil
		}
		if rec.Type != logrec.TypeCommit {
			continue
		}
		var c logrec.CommitRec
		if err := c.Decode(rec.Payload, rec.Back); err != nil {
			return 0, err
		}
		at := time.UnixMilli(c.TimeMS).UTC()
		if c.TimeMS > limit {
			plan.NextCommit = at
			plan.Why = fmt.Sprintf("%v was asked for", r.Time.Format(time.RFC3339Nano))
			return rec.Pos, nil
		}
		plan.LastCommit = at
	}
	plan.To = rd.End().Pos
	if r.Pos > plan.To {
		return 0, fmt.Errorf("%w: position %v; %s, at %v", ErrBeyondLog, r.Pos, plan.Why, plan.To)
	}
	return 0, nil
}

// databases copies the files of the backup into place.
func (r *RestoreOptions) databases(ctx context.Context) error {
	o := &r.Options
	total, done := int64(0), int64(0)
	for _, f := range r.Info.Files {
		total += f.Bytes
	}
	copyTo := func(to, from string, open func(name string) (io.ReadCloser, error)) error {
		if err := makeFolder(o.FS, filepath.Dir(to)); err != nil {
			return err
		}
		in, err := open(from)
		if err != nil {
			return err
		}
		sum, err := copyFile(ctx, o.FS, to, in, func(n int) {
			if done += int64(n); r.Progress != nil {
				r.Progress(done, max(total, done))
			}
		})
		if err = errors.Join(err, in.Close()); err == nil {
			err = r.compare(from, sum)
		}
		if err != nil {
			return err
		}
		return o.FS.SyncDir(filepath.Dir(to))
	}
	open := r.Open
	if open == nil {
		open = r.openInSet
	}
	for _, d := range r.Info.Databases {
		at := r.place(d.Name)
		if err := copyTo(at, d.File, open); err != nil {
			return err
		}
		if err := r.markFull(at); err != nil {
			return err
		}
		if err := copyTo(sidePath(at, ".stm"), d.Stream, open); err != nil {
			return err
		}
	}
	name := o.Base + ".chk"
	return copyTo(filepath.Join(o.CheckpointDir, name), name, r.openInSet)
}

// openInSet opens a file in the folder of the set.
func (r *RestoreOptions) openInSet(name string) (io.ReadCloser, error) {
	f, err := r.Options.FS.OpenFile(filepath.Join(r.Set, name), os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	n, err := f.Size()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return setFile{io.NewSectionReader(f, 0, n), f}, nil
}

// setFile reads a file from its beginning to its end.
type setFile struct {
	io.Reader
	io.Closer
}

// markFull notes in a restored database that the full backup holds it, which was confirmed only after
// its header had been copied: backups of the log that goes on from here lead on from that one. On a
// new log stream the note goes again.
func (r *RestoreOptions) markFull(at string) (err error) {
	if r.Info.Kind != BackupFull {
		return nil
	}
	f, err := r.Options.FS.OpenFile(at, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h, _, err := dbheader.Read(f)
	if err != nil {
		return err
	}
	h.FullBackup = dbheader.Backup{
		Mark: r.Info.To, Time: logrec.MakeLogTime(r.Info.Begun), GenLow: r.Info.Low, GenHigh: r.Info.High,
	}
	h.IncBackup = dbheader.Backup{}
	return dbheader.Write(f, h)
}

// compare proves that a file of the backup is what was written.
func (r *RestoreOptions) compare(name, sum string) error {
	for _, f := range r.Info.Files {
		if f.Name == name && f.SHA256 == sum {
			return nil
		}
	}
	return fmt.Errorf("%s: %w", filepath.Join(r.Set, name), ErrWrongHash)
}

// replay runs recovery over what was put together and ends it clean; where the restored group
// leaves its history, on a new log stream.
func (r *RestoreOptions) replay(plan *RestorePlan) error {
	in, err := Open(r.Options)
	if err != nil {
		return err
	}
	var names []string
	for _, db := range in.databases() {
		names = append(names, db.name)
	}
	sign := in.logSign
	if err := in.Close(); err != nil {
		return err
	}
	if !plan.Forks {
		return nil
	}
	o := r.Options
	gens, err := wal.Generations(o.FS, o.LogDir, o.Base)
	if err != nil {
		return err
	}
	for _, g := range gens {
		if err := o.FS.Remove(filepath.Join(o.LogDir, g.Name)); err != nil {
			return err
		}
	}
	if err := o.FS.Remove(filepath.Join(o.CheckpointDir, o.Base+".chk")); err != nil {
		return err
	}
	o.parent, o.fork = sign, plan.To
	if in, err = Open(o); err != nil {
		return err
	}
	for _, name := range names {
		if _, err := in.OpenDatabase(name); err != nil {
			return errors.Join(err, in.Close())
		}
	}
	return in.Close()
}

// Parent is the log stream that this one left by a restore, as backups name it, and where;
// empty when it is the first, or the instance read-only.
func (in *Instance) Parent() (signature string, at LogPos) {
	if in.log == nil {
		return "", 0
	}
	sign, at := in.log.Parent()
	if sign == (logrec.Signature{}) {
		return "", 0
	}
	return signatureText(sign), at
}

// LogSignature is the log stream, as backups name it.
func (in *Instance) LogSignature() string { return signatureText(in.logSign) }

// CurrentLogSignature is the log stream whose current log file lies in a folder, as backups name
// it. fs.ErrNotExist when there is none.
func CurrentLogSignature(fsys vfs.FS, dir, base string) (string, error) {
	sign, err := wal.CurrentSignature(fsys, dir, base)
	if err != nil {
		return "", err
	}
	return signatureText(sign), nil
}

// ParseLogPos reads a log position as LogPos.String prints it.
func ParseLogPos(s string) (LogPos, error) { return logrec.ParseLogPos(s) }
