package storage

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"pillarbox/ese/vfs"
	"pillarbox/store"
)

// A database or a group is removed when nobody lives there. That is looked at twice: at once, and
// when nobody can come any more: no account and no move gets the place from beginRemoving on, and a
// group is looked at after it has been closed and opened for nobody else.

// RemoveOptions says what may go.
type RemoveOptions struct {
	// RecoverableToo lets mailboxes go that have no owner and could still be brought back.
	RecoverableToo bool `json:"recoverable_too,omitempty"`
}

// Errors of removing.
var (
	// ErrInhabited: mailboxes live there.
	ErrInhabited = errors.New("mailboxes live there")
	// ErrRecoverable: mailboxes without an owner are kept there.
	ErrRecoverable = errors.New("mailboxes of deleted accounts are kept there, which would no longer be " +
		"recoverable")
	// ErrHeld: mailboxes on hold are kept there.
	ErrHeld = errors.New("mailboxes on hold are kept there")
	// ErrMoving: a move of a mailbox did not come to its end.
	ErrMoving = errors.New("a mailbox is being moved there, or from there")
	// ErrMailWaits: the queue of the group holds mail.
	ErrMailWaits = errors.New("mail waits in its queue")
	// ErrInConfig: the config names it.
	ErrInConfig = errors.New("the config names it")
	// ErrBeingRemoved: the place is being removed.
	ErrBeingRemoved = errors.New("the database is being removed")
	// ErrFirstGroup: the first group holds the directory.
	ErrFirstGroup = errors.New("it holds the directory, and cannot be removed")
	// ErrLastDatabase: the first database of a group goes with it only.
	ErrLastDatabase = errors.New("it holds the queue of its storage group, and goes with it only")
)

// beginRemoving lets no mailbox get a place any more. Whoever got one before is in the directory
// then.
func (s *Set) beginRemoving(ctx context.Context, places ...Place) error {
	s.mu.Lock()
	for _, p := range places {
		s.removing[p] = true
	}
	s.mu.Unlock()
	s.placeMu.Lock()
	s.placed = fullness{}
	s.placeMu.Unlock()
	return s.dir.SetHome(ctx, nil) // waits for who is making accounts
}

func (s *Set) endRemoving(places ...Place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range places {
		delete(s.removing, p)
	}
}

// refuseRemoving refuses a place that is going.
func (s *Set) refuseRemoving(p Place) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.removing[p] {
		return fmt.Errorf("%s: %w", p, ErrBeingRemoved)
	}
	return nil
}

// refuseInhabited refuses a database in which somebody lives or is kept. It must be mounted.
func (s *Set) refuseInhabited(st *store.Store, d *database, o RemoveOptions) error {
	living := make(map[store.MailboxID]bool)
	for _, u := range s.dir.Users() {
		if Place(u.Home) == d.place {
			living[store.MailboxID(u.ID)] = true
		}
	}
	if n := len(living); n > 0 {
		return fmt.Errorf("%s: %d %w", d.place, n, ErrInhabited)
	}
	s.mu.Lock()
	moves := 0
	for _, to := range s.moving {
		if to == d.place {
			moves++
		}
	}
	s.mu.Unlock()
	list, err := st.Residents(d.Engine)
	if err != nil {
		return err
	}
	recoverable, held := 0, 0
	for _, r := range list {
		switch {
		case r.Moving:
			moves++
		case r.Hold:
			held++
		default:
			recoverable++
		}
	}
	switch {
	case moves > 0:
		return fmt.Errorf("%s: %w", d.place, ErrMoving)
	case held > 0:
		return fmt.Errorf("%s: %d %w", d.place, held, ErrHeld)
	case recoverable > 0 && !o.RecoverableToo:
		return fmt.Errorf("%s: %d %w", d.place, recoverable, ErrRecoverable)
	}
	return nil
}

// RemoveDatabase takes a database out of its group. Its files go into the folder that it returns.
func (s *Set) RemoveDatabase(ctx context.Context, p Place, o RemoveOptions) (aside string, err error) {
	g, d, err := s.database(p)
	if err != nil {
		return "", err
	}
	defer g.changeMu.Unlock()
	if err := g.removable(d); err != nil {
		return "", fmt.Errorf("remove %s: %w", p, err)
	}
	defer s.endRemoving(p)
	if err = s.beginRemoving(ctx, p); err != nil {
		return "", fmt.Errorf("remove %s: %w", p, err)
	}
	st, _, err := g.parts()
	if err == nil {
		err = st.Mounted(d.Engine)
	}
	if err != nil {
		return "", fmt.Errorf("remove %s: %w: mount it first, so that it is seen what it holds", p, err)
	}
	err = s.refuseInhabited(st, d, o)
	if err == nil {
		err = g.dismountDatabase(ctx, d)
	}
	if err != nil {
		return "", fmt.Errorf("remove %s: %w", p, err)
	}
	now := time.Now()
	at := g.path(d)
	aside = removedFolder(filepath.Dir(at), now)
	err = s.change(func(r *registry) error {
		r.Databases[p].Removed = filepath.Base(aside)
		r.Clearing = append(r.Clearing, clearing{filepath.Dir(at), aside, databaseNames(at)})
		return nil
	})
	if err != nil {
		later := context.WithoutCancel(ctx)
		return "", errors.Join(fmt.Errorf("remove %s: %w", p, err), g.mountDatabase(later, d))
	}
	s.clear()
	s.o.Logger.Info("database removed", "database", string(p), "path", at, "aside", aside)
	return aside, nil
}

// removable tells why a database can never be removed as things are.
func (g *Group) removable(d *database) error {
	switch {
	case g.isFirst(d):
		return ErrLastDatabase
	case slices.Contains(g.spec.Databases, d.Engine):
		return ErrInConfig
	case g.set.o.NewMailboxes == d.place:
		return fmt.Errorf("%w: new_mailboxes", ErrInConfig)
	case d.Moving != "" || d.Leaving != "" || d.Replaced != nil:
		return errors.New("an earlier move or restore is not finished: mount it first")
	}
	return nil
}

// RemoveGroup takes a group that was made at run time out of the Set. Its files go into the folders
// that it returns, one in each folder of it.
func (s *Set) RemoveGroup(ctx context.Context, name string, o RemoveOptions) (aside []string, err error) {
	g, err := s.Group(name)
	if err != nil {
		return nil, err
	}
	g.changeMu.Lock()
	defer g.changeMu.Unlock()
	dbs := g.databases()
	if err := g.groupRemovable(dbs); err != nil {
		return nil, fmt.Errorf("remove storage group %s: %w", name, err)
	}
	var places []Place
	for _, d := range dbs {
		places = append(places, d.place)
	}
	defer s.endRemoving(places...)
	if err := s.beginRemoving(ctx, places...); err != nil {
		return nil, fmt.Errorf("remove storage group %s: %w", name, err)
	}
	if err := g.empty(ctx, dbs, o); err != nil {
		return nil, fmt.Errorf("remove storage group %s: %w", name, err)
	}
	list, err := g.leftovers(time.Now())
	if err == nil {
		err = s.change(func(r *registry) error {
			i := r.group(name)
			r.Groups = slices.Delete(r.Groups, i, i+1)
			for p := range r.Databases {
				if p.Group() == name {
					delete(r.Databases, p)
				}
			}
			r.Clearing = append(r.Clearing, list...)
			return nil
		})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("remove storage group %s: %w", name, err), g.stay(ctx))
	}
	s.mu.Lock()
	s.groups = slices.DeleteFunc(s.groups, func(x *Group) bool { return x == g })
	s.mu.Unlock()
	s.clear()
	for _, c := range list {
		aside = append(aside, c.To)
	}
	s.o.Logger.Info("storage group removed", "group", name, "aside", aside)
	return aside, nil
}

// groupRemovable tells why a group can never be removed as things are.
func (g *Group) groupRemovable(dbs []database) error {
	s := g.set
	if g.first() {
		return ErrFirstGroup
	}
	s.mu.Lock()
	made := s.reg.group(g.name) >= 0
	s.mu.Unlock()
	if !made {
		return ErrInConfig
	}
	if s.o.NewMailboxes.Group() == g.name {
		return fmt.Errorf("%w: new_mailboxes", ErrInConfig)
	}
	for _, d := range dbs {
		if d.Moving != "" || d.Leaving != "" || d.Replaced != nil {
			return fmt.Errorf("%s: an earlier move or restore is not finished: mount it first", d.place)
		}
	}
	return nil
}

// empty closes the group for good if nobody lives there and nothing waits; else it is as before.
// One that was never mounted holds nothing.
func (g *Group) empty(ctx context.Context, dbs []database, o RemoveOptions) error {
	if !slices.ContainsFunc(dbs, func(d database) bool { return d.Made }) {
		g.leave()
		return g.close()
	}
	if _, _, err := g.parts(); err != nil {
		return fmt.Errorf("%w: mount it first, so that it is seen what it holds", err)
	}
	if err := g.refuseUsed(dbs, o); err != nil {
		return err
	}
	// Who has begun to use it may still leave something: it is closed, and opened for nobody else.
	g.leave()
	later := context.WithoutCancel(ctx)
	err := g.close()
	if err == nil {
		err = g.mount(later, false)
	}
	if err == nil {
		err = g.refuseUsed(dbs, o)
	}
	if err == nil {
		err = g.close()
	}
	if err != nil {
		return errors.Join(err, g.stay(later))
	}
	return nil
}

// refuseUsed refuses a group in which somebody lives, or in whose queue mail waits.
func (g *Group) refuseUsed(dbs []database, o RemoveOptions) error {
	g.mu.Lock()
	st, queue := g.store, g.queue
	g.mu.Unlock()
	for i := range dbs {
		if err := g.set.refuseInhabited(st, &dbs[i], o); err != nil {
			return err
		}
	}
	n, err := queue.Counts()
	if err != nil {
		return err
	}
	if n.Messages > 0 {
		return fmt.Errorf("%w: %d messages", ErrMailWaits, n.Messages)
	}
	return nil
}

// leave hides the group from everybody else; stay shows it again, mounted. changeMu is held.
func (g *Group) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leaving = true
}

func (g *Group) stay(ctx context.Context) error {
	g.mu.Lock()
	g.leaving = false
	in := g.in
	g.mu.Unlock()
	if in != nil {
		return nil
	}
	err := g.mount(context.WithoutCancel(ctx), false)
	g.set.wake()
	return err
}

// Removed are those of the engine's names by which a group had databases that were removed.
func Removed(dir, group string, engines []string) (list []string, err error) {
	reg, err := loadRegistry(vfs.OS(), filepath.Join(dir, RegistryName))
	if err != nil {
		return nil, err
	}
	for p, d := range reg.Databases {
		if p.Group() == group && d.Removed != "" && slices.Contains(engines, d.Engine) {
			list = append(list, d.Engine)
		}
	}
	slices.Sort(list)
	return list, nil
}

// Readmit makes databases of a group known again that were removed, and are restored by the
// engine's name in the group's folder. undo takes it back. No server may run.
func Readmit(dir, group string, engines []string) (undo func() error, err error) {
	fsys, at := vfs.OS(), filepath.Join(dir, RegistryName)
	undo = func() error { return nil }
	reg, err := loadRegistry(fsys, at)
	if err != nil {
		return undo, err
	}
	before := reg.clone()
	changed := false
	for p, d := range reg.Databases {
		if p.Group() == group && d.Removed != "" && slices.Contains(engines, d.Engine) {
			d.Removed, d.Path, d.Dismounted, changed = "", "", false, true
		}
	}
	if !changed {
		return undo, nil
	}
	return func() error { return before.save(fsys, at) }, reg.save(fsys, at)
}
