package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"pillarbox/archive"
	"pillarbox/backup"
	"pillarbox/ese"
)

// The archive of a storage group holds its log beside the machine's own disk (package archive): each
// finished generation once, and the current one again and again.

// logSource is the log of a group: that of its instance, or of the folder of one that is closed.
type logSource interface {
	LogSignature() string
	Durable() ese.LogPos
	CopyLog(gen uint32, w io.Writer) error
}

// archiver copies the log of an instance. One goroutine uses it.
type archiver struct {
	c      *Core
	g      *GroupConfig
	in     logSource
	stream *archive.Stream
	id     string // by which the archive knows this server; empty: nobody asked yet
	next   uint32 // first generation that is not archived yet; 0 is not known
	last   ese.LogPos
}

// newArchiver archives the log of a group that is mounted.
func newArchiver(c *Core, g *GroupConfig) (*archiver, error) {
	in, err := c.instance(g)
	if err != nil {
		return nil, err
	}
	store, err := c.cfg.openArchive(g.Archive)
	if err != nil {
		return nil, err
	}
	return &archiver{c: c, g: g, in: in, stream: archive.NewStream(store, in.LogSignature())}, nil
}

// instance is that of a group, if it is mounted.
func (c *Core) instance(g *GroupConfig) (*ese.Instance, error) {
	group, err := c.store.Group(g.Name)
	if err != nil {
		return nil, err
	}
	return group.Instance()
}

// keepArchive copies the log of a group until ctx ends.
func (c *Core) keepArchive(ctx context.Context, g *GroupConfig) {
	t := time.NewTicker(time.Duration(g.ArchiveEvery))
	defer t.Stop()
	var a *archiver
	for {
		a = c.archive(ctx, g, a)
		select {
		case <-ctx.Done():
			c.ending.keep(g.Name, a)
			return
		case <-t.C:
		}
	}
}

// archive copies what is new, and says so when that begins or ceases to fail. It goes on with a
// unless the group was mounted again, which is another instance and perhaps another log stream. After
// an error everything begins anew, keys and certificates too.
func (c *Core) archive(ctx context.Context, g *GroupConfig, a *archiver) *archiver {
	begun := time.Now()
	in, err := c.instance(g)
	if a != nil && a.in != logSource(in) {
		a.stream.Store.Close()
		a = nil
	}
	if err == nil && a == nil {
		a, err = newArchiver(c, g)
	}
	if err == nil {
		err = a.step(ctx)
	}
	if ctx.Err() != nil {
		return a
	}
	turned, nerr := c.backups.archived(g.Name, a.note(), err, begun)
	switch {
	case turned && err != nil:
		c.logger.Error("log not archived: it stays here meanwhile, up to a limit", "group", g.Name,
			"archive", g.Archive, "keep", g.keepForArchive(), "err", err)
	case turned:
		c.logger.Info("log archived again", "group", g.Name, "archive", g.Archive)
	}
	if nerr != nil {
		c.logger.Error("state of the archive not noted", "err", nerr)
	}
	if err != nil && a != nil {
		a.stream.Store.Close()
		return nil
	}
	return a
}

// note is how far the archive is.
func (a *archiver) note() (n NotedArchive) {
	if a != nil {
		n.Stream, n.Next, n.Pos = a.in.LogSignature(), a.next, a.last
	}
	return n
}

// step copies what is new.
func (a *archiver) step(ctx context.Context) error {
	if a.id == "" {
		if _, err := a.claim(ctx, false); err != nil {
			return err
		}
	} else if durable := a.in.Durable(); durable != a.last {
		if err := a.stillOurs(ctx); err != nil {
			return err
		}
	}
	if a.next == 0 {
		next, err := a.first(ctx)
		if err != nil {
			return err
		}
		a.next = next
	}
	if err := a.release(); err != nil {
		return err
	}
	durable := a.in.Durable()
	for a.next < durable.Generation() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := a.copyClosed(ctx); err != nil {
			return err
		}
	}
	if durable == a.last {
		return nil
	}
	var b bytes.Buffer
	err := a.in.CopyLog(durable.Generation(), &b)
	if err == nil {
		err = a.stream.PutCurrent(ctx, b.Bytes(), durable.Offset())
	}
	if err == nil {
		a.last = durable
	}
	return err
}

// release lets the log go that is in the archive.
func (a *archiver) release() error {
	if in, open := a.in.(*ese.Instance); open {
		return in.Archived(a.next, a.g.keepForArchive())
	}
	return nil
}

// copyClosed archives the next closed generation, and lets it go.
func (a *archiver) copyClosed(ctx context.Context) error {
	var b bytes.Buffer
	err := a.in.CopyLog(a.next, &b)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ese.ErrMissingLog) {
		return a.skip(err)
	}
	if err == nil {
		err = a.stillOurs(ctx)
	}
	if err == nil {
		err = a.stream.Put(ctx, a.next, b.Bytes())
	}
	if err != nil {
		return err
	}
	a.next++
	a.c.backups.archiving(a.g.Name, a.note())
	return a.release()
}

// skip goes on behind log that went before it was archived.
func (a *archiver) skip(cause error) error {
	here, err := a.here()
	if err != nil {
		return err
	}
	from := a.next
	a.next = a.in.Durable().Generation()
	for _, gen := range here {
		if gen > from {
			a.next = gen
			break
		}
	}
	if a.next <= from {
		return cause
	}
	a.gap(from, a.next-1)
	return nil
}

// gap tells of log that the archive will never have.
func (a *archiver) gap(from, to uint32) {
	a.c.logger.Error("the archive has a gap: log went before it was archived; make a full backup",
		"group", a.g.Name, "from", from, "to", to)
	a.c.archiveGaps.Store(a.g.Name, to+1)
}

// here are the closed generations that lie in the log folder.
func (a *archiver) here() ([]uint32, error) {
	names, err := archive.Folder(a.g.LogDir).List(context.Background(), "")
	return archive.Generations(names), err
}

// first is the generation to begin with: after the newest in the archive, or the oldest left.
func (a *archiver) first(ctx context.Context) (uint32, error) {
	there, err := a.stream.Generations(ctx)
	if err != nil {
		return 0, err
	}
	here, err := a.here()
	if err != nil {
		return 0, err
	}
	next := a.in.Durable().Generation()
	if len(here) > 0 {
		next = here[0]
	}
	if n := len(there); n > 0 {
		if there[n-1]+1 < next {
			a.gap(there[n-1]+1, next-1)
		}
		next = max(next, there[n-1]+1)
	}
	return next, nil
}

// pruneArchive removes the log that no backup in the folder needs: what is older than the oldest
// set with databases of its stream. A stream without sets stays.
// So does one that another server writes.
func pruneArchive(ctx context.Context, store archive.Store, s *backup.Shelf, own *archiveOwners) error {
	low := map[string]uint32{}
	for _, x := range s.Sets {
		sign := x.Engine.LogSignature
		if l, ok := low[sign]; x.HasDatabases() && (!ok || x.Engine.Low < l) {
			low[sign] = x.Engine.Low
		}
	}
	for sign, l := range low {
		stream := archive.NewStream(store, sign)
		writer, err := stream.Owner(ctx)
		mine := false
		if err == nil {
			mine, err = own.knows(sign, writer)
		}
		if err == nil && mine {
			_, err = stream.RemoveBelow(ctx, l)
		}
		if err != nil {
			return fmt.Errorf("prune the archive %s: %w", store, err)
		}
	}
	return nil
}

// pruneArchives prunes those of all groups, and of groups that are gone whose sets are there; each
// once.
func (c *Config) pruneArchives(ctx context.Context, sets string) error {
	all, err := c.layout()
	if err != nil {
		return err
	}
	s, err := backup.OpenShelf(sets)
	if err != nil {
		return err
	}
	names, own := s.Groups(), newOwners(c.Dir)
	for i := range all.Groups {
		names = append(names, all.Groups[i].Name)
	}
	done := map[string]bool{"": true}
	for _, name := range names {
		place := c.archivePlace(name)
		if done[place] {
			continue
		}
		done[place] = true
		store, err := c.openArchive(place)
		if err != nil {
			return err
		}
		err = pruneArchive(ctx, store, s, own)
		store.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
