package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"pillarbox/backup"
	"pillarbox/ese"
	"pillarbox/storage"
)

// RestoreOptions are the flags of restore.
type RestoreOptions struct {
	// From is a folder of backup sets, Identity a file that opens encrypted ones.
	From, Identity string
	Group          string
	// Database is the one database to restore, DATABASE or GROUP/DATABASE; empty is all.
	Database string
	// Time and Position are the moment to reach; both zero: the latest.
	Time     time.Time
	Position string
	// Logs are further folders with log files, and archives, s3://BUCKET/PREFIX too.
	Logs []string
	// IgnoreArchive leaves out the archive that the config names.
	IgnoreArchive bool
	// IgnoreLive leaves out the log that lies in the storage group's own folder.
	IgnoreLive bool
	// Plan says what would be reached and leaves everything as it was.
	Plan bool
	// Say is told what is going on, a sentence each.
	Say      func(format string, args ...any)
	Progress func(done, total int64)
}

// errPlanned ends a restore that was only to be planned.
var errPlanned = errors.New("only a plan was asked for")

// restore is one that is being made.
type restore struct {
	o     RestoreOptions
	cfg   *Config
	g     *GroupConfig
	keys  backup.Keys
	shelf *backup.Shelf
	base  *backup.Set
	row   *backup.Row
	pos   ese.LogPos
	// scratch holds what was unpacked of compressed and encrypted sets.
	scratch string
	// lost tells that there may have been more log than is left.
	lost bool
	logs []string
	// sums are the hashes of files in the folders of sets, which the engine compares.
	sums map[string]string
	// archive is that of the machine that was lost.
	archive string
	// admin is the running server's, which has the other groups; nil when none runs.
	admin Admin
}

// Restore brings a storage group of a config back, in place, or all of them. A server that runs must
// not have them mounted.
func Restore(ctx context.Context, cfg *Config, o RestoreOptions) (err error) {
	all, err := cfg.layout()
	if err != nil {
		return err
	}
	if o.Database != "" {
		return restoreDatabase(ctx, cfg, all, o)
	}
	names := []string{o.Group}
	if o.Group == "" {
		if names, err = groupsToRestore(all, o.From); err != nil {
			return err
		}
	}
	admin, err := runningServer(ctx, cfg)
	if err != nil {
		return err
	}
	if admin != nil {
		defer func() { err = errors.Join(err, admin.Close()) }()
	}
	var parts []*restore
	for _, name := range names {
		g, err := all.group(name)
		if err != nil {
			return err
		}
		r := &restore{o: o, cfg: cfg, g: g, admin: admin}
		r.o.Group = g.Name
		if err := r.choose(); err != nil {
			return err
		}
		if err := r.refuseRunning(ctx); err != nil {
			return err
		}
		parts = append(parts, r)
	}
	for _, r := range parts {
		if len(parts) > 1 {
			o.Say("Storage group %s:", r.g.Name)
		}
		if err := r.inPlace(ctx, time.Now()); err != nil {
			return err
		}
	}
	return nil
}

// groupsToRestore are all groups of a config. Each must have a backup, unless there is only one
// group: then the error is told when its backup is looked for.
func groupsToRestore(cfg *Config, from string) (names []string, err error) {
	for i := range cfg.Groups {
		names = append(names, cfg.Groups[i].Name)
	}
	if len(names) == 1 {
		return names, nil
	}
	s, err := backup.OpenShelf(from)
	if err != nil {
		return nil, err
	}
	have := s.Groups()
	for _, name := range names {
		if !slices.Contains(have, name) {
			return nil, fmt.Errorf("%s has no backup of the storage group %s: name those to restore with --group",
				from, name)
		}
	}
	return names, nil
}

// choose finds the sets for the moment.
func (r *restore) choose() (err error) {
	if r.o.Position != "" {
		if r.pos, err = ese.ParseLogPos(r.o.Position); err != nil {
			return fmt.Errorf("--to-position: %w", err)
		}
	}
	if r.keys, err = backup.LoadKeys(r.o.Identity); err != nil {
		return err
	}
	if r.shelf, err = backup.OpenShelf(r.o.From); err != nil {
		return err
	}
	for _, b := range r.shelf.Broken {
		r.o.Say("%s is left out: %v", b.Dir, b.Err)
	}
	name := or(r.o.Group, r.g.Name)
	if r.base, err = r.shelf.BaseFor(name, r.o.Time, r.pos); err != nil {
		return err
	}
	r.row = r.shelf.Row(r.base)
	return nil
}

// inPlace moves aside, restores, opens, and on an error puts everything back. One restore of a group
// at a time: a second one would take the files of the first for those of one that was killed.
func (r *restore) inPlace(ctx context.Context, now time.Time) (err error) {
	lock, err := lockRestore(r.g.Dir)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	databases := r.databases()
	a, err := moveAside(r.g, databases, now)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	undo := func() error { return nil }
	err = r.liveLog(a)
	if err == nil {
		err = r.run(ctx)
	}
	if err == nil {
		undo, err = storage.Readmit(r.cfg.Dir, r.g.Name, databases)
	}
	if err == nil {
		err = r.prove(ctx)
	}
	if err == nil {
		r.o.Say("What was there before lies in %s.", a.folder(r.g.Dir))
		if err := a.done(); err != nil {
			return err
		}
		return r.mountAgain(ctx)
	}
	if errors.Is(err, errPlanned) {
		return a.undo()
	}
	if uerr := errors.Join(undo(), a.undo()); uerr != nil {
		return fmt.Errorf("%w; and what was there could not be put back from %s: %w",
			err, a.folder(r.g.Dir), uerr)
	}
	return fmt.Errorf("%w; everything is as it was before", madeAnew(err))
}

// databases are the names of those that the backup holds.
func (r *restore) databases() (names []string) {
	for _, d := range r.base.Engine.Databases {
		names = append(names, d.Name)
	}
	return names
}

// liveLog adds the log that is left in the group's own folders.
func (r *restore) liveLog(a *aside) error {
	stream := a.stream()
	r.lost = stream != r.base.Engine.LogSignature
	if r.o.IgnoreLive {
		r.lost = true
		return nil
	}
	if stream != "" && r.lost {
		r.o.Say("The log in %s is of another log stream than the backup, begun by an earlier "+
			"restore: what came in since then is not in this backup, and will lie aside.", r.g.LogDir)
	}
	logs, err := a.logs()
	r.logs = append(r.logs, logs...)
	return err
}

// run unpacks what has to be, and restores.
func (r *restore) run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, r.clear()) }()
	set, logs, err := r.sources(ctx)
	if err != nil {
		return err
	}
	_, err = ese.Restore(ctx, ese.RestoreOptions{
		Info: r.base.Engine, Set: set, Open: r.opener(ctx), Logs: logs, Sums: r.sums,
		Options: r.g.options(quietLogger()),
		Time:    r.o.Time, Pos: r.pos, NewStream: r.lost,
		Announce: r.announce, Progress: r.o.Progress,
	})
	return err
}

// clear removes what was unpacked.
func (r *restore) clear() error {
	if r.scratch == "" {
		return nil
	}
	return os.RemoveAll(r.scratch)
}

// sources are the folder of the set and those with log, unpacked where that is needed.
func (r *restore) sources(ctx context.Context) (set string, logs []string, err error) {
	if set, err = r.folderOf(ctx, r.base); err != nil {
		return "", nil, err
	}
	logs = slices.Clone(r.logs)
	for _, x := range r.row.Logs {
		dir, err := r.folderOf(ctx, x)
		if err != nil {
			return "", nil, err
		}
		logs = append(logs, dir)
	}
	archived, err := r.archives(ctx)
	if err != nil {
		return "", nil, err
	}
	logs = append(logs, archived...)
	r.o.Say("Restoring from %s and %d sets that lead on from it.", r.base.ID, len(r.row.Logs))
	return set, logs, nil
}

// opener reads the databases of a set that is compressed or encrypted straight to their place; nil
// where they lie in its folder as they are.
func (r *restore) opener(ctx context.Context) func(name string) (io.ReadCloser, error) {
	if r.base.Plain() {
		return nil
	}
	return func(name string) (io.ReadCloser, error) { return r.base.Open(ctx, name, r.keys) }
}

// folderOf is the folder of a set as the engine can read it, but for databases that have to be
// unpacked: proven, or with the hashes that the engine compares.
func (r *restore) folderOf(ctx context.Context, x *backup.Set) (string, error) {
	if x.Plain() {
		sums, err := x.Sums()
		if r.sums == nil {
			r.sums = make(map[string]string)
		}
		maps.Copy(r.sums, sums)
		return x.Dir, err
	}
	if err := r.makeScratch(); err != nil {
		return "", err
	}
	to := filepath.Join(r.scratch, x.ID)
	return to, x.UnpackLog(ctx, to, r.keys)
}

// sayReaches is told once, before anything is written.
const sayReaches = "This reaches %s, log position %v, and nothing later: %s."

// announce says what will be reached, and why not more.
func (r *restore) announce(p ese.RestorePlan) error {
	last := "the state of " + r.base.Reaches().Local().Format(backup.TimeFormat)
	if t := p.LastCommit; !t.IsZero() {
		last = "the commit of " + t.Local().Format(backup.TimeFormat)
	}
	r.o.Say(sayReaches, last, p.To, p.Why)
	if !p.NextCommit.IsZero() {
		r.o.Say("The first commit left out is that of %s.",
			p.NextCommit.Local().Format(backup.TimeFormat))
	}
	if p.Forks {
		r.o.Say("There was, or may have been, more. A new log stream and a new incarnation of " +
			"every mailbox begin: mail programs will fetch their folders anew. " +
			"Make a full backup soon.")
	}
	if r.o.Plan {
		return errPlanned
	}
	return nil
}

// prove opens the restored group once, which gives mailboxes their new incarnation where that is
// due, and ends it clean.
func (r *restore) prove(ctx context.Context) error {
	if r.admin != nil {
		return r.proveAlone()
	}
	c, err := openCore(ctx, r.cfg, coreOptions{
		logger: quietLogger(), still: true, restored: true,
	})
	if err != nil {
		return err
	}
	g, err := c.store.Group(r.g.Name)
	if err == nil {
		err = g.Err()
	}
	if err != nil {
		return errors.Join(err, c.Close())
	}
	r.o.Say("Restored: %d accounts in %d domains.", len(c.dir.Users()), len(c.dir.Domains()))
	return c.Close()
}

func quietLogger() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
}

// RestoreInto builds a whole server in a new folder from nothing but a backup. It returns the
// path of its config.
func RestoreInto(ctx context.Context, dir string, o RestoreOptions) (config string, err error) {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return "", fmt.Errorf("restore --into %s: the folder is not empty: name a new one", dir)
	}
	names := []string{o.Group}
	if o.Group == "" {
		if names, err = allGroups(o.From); err != nil {
			return "", err
		}
	}
	var parts []*restore
	for _, name := range names {
		r := &restore{o: o, g: &GroupConfig{}, lost: true}
		r.o.Group = name
		if err := r.choose(); err != nil {
			return "", err
		}
		for _, d := range r.base.Engine.Databases {
			if filepath.Base(d.Name) != d.Name {
				return "", fmt.Errorf("restore --into: the database %s had a place of its own: "+
					"use --config with a config that names it", d.Name)
			}
		}
		parts = append(parts, r)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	if err := noteInto(dir); err != nil {
		return "", err
	}
	config, err = allInto(ctx, dir, parts)
	if err == nil {
		err = endInto(dir)
	}
	if errors.Is(err, errPlanned) {
		return "", os.RemoveAll(dir)
	}
	if err != nil {
		return "", fmt.Errorf("%w; what lies in %s is of no use: remove it", err, dir)
	}
	return config, nil
}

// allInto unpacks the config of the newest set, restores each group and opens them.
func allInto(ctx context.Context, dir string, parts []*restore) (string, error) {
	newest := parts[0]
	for _, r := range parts {
		if r.newest().Engine.Ended.After(newest.newest().Engine.Ended) {
			newest = r
		}
	}
	err := newest.newest().Unpack(ctx, dir, backup.ServerFolder+"/", newest.keys, nil)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, ConfigName)
	cfg, err := settleInto(path, parts)
	if err != nil {
		return "", err
	}
	all, err := cfg.layout()
	if err != nil {
		return "", err
	}
	parts, err = leaveOutRemoved(parts, all)
	if err != nil {
		return "", err
	}
	for _, r := range parts {
		if len(parts) > 1 {
			r.o.Say("Storage group %s:", r.g.Name)
		}
		if err := os.MkdirAll(r.g.Dir, 0o700); err != nil {
			return "", err
		}
		if err := r.run(ctx); err != nil {
			return "", err
		}
		if _, err := storage.Readmit(cfg.Dir, r.g.Name, r.databases()); err != nil {
			return "", err
		}
	}
	for _, r := range parts {
		if err := r.prove(ctx); err != nil {
			return "", err
		}
	}
	return path, nil
}

// leaveOutRemoved finds the groups in the config of the newest set. One of several that it does not have
// any more was removed before.
func leaveOutRemoved(parts []*restore, all *Config) (kept []*restore, err error) {
	for _, r := range parts {
		r.g, err = all.group(r.o.Group)
		switch {
		case err == nil:
			kept = append(kept, r)
		case len(parts) == 1:
			return nil, err
		default:
			r.o.Say("Storage group %s is left out: it was removed before the newest backup was made. "+
				"To have it back: pillarbox group create %s, end the server, then pillarbox restore --group %s.",
				r.o.Group, r.o.Group, r.o.Group)
		}
	}
	return kept, nil
}

// newest is the newest set: it has the newest config.
func (r *restore) newest() *backup.Set {
	if n := len(r.row.Logs); n > 0 {
		return r.row.Logs[n-1]
	}
	return r.base
}

// allGroups are the storage groups whose sets a folder holds.
func allGroups(dir string) ([]string, error) {
	s, err := backup.OpenShelf(dir)
	if err != nil {
		return nil, err
	}
	groups := s.Groups()
	if len(groups) == 0 {
		return nil, fmt.Errorf("%s: %w", dir, backup.ErrNoBase)
	}
	return groups, nil
}
