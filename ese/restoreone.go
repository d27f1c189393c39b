package ese

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"pillarbox/ese/internal/dbheader"
	"pillarbox/ese/internal/logrec"
)

// A single database is brought to the end of its group's log in a folder of its own: the log is
// copied there and replayed without the other databases. What was open at the end is undone in
// that copy of the log only, so neither the group's own log nor an older backup leads on from the
// result: it has a new signature, as after a repair, and the group attaches it as a clean file.

// ErrNotInBackup: the backup does not hold the database.
var ErrNotInBackup = errors.New("the backup does not hold the database: take one that does")

// RestoreDatabase restores one database of a backup to the end of the log, into the folders of
// r.Options, which are of no use to anybody else and may be removed afterwards. file is where the
// .edb lies then, in Clean Shutdown, with the .stm beside it. The log that is left must reach to
// the end of the group's: Time, Pos and NewStream have no meaning here.
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
	r.Options.IgnoreMissing, r.Options.ScrubEvery = true, -1
	r.Options.Locate = func(n string) string {
		if n == name {
			return file
		}
		// The log may tell of the making of another one.
		return filepath.Join(others, strings.NewReplacer("/", "_", `\`, "_", ":", "_").Replace(n))
	}
	if plan, err = Restore(ctx, r); err != nil {
		return "", nil, err
	}
	if err := r.setApart(file, plan.To); err != nil {
		return "", nil, fmt.Errorf("restore: %w", err)
	}
	return file, plan, nil
}

// setApart gives the database a signature of its own. The group's log up to end knows another one,
// which redo is to leave alone.
func (r *RestoreOptions) setApart(file string, end LogPos) (err error) {
	f, err := r.Options.FS.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h, _, err := dbheader.Read(f)
	if err != nil {
		return err
	}
	if h.State != dbheader.CleanShutdown {
		return fmt.Errorf("%s: %w", file, ErrDirtyShutdown)
	}
	if h.StreamSignature.IsZero() {
		h.StreamSignature = h.Signature
	}
	in := Instance{o: r.Options}
	h.Signature = in.newSignature()
	if h.LogSignature, err = parseSignature(r.Info.LogSignature); err != nil {
		return err
	}
	h.Attach, h.Consistent, h.Detach, h.LastResize, h.Reattach = end, end, end, 0, 0
	h.FullBackup, h.IncBackup = dbheader.Backup{}, dbheader.Backup{}
	h.CurrentBackup, h.HeaderFlush = dbheader.Backup{}, logrec.Signature{}
	return dbheader.Write(f, h)
}
