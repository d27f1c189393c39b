package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"pillarbox/archive"
	"pillarbox/ese"
)

// When the server has ended its groups are closed, and with that their logs have got their ends. The
// archive takes those too, so that it has all of a server that was ended well.

// archiveEndTime is how long the end of the server may wait for that.
const archiveEndTime = 4 * time.Second

// endingArchives are the archivers of groups when their work has ended.
type endingArchives struct {
	mu  sync.Mutex
	all map[string]*archiver
}

// keep takes the archiver of a group; nil is one that failed.
func (e *endingArchives) keep(group string, a *archiver) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.all == nil {
		e.all = make(map[string]*archiver)
	}
	e.all[group] = a
}

// finishArchives brings the logs of closed groups into their archives, up to their ends.
func (c *Core) finishArchives() {
	ctx, cancel := context.WithTimeout(context.Background(), archiveEndTime)
	defer cancel()
	c.ending.mu.Lock()
	defer c.ending.mu.Unlock()
	var end workers
	for _, g := range c.groups() {
		a, ran := c.ending.all[g.Name]
		if !ran {
			continue
		}
		end.Go(g.Name, func() {
			begun := time.Now()
			err := c.finishArchive(ctx, g, a)
			if errors.Is(err, context.DeadlineExceeded) {
				err = fmt.Errorf("it took longer than %v: %w", archiveEndTime, err)
			}
			if err != nil {
				c.logger.Error("log not archived up to its end: the next start goes on", "group", g.Name,
					"archive", g.Archive, "err", err)
				return
			}
			c.logger.Info("log archived up to its end", "group", g.Name, "took", time.Since(begun))
		})
	}
	for _, name := range end.wait(archiveEndTime + time.Second) { // a folder does not look at ctx
		c.logger.Error("log not archived up to its end, its archive does not answer: the next start goes on",
			"group", name)
	}
	for _, a := range c.ending.all {
		if a != nil {
			a.stream.Store.Close()
		}
	}
}

// finishArchive copies what is left of the log of a closed group. It goes on with a, or begins anew.
func (c *Core) finishArchive(ctx context.Context, g *GroupConfig, a *archiver) (err error) {
	log, err := ese.OpenLogFolder(g.options(c.logger))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	if a != nil && a.in.LogSignature() == log.LogSignature() {
		last := *a
		last.in = log
		return last.step(ctx)
	}
	store, err := c.cfg.openArchive(g.Archive)
	if err != nil {
		return err
	}
	defer store.Close()
	fresh := &archiver{c: c, g: g, in: log, stream: archive.NewStream(store, log.LogSignature())}
	return fresh.step(ctx)
}
