package server

import (
	"context"
	"fmt"
	"io"
	"time"

	"pillarbox/backup"
	"pillarbox/ese"
	"pillarbox/storage"
)

// BackupOptions are the flags of backup full, incremental, differential and copy.
type BackupOptions struct {
	Kind  string
	Group string
	// To is a folder, or - for one tar stream on Out.
	To       string
	Out      io.Writer
	Compress string
	Encrypt  string
	Rate     int64
	Progress func(done, total int64)
}

// BackupResult says what was made.
type BackupResult struct {
	ID string
	// Reaches is the time of the last commit in it.
	Reaches time.Time
	Bytes   int64
	// Waits tells that the log stays until the backup is confirmed.
	Waits bool
}

// BackupGroups are the storage groups that a backup is made of: the named one, or all. note is told
// what will not be in it.
func BackupGroups(
	ctx context.Context, a Admin, name, kind string, note func(string),
) (names []string, err error) {
	var s Status
	if err := a.Do(ctx, OpStatus, nil, &s); err != nil {
		return nil, err
	}
	whole := kind == string(ese.BackupFull) || kind == string(ese.BackupCopy)
	for _, g := range s.Groups {
		switch {
		case name != "" && g.Name != name:
			continue
		case name == "" && !whole && g.Circular && len(s.Groups) > 1:
			note("storage group " + g.Name + ": left out: circular logging keeps no log for a " +
				kind + " backup")
			continue
		}
		names = append(names, g.Name)
		for _, d := range s.Databases {
			if g.Mounted && whole && !d.Mounted && d.Place.Group() == g.Name {
				note("database " + string(d.Place) + " is not in this backup: it is not mounted (" +
					d.State + ")")
			}
		}
	}
	if len(names) == 0 {
		err = fmt.Errorf("%s: %w", or(name, "all"), storage.ErrNoGroup)
		if name == "" {
			err = ese.ErrCircular
		}
	}
	return names, err
}

// Backup makes a backup and stores it. One in a folder is confirmed as soon as it is durable.
func Backup(ctx context.Context, a Admin, o BackupOptions) (*BackupResult, error) {
	codec, err := backup.NewCodec(o.Compress, o.Encrypt)
	if err != nil {
		return nil, err
	}
	in, err := a.Stream(ctx, OpBackup, BackupInput{Kind: ese.BackupKind(o.Kind), Group: o.Group})
	if err != nil {
		return nil, err
	}
	m, err := backup.Receive(ctx, in, backup.Receiving{
		Rate: o.Rate, Progress: o.Progress,
		Open: func(b backup.Begin) (backup.Target, error) {
			if o.To == "-" {
				return backup.NewStream(o.Out, b, codec)
			}
			return backup.NewWriter(o.To, b.ID, codec)
		},
	})
	if cerr := in.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, fmt.Errorf("%s backup: %w", o.Kind, err)
	}
	res := &BackupResult{
		ID: m.ID, Reaches: m.Reaches(), Bytes: m.Bytes(),
		Waits: o.To == "-" && ConfirmMatters(o.Kind),
	}
	if o.To == "-" {
		return res, nil
	}
	if err := a.Do(ctx, OpBackupConfirm, Name{Name: m.ID}, nil); err != nil {
		return nil, fmt.Errorf("backup %s is whole, but is not confirmed: %w", m.ID, err)
	}
	return res, nil
}

// ConfirmMatters tells kinds of backups that let log go.
func ConfirmMatters(kind string) bool {
	k := ese.BackupKind(kind)
	return k == ese.BackupFull || k == ese.BackupIncremental
}

// ListedSet is a line of backup list.
type ListedSet struct {
	ID       string
	Group    string
	Kind     string
	Bytes    int64
	Reaches  time.Time
	Low      uint32
	High     uint32
	Compress string
	Encrypt  string
}

// BackupList is what a folder of sets holds.
type BackupList struct {
	Sets   []ListedSet
	Spans  []backup.Span
	Broken []string
}

// ListBackups reads a folder of sets.
func ListBackups(dir string) (*BackupList, error) {
	s, err := backup.OpenShelf(dir)
	if err != nil {
		return nil, err
	}
	l := &BackupList{}
	for _, x := range s.Sets {
		l.Sets = append(l.Sets, ListedSet{
			ID: x.ID, Group: x.Group, Kind: string(x.Engine.Kind), Bytes: x.Bytes(),
			Reaches: x.Reaches(), Low: x.Engine.Low, High: x.Engine.High,
			Compress: x.Compress, Encrypt: x.Encrypt,
		})
	}
	for _, g := range s.Groups() {
		l.Spans = append(l.Spans, s.Spans(g)...)
	}
	for _, b := range s.Broken {
		l.Broken = append(l.Broken, fmt.Sprintf("%s: %v", b.Dir, b.Err))
	}
	return l, nil
}

// VerifyBackups proves a folder of sets and returns what is wrong with it, a line each.
func VerifyBackups(
	ctx context.Context, dir, identity string, progress func(id string),
) (wrong []string, sets int, err error) {
	keys, err := backup.LoadKeys(identity)
	if err != nil {
		return nil, 0, err
	}
	s, err := backup.OpenShelf(dir)
	if err != nil {
		return nil, 0, err
	}
	found, err := s.Verify(ctx, backup.Verifying{
		Keys: keys, Progress: func(x *backup.Set) { progress(x.ID) },
	})
	for _, f := range found {
		wrong = append(wrong, f.Set+": "+f.Err.Error())
	}
	return wrong, len(s.Sets), err
}

// PruneBackups removes what a retention rule does not need, and returns what it removed.
func PruneBackups(dir, keep string, dryRun bool, now time.Time) (removed []string, err error) {
	k, err := backup.ParseKeep(keep)
	if err != nil {
		return nil, err
	}
	s, err := backup.OpenShelf(dir)
	if err != nil {
		return nil, err
	}
	for _, x := range s.Prunable(k, now) {
		if !dryRun {
			if err := x.Remove(); err != nil {
				return removed, err
			}
		}
		removed = append(removed, x.ID)
	}
	if dryRun {
		return removed, nil
	}
	left, err := s.RemoveAbandoned(now)
	return append(removed, left...), err
}
