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
	// LostToo lets a database go that is not mounted, if none of its files is left.
	LostToo bool `json:"lost_too,omitempty"`
}

// Removal is what became of what was removed.
type Removal struct {
	// Aside are the folders with its files.
	Aside []string `json:"aside,omitempty"`
	// Anew is how many mailboxes that lived there begin anew elsewhere, empty, and with them
	// whatever was lost there is lost.
	Anew int `json:"anew,omitempty"`
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

// refuseInhabited refuses a database in which somebody lives or is kept, or that cannot be looked
// into.
func (s *Set) refuseInhabited(st *store.Store, d *database, o RemoveOptions) error {
	if err := st.Mounted(d.Engine); err != nil {
		return fmt.Errorf("%s: %w", d.place, unseen(err))
	}
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

// RemoveDatabase takes a database out of its group. Its files go into a folder.
func (s *Set) RemoveDatabase(ctx context.Context, p Place, o RemoveOptions) (r Removal, err error) {
	g, d, err := s.database(p)
	if err != nil {
		return r, err
	}
	defer g.changeMu.Unlock()
	if err := g.removable(d); err != nil {
		return r, fmt.Errorf("remove %s: %w", p, err)
	}
	defer s.endRemoving(p)
	if err = s.beginRemoving(ctx, p); err != nil {
		return r, fmt.Errorf("remove %s: %w", p, err)
	}
	lost, err := g.gone([]database{*d}, o)
	switch {
	case err != nil:
	case len(lost) > 0:
		r.Anew, err = s.beginElsewhere(ctx, lost)
	default:
		err = g.emptyDatabase(ctx, d, o)
	}
	if err != nil {
		return r, fmt.Errorf("remove %s: %w", p, err)
	}
	aside, err := s.leaveAside(g, d)
	if err != nil {
		err = fmt.Errorf("remove %s: %w", p, err)
		if len(lost) == 0 {
			err = errors.Join(err, g.mountDatabase(context.WithoutCancel(ctx), d))
		}
		return r, err
	}
	if in, err := g.Instance(); err == nil && len(lost) > 0 {
		in.ForgetLost(d.Engine)
	}
	s.clear()
	s.wake()
	r.Aside = aside
	s.o.Logger.Info("database removed", "database", string(p), "path", g.path(d), "aside", aside,
		"anew", r.Anew)
	return r, nil
}

// emptyDatabase closes a database in which nobody lives.
func (g *Group) emptyDatabase(ctx context.Context, d *database, o RemoveOptions) error {
	st, _, err := g.parts()
	if err != nil {
		return unseen(err)
	}
	if err := g.set.refuseInhabited(st, d, o); err != nil {
		return err
	}
	return g.dismountDatabase(ctx, d)
}

// leaveAside notes that a database is gone, and where its files go, if its folder is there.
func (s *Set) leaveAside(g *Group, d *database) (aside []string, err error) {
	at := g.path(d)
	to := removedFolder(filepath.Dir(at), time.Now())
	there, err := s.folderThere(filepath.Dir(at))
	if err != nil {
		return nil, err
	}
	err = s.change(func(r *registry) error {
		r.Databases[d.place].Removed = filepath.Base(to)
		if there {
			r.Clearing = append(r.Clearing, clearing{filepath.Dir(at), to, databaseNames(at)})
		}
		return nil
	})
	if there {
		aside = []string{to}
	}
	return aside, err
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

// RemoveGroup takes a group that was made at run time out of the Set. Its files go into folders,
// one in each folder of it.
func (s *Set) RemoveGroup(ctx context.Context, name string, o RemoveOptions) (r Removal, err error) {
	g, err := s.Group(name)
	if err != nil {
		return r, err
	}
	g.changeMu.Lock()
	defer g.changeMu.Unlock()
	dbs := g.databases()
	if err := g.groupRemovable(dbs); err != nil {
		return r, fmt.Errorf("remove storage group %s: %w", name, err)
	}
	var places []Place
	for _, d := range dbs {
		places = append(places, d.place)
	}
	defer s.endRemoving(places...)
	if err := s.beginRemoving(ctx, places...); err != nil {
		return r, fmt.Errorf("remove storage group %s: %w", name, err)
	}
	_, _, unmounted := g.parts()
	list, err := g.end(ctx, dbs, o, &r)
	if err != nil {
		return r, errors.Join(fmt.Errorf("remove storage group %s: %w", name, err),
			g.stay(ctx, unmounted == nil))
	}
	s.mu.Lock()
	s.groups = slices.DeleteFunc(s.groups, func(x *Group) bool { return x == g })
	s.mu.Unlock()
	s.clear()
	s.wake()
	for _, c := range list {
		r.Aside = append(r.Aside, c.To)
	}
	s.o.Logger.Info("storage group removed", "group", name, "aside", r.Aside, "anew", r.Anew)
	return r, nil
}

// end closes a group for good and notes that it is gone. The files are still to go aside.
func (g *Group) end(
	ctx context.Context, dbs []database, o RemoveOptions, r *Removal,
) (list []clearing, err error) {
	lost, err := g.gone(dbs, o)
	if err == nil {
		err = g.empty(ctx, dbs, lost, o)
	}
	if err == nil {
		r.Anew, err = g.set.beginElsewhere(ctx, lost)
	}
	if err == nil {
		list, err = g.leftovers(time.Now())
	}
	if err != nil {
		return nil, err
	}
	return list, g.set.change(func(r *registry) error {
		i := r.group(g.name)
		r.Groups = slices.Delete(r.Groups, i, i+1)
		for p := range r.Databases {
			if p.Group() == g.name {
				delete(r.Databases, p)
			}
		}
		r.Clearing = append(r.Clearing, list...)
		return nil
	})
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

// empty closes the group for good if nobody lives there and nothing waits. One that was never
// mounted holds nothing, one that is lost as a whole nothing any more.
func (g *Group) empty(ctx context.Context, dbs, lost []database, o RemoveOptions) error {
	if !slices.ContainsFunc(dbs, func(d database) bool { return d.Made }) {
		g.leave()
		return g.close()
	}
	if _, _, err := g.parts(); err != nil {
		if len(lost) < len(dbs) {
			return unseen(err)
		}
		g.leave()
		if err := g.close(); err != nil {
			g.set.o.Logger.Warn("lost storage group not closed clean", "group", g.name, "err", err)
		}
		return nil
	}
	there := slices.DeleteFunc(slices.Clone(dbs), func(d database) bool {
		return slices.ContainsFunc(lost, func(x database) bool { return x.place == d.place })
	})
	if err := g.refuseUsed(there, o); err != nil {
		return err
	}
	// Who has begun to use it may still leave something: it is closed, and opened for nobody else.
	g.leave()
	err := g.close()
	if err == nil {
		err = g.mount(context.WithoutCancel(ctx), false)
	}
	if err == nil {
		err = g.refuseUsed(there, o)
	}
	if err == nil {
		err = g.close()
	}
	return err
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

// leave hides the group from everybody else; stay shows it again, mounted where it was. changeMu is
// held.
func (g *Group) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leaving = true
}

func (g *Group) stay(ctx context.Context, mounted bool) error {
	g.mu.Lock()
	left, in := g.leaving, g.in
	g.leaving = false
	g.mu.Unlock()
	if !left || !mounted {
		return nil
	}
	if in != nil { // it was opened for nobody else, and its queue does nothing
		if err := g.close(); err != nil {
			g.set.o.Logger.Warn("storage group not closed clean: mounting recovers it", "group", g.name,
				"err", err)
		}
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
			reg.keepFiles(d.Removed, filepath.Base(d.Engine))
			d.Removed, d.Path, d.Dismounted, changed = "", "", false, true
		}
	}
	if !changed {
		return undo, nil
	}
	return func() error { return before.save(fsys, at) }, reg.save(fsys, at)
}

// keepFiles makes the files of a removed database stay that are still to go into the folder aside:
// those that lie there now are restored ones, or the restore moves them.
func (r *registry) keepFiles(aside, name string) {
	names := databaseNames(name)
	r.Clearing = slices.DeleteFunc(r.Clearing, func(c clearing) bool {
		return filepath.Base(c.To) == aside && slices.Equal(c.Names, names)
	})
}
