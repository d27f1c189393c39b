package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pillarbox/directory"
	"pillarbox/ese"
)

// The directory is in the first database of the first group, and a copy of it in the first one of every
// other group. groups.json has the version that the last acknowledged change gave it: while the first
// group is not there, a copy of that version or a later one stands in for it, read-only, and no other.

var (
	// errOldCopy: the copy of the directory lacks changes, or may lack some.
	errOldCopy = errors.New("its copy of the directory cannot stand in for the first storage group")
	// errNotFirst: the first group of the config was not the first one before.
	errNotFirst = errors.New("the directory is in another storage group, which must be the first [[group]] " +
		"of the config")
)

// DirectoryState is how the directory stands.
type DirectoryState struct {
	// ReadOnly: the first group is not mounted, and accounts cannot be changed.
	ReadOnly bool `json:"read_only,omitempty"`
	// Copy is the group whose copy the server began with; empty where the directory itself was read.
	Copy string `json:"copy,omitempty"`
	// AsOf is the last change that it has.
	AsOf time.Time `json:"as_of,omitzero"`
}

// DirectoryState tells how the directory stands.
func (s *Set) DirectoryState() DirectoryState {
	x := DirectoryState{ReadOnly: s.Groups()[0].Err() != nil}
	if v := s.dir.Version(); v > 0 {
		x.AsOf = v.Time()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x.Copy = s.copyOf
	return x
}

// directoryNote is GroupState.Directory.
func (s *Set) directoryNote(g *Group) string {
	if !g.first() {
		if f := s.dir.Followers()[g.name]; f.Behind && f.Err != nil {
			return "its copy of the directory is behind: " + f.Err.Error()
		}
		return ""
	}
	x := s.DirectoryState()
	if !x.ReadOnly {
		return ""
	}
	return x.String()
}

// String says it to a person.
func (x DirectoryState) String() string {
	if !x.ReadOnly {
		return "accounts can be changed"
	}
	from := "the directory is as it was read"
	if x.Copy != "" {
		from = "the directory is the copy in storage group " + x.Copy
	}
	if !x.AsOf.IsZero() {
		from += ", as of " + x.AsOf.Local().Format("2006-01-02T15:04:05.000Z07:00")
	}
	return from + "; accounts cannot be changed"
}

// directoryOptions are those of the config with what the Set adds.
func (s *Set) directoryOptions() directory.Options {
	o := s.o.Directory
	o.Place, o.Note = s.newPlace, s.note
	o.Fits = func(home string) error { return s.refuseRemoving(Place(home)) }
	return o
}

// noted is the version of the directory that groups.json has.
func (s *Set) noted() directory.Version {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reg.Version
}

// note is directory.Options.Note. Where there was never a second group nothing has to be noted.
func (s *Set) note(v directory.Version) error {
	if have := s.noted(); have == 0 || have >= v {
		return nil
	}
	return s.setNoted(v)
}

func (s *Set) setNoted(v directory.Version) error {
	return s.change(func(r *registry) error {
		r.Version = max(v, r.Version)
		return nil
	})
}

// directory opens the directory in the first database of the first group.
func (m *mounting) directory(ctx context.Context, d *database) error {
	db, err := m.in.OpenDatabase(d.Engine)
	if err != nil {
		return err
	}
	s := m.g.set
	switch in := directory.In(db); {
	case !in && m.g.anew:
		err = s.dir.Found(ctx, m.in, db)
	case !in && (directory.CopyIn(db) || s.noted() > 0):
		return fmt.Errorf("storage group %s: %w", m.g.name, errNotFirst)
	case s.dir == nil:
		s.dir, err = directory.Open(ctx, m.in, db, s.directoryOptions())
	default:
		err = s.dir.Reopen(ctx, m.in, db)
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.copyOf = ""
	s.mu.Unlock()
	// One that is older than what was acknowledged is of an earlier moment, which counts from now on.
	if last := s.noted(); s.dir.Version() < last {
		s.o.Logger.Warn("the directory is of an earlier moment than the last one: it counts",
			"last_change", s.dir.Version().Time(), "before", last.Time())
		return s.dir.Raise(ctx, last)
	}
	return nil
}

// copy opens the copy of the directory in the first database of another group. Where the first group
// is not there it becomes the directory, if it may; else it is brought to the directory's state.
func (m *mounting) copy(ctx context.Context, d *database) error {
	db, err := m.in.OpenDatabase(d.Engine)
	if err != nil {
		return err
	}
	c, err := directory.OpenCopy(ctx, m.in, db)
	if err != nil {
		return err
	}
	s := m.g.set
	if s.dir == nil {
		if err := s.standIn(m.g, c); err != nil {
			return err
		}
	}
	fresh := s.noted() == 0
	if fresh {
		// A program that knows no versions may have made changes.
		if err := s.dir.Raise(ctx, 0); errors.Is(err, directory.ErrReadOnly) {
			return nil
		} else if err != nil {
			return err
		}
	}
	if err := s.dir.Follow(ctx, m.g.name, c); err != nil {
		return nil //nolint:nilerr // it is logged, and tried again
	}
	if fresh {
		return s.setNoted(s.dir.Version())
	}
	return nil
}

// standIn makes the copy of a group the directory.
func (s *Set) standIn(g *Group, c *directory.Copy) error {
	last := s.noted()
	if v := c.Version(); v == 0 || v < last {
		state := "is not whole"
		if v > 0 {
			state = "is as of " + v.Time().UTC().Format(time.RFC3339)
		}
		return fmt.Errorf("storage group %s: %w: it %s, the last change was at %s", g.name, errOldCopy,
			state, last.Time().UTC().Format(time.RFC3339))
	}
	d, err := directory.OpenFrom(c, s.directoryOptions())
	if err != nil {
		return err
	}
	s.dir = d
	s.mu.Lock()
	s.copyOf = g.name
	s.mu.Unlock()
	s.o.Logger.Warn("the directory is a copy: accounts cannot be changed until the first storage group "+
		"is mounted", "copy", g.name, "as_of", c.Version().Time())
	return nil
}

// mountAll mounts the groups when the Set is opened. Without the first one the others serve, where one
// of them has a copy of the directory that may stand in for it.
func (s *Set) mountAll(ctx context.Context) error {
	first := s.groups[0].mount(ctx, s.groups[0].name == s.o.AcceptLoss)
	if first != nil {
		if s.noted() == 0 || len(s.groups) == 1 || errors.Is(first, ese.ErrLocked) {
			return first
		}
		s.notMounted(s.groups[0], first)
	}
	again, why := s.mountEach(ctx, s.groups[1:])
	if s.dir != nil && len(again) > 0 {
		_, err := s.mountEach(ctx, again)
		why = errors.Join(why, err)
	}
	if errors.Is(why, ese.ErrLocked) {
		return why // another server has the whole
	}
	if s.dir == nil {
		return fmt.Errorf("%w; and no other storage group can stand in for it: %w", first, why)
	}
	return nil
}

// mountEach mounts groups but the first. Those whose copy cannot stand in come again when there is a
// directory.
func (s *Set) mountEach(ctx context.Context, groups []*Group) (again []*Group, why error) {
	var errs []error
	for _, g := range groups {
		err := g.mount(ctx, g.name == s.o.AcceptLoss)
		errs = append(errs, err)
		switch {
		case errors.Is(err, errOldCopy):
			again = append(again, g)
		case err != nil && !errors.Is(err, ese.ErrLocked):
			s.notMounted(g, err)
		}
	}
	return again, errors.Join(errs...)
}

func (s *Set) notMounted(g *Group, err error) {
	s.o.Logger.Error("storage group not mounted: the others serve", "group", g.name, "err", err)
}

// firstIsBack does what is due when the first group has been mounted.
func (s *Set) firstIsBack(ctx context.Context) error {
	_ = s.dir.CatchUp(ctx) // logged, and tried again
	if err := s.note(s.dir.Version()); err != nil {
		return err
	}
	return s.settleHomes(ctx)
}

// keepCopies tries again what could not be written.
func (s *Set) keepCopies() {
	_ = s.dir.CatchUp(s.ctx) // logged when it began
	if err := s.note(s.dir.Version()); err != nil && s.ctx.Err() == nil {
		s.o.Logger.Error("version of the directory not noted", "err", err)
	}
}
