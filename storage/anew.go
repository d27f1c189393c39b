package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
)

// errRemains: not everything of a group is gone.
var errRemains = errors.New("something of the storage group is left: mount it or restore it (pillarbox " +
	"group mount, pillarbox restore --group), or move what is left elsewhere first")

// MountAnew begins a group anew, empty, whose databases and log are gone for good. If it is the first
// one, it gets the directory that is in memory: no account is lost.
func (g *Group) MountAnew(ctx context.Context) error {
	g.changeMu.Lock()
	defer g.changeMu.Unlock()
	if g.hidden() {
		return fmt.Errorf("%s: %w: it was removed", g.name, ErrNoGroup)
	}
	if g.Err() == nil {
		return fmt.Errorf("begin storage group %s anew: it is mounted", g.name)
	}
	dbs := g.databases()
	if err := errors.Join(g.close(), g.refuseRemains(dbs)); err != nil {
		return fmt.Errorf("begin storage group %s anew: %w", g.name, err)
	}
	made := func(made bool) error {
		return g.set.change(func(r *registry) error {
			for _, d := range dbs {
				r.Databases[d.place].Made = made && d.Made
				r.Databases[d.place].Anew = d.Anew || !made && d.Made
			}
			return nil
		})
	}
	if err := made(false); err != nil {
		return err
	}
	g.anew = true
	err := g.mount(ctx, false)
	g.anew = false
	if err != nil {
		return errors.Join(fmt.Errorf("begin storage group %s anew: %w", g.name, err), made(true))
	}
	g.set.o.Logger.Warn("storage group begun anew: what it had is not there any more", "group", g.name)
	return g.mounted(ctx)
}

// refuseRemains refuses a group of which there is a file of a database. What there is of its log is
// looked at when it is opened.
func (g *Group) refuseRemains(dbs []database) error {
	for _, d := range dbs {
		if d.Moving != "" || d.Leaving != "" || d.Replaced != nil {
			return fmt.Errorf("%w: an earlier move or restore of %s is not finished", errRemains, d.place)
		}
		for _, at := range []string{g.path(&d), beside(g.path(&d), ".stm")} {
			_, err := g.set.o.FS.Stat(at)
			if err == nil {
				return fmt.Errorf("%w: %s", errRemains, at)
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}
