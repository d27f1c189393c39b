package server

import (
	"context"
	"path/filepath"
	"strings"
	"sync"

	"pillarbox/archive"
	"pillarbox/storage"
)

// A group made at run time has no table in the config: it is as the first one, but for its folders,
// and its archive lies in a folder of its name within that of the first one.

// madeGroup is the config of a group that was made at run time.
func (c *Config) madeGroup(r storage.GroupRecord) GroupConfig {
	g := c.Groups[0]
	g.Name, g.Dir, g.LogDir, g.Circular = r.Name, r.Dir, or(r.LogDir, r.Dir), r.Circular
	g.Archive, g.Databases, g.paths = c.archiveOf(r.Name), nil, nil
	return g
}

// archiveOf is the archive of a group that was made at run time; empty is none.
func (c *Config) archiveOf(name string) string {
	switch place := c.Groups[0].Archive; {
	case place == "":
		return ""
	case archive.IsBucket(place):
		return strings.TrimRight(place, "/") + "/" + name
	default:
		return filepath.Join(place, name)
	}
}

// archivePlace is the archive of a group, of the config or not.
func (c *Config) archivePlace(name string) string {
	for i := range c.Groups {
		if g := &c.Groups[i]; g.Name == name {
			return g.Archive
		}
	}
	return c.archiveOf(name)
}

// groups are the configs of all groups, those made at run time too.
func (c *Core) groups() (list []*GroupConfig) {
	for i := range c.cfg.Groups {
		list = append(list, &c.cfg.Groups[i])
	}
	for _, r := range c.store.Made() {
		g := c.cfg.madeGroup(r)
		list = append(list, &g)
	}
	return list
}

// groupsTurned tells keepArchives that there is another group, or one less.
func (c *Core) groupsTurned() {
	select {
	case c.turned <- struct{}{}:
	default: // it has been told already
	}
}

// keepArchives archives the log of each group that has an archive, from when the group is there until
// it is gone or ctx ends.
func (c *Core) keepArchives(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	running := make(map[string]context.CancelFunc)
	defer func() {
		for _, stop := range running {
			stop()
		}
	}()
	for {
		there := make(map[string]bool)
		for _, g := range c.groups() {
			there[g.Name] = true
			if g.Archive == "" || running[g.Name] != nil {
				continue
			}
			one, stop := context.WithCancel(ctx)
			running[g.Name] = stop
			wg.Go(func() {
				defer c.work.begin("archive of " + g.Name + " in " + g.Archive)()
				c.keepArchive(one, g)
			})
			wg.Go(func() { c.keepRoom(one, g) })
		}
		for name, stop := range running {
			if !there[name] {
				stop()
				delete(running, name)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-c.turned:
		}
	}
}
