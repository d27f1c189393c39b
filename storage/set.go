package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"pillarbox/directory"
	"pillarbox/ese"
	"pillarbox/ese/vfs"
	"pillarbox/store"
	"pillarbox/transport"
)

// Spec is a storage group of the config.
type Spec struct {
	Name string
	// Engine opens it; Dir must be set.
	Engine ese.Options
	// Databases are the names that its log knows, the first with the queue.
	Databases []string
}

// Options configures a Set. Dir and Groups must be set.
type Options struct {
	// Dir is the data folder, with groups.json.
	Dir string
	// FS is the file system. Default: the operating system's.
	FS vfs.FS
	// Groups are those of the config; the first one's first database holds the directory.
	Groups []Spec
	// Engine are the options of groups made at run time, but for the folders.
	Engine ese.Options
	// NewMailboxes is the Place of new users' mailboxes. Default: the least full database.
	NewMailboxes Place
	Directory    directory.Options
	Store        store.Options
	Transport    transport.Options
	// AcceptLoss names the group that is to be mounted although the newest log of it is lost
	// (ese.Options.AcceptLoss).
	AcceptLoss string
	// Refuse tells why a group must not be opened. Default: it may.
	Refuse func(name, dir string) error
	// Observe receives the events of the groups' engines, as ese.Options.Observer does.
	Observe func(group string, e ese.Event)
	// Still runs no queue and nothing in the background.
	Still bool
	// WatchEvery is how often groups are looked after. Default: 5 s.
	WatchEvery time.Duration
	// Warn is the share of its disk, in percent, that the log of a group may fill before it is
	// warned of. Default: 80.
	Warn int
	// Logger receives state changes. Default: discard.
	Logger *slog.Logger
}

func (o *Options) setDefaults() {
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	if o.WatchEvery <= 0 {
		o.WatchEvery = 5 * time.Second
	}
	if o.Warn <= 0 {
		o.Warn = 80
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Directory.Logger, o.Store.Logger, o.Transport.Logger = o.Logger, o.Logger, o.Logger
}

// Set is all storage groups of a server with their directory. It is safe for concurrent use.
type Set struct {
	o   Options
	dir *directory.Directory

	changeMu sync.Mutex // one change of groups.json at a time

	mu     sync.Mutex
	reg    *registry
	groups []*Group
	copyOf string                    // the group whose copy is the directory, where the first one was not there
	moving map[store.MailboxID]Place // where to
	// removing are places that no mailbox may get any more.
	removing  map[Place]bool
	clearing  []clearing // that somebody is moving aside
	resumeDue bool       // moves are to be gone on with: the directory can be changed again

	placeMu sync.Mutex
	placed  fullness

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// Errors that callers act on.
var (
	// ErrNoGroup: there is no storage group of this name.
	ErrNoGroup = errors.New("no such storage group")
	// ErrNoDatabase: there is no database of this name.
	ErrNoDatabase = errors.New("no such database")
	// ErrLost: the file of a database that was there is missing.
	ErrLost = errors.New("database file is missing")
	// ErrBackAgain: the file of a database is there again that was missing when its group was
	// mounted.
	ErrBackAgain = errors.New("the file was missing when its storage group was mounted, and is there " +
		"again: dismount the group and mount it, which brings the database to the end of the log")
	// ErrFirst: the first database of a group cannot be dismounted by itself.
	ErrFirst = errors.New("it holds the queue of its storage group")
)

// Open opens the groups; why one is not mounted tells Group.Err. The first one must be there, or in
// another one a copy of the directory that has every change that was acknowledged.
func Open(ctx context.Context, o Options) (*Set, error) {
	o.setDefaults()
	s := &Set{o: o, moving: make(map[store.MailboxID]Place), removing: make(map[Place]bool)}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := makeFolder(o.FS, o.Dir); err != nil {
		return nil, err
	}
	var err error
	if s.reg, err = loadRegistry(o.FS, s.registryPath()); err != nil {
		return nil, err
	}
	if err := s.clearFirst(); err != nil {
		return nil, err
	}
	for i := range o.Groups {
		s.groups = append(s.groups, newGroup(s, o.Groups[i]))
	}
	for _, r := range s.reg.Groups {
		if s.group(r.Name) != nil {
			return nil, fmt.Errorf("storage group %s is in the config and in %s: rename that of the config",
				r.Name, s.registryPath())
		}
		s.groups = append(s.groups, newGroup(s, s.specOf(r)))
	}
	if err := s.mountAll(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if s.groups[0].Err() == nil {
		if err := s.firstIsBack(ctx); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	if !o.Still {
		s.wg.Go(s.watch)
	}
	return s, nil
}

func (s *Set) registryPath() string { return filepath.Join(s.o.Dir, RegistryName) }

// specOf is the spec of a group that was made at run time.
func (s *Set) specOf(r *GroupRecord) Spec {
	e := s.o.Engine
	e.Dir, e.LogDir, e.Circular = r.Dir, r.LogDir, r.Circular
	return Spec{Name: r.Name, Engine: e}
}

// Close stops all queues and brings all groups to Clean Shutdown.
func (s *Set) Close() error {
	s.cancel()
	s.wg.Wait()
	var errs []error
	for _, g := range slices.Backward(s.Groups()) {
		g.changeMu.Lock()
		errs = append(errs, g.close())
		g.changeMu.Unlock()
	}
	return errors.Join(errs...)
}

// Directory is the directory.
func (s *Set) Directory() *directory.Directory { return s.dir }

// Groups are all storage groups, the one with the directory first.
func (s *Set) Groups() []*Group {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.groups)
}

// Made are the groups that were made at run time, in their order.
func (s *Set) Made() (list []GroupRecord) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.groups {
		if i := s.reg.group(g.name); i >= 0 {
			list = append(list, *s.reg.Groups[i])
		}
	}
	return list
}

// group finds a group by name; nil when there is none.
func (s *Set) group(name string) *Group {
	for _, g := range s.Groups() {
		if g.name == name {
			return g
		}
	}
	return nil
}

// Group finds a group by name; ErrNoGroup when there is none.
func (s *Set) Group(name string) (*Group, error) {
	g := s.group(name)
	if g == nil {
		return nil, fmt.Errorf("%s: %w", name, ErrNoGroup)
	}
	return g, nil
}

// change edits the registry and saves it. An error changes nothing.
func (s *Set) change(edit func(*registry) error) error {
	s.changeMu.Lock()
	defer s.changeMu.Unlock()
	s.mu.Lock()
	next := s.reg.clone()
	s.mu.Unlock()
	if err := edit(next); err != nil {
		return err
	}
	if err := next.save(s.o.FS, s.registryPath()); err != nil {
		return err
	}
	s.mu.Lock()
	s.reg = next
	s.mu.Unlock()
	return nil
}

func (r *registry) clone() *registry {
	n := &registry{
		Directory: r.Directory, Version: r.Version, Clearing: slices.Clone(r.Clearing),
		Databases: make(map[Place]*databaseRecord, len(r.Databases)),
	}
	for _, g := range r.Groups {
		c := *g
		n.Groups = append(n.Groups, &c)
	}
	for p, d := range r.Databases {
		c := *d
		n.Databases[p] = &c
	}
	return n
}

// record is a copy of what is known of a database that has not been removed.
func (s *Set) record(p Place) (r databaseRecord, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.reg.Databases[p]
	if d == nil || d.Removed != "" {
		return r, false
	}
	return *d, true
}

// edit changes the record of a database.
func (s *Set) edit(p Place, fn func(*databaseRecord)) error {
	return s.change(func(r *registry) error {
		d := r.Databases[p]
		if d == nil {
			return fmt.Errorf("%s: %w", p, ErrNoDatabase)
		}
		fn(d)
		return nil
	})
}
