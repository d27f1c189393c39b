package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// dismountTime is how long transactions of a database that is dismounted are waited for.
const dismountTime = 30 * time.Second

// DatabaseState is a database as an administrator sees it.
type DatabaseState struct {
	Place Place  `json:"place"`
	Path  string `json:"path"`
	// State is mounted, dismounted, or why it is neither.
	State   string `json:"state"`
	Mounted bool   `json:"mounted"`
	// Bytes are those of its files, Mailboxes those that live in it.
	Bytes     int64 `json:"bytes"`
	Mailboxes int   `json:"mailboxes"`
	// First holds the queue of its group.
	First bool `json:"first,omitempty"`
}

// bytes is the size of a database's files.
func (g *Group) bytes(d *database) (n int64) {
	at := g.path(d)
	for _, name := range []string{at, beside(at, ".stm")} {
		if size, err := g.set.o.FS.Stat(name); err == nil {
			n += size
		}
	}
	return n
}

// beside is the path of a file that belongs to a database.
func beside(path, ext string) string {
	return strings.TrimSuffix(path, filepath.Ext(path)) + ext
}

// Databases lists the databases of all groups.
func (s *Set) Databases() (list []DatabaseState) {
	boxes := make(map[Place]int)
	for _, u := range s.dir.Users() {
		boxes[Place(u.Home)]++
	}
	for _, g := range s.Groups() {
		list = append(list, g.states(boxes)...)
	}
	return list
}

func (g *Group) states(boxes map[Place]int) (list []DatabaseState) {
	st, _, gerr := g.parts()
	for i, d := range g.databases() {
		x := DatabaseState{
			Place: d.place, Path: g.path(&d), Bytes: g.bytes(&d), Mailboxes: boxes[d.place],
			First: i == 0,
		}
		g.mu.Lock()
		wrong := g.wrong[d.place]
		g.mu.Unlock()
		switch {
		case gerr != nil:
			x.State = "its storage group is not mounted"
		case st.Mounted(d.Engine) == nil:
			x.State, x.Mounted = "mounted", true
		case wrong != nil && !d.Dismounted:
			x.State = "failed: " + wrong.Error()
		default:
			x.State = "dismounted"
		}
		list = append(list, x)
	}
	return list
}

// database finds a database with its group, which it locks: the caller unlocks its changeMu.
func (s *Set) database(p Place) (*Group, *database, error) {
	g := s.group(p.Group())
	if g == nil {
		return nil, nil, fmt.Errorf("%s: %w", p, ErrNoGroup)
	}
	g.changeMu.Lock()
	for _, d := range g.databases() {
		if d.place == p {
			return g, &d, nil
		}
	}
	g.changeMu.Unlock()
	return nil, nil, fmt.Errorf("%s: %w", p, ErrNoDatabase)
}

// isFirst tells whether a database holds the queue of its group.
func (g *Group) isFirst(d *database) bool { return g.databases()[0].place == d.place }

// CreateDatabase makes a database in a group and mounts it. path is a folder, or a file ending in
// .edb; empty is the group's folder.
func (s *Set) CreateDatabase(ctx context.Context, p Place, path string) error {
	if err := CheckName(p.Database()); err != nil {
		return err
	}
	g, err := s.Group(p.Group())
	if err != nil {
		return err
	}
	g.changeMu.Lock()
	defer g.changeMu.Unlock()
	if _, _, err := g.parts(); err != nil {
		return err
	}
	r := databaseRecord{Engine: p.Database() + ".edb", Added: true}
	if path != "" {
		if r.Path, err = databasePath(path, r.Engine); err != nil {
			return err
		}
	}
	d := database{p, r}
	if err := s.refuseFiles(g.path(&d)); err != nil {
		return err
	}
	if err := s.refuseKnown(p); err != nil {
		return err
	}
	if err := makeFolder(s.o.FS, filepath.Dir(g.path(&d))); err != nil {
		return err
	}
	err = s.change(func(reg *registry) error {
		r.Order = reg.nextOrder(g.name)
		reg.Databases[p] = &r
		return nil
	})
	if err != nil {
		return err
	}
	d.databaseRecord = r
	if err := g.mountDatabase(ctx, &d); err != nil {
		return errors.Join(err, g.undoDatabase(ctx, &d), s.change(func(reg *registry) error {
			delete(reg.Databases, p)
			return nil
		}))
	}
	s.o.Logger.Info("database made", "database", string(p), "path", g.path(&d))
	return nil
}

// refuseKnown refuses a name that was given before. The group's changeMu is held.
func (s *Set) refuseKnown(p Place) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch d := s.reg.Databases[p]; {
	case d == nil:
		return nil
	case d.Removed != "":
		return fmt.Errorf("%s: a database of this name was removed, and its log may still be there: "+
			"take another name", p)
	default:
		return fmt.Errorf("%s: database %w", p, fs.ErrExist)
	}
}

// databasePath is the file that a path means.
func databasePath(path, engine string) (string, error) {
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("%s: name the whole path", path)
	}
	if filepath.Ext(path) != ".edb" {
		path = filepath.Join(path, filepath.Base(engine))
	}
	return path, nil
}

// refuseFiles refuses a place where there is something.
func (s *Set) refuseFiles(path string) error {
	if err := s.refuseCleared(filepath.Dir(path)); err != nil {
		return err
	}
	for _, ext := range []string{".edb", ".stm", ".dw", ".jfm"} {
		at := beside(path, ext)
		if _, err := s.o.FS.Stat(at); err == nil {
			return fmt.Errorf("%s: %w: move it away, or name another place", at, fs.ErrExist)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// mountDatabase mounts a database of a group that is mounted. changeMu is held.
func (g *Group) mountDatabase(ctx context.Context, d *database) error {
	st, _, err := g.parts()
	if err != nil {
		return err
	}
	in, err := g.Instance()
	if err != nil {
		return err
	}
	m := &mounting{g: g, in: in, store: st}
	if err = m.database(ctx, d, false); err != nil {
		err = errors.Join(err, g.letGo(d.place))
	}
	g.mu.Lock()
	if err != nil {
		g.wrong[d.place] = err
	} else {
		delete(g.wrong, d.place)
	}
	g.mu.Unlock()
	if err == nil {
		g.set.wake()
	}
	return err
}

// MountDatabase mounts a database; mail that waited for it is delivered.
func (s *Set) MountDatabase(ctx context.Context, p Place) error {
	g, d, err := s.database(p)
	if err != nil {
		return err
	}
	defer g.changeMu.Unlock()
	if d.Dismounted {
		if err := s.edit(p, func(r *databaseRecord) { r.Dismounted = false }); err != nil {
			return err
		}
	}
	if err := g.replace(d); err != nil {
		return fmt.Errorf("mount %s: %w", p, err)
	}
	if err := g.mountDatabase(ctx, d); err != nil {
		return fmt.Errorf("mount %s: %w", p, err)
	}
	s.o.Logger.Info("database mounted", "database", string(p))
	return nil
}

// DismountDatabase brings a database to Clean Shutdown, also over a restart. The others of its
// group go on.
func (s *Set) DismountDatabase(ctx context.Context, p Place) error {
	g, d, err := s.database(p)
	if err != nil {
		return err
	}
	defer g.changeMu.Unlock()
	if g.isFirst(d) {
		return fmt.Errorf("dismount %s: %w", p, ErrFirst)
	}
	if err := s.edit(p, func(r *databaseRecord) { r.Dismounted = true }); err != nil {
		return err
	}
	if err := g.dismountDatabase(ctx, d); err != nil {
		return errors.Join(fmt.Errorf("dismount %s: %w", p, err),
			s.edit(p, func(r *databaseRecord) { r.Dismounted = false }))
	}
	s.o.Logger.Info("database dismounted", "database", string(p))
	return nil
}

// dismountDatabase takes a database out of the store. changeMu is held.
func (g *Group) dismountDatabase(ctx context.Context, d *database) error {
	st, _, err := g.parts()
	if err != nil {
		return err
	}
	if st.Mounted(d.Engine) != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, dismountTime)
	defer cancel()
	if err := st.Dismount(ctx, d.Engine); err != nil {
		return err
	}
	return g.letGo(d.place)
}

// CreateGroup makes a storage group with one database, priv1 unless another is named.
func (s *Set) CreateGroup(ctx context.Context, r GroupRecord, database string) error {
	if err := CheckName(r.Name); err != nil {
		return err
	}
	if database == "" {
		database = "priv1"
	}
	if err := CheckName(database); err != nil {
		return err
	}
	if r.Dir == "" {
		r.Dir = filepath.Join(s.o.Dir, r.Name)
	}
	var made []string // folders that are not there yet
	for _, dir := range []string{r.Dir, r.LogDir} {
		if err := s.refuseFull(dir); err != nil {
			return err
		}
		if _, err := s.o.FS.ReadDir(dir); dir != "" && errors.Is(err, fs.ErrNotExist) {
			made = append(made, dir)
		}
	}
	err := s.change(func(reg *registry) error {
		// One that is being made just now is in the registry only.
		if s.group(r.Name) != nil || reg.group(r.Name) >= 0 {
			return fmt.Errorf("storage group %s: %w", r.Name, fs.ErrExist)
		}
		if err := s.refuseShared(reg, &r); err != nil {
			return err
		}
		reg.Groups = append(reg.Groups, &r)
		reg.Databases[MakePlace(r.Name, database)] = &databaseRecord{
			Engine: database + ".edb", Added: true,
		}
		return nil
	})
	if err != nil {
		return err
	}
	g := newGroup(s, s.specOf(&r))
	if err := g.mount(ctx, false); err != nil {
		return errors.Join(err, g.undoMaking(made), s.change(func(reg *registry) error {
			if i := reg.group(r.Name); i >= 0 {
				reg.Groups = slices.Delete(reg.Groups, i, i+1)
			}
			delete(reg.Databases, MakePlace(r.Name, database))
			return nil
		}))
	}
	s.mu.Lock()
	s.groups = append(s.groups, g)
	s.mu.Unlock()
	s.o.Logger.Info("storage group made", "group", r.Name, "dir", r.Dir)
	return nil
}

// refuseShared refuses a folder that another group has, also one that is being made just now.
func (s *Set) refuseShared(reg *registry, r *GroupRecord) error {
	taken := make(map[string]string)
	for _, g := range s.Groups() {
		taken[g.spec.Engine.Dir], taken[g.logDir()] = g.name, g.name
	}
	for _, g := range reg.Groups {
		taken[g.Dir] = g.Name
		if g.LogDir != "" {
			taken[g.LogDir] = g.Name
		}
	}
	for _, dir := range []string{r.Dir, r.LogDir} {
		if name, ok := taken[dir]; ok && dir != "" {
			return fmt.Errorf("%s: the folder is that of the storage group %s: name another one", dir, name)
		}
	}
	return nil
}

// refuseFull refuses a folder that holds something, other than what was removed.
func (s *Set) refuseFull(dir string) error {
	if dir == "" {
		return nil
	}
	if err := s.refuseCleared(dir); err != nil {
		return err
	}
	if !filepath.IsAbs(dir) {
		return fmt.Errorf("%s: name the whole path", dir)
	}
	names, err := s.o.FS.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		return strings.HasPrefix(name, removedPrefix)
	})
	if err == nil && len(names) > 0 {
		err = fmt.Errorf("%s: the folder is not empty: name another one", dir)
	}
	return err
}

// GroupState is a storage group as an administrator sees it.
type GroupState struct {
	Name     string `json:"name"`
	Dir      string `json:"dir"`
	LogDir   string `json:"log_dir"`
	State    string `json:"state"`
	Mounted  bool   `json:"mounted"`
	Circular bool   `json:"circular,omitempty"`
	// LogEnd and Checkpoint are log positions; empty where it is not mounted.
	LogEnd     string   `json:"log_end,omitempty"`
	Checkpoint string   `json:"checkpoint,omitempty"`
	Log        LogState `json:"log"`
	// Directory is what should be known of the directory while the group with it is not mounted, or the
	// group's copy of it is behind.
	Directory string `json:"directory,omitempty"`
}

// States lists the groups.
func (s *Set) States() (list []GroupState) {
	for _, g := range s.Groups() {
		x := g.state()
		x.Directory = s.directoryNote(g)
		list = append(list, x)
	}
	return list
}

func (g *Group) state() GroupState {
	e := &g.spec.Engine
	x := GroupState{
		Name: g.name, Dir: e.Dir, LogDir: e.LogDir, Circular: e.Circular, State: "mounted",
		Mounted: true,
	}
	if x.LogDir == "" {
		x.LogDir = x.Dir
	}
	g.mu.Lock()
	x.Log = g.log
	in, why, down := g.in, g.err, g.down
	g.mu.Unlock()
	switch {
	case in == nil && down:
		x.State, x.Mounted = "dismounted", false
	case in == nil:
		x.State, x.Mounted = "failed: "+why.Error(), false
	case in.Err() != nil:
		x.State, x.Mounted = "failed: "+in.Err().Error(), false
	default:
		x.LogEnd, x.Checkpoint = in.Durable().String(), in.Checkpoint().String()
	}
	return x
}
