package server

import (
	"fmt"
	"time"

	"pillarbox/storage"
)

// ArchiveState is the archive of a storage group as an administrator sees it.
type ArchiveState struct {
	Group string `json:"group"`
	Place string `json:"place"`
	NotedArchive
	// Files is how many closed log files wait, Behind how old the oldest change is that the archive
	// lacks: what the loss of the machine would cost now.
	Files  int           `json:"files"`
	Behind time.Duration `json:"behind_ns"`
	// Keep is how many bytes of log stay for the archive at most.
	Keep int64 `json:"keep"`
	// GapBelow tells that log below this generation went unarchived; 0 is none. A full backup since
	// then bridges it.
	GapBelow uint32 `json:"gap_below,omitempty"`
}

// archives are the states of all groups that have one.
func (c *Core) archives(n *BackupNotes, now time.Time) (list []ArchiveState) {
	for _, g := range c.groups() {
		if g.Archive == "" {
			continue
		}
		s := ArchiveState{Group: g.Name, Place: g.Archive, Keep: g.keepForArchive()}
		of := n.of(g.Name, c.backups.first)
		if of.Archive != nil {
			s.NotedArchive = *of.Archive
		}
		c.measureArchive(&s, g, of, now)
		list = append(list, s)
	}
	return list
}

// measureArchive compares the archive with the log.
func (c *Core) measureArchive(s *ArchiveState, g *GroupConfig, n *GroupBackups, now time.Time) {
	if gap, ok := c.archiveGaps.Load(g.Name); ok {
		s.GapBelow, _ = gap.(uint32)
	}
	in, err := c.instance(g)
	if err != nil {
		return
	}
	if full, ok := n.Last["full"]; ok && s.GapBelow != 0 && full.Stream == in.LogSignature() &&
		full.Low >= s.GapBelow {
		s.GapBelow = 0
	}
	durable := in.Durable()
	if s.Stream != in.LogSignature() {
		s.Next, s.Pos = 0, 0
	}
	if s.Next != 0 && durable.Generation() > s.Next {
		s.Files = int(durable.Generation() - s.Next)
	}
	if durable != s.Pos && !s.At.IsZero() {
		s.Behind = now.Sub(s.At)
	}
}

// lateAfter is how long an archive may fail before that is warned of.
const lateAfter = 2 * time.Minute

// warnings are what endangers the way back.
func (s *ArchiveState) warnings(now time.Time) (list []string) {
	if s.Reason != "" && now.Sub(s.Since) >= lateAfter {
		list = append(list, fmt.Sprintf("the log is not archived since %s; up to %d MiB of it stay here: %s",
			s.Since.UTC().Format(time.DateTime), s.Keep>>20, s.Reason))
	}
	if s.GapBelow != 0 {
		list = append(list, fmt.Sprintf("log below generation %d went before it was archived: no restore "+
			"leads over this gap; make a full backup", s.GapBelow))
	}
	return list
}

// archiveWarnings are those of one group.
func (c *Core) archiveWarnings(all []ArchiveState, g *storage.Group, now time.Time) []string {
	for i := range all {
		if all[i].Group == g.Name() {
			return all[i].warnings(now)
		}
	}
	return nil
}

// archiveMetrics tells how far the archives are behind.
func (c *Core) archiveMetrics(m metrics) {
	n := c.backups.notes()
	all := c.archives(&n, time.Now())
	for _, x := range []struct {
		name, help string
		value      func(*ArchiveState) any
	}{
		{"archive_failing", "1 while the log is not archived.", func(s *ArchiveState) any { return flag(s.Reason != "") }},
		{"archive_files_behind", "Closed log files that the archive lacks.", func(s *ArchiveState) any { return s.Files }},
		{"archive_seconds_behind", "Age of the oldest change that the archive lacks.", func(s *ArchiveState) any { return int64(s.Behind.Seconds()) }},
		{"archive_gap", "1 while log went unarchived that no full backup bridges.", func(s *ArchiveState) any { return flag(s.GapBelow != 0) }},
	} {
		if len(all) == 0 {
			return
		}
		m.head("gauge", x.name, x.help)
		for i := range all {
			fmt.Fprintf(m.w, "pillarbox_%s{group=%q} %v\n", x.name, all[i].Group, x.value(&all[i]))
		}
	}
}
