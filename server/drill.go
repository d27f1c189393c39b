package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"pillarbox/ese/inspect"
	"pillarbox/ese/vfs"
	"pillarbox/store"
)

// DrillOptions are the flags of backup drill.
type DrillOptions struct {
	From, Identity, Group string
	// Scratch is where the server is built, in a folder that is removed. Default: the system's
	// temporary one.
	Scratch string
	// IgnoreArchive leaves out the archive that the config in the set names.
	IgnoreArchive bool
	Progress      func(done, total int64)
}

// DrillResult is what a restore drill found.
type DrillResult struct {
	Mailboxes int
	Messages  int64
	Accounts  int
	Reaches   string
	Took      time.Duration
}

// NoteDrill makes the note of a drill and how it ended.
func NoteDrill(at time.Time, res *DrillResult, err error) NotedDrill {
	n := NotedDrill{At: at.UTC()}
	n.fill(res)
	if err != nil {
		n.Reason = err.Error()
	}
	return n
}

// fill takes what a drill found.
func (n *NotedDrill) fill(res *DrillResult) {
	if res != nil {
		n.Messages, n.Mailboxes, n.Accounts = res.Messages, res.Mailboxes, res.Accounts
		n.Reaches, n.Took = res.Reaches, res.Took
	}
}

// drillFolder is how the scratch folders of drills begin.
const drillFolder = "pillarbox-drill-"

// errDrill: what a backup gave back is not whole.
var errDrill = errors.New("the restored server is not whole")

// Drill restores the newest backup into a scratch folder and proves what came of it: every page
// and index of the databases, every counter of the store, and the hash of every message.
func Drill(ctx context.Context, o DrillOptions) (res *DrillResult, err error) {
	begun := time.Now()
	scratch, err := os.MkdirTemp(o.Scratch, drillFolder)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	res = &DrillResult{}
	config, err := RestoreInto(ctx, filepath.Join(scratch, "server"), RestoreOptions{
		From: o.From, Identity: o.Identity, Group: o.Group, Progress: o.Progress, IgnoreArchive: o.IgnoreArchive,
		Say: func(format string, args ...any) {
			if format == sayReaches {
				res.Reaches = fmt.Sprint(args[0])
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("drill: %w", err)
	}
	cfg, err := LoadConfig(config)
	if err != nil {
		return nil, fmt.Errorf("drill: %w", err)
	}
	if err := res.proveStore(ctx, cfg); err != nil {
		return nil, fmt.Errorf("drill: %w", err)
	}
	if err := proveDatabases(ctx, cfg, o.Group); err != nil {
		return nil, fmt.Errorf("drill: %w", err)
	}
	res.Took = time.Since(begun)
	return res, nil
}

// proveStore recounts the store and reads every message.
func (res *DrillResult) proveStore(ctx context.Context, cfg *Config) (err error) {
	c, err := openCore(ctx, cfg, coreOptions{logger: quietLogger(), still: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	found, err := c.store.Check(ctx)
	if err != nil {
		return err
	}
	if len(found) > 0 {
		return fmt.Errorf("%w: %d findings, the first: %s", errDrill, len(found), found[0])
	}
	res.Accounts = len(c.dir.Users())
	return c.store.Mailboxes(func(id store.MailboxID) error {
		m, err := c.store.Mailbox(id)
		if err != nil {
			return err
		}
		info, err := m.Info()
		res.Mailboxes++
		res.Messages += info.Messages
		return err
	})
}

// proveDatabases checks the databases of a group, or of all.
func proveDatabases(ctx context.Context, cfg *Config, group string) error {
	cfg, err := cfg.layout()
	if err != nil {
		return err
	}
	for i := range cfg.Groups {
		g := &cfg.Groups[i]
		if group != "" && g.Name != group {
			continue
		}
		for _, name := range g.Databases {
			if err := proveDatabase(ctx, g.path(name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// proveDatabase checks the structure of a database file.
func proveDatabase(ctx context.Context, name string) (err error) {
	f, err := vfs.OS().OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	report, err := inspect.Check(ctx, f, inspect.CheckOptions{})
	if err != nil {
		return err
	}
	if n := len(report.Findings); n > 0 {
		return fmt.Errorf("%w: %s: %d findings, the first: %v", errDrill, name, n, report.Findings[0])
	}
	return nil
}
