package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"pillarbox/backup"
	"pillarbox/ese"
	"pillarbox/ese/vfs"
	"pillarbox/storage"
)

// One database is restored while the others go on: what a backup has of it is brought to the end of
// the group's log in a folder beside it, and then takes its place in one step (storage, replace.go).
// Where the group is mounted, the log that is there comes from the server as a set that is kept nowhere
// else; else it is read where it lies, under the group's lock. The database keeps its signature: older
// sets and the log that goes on lead on from it.

// Errors of restoring one database.
var (
	// errOnlyLatest: the other databases of the group are where they are.
	errOnlyLatest = errors.New("one database alone goes to its group's latest position only: mail " +
		"and mailboxes that the group's other databases have since then would not fit an earlier one")
	// errNoBaseOfStream: no set that the log which is there leads on from.
	errNoBaseOfStream = errors.New("no full or copy backup holds this database and the beginning of " +
		"the log that is there")
	// errLogLost: the end of the log is not there.
	errLogLost = errors.New("the end of the group's log is lost, so that its latest position cannot " +
		"be reached: restore the whole group")
)

// oneRestore is the restore of one database.
type oneRestore struct {
	*restore
	place  storage.Place
	engine string // the name that the log has
	at     string // where it lies
	stamp  string
	work   string // everything is made here
	admin  Admin  // of the running server, or nil
	group  bool   // the group is mounted
	named  bool   // groups.json may name what lies in the work folder
	lock   io.Closer
	// working is the lock of the work folder.
	working io.Closer
}

// restoreDatabase restores one database in place.
func restoreDatabase(ctx context.Context, cfg, all *Config, o RestoreOptions) (err error) {
	if !o.Time.IsZero() || o.Position != "" {
		return errOnlyLatest
	}
	x, err := findOne(cfg, all, o)
	if err != nil {
		return err
	}
	if x.admin, err = runningServer(ctx, cfg); err != nil {
		return err
	}
	if x.admin != nil {
		defer func() { err = errors.Join(err, x.admin.Close()) }()
	}
	defer func() { err = errors.Join(err, x.end()) }()
	err = x.make(ctx)
	if errors.Is(err, errPlanned) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("restore %s: %w; the database is as it was before", x.place,
			Advise(madeAnew(err)))
	}
	x.named = true
	if err := x.commit(ctx); err != nil {
		return fmt.Errorf("restore %s: %w", x.place, err)
	}
	x.named = false
	o.Say("What was there before lies in %s.", x.replacement().Aside)
	return nil
}

// errMadeAnew: the log tells of a database that is not that of the backup any more.
var errMadeAnew = errors.New("a database of this backup was repaired or defragmented after the " +
	"backup, which leads only to the moment before: restore from a later full backup, or the whole " +
	"storage group to an earlier moment (--to-time)")

// madeAnew tells what a signature that does not fit means where the files come from a backup.
func madeAnew(err error) error {
	if errors.Is(err, ese.ErrWrongSignature) {
		return &advisedError{fmt.Errorf("%w: %w", errMadeAnew, err), "then make a full backup"}
	}
	return err
}

// findOne finds the database that is meant.
func findOne(cfg, all *Config, o RestoreOptions) (*oneRestore, error) {
	name := o.Database
	if p, err := storage.ParsePlace(name); err == nil {
		o.Group, name = p.Group(), p.Database()
	}
	g, err := all.group(o.Group)
	if err != nil {
		return nil, err
	}
	o.Group = g.Name
	now := time.Now().UTC().Format(restoringTime)
	x := &oneRestore{
		restore: &restore{o: o, cfg: cfg, g: g}, place: storage.MakePlace(g.Name, name), stamp: now,
	}
	i := slices.IndexFunc(g.Databases, func(db string) bool {
		return storage.MakePlace(g.Name, db) == x.place
	})
	if i < 0 {
		return nil, Advise(fmt.Errorf("%s: %w", x.place, storage.ErrNoDatabase))
	}
	x.engine = g.Databases[i]
	x.at = g.path(x.engine)
	x.work = filepath.Join(filepath.Dir(x.at), restoringPrefix+now)
	return x, nil
}

// runningServer asks the server of a config, if one runs.
func runningServer(ctx context.Context, cfg *Config) (Admin, error) {
	path := socketPath(cfg.Dir)
	if err := trustFolder(cfg.Dir, path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, fmt.Errorf("find admin socket: %w", err)
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, ctx.Err() // nobody listens
	}
	return newAdminClient(path), c.Close()
}

// end removes what was made on the way, and lets the group go. Files that may still have to take
// their place stay.
func (x *oneRestore) end() error {
	err := x.clear()
	if x.working != nil {
		err = errors.Join(err, x.working.Close())
	}
	if !x.named {
		err = errors.Join(err, os.RemoveAll(x.work))
	}
	if x.lock != nil {
		err = errors.Join(err, x.lock.Close())
	}
	return err
}

func (x *oneRestore) replacement() storage.Replacement {
	return storage.Replacement{
		From:  filepath.Join(x.work, "new"),
		Aside: filepath.Join(filepath.Dir(x.at), replacedPrefix+x.stamp),
	}
}

// make brings the database to the end of the log, in the work folder.
func (x *oneRestore) make(ctx context.Context) error {
	if err := x.state(ctx); err != nil {
		return err
	}
	if err := x.begin(); err != nil {
		return err
	}
	stream, err := x.liveLogs(ctx)
	if err != nil {
		return err
	}
	if err := x.pick(stream); err != nil {
		return err
	}
	set, logs, err := x.sources(ctx)
	if err != nil {
		return err
	}
	o := x.g.options(slog.New(slog.DiscardHandler)) // it would name the other databases as lost
	o.Dir = filepath.Join(x.work, "replay")
	o.LogDir, o.CheckpointDir = "", ""
	file, _, err := ese.RestoreDatabase(ctx, ese.RestoreOptions{
		Info: x.base.Engine, Set: set, Open: x.opener(ctx), Logs: logs, Sums: x.sums, Options: o,
		Announce: x.announce, Progress: x.o.Progress,
	}, x.engine)
	if err != nil {
		return err
	}
	return x.collect(file)
}

// state makes sure that the database is not in use.
func (x *oneRestore) state(ctx context.Context) (err error) {
	if x.admin != nil {
		var s Status
		if err := x.admin.Do(ctx, OpStatus, nil, &s); err != nil {
			return err
		}
		for i := range s.Databases {
			if d := &s.Databases[i]; d.Place == x.place && d.Mounted {
				if d.First {
					return fmt.Errorf("%s: %w", x.place, storage.ErrFirst)
				}
				return fmt.Errorf("%s: %w", x.place, storage.ErrMounted)
			}
		}
		for i := range s.Groups {
			x.group = x.group || s.Groups[i].Name == x.g.Name && s.Groups[i].Mounted
		}
	}
	if x.group {
		return nil
	}
	if err := os.MkdirAll(x.g.Dir, 0o700); err != nil {
		return err
	}
	x.lock, err = vfs.OS().Lock(filepath.Join(x.g.Dir, logBase+".lock"))
	return err
}

// liveLogs adds the log up to its end and tells which stream it is.
func (x *oneRestore) liveLogs(ctx context.Context) (stream string, err error) {
	if !x.group {
		stream, err = ese.CurrentLogSignature(vfs.OS(), x.g.LogDir, logBase)
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w (%w)", errLogLost, err)
		}
		x.logs = []string{x.g.LogDir}
		return stream, err
	}
	in, err := x.admin.Stream(ctx, OpBackup, BackupInput{
		Kind: ese.BackupLog, Group: x.g.Name, Passing: true,
	})
	if err != nil {
		return "", err
	}
	to := filepath.Join(x.work, "log")
	m, err := backup.Receive(ctx, in, backup.Receiving{
		Open: func(b backup.Begin) (backup.Target, error) {
			return backup.NewWriter(to, b.ID, b.Group, backup.Codec{})
		},
	})
	if err = errors.Join(err, in.Close()); err != nil {
		return "", fmt.Errorf("%w: the log is needed to its end: dismount the whole group "+
			"(pillarbox group dismount %s) and restore again", err, x.g.Name)
	}
	x.logs = []string{filepath.Join(to, m.ID)}
	return m.Engine.LogSignature, nil
}

// pick takes the newest set with the database that the log leads on from.
func (x *oneRestore) pick(stream string) (err error) {
	if x.keys, err = backup.LoadKeys(x.o.Identity); err != nil {
		return err
	}
	if x.shelf, err = backup.OpenShelf(x.o.From); err != nil {
		return err
	}
	for _, b := range slices.Backward(x.shelf.Bases(x.g.Name)) {
		has := slices.ContainsFunc(b.Engine.Databases, func(d ese.BackupDatabase) bool {
			return d.Name == x.engine
		})
		if has && b.Engine.LogSignature == stream {
			x.base, x.row = b, x.shelf.Row(b)
			return nil
		}
	}
	return errNoBaseOfStream
}

// collect puts the new files where the storage group takes them from.
func (x *oneRestore) collect(file string) error {
	to := x.replacement().From
	stem := func(path string) string { return path[:len(path)-len(filepath.Ext(path))] }
	base := filepath.Join(to, filepath.Base(x.at))
	err := os.Rename(stem(file)+".stm", stem(base)+".stm")
	if err == nil {
		err = os.Rename(file, base)
	}
	if err == nil {
		err = errors.Join(vfs.OS().SyncDir(to), vfs.OS().SyncDir(x.work))
	}
	return errors.Join(err, vfs.OS().SyncDir(filepath.Dir(x.work)))
}

// commit puts the database in place and mounts it.
func (x *oneRestore) commit(ctx context.Context) error {
	if x.admin == nil {
		if err := storage.Replace(x.cfg.Dir, x.place, x.replacement()); err != nil {
			return err
		}
		lock := x.lock
		x.lock = nil
		if err := lock.Close(); err != nil {
			return err
		}
		return x.prove(ctx)
	}
	in := ReplaceInput{
		DatabaseInput: DatabaseInput{Database: string(x.place)}, Replacement: x.replacement(),
	}
	if err := x.admin.Do(ctx, OpDatabaseReplace, in, nil); err != nil || x.group {
		return err
	}
	lock := x.lock
	x.lock = nil
	if err := lock.Close(); err != nil {
		return err
	}
	return x.admin.Do(ctx, OpGroupMount, GroupInput{Name: x.g.Name}, nil)
}

// prove opens the group with the database in its place.
func (x *oneRestore) prove(ctx context.Context) error {
	c, err := openCore(ctx, x.cfg, coreOptions{logger: quietLogger(), still: true})
	if err != nil {
		return err
	}
	err = x.proveMounted(c)
	return errors.Join(err, c.Close())
}

func (x *oneRestore) proveMounted(c *Core) error {
	for _, d := range c.store.Databases() {
		if d.Place == x.place && !d.Mounted {
			return fmt.Errorf("%s is %s", x.place, d.State)
		}
		if d.Place == x.place {
			x.o.Say("Restored: %s, with %d mailboxes.", x.place, d.Mailboxes)
		}
	}
	return nil
}
