package directory

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"pillarbox/ese"
)

// follower is a copy that each change is written to.
type follower struct {
	copy   *Copy
	at     Version // of the copy; behind the directory's where a change could not be written
	failed error   // why it is behind
}

// Follow brings a copy to the state of the directory and writes each change to it from now on, until
// Unfollow. Where that fails the copy stays behind until CatchUp.
func (d *Directory) Follow(ctx context.Context, name string, c *Copy) error {
	d.changeMu.Lock()
	defer d.changeMu.Unlock()
	f := &follower{copy: c, at: c.version}
	d.mu.Lock()
	d.followers[name] = f
	d.mu.Unlock()
	return d.catchUp(ctx, name, f)
}

// Unfollow forgets a copy, whose database may be closed then. It waits for a change under way.
func (d *Directory) Unfollow(name string) {
	d.changeMu.Lock()
	defer d.changeMu.Unlock()
	d.mu.Lock()
	delete(d.followers, name)
	d.mu.Unlock()
}

// CatchUp brings the copies that are behind to the state of the directory.
func (d *Directory) CatchUp(ctx context.Context) error {
	if !d.behind() {
		return nil
	}
	d.changeMu.Lock()
	defer d.changeMu.Unlock()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(d.followers)) {
		errs = append(errs, d.catchUp(ctx, name, d.followers[name]))
	}
	return errors.Join(errs...)
}

func (d *Directory) behind() bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, f := range d.followers {
		if f.at != d.version {
			return true
		}
	}
	return false
}

// catchUp writes what a copy lacks. changeMu is held.
func (d *Directory) catchUp(ctx context.Context, name string, f *follower) error {
	if f.at == d.version {
		return nil
	}
	if err := d.followed(name, f, f.copy.bring(ctx, &d.image, d.version)); err != nil {
		return fmt.Errorf("copy of the directory in storage group %s: %w", name, err)
	}
	return nil
}

// followed notes what became of a copy, and tells the log when it falls behind or is true again.
func (d *Directory) followed(name string, f *follower, err error) error {
	was := f.failed
	d.mu.Lock()
	f.at, f.failed = f.copy.version, err
	d.mu.Unlock()
	switch {
	case err != nil && was == nil:
		d.o.Logger.Error("copy of the directory is behind: it cannot stand in for the first storage "+
			"group", "group", name, "err", err)
	case err == nil && was != nil:
		d.o.Logger.Info("copy of the directory has caught up", "group", name)
	}
	return err
}

// publish writes what a change has touched to the copies, and has its version noted. A copy that
// cannot be written is behind from then on, which is no error. changeMu is held.
func (d *Directory) publish(ctx context.Context, t touched) error {
	if err := d.publishImage(ctx, t, &d.image); err != nil {
		return fmt.Errorf("%w: %w", errNotNoted, err)
	}
	return nil
}

// publishImage is publish where the copies are to have other rows than the memory.
func (d *Directory) publishImage(ctx context.Context, t touched, m *image) error {
	ctx = context.WithoutCancel(ctx) // the change has been made
	for _, name := range slices.Sorted(maps.Keys(d.followers)) {
		f := d.followers[name]
		if f.at != d.previous {
			continue // CatchUp brings it the whole
		}
		_ = d.followed(name, f, f.copy.write(ctx, t, m, d.version)) // logged
	}
	if d.o.Note == nil {
		return nil
	}
	err := d.o.Note(d.version)
	if err != nil {
		d.o.Logger.Error("version of the directory not noted", "err", err)
	}
	return err
}

// FollowerState is how a copy stands.
type FollowerState struct {
	// At is the version that it has, 0 when it is not whole.
	At Version
	// Behind: changes were made since.
	Behind bool
	// Err is why it could not be written.
	Err error
}

// Followers are the copies that are written to, by name.
func (d *Directory) Followers() map[string]FollowerState {
	d.mu.RLock()
	defer d.mu.RUnlock()
	m := make(map[string]FollowerState, len(d.followers))
	for name, f := range d.followers {
		m[name] = FollowerState{f.at, f.at != d.version, f.failed}
	}
	return m
}

// CheckCopies names the copies that have the directory's version and not its rows.
func (d *Directory) CheckCopies() (wrong []string, err error) {
	d.changeMu.Lock()
	defer d.changeMu.Unlock()
	for name, f := range d.followers {
		if f.at != d.version {
			continue
		}
		differs, err := f.copy.differs(&d.image)
		if err != nil && !errors.Is(err, ese.ErrClosed) {
			return nil, err
		}
		if differs {
			wrong = append(wrong, name)
		}
	}
	return wrong, nil
}
