package directory

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"pillarbox/ese"
)

// errSlow: a copy is still being written when nobody waits for it any more.
var errSlow = errors.New("writing takes too long")

// follower is a copy that each change is written to.
type follower struct {
	copy   *Copy
	at     Version // of the copy; 0 where it could not be written
	failed error   // why it is behind
	// busy is closed when a write is over that took too long; nil when there is none.
	busy chan struct{}
}

// Follow brings a copy to the state of the directory and writes each change to it from now on, until
// Unfollow. Where that fails, or takes too long, the copy stays behind until CatchUp.
func (d *Directory) Follow(ctx context.Context, name string, c *Copy) error {
	d.changeMu.Lock()
	defer d.changeMu.Unlock()
	f := &follower{copy: c}
	d.mu.Lock()
	d.followers[name] = f
	d.mu.Unlock()
	return d.catchUp(ctx, name, f)
}

// Unfollow forgets a copy, whose database may be closed then. It waits for a change under way.
func (d *Directory) Unfollow(name string) {
	d.changeMu.Lock()
	d.mu.Lock()
	f := d.followers[name]
	delete(d.followers, name)
	d.mu.Unlock()
	d.changeMu.Unlock()
	if f != nil && f.busy != nil {
		<-f.busy
	}
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
		if f := d.followers[name]; f.at != d.version {
			errs = append(errs, d.catchUp(ctx, name, f))
		}
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

// catchUp compares a copy with the directory and writes what it lacks. changeMu is held.
func (d *Directory) catchUp(ctx context.Context, name string, f *follower) error {
	m, v := d.snapshot(), d.version
	err := d.write(name, f, v, func() error { return f.copy.bring(ctx, &m, v) })
	if err != nil {
		return fmt.Errorf("copy of the directory in storage group %s: %w", name, err)
	}
	return nil
}

// write brings a copy to a version by fn, and waits for it as long as there is patience. The log is told
// when the copy falls behind or is true again. changeMu is held.
func (d *Directory) write(name string, f *follower, v Version, fn func() error) error {
	err := f.start(d.o.Patience, fn)
	if err != nil {
		v = 0
	}
	was := f.failed
	d.mu.Lock()
	f.at, f.failed = v, err
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

// start runs fn, unless an earlier one is not over. One that takes too long goes on without us.
func (f *follower) start(patience time.Duration, fn func() error) error {
	if f.busy != nil {
		select {
		case <-f.busy:
			f.busy = nil
		default:
			return errSlow
		}
	}
	over, result := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(over)
		result <- fn()
	}()
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case err := <-result:
		<-over
		return err
	case <-t.C:
		f.busy = over
		return errSlow
	}
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
		part, v := m.only(&t), d.version
		_ = d.write(name, f, v, func() error { return f.copy.write(ctx, t, &part, v) }) // logged
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
	// At is the version that it has, 0 when that is not known.
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
		if f.at != d.version || f.busy != nil {
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
