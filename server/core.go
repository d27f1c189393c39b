package server

import (
	"context"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"pillarbox/directory"
	"pillarbox/ese"
	"pillarbox/storage"
	"pillarbox/store"
	"pillarbox/transport"
)

// Core is the opened storage groups with the directory. It serves nobody by itself.
type Core struct {
	cfg    *Config
	logger *slog.Logger

	dir   *directory.Directory
	store *storage.Set
	queue *storage.Queue

	backups *backupNotes
	purged  purgeNotes
	// logsGone has the generation below which the engine has let log go since the start, by
	// storage group.
	logsGone sync.Map
	// archiveGaps has the generation below which log went that the archive has not, by group.
	archiveGaps sync.Map
	turned      chan struct{} // see groupsTurned
	owners      *archiveOwners
	ending      endingArchives
	work        workers         // in the background, of a server
	refused     sync.Map        // refusal by group
	closing     context.Context // ends when backups have to
	stop        context.CancelFunc

	started time.Time
}

// coreOptions says what a Core is opened for.
type coreOptions struct {
	logger *slog.Logger
	// still keeps the queue from being run, for a short visit of the command line.
	still bool
	// acceptLoss is the name of a group that is mounted although its newest log is lost.
	acceptLoss string
	// restored opens a group whose restore has still to be proved.
	restored bool
}

// openCore opens and recovers the storage groups. ese.ErrLocked when another process has them.
func openCore(ctx context.Context, cfg *Config, o coreOptions) (*Core, error) {
	if !o.restored {
		if err := refuseHalfMade(cfg.path); err != nil {
			return nil, err
		}
	}
	c := &Core{
		cfg: cfg, logger: o.logger, started: time.Now(), turned: make(chan struct{}, 1),
		owners: newOwners(cfg.Dir),
	}
	c.backups = openNotes(cfg.Dir, cfg.Groups[0].Name, o.logger)
	c.closing, c.stop = context.WithCancel(context.Background())
	so := storage.Options{
		Dir: cfg.Dir, Engine: cfg.Groups[0].options(o.logger), Still: o.still, Logger: o.logger,
		Directory:    directory.Options{DefaultDomain: cfg.DefaultDomain},
		Store:        store.Options{KeepDeleted: cfg.Store.KeepDeleted.time},
		Transport:    c.transportOptions(),
		NewMailboxes: storage.Place(cfg.NewMailboxes), Warn: cfg.LogWarnPercent,
		AcceptLoss: o.acceptLoss,
	}
	for i := range cfg.Groups {
		g := &cfg.Groups[i]
		so.Groups = append(so.Groups, storage.Spec{
			Name: g.Name, Engine: g.options(o.logger), Databases: g.Databases,
		})
	}
	so.Observe = c.observe
	if !o.restored {
		so.Refuse = refuseHalfRestored
	}
	set, err := storage.Open(ctx, so)
	if err != nil {
		c.stop()
		return nil, err
	}
	c.store, c.queue, c.dir = set, set.Queue(), set.Directory()
	return c, nil
}

// options opens the storage group.
func (g *GroupConfig) options(logger *slog.Logger) ese.Options {
	host, _ := os.Hostname()
	return ese.Options{
		Dir: g.Dir, LogDir: g.LogDir, GenerationBytes: g.GenerationBytes,
		CacheBytes: g.CacheBytes, StreamBytes: g.StreamBytes, VersionBytes: g.VersionBytes,
		CheckpointDepth: g.CheckpointDepthBytes, LogKeep: g.LogKeepBytes, Circular: g.Circular,
		ArchiveKeep: g.limitForArchive(),
		Computer:    host, Logger: logger, Locate: func(name string) string {
			return or(g.paths[name], name)
		},
	}
}

func (c *Core) transportOptions() transport.Options {
	out := &c.cfg.Outbound
	o := transport.Options{
		Hostname: c.cfg.Hostname, MXPort: out.MXPort,
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

// Close stops the queues and brings the storage groups to Clean Shutdown.
func (c *Core) Close() error {
	c.stop()
	return c.store.Close()
}
