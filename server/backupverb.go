package server

import (
	"context"
	"errors"
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
	// To is a folder, or - for the next set of Tape, which has done already what Compress and Encrypt
	// say.
	To       string
	Tape     *backup.Tape
	Compress string
	Encrypt  string
	Rate     int64
	// Resume refuses to begin a new set: one that was interrupted must go on.
	Resume   bool
	Progress func(done, total int64)
	// Say is told whether an interrupted set goes on, or why not. Default: nobody.
	Say func(string)
}

// NewTape begins a tar stream of so many sets on out.
func NewTape(out io.Writer, sets int, compress, encrypt string) (*backup.Tape, error) {
	codec, err := backup.NewCodec(compress, encrypt)
	if err != nil {
		return nil, err
	}
	return backup.NewTape(out, sets, codec)
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

// Backup makes a backup and stores it. One in a folder is confirmed as soon as it is durable, and
// one that was interrupted there goes on by itself.
func Backup(ctx context.Context, a Admin, o BackupOptions) (*BackupResult, error) {
	codec, err := backup.NewCodec(o.Compress, o.Encrypt)
	if err != nil {
		return nil, err
	}
	if o.Say == nil {
		o.Say = func(string) {}
	}
	b := &backingUp{o: o, a: a, codec: codec}
	m, err := b.make(ctx)
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

// backingUp is one backup being stored.
type backingUp struct {
	o     BackupOptions
	a     Admin
	codec backup.Codec
}

// errNothingToResume: --resume without an interrupted backup.
var errNothingToResume = errors.New("no interrupted backup of this kind and storage group is there: " +
	"leave --resume out to begin one")

// make goes on with an interrupted set, or begins one.
func (b *backingUp) make(ctx context.Context) (*backup.Manifest, error) {
	if b.o.To == "-" {
		if b.o.Resume {
			return nil, errors.New("--resume needs a folder: a stream begins anew")
		}
		return b.receive(ctx, nil)
	}
	u, err := backup.FindUnfinished(b.o.To, b.o.Group, ese.BackupKind(b.o.Kind))
	switch {
	case err != nil:
		return nil, err
	case u == nil && b.o.Resume:
		return nil, errNothingToResume
	case u == nil:
		return b.receive(ctx, nil)
	}
	m, err := b.receive(ctx, u)
	var f backup.Failure
	if anew := errors.Is(err, ese.ErrCannotResume) || errors.As(err, &f) && f.Anew; !anew || b.o.Resume {
		return m, err
	}
	b.o.Say(err.Error())
	if err := u.Discard(b.o.To); err != nil {
		return nil, err
	}
	return b.receive(ctx, nil)
}

// receive takes the stream of the server into a set.
func (b *backingUp) receive(ctx context.Context, u *backup.Unfinished) (*backup.Manifest, error) {
	ask := BackupInput{Kind: ese.BackupKind(b.o.Kind), Group: b.o.Group}
	var w *backup.Writer
	r := backup.Receiving{Rate: b.o.Rate, Progress: b.o.Progress}
	if u != nil {
		var err error
		if w, err = backup.ResumeWriter(ctx, b.o.To, u, b.codec); err != nil {
			return nil, err
		}
		ask.Resume, ask.Done, r.Done = u.ID, &u.Engine, u.Bytes()
		b.o.Say(fmt.Sprintf("going on with %s: %d files with %d bytes are there and whole", u.ID,
			len(u.Files), u.Bytes()))
	}
	r.Open = func(begin backup.Begin) (backup.Target, error) {
		switch {
		case w != nil && begin.ID == u.ID:
			return w, nil
		case b.o.To == "-":
			return b.o.Tape.Set(begin)
		}
		return backup.NewWriter(b.o.To, begin.ID, begin.Group, b.codec)
	}
	in, err := b.a.Stream(ctx, OpBackup, ask)
	if err != nil {
		if w != nil {
			err = errors.Join(err, w.Abort())
		}
		return nil, err
	}
	m, err := backup.Receive(ctx, in, r)
	return m, errors.Join(err, in.Close())
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
	// Unread are archives that could not be read.
	Unread []string
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
