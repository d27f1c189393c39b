package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"pillarbox/ese"
	"pillarbox/ese/vfs"
	"pillarbox/store"
	"pillarbox/transport"
)

// Group is one storage group. It is safe for concurrent use.
type Group struct {
	set  *Set
	name string
	spec Spec

	changeMu sync.Mutex          // one mount, dismount or move at a time
	held     map[Place]io.Closer // see hold.go; guarded by changeMu
	anew     bool                // it is being begun anew; guarded by changeMu

	mu    sync.Mutex
	in    *ese.Instance
	store *store.Store
	queue *transport.Transport
	err   error           // why it is not mounted
	wrong map[Place]error // why a database is not mounted
	log   LogState        // as last looked at
	down  bool            // an administrator dismounted it
	// leaving hides a group that is being removed, for good when it is.
	leaving bool
	full    bool // it was dismounted because its log disk was full
}

func newGroup(s *Set, spec Spec) *Group {
	return &Group{
		set: s, name: spec.Name, spec: spec, err: errNotYet, wrong: make(map[Place]error),
		held: make(map[Place]io.Closer),
	}
}

var errNotYet = errors.New("not mounted yet")

// Name is the group's name.
func (g *Group) Name() string { return g.name }

// Circular tells whether it keeps no log.
func (g *Group) Circular() bool { return g.spec.Engine.Circular }

// Down tells whether an administrator has dismounted it.
func (g *Group) Down() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.down
}

// Instance is its engine; an error says why it is not mounted.
func (g *Group) Instance() (*ese.Instance, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.in == nil || g.leaving {
		return nil, g.unmounted()
	}
	return g.in, nil
}

// unmounted is the error of a group that is not mounted. mu is held.
func (g *Group) unmounted() error {
	if g.leaving {
		return fmt.Errorf("storage group %s: %w: it is being removed", g.name, store.ErrUnmounted)
	}
	return fmt.Errorf("storage group %s: %w: %w", g.name, store.ErrUnmounted, g.err)
}

// Err is why the group does not work, or nil.
func (g *Group) Err() error {
	in, err := g.Instance()
	if err != nil {
		return err
	}
	return in.Err()
}

// parts are what the group serves with.
func (g *Group) parts() (*store.Store, *transport.Transport, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.in == nil || g.leaving {
		return nil, nil, g.unmounted()
	}
	if err := g.in.Err(); err != nil {
		return nil, nil, fmt.Errorf("storage group %s: %w: %w", g.name, store.ErrUnmounted, err)
	}
	return g.store, g.queue, nil
}

// Lost are its databases whose files are missing.
func (g *Group) Lost() (list []Place) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for p, err := range g.wrong {
		if errors.Is(err, ErrLost) {
			list = append(list, p)
		}
	}
	slices.Sort(list)
	return list
}

// first tells whether the group holds the directory.
func (g *Group) first() bool { return g.set.Groups()[0] == g }

// Mount opens a group that is not mounted, or that has failed.
func (g *Group) Mount(ctx context.Context) error { return g.mountAgain(ctx, false) }

// MountWithLoss is Mount also where the newest log is lost, if the databases need nothing of it.
// The Loss is what was given up; nil when nothing was, or the group was mounted.
func (g *Group) MountWithLoss(ctx context.Context) (*ese.Loss, error) {
	if err := g.mountAgain(ctx, true); err != nil {
		return nil, err
	}
	in, err := g.Instance()
	if err != nil {
		return nil, err
	}
	return in.Loss(), nil
}

func (g *Group) mountAgain(ctx context.Context, accept bool) error {
	g.changeMu.Lock()
	defer g.changeMu.Unlock()
	if g.hidden() {
		return fmt.Errorf("%s: %w: it was removed", g.name, ErrNoGroup)
	}
	if g.Err() == nil {
		return nil
	}
	if err := g.close(); err != nil {
		g.set.o.Logger.Warn("storage group not closed clean: mounting recovers it", "group", g.name,
			"err", err)
	}
	if err := g.mount(ctx, accept); err != nil {
		return err
	}
	return g.mounted(ctx)
}

// mounted does what is due when the group is mounted again.
func (g *Group) mounted(ctx context.Context) error {
	s := g.set
	if g.first() {
		if err := s.firstIsBack(ctx); err != nil {
			return err
		}
		s.mu.Lock()
		s.resumeDue = true
		s.mu.Unlock()
	}
	s.wake()
	return nil
}

// Dismount brings a group to Clean Shutdown until it is mounted again, or the server is started.
func (g *Group) Dismount() error {
	g.changeMu.Lock()
	defer g.changeMu.Unlock()
	err := g.close()
	g.mu.Lock()
	g.err, g.down, g.full = errors.New("dismounted by the administrator"), true, false
	g.mu.Unlock()
	return err
}

// close ends queue and instance. changeMu is held.
func (g *Group) close() error {
	g.mu.Lock()
	in, queue, s := g.in, g.queue, g.store
	g.in, g.queue, g.store = nil, nil, nil
	if in != nil {
		g.err = errNotYet
		if err := in.Err(); err != nil {
			g.err = err
		}
	}
	g.mu.Unlock()
	var err error
	if queue != nil {
		err = queue.Close()
	}
	g.leaveDirectory()
	if in == nil {
		return errors.Join(err, g.letGoAll(none))
	}
	if s != nil {
		s.Forget(fmt.Errorf("storage group %s: %w", g.name, store.ErrUnmounted))
	}
	return errors.Join(err, in.Close(), g.letGoAll(none))
}

// leaveDirectory ends what the directory writes into the group.
func (g *Group) leaveDirectory() {
	switch dir := g.set.dir; {
	case dir == nil:
	case g.first():
		dir.Detach()
		if g.set.ctx.Err() == nil {
			g.set.o.Logger.Warn("the first storage group is not mounted: accounts cannot be changed")
		}
	default:
		dir.Unfollow(g.name)
	}
}

// mount opens the group. changeMu is held, or nobody else knows it yet.
func (g *Group) mount(ctx context.Context, accept bool) error {
	err := g.open(ctx, accept)
	g.mu.Lock()
	if err != nil {
		g.err = err
	} else {
		g.err, g.down, g.full = nil, false, false
	}
	g.mu.Unlock()
	return err
}

func (g *Group) open(ctx context.Context, accept bool) (err error) {
	o := g.spec.Engine
	o.FS, o.Logger, o.Locate = g.set.o.FS, g.set.o.Logger, g.locate
	if observe := g.set.o.Observe; observe != nil {
		o.Observer = func(e ese.Event) { observe(g.name, e) }
	}
	if refuse := g.set.o.Refuse; refuse != nil {
		if err := refuse(g.name, o.Dir); err != nil {
			return err
		}
	}
	if err := g.enter(); err != nil {
		return err
	}
	if err := g.endMoves(); err != nil {
		return err
	}
	if err := g.endReplacements(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.letGoAll(none))
		}
	}()
	if err := g.holdAll(); err != nil {
		return err
	}
	for _, d := range g.databases() {
		o.Databases = append(o.Databases, d.Engine)
	}
	o.AcceptLoss, o.IgnoreMissing = accept, !accept && g.firstIsThere()
	in, err := ese.Open(o)
	if err != nil {
		return err
	}
	g.forgetLost(in)
	m := &mounting{g: g, in: in, wrong: make(map[Place]error)}
	if err := m.run(ctx); err != nil {
		return errors.Join(err, m.abandon())
	}
	g.mu.Lock()
	g.in, g.store, g.queue, g.wrong = in, m.store, m.queue, m.wrong
	g.mu.Unlock()
	err = g.letGoAll(func(p Place) bool {
		d, ok := g.set.record(p)
		return ok && m.store.Mounted(d.Engine) == nil
	})
	if err != nil {
		g.set.o.Logger.Warn("lock of a database that is not mounted", "group", g.name, "err", err)
	}
	return nil
}

// firstIsThere tells whether the group can serve at all: another database may be missing.
func (g *Group) firstIsThere() bool {
	dbs := g.databases()
	if len(dbs) == 0 {
		return false
	}
	_, err := g.set.o.FS.Stat(g.path(&dbs[0]))
	return err == nil
}

// forgetLost gives up lost databases that are no longer the group's: their log need not be kept.
func (g *Group) forgetLost(in *ese.Instance) {
	for _, name := range in.Lost() {
		if !slices.ContainsFunc(g.databases(), func(d database) bool { return d.Engine == name }) {
			in.ForgetLost(name)
		}
	}
}

// enter makes the records of databases that are new in the config.
func (g *Group) enter() error {
	have := g.known()
	var missing []string
	for _, engine := range g.spec.Databases {
		if !slices.ContainsFunc(have, func(d database) bool { return d.Engine == engine }) {
			missing = append(missing, engine)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return g.set.change(func(r *registry) error {
		for _, engine := range missing {
			p := MakePlace(g.name, engine)
			if d := r.Databases[p]; d != nil && d.Removed == "" {
				return fmt.Errorf("two databases of storage group %s are called %s", g.name, p.Database())
			}
			r.Databases[p] = &databaseRecord{Engine: engine, Order: r.nextOrder(g.name)}
		}
		return nil
	})
}

func (r *registry) nextOrder(group string) (n int) {
	for p, d := range r.Databases {
		if p.Group() == group {
			n = max(n, d.Order+1)
		}
	}
	return n
}

// hidden tells that the group is being removed, or is removed. changeMu is held.
func (g *Group) hidden() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.leaving
}

// database is a record with its name.
type database struct {
	place Place
	databaseRecord
}

// databases are the group's, in the order in which they were added.
func (g *Group) databases() []database {
	return slices.DeleteFunc(g.known(), func(d database) bool { return d.Removed != "" })
}

// known are also those that were removed.
func (g *Group) known() (list []database) {
	g.set.mu.Lock()
	defer g.set.mu.Unlock()
	for p, d := range g.set.reg.Databases {
		if p.Group() == g.name {
			list = append(list, database{p, *d})
		}
	}
	slices.SortFunc(list, func(a, b database) int { return a.Order - b.Order })
	return list
}

// locate tells where a database lies that the log knows by a name.
func (g *Group) locate(engine string) string {
	for _, d := range g.databases() {
		if d.Engine == engine && d.Path != "" {
			return d.Path
		}
	}
	return engine
}

// path is where a database lies.
func (g *Group) path(d *database) string {
	at := d.Path
	if at == "" {
		at = d.Engine
	}
	if filepath.IsAbs(at) || strings.ContainsAny(at, `/\`) {
		return at
	}
	return filepath.Join(g.spec.Engine.Dir, at)
}

// mounting is one opening of a group.
type mounting struct {
	g     *Group
	in    *ese.Instance
	store *store.Store
	queue *transport.Transport
	wrong map[Place]error
}

func (m *mounting) abandon() error {
	var err error
	if m.queue != nil {
		err = m.queue.Close()
	}
	m.g.leaveDirectory()
	return errors.Join(err, m.in.Close())
}

func (m *mounting) run(ctx context.Context) (err error) {
	g := m.g
	dbs := g.databases()
	if len(dbs) == 0 {
		return fmt.Errorf("storage group %s has no database", g.name)
	}
	so := g.set.o.Store
	so.Dismounted, so.Home, so.Databases = true, g.home, nil
	for _, d := range g.known() {
		so.Databases = append(so.Databases, d.Engine) // by their number, those that are gone too
	}
	if m.store, err = store.Open(ctx, m.in, so); err != nil {
		return err
	}
	for i := range dbs {
		if dbs[i].Dismounted && i > 0 {
			err := m.leave(ctx, &dbs[i])
			if err != nil {
				return err
			}
			continue
		}
		err := m.database(ctx, &dbs[i], i == 0)
		if err != nil && i == 0 {
			return err
		}
		if err != nil {
			m.wrong[dbs[i].place] = err
			g.set.o.Logger.Error("database not mounted: the others serve",
				"database", string(dbs[i].place), "err", err)
		}
	}
	return m.serve(ctx, &dbs[0])
}

// leave closes a database that recovery has opened although it is to be dismounted.
func (m *mounting) leave(ctx context.Context, d *database) error {
	for _, db := range m.in.Databases() {
		if db.Name() == d.Engine {
			return m.in.CloseDatabase(ctx, db)
		}
	}
	return nil
}

// database mounts one database; with the first of a group the directory or its copy is opened.
func (m *mounting) database(ctx context.Context, d *database, first bool) error {
	g := m.g
	if err := g.refuseLost(d, first, m.in); err != nil {
		return err
	}
	if first {
		open := m.copy
		if g.first() {
			open = m.directory
		}
		if err := open(ctx, d); err != nil {
			return err
		}
	}
	if err := g.hold(d); err != nil {
		return err
	}
	err := m.store.Mount(ctx, d.Engine)
	if errors.Is(err, ese.ErrDirtyShutdown) && slices.Contains(m.in.Lost(), d.Engine) {
		return fmt.Errorf("%w: %s", ErrBackAgain, g.path(d))
	}
	if err != nil {
		return err
	}
	if d.Made {
		return nil
	}
	if d.Anew {
		ids, err := g.set.residents([]database{*d})
		if err == nil {
			err = m.store.CreateAnew(ctx, d.Engine, ids)
		}
		if err != nil {
			return fmt.Errorf("begin the mailboxes of %s anew: %w", d.place, err)
		}
	}
	return g.set.edit(d.place, func(r *databaseRecord) { r.Made, r.Anew = true, false })
}

// serve opens the queue.
func (m *mounting) serve(ctx context.Context, d *database) error {
	db, err := m.in.OpenDatabase(d.Engine)
	if err != nil {
		return err
	}
	o := m.g.set.o.Transport
	o.Instance, o.Database, o.Store = m.in, db, m.store
	o.Directory, o.Mailboxes = m.g.set.dir, m.g.set
	o.Manual = m.g.set.o.Still || m.g.hidden()
	m.queue, err = transport.Open(ctx, o)
	return err
}

// refuseLost refuses a database whose file is gone, which would be made anew, empty: after a disk
// that was not mounted or a mistaken delete nobody wants that. What tells it from a new one is
// the record, a stream file with content, or for the first one a log of more than one generation.
func (g *Group) refuseLost(d *database, first bool, in *ese.Instance) error {
	const emptyStream = 4096 // its header (docs/format-stm.md)
	fsys, path := g.set.o.FS, g.path(d)
	if _, err := fsys.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil // there, or the engine says what is wrong
	}
	if d.Made {
		which := "--database " + string(d.place)
		if g.isFirst(d) {
			which = "--group " + g.name
		}
		return fmt.Errorf("%w: %s (restore it: pillarbox restore --from SETS %s; or put the "+
			"file back, then pillarbox group dismount %s and group mount %s)", ErrLost, path, which,
			g.name, g.name)
	}
	stm := strings.TrimSuffix(path, filepath.Ext(path)) + ".stm"
	if n, err := fsys.Stat(stm); err == nil && n > emptyStream {
		return fmt.Errorf("%w: %s, though %s is there", ErrLost, path, stm)
	}
	if first && in.Durable().Generation() > 1 {
		return fmt.Errorf("%w: %s, though there is log of it", ErrLost, path)
	}
	return makeFolder(fsys, filepath.Dir(path))
}

func makeFolder(fsys vfs.FS, dir string) error {
	if err := fsys.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(dir))
}
