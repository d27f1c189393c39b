package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"pillarbox/backup"
	"pillarbox/ese"
	"pillarbox/ese/vfs"
)

// The archive of a storage group holds its log beside the machine's own disk: each finished
// generation once, and the current one again and again. Each log stream has a folder.

// archiver copies the log of a Core. One goroutine uses it.
type archiver struct {
	c    *Core
	g    *GroupConfig
	in   *ese.Instance
	dir  string // of the stream
	next uint32 // first generation that is not archived yet; 0 is not known
	last ese.LogPos
}

// archiveFolder is the folder of a log stream in an archive.
func archiveFolder(root, stream string) string {
	return filepath.Join(root, stream[:min(len(stream), 24)])
}

// newArchiver archives the log of a group that is mounted.
func newArchiver(c *Core, g *GroupConfig) (*archiver, error) {
	group, err := c.store.Group(g.Name)
	if err != nil {
		return nil, err
	}
	in, err := group.Instance()
	if err != nil {
		return nil, err
	}
	return &archiver{c: c, g: g, in: in, dir: archiveFolder(g.Archive, in.LogSignature())}, nil
}

// keepArchive copies the log of a group until ctx ends. A group that was mounted again is another
// instance, perhaps with another log stream.
func (c *Core) keepArchive(ctx context.Context, g *GroupConfig) {
	t := time.NewTicker(time.Duration(g.ArchiveEvery))
	defer t.Stop()
	var a *archiver
	down := false
	for {
		now, err := newArchiver(c, g)
		if err == nil && (a == nil || a.in != now.in) {
			a = now
		}
		if err == nil {
			err = a.step()
		}
		c.backups.archived(g.Name, err, time.Now())
		if (err != nil) != down {
			if down = err != nil; down {
				c.logger.Error("log not archived", "group", g.Name, "err", err)
			} else {
				c.logger.Info("log archived again", "group", g.Name)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// step copies what is new.
func (a *archiver) step() error {
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return err
	}
	if a.next == 0 {
		next, err := a.first()
		if err != nil {
			return err
		}
		a.next = next
	}
	durable := a.in.Durable()
	for ; a.next < durable.Generation(); a.next++ {
		if err := a.copy(a.next, logName(a.next)); err != nil {
			return err
		}
	}
	if durable == a.last {
		return nil
	}
	if err := a.copy(durable.Generation(), logBase+".log"); err != nil {
		return err
	}
	a.last = durable
	return nil
}

func logName(gen uint32) string { return fmt.Sprintf("%s%08X.log", logBase, gen) }

// first is the generation to begin with: after the newest in the archive, or the oldest left.
func (a *archiver) first() (uint32, error) {
	there, err := generations(a.dir)
	if err != nil {
		return 0, err
	}
	here, err := generations(a.g.LogDir)
	if err != nil {
		return 0, err
	}
	next := a.in.Durable().Generation()
	if len(here) > 0 {
		next = here[0]
	}
	if n := len(there); n > 0 {
		if there[n-1]+1 < next {
			a.c.logger.Warn("the archive has a gap: log went before it was archived",
				"from", there[n-1]+1, "to", next-1)
		}
		next = max(next, there[n-1]+1)
	}
	return next, nil
}

// generations are the numbers of the closed log files in a folder, ascending.
func generations(dir string) (gens []uint32, err error) {
	entries, err := os.ReadDir(dir) // sorted, and so are the numbers
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		digits := strings.TrimSuffix(strings.TrimPrefix(e.Name(), logBase), ".log")
		n, err := strconv.ParseUint(digits, 16, 32)
		if err == nil && e.Name() == logName(uint32(n)) {
			gens = append(gens, uint32(n))
		}
	}
	return gens, nil
}

// copy puts a generation into the archive, whole or not at all.
func (a *archiver) copy(gen uint32, name string) error {
	var b bytes.Buffer
	err := a.in.CopyLog(gen, &b)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ese.ErrMissingLog) {
		a.c.logger.Warn("the archive has a gap: log went before it was archived", "generation", gen)
		return nil
	}
	if err == nil {
		err = replaceFile(filepath.Join(a.dir, name), b.Bytes(), 0o600)
	}
	if err == nil {
		err = vfs.OS().SyncDir(a.dir)
	}
	return err
}

// pruneArchive removes the log that no backup in the folder needs: what is older than the oldest
// set with databases of its stream. A stream without sets stays.
func pruneArchive(root, sets string) error {
	s, err := backup.OpenShelf(sets)
	if err != nil {
		return err
	}
	low := map[string]uint32{}
	for _, x := range s.Sets {
		dir := archiveFolder(root, x.Engine.LogSignature)
		if l, ok := low[dir]; x.HasDatabases() && (!ok || x.Engine.Low < l) {
			low[dir] = x.Engine.Low
		}
	}
	for dir, l := range low {
		gens, err := generations(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, gen := range gens {
			if gen >= l {
				break
			}
			if err := os.Remove(filepath.Join(dir, logName(gen))); err != nil {
				return err
			}
		}
	}
	return nil
}
