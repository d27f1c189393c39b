package server

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"pillarbox/archive"
	"pillarbox/ese/vfs"
)

// Log stays on the machine until the archive has it, up to a limit: beyond that serving wins over
// archiving. The engine keeps the limit (ese.Options.ArchiveKeep); what it is, is worked out here.

// ArchiveKeep is how much log may stay for an archive that is behind: bytes, or a share of the disk
// that the log lies on.
type ArchiveKeep struct {
	bytes   int64
	percent int
}

// UnmarshalText reads "25%", "500M", "20G".
func (k *ArchiveKeep) UnmarshalText(b []byte) error {
	s := string(b)
	bad := fmt.Errorf("%q is neither a share of the disk such as 25%% nor a size such as 500M or 20G", s)
	if share, ok := strings.CutSuffix(s, "%"); ok {
		n, err := strconv.Atoi(share)
		if err != nil || n < 1 || n > 90 {
			return bad
		}
		*k = ArchiveKeep{percent: n}
		return nil
	}
	unit := int64(1)
	if n := len(s); n > 0 {
		if i := strings.IndexByte("KMGT", s[n-1]); i >= 0 {
			unit, s = 1<<(10*(i+1)), s[:n-1]
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 || n > (1<<50)/unit {
		return bad
	}
	*k = ArchiveKeep{bytes: n * unit}
	return nil
}

const (
	// keepPercent is the share of its disk that log may fill for the archive, keepUnknown what it
	// may where the system does not tell how large that is.
	keepPercent = 25
	keepUnknown = 10 << 30
	// roomFiles is how many log files, or a twentieth of the disk, there must be room for before
	// log stays for the archive.
	roomFiles = 64
	// roomTick is how often the disk is looked at.
	roomTick = 5 * time.Second
)

// spacer is a file system that knows how full its disk is.
type spacer interface {
	Space(dir string) (free, total int64, err error)
}

// logSpace is how full the disk of the log is; 0 where the system does not tell.
func (g *GroupConfig) logSpace() (free, total int64) {
	if s, ok := vfs.OS().(spacer); ok {
		if f, t, err := s.Space(g.LogDir); err == nil {
			return f, t
		}
		free, total, _ = s.Space(g.Dir) // the log folder is not made yet
	}
	return free, total
}

// limitForArchive is what the config says; 0 without an archive.
func (g *GroupConfig) limitForArchive() int64 {
	switch {
	case g.Archive == "":
		return 0
	case g.ArchiveKeep.bytes > 0:
		return g.ArchiveKeep.bytes
	}
	_, total := g.logSpace()
	if total == 0 {
		return keepUnknown
	}
	return max(total/100*int64(cmp.Or(g.ArchiveKeep.percent, keepPercent)), 1)
}

// keepForArchive is the limit as the disk allows it now: where there is hardly room left for new log,
// what lies there gives way.
func (g *GroupConfig) keepForArchive() int64 {
	limit := g.limitForArchive()
	free, total := g.logSpace()
	if total == 0 || limit == 0 {
		return limit
	}
	return room(limit, free, total, g.GenerationBytes, g.logBytes)
}

// room cuts a limit so that enough of the disk is free. used tells how much log lies there.
func room(limit, free, total, generation int64, used func() int64) int64 {
	if generation == 0 {
		generation = 5 << 20
	}
	want := min(roomFiles*generation, total/20)
	if free >= want {
		return limit
	}
	return min(limit, max(used()-(want-free), 0))
}

// logBytes is how much closed log lies in the log folder.
func (g *GroupConfig) logBytes() (n int64) {
	names, err := archive.Folder(g.LogDir).List(context.Background(), "")
	if err != nil {
		return 0
	}
	for _, gen := range archive.Generations(names) {
		size, err := vfs.OS().Stat(filepath.Join(g.LogDir, archive.Name(gen)))
		if err == nil {
			n += size
		}
	}
	return n
}

// keepRoom looks after the disk of a group's log while the archive may be waiting for the network.
func (c *Core) keepRoom(ctx context.Context, g *GroupConfig) {
	t := time.NewTicker(roomTick)
	defer t.Stop()
	for {
		if in, err := c.instance(g); err == nil {
			_ = in.Archived(0, g.keepForArchive()) // an instance that failed says so elsewhere
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}
