package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"pillarbox/directory"
	"pillarbox/ese"
	"pillarbox/store"
	"pillarbox/transport"
)

// Core is an opened storage group with what lies on it. It serves nobody by itself.
type Core struct {
	cfg    *Config
	logger *slog.Logger

	in    *ese.Instance
	dir   *directory.Directory
	store *store.Store
	queue *transport.Transport

	backups *backupNotes
	purged  purgeNotes
	// logsGone is the generation below which the engine has let log go since the start.
	logsGone atomic.Uint32
	closing  context.Context // ends when backups have to
	stop     context.CancelFunc

	started time.Time
}

// coreOptions says what a Core is opened for.
type coreOptions struct {
	logger *slog.Logger
	// still keeps the queue from being run, for a short visit of the command line.
	still bool
	// restored opens a group whose restore has still to be proved.
	restored bool
}

// openCore opens and recovers the storage group. ese.ErrLocked when another process has it.
func openCore(ctx context.Context, cfg *Config, o coreOptions) (*Core, error) {
	g := &cfg.Groups[0]
	if err := refuseHalfRestored(g); err != nil && !o.restored {
		return nil, err
	}
	c := &Core{cfg: cfg, logger: o.logger, started: time.Now()}
	options := g.options(o.logger)
	options.Observer = c.observe
	in, err := ese.Open(options)
	if err != nil {
		return nil, err
	}
	c.in = in
	if err := checkComplete(g); err != nil {
		return nil, errors.Join(err, in.Close())
	}
	c.backups = openNotes(cfg.Dir, o.logger)
	c.closing, c.stop = context.WithCancel(context.Background())
	if err := c.open(ctx, g, o); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// options opens the storage group.
func (g *GroupConfig) options(logger *slog.Logger) ese.Options {
	host, _ := os.Hostname()
	return ese.Options{
		Dir: g.Dir, LogDir: g.LogDir, GenerationBytes: g.GenerationBytes,
		CacheBytes: g.CacheBytes, StreamBytes: g.StreamBytes, VersionBytes: g.VersionBytes,
		CheckpointDepth: g.CheckpointDepthBytes, LogKeep: g.LogKeepBytes, Circular: g.Circular,
		Computer: host, Logger: logger,
	}
}

// checkComplete refuses a storage group whose database is gone, which would be made anew,
// empty: after a failed mount or a mistaken delete nobody wants that. What tells such a group
// from a new one is a stream file with content, or a log of more than one generation.
func checkComplete(g *GroupConfig) error {
	const emptyStream = 4096 // its header (docs/format-stm.md)
	for _, name := range g.Databases {
		path := absolute(g.Dir, name, "")
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			continue // there, or the engine says what is wrong
		}
		stm := strings.TrimSuffix(path, filepath.Ext(path)) + ".stm"
		if info, err := os.Stat(stm); err == nil && info.Size() > emptyStream {
			return fmt.Errorf("%w: %s, though %s is there", errLostDatabase, path, stm)
		}
		if name != g.Databases[0] {
			continue // added to the config later
		}
		closed, err := filepath.Glob(filepath.Join(g.LogDir, "E00????????*.log"))
		if err != nil {
			return err
		}
		if len(closed) > 0 {
			return fmt.Errorf("%w: %s, though %s is there", errLostDatabase, path, closed[0])
		}
	}
	return nil
}

// errLostDatabase: the log or the stream file of a database is there, and it is not.
var errLostDatabase = errors.New("database file is missing")

func (c *Core) open(ctx context.Context, g *GroupConfig, o coreOptions) error {
	var err error
	c.store, err = store.Open(ctx, c.in, store.Options{
		Databases: g.Databases, KeepDeleted: c.cfg.Store.KeepDeleted.time, Logger: o.logger,
	})
	if err != nil {
		return err
	}
	db, err := c.in.OpenDatabase(g.Databases[0])
	if err != nil {
		return fmt.Errorf("open %s: %w", g.Databases[0], err)
	}
	c.dir, err = directory.Open(ctx, c.in, db, directory.Options{
		DefaultDomain: c.cfg.DefaultDomain, Logger: o.logger,
	})
	if err != nil {
		return err
	}
	opts := c.transportOptions(db)
	opts.Manual = o.still
	c.queue, err = transport.Open(ctx, opts)
	return err
}

func (c *Core) transportOptions(db *ese.Database) transport.Options {
	out := &c.cfg.Outbound
	o := transport.Options{
		Instance: c.in, Database: db, Store: c.store, Directory: c.dir,
		Hostname: c.cfg.Hostname, MXPort: out.MXPort, Logger: c.logger,
		Resolver: newResolver(out.Resolver),
	}
	switch out.Mode {
	case "direct":
		o.Outbound = transport.Direct
	case "smarthost":
		o.Outbound = transport.ViaSmarthost
		o.Smarthost = transport.Smarthost{
			Host: out.Smarthost, Port: out.SmarthostPort,
			User: out.SmarthostUser, Password: out.SmarthostPassword,
		}
		switch out.SmarthostTLS {
		case "tls":
			o.Smarthost.TLS = transport.ImplicitTLS
		case "none":
			o.Smarthost.TLS = transport.NoTLS
		}
	}
	return o
}

// newResolver asks one DNS server, or the system's when server is empty.
func newResolver(server string) *net.Resolver {
	if server == "" {
		return net.DefaultResolver
	}
	return &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, server)
		},
	}
}

// Close stops the queue and brings the storage group to Clean Shutdown.
func (c *Core) Close() error {
	c.stop()
	var err error
	if c.queue != nil {
		err = c.queue.Close()
	}
	return errors.Join(err, c.in.Close())
}
