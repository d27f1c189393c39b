package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"pillarbox/ese"
	"pillarbox/storage"
)

// What endangers the way back is warned of: in the log once a day, and by status at any time.

const (
	watchTick = 10 * time.Minute
	warnAgain = 24 * time.Hour
	// drillRetry is how long a drill that failed is not tried again.
	drillRetry = 24 * time.Hour
)

// observe takes the events of a group's engine. It is called with locks of the engine held.
func (c *Core) observe(group string, e ese.Event) {
	switch e.ID {
	case ese.EventLogRemoved:
		c.logsGone.Store(group, e.Gen)
	case ese.EventLogNotArchived:
		c.archiveGaps.Store(group, e.Gen)
	}
}

// coveredBy tells whether the log stream of a group has a full backup: from then on the engine lets
// no log go that no backup covers.
func coveredBy(n *GroupBackups, g *storage.Group) bool {
	full, ok := n.Last[ese.BackupFull]
	in, err := g.Instance()
	return err != nil || ok && full.Stream == in.LogSignature()
}

// lastBackup is when the newest backup of a group ended, or where there is none, when the first
// account was made.
func (c *Core) lastBackup(n *GroupBackups) (at time.Time, any bool) {
	for _, b := range n.Last {
		if b.Ended.After(at) {
			at, any = b.Ended, true
		}
	}
	if any {
		return at, true
	}
	for _, u := range c.dir.Users() {
		if at.IsZero() || u.Created.Before(at) {
			at = u.Created
		}
	}
	return at, false
}

// oldestBackup is the newest backup of the group that has the oldest; false where a group has none.
func (c *Core) oldestBackup(n *BackupNotes) (oldest time.Time, all bool) {
	all = true
	for _, g := range c.store.Groups() {
		at, any := c.lastBackup(n.of(g.Name(), c.backups.first))
		all = all && any
		if oldest.IsZero() || at.Before(oldest) {
			oldest = at
		}
	}
	return oldest, all
}

// warnings are what an administrator should know of the backups.
func (c *Core) warnings(n *BackupNotes, now time.Time) (list []string) {
	groups := c.store.Groups()
	archives := c.archives(n, now)
	any := false
	for _, g := range groups {
		of := ""
		if len(groups) > 1 {
			of = "storage group " + g.Name() + ": "
		}
		own := c.groupWarnings(n.of(g.Name(), c.backups.first), g, now)
		for _, w := range append(own, c.archiveWarnings(archives, g, now)...) {
			list = append(list, of+w)
		}
		_, has := c.lastBackup(n.of(g.Name(), c.backups.first))
		any = any || has
	}
	if every := c.cfg.Backup.DrillEvery.time; every > 0 && any {
		switch {
		case n.Drill != nil && n.Drill.Reason != "":
			list = append(list, "the last restore drill failed: "+n.Drill.Reason)
		case n.Drill != nil && now.Sub(n.Drill.At) > 2*every:
			list = append(list, fmt.Sprintf("the last restore drill is %s old", days(now.Sub(n.Drill.At))))
		}
	}
	return list
}

// groupWarnings are those of one storage group.
func (c *Core) groupWarnings(n *GroupBackups, g *storage.Group, now time.Time) (list []string) {
	add := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	for _, p := range g.Lost() {
		add("the database %s is missing: pillarbox restore --from DIR --database %s, or put its file back; "+
			"meanwhile log is kept for it", p, p)
	}
	at, any := c.lastBackup(n)
	after := c.cfg.Backup.WarnAfter.time
	if after > 0 && !at.IsZero() && now.Sub(at) > after {
		if any {
			add("the last backup is %s old: pillarbox backup full --to DIR", days(now.Sub(at)))
		} else {
			add("there is no backup, and mail since %s: pillarbox backup full --to DIR",
				at.UTC().Format(time.DateOnly))
		}
	}
	if gen, ok := c.logsGone.Load(g.Name()); ok && !g.Circular() && !coveredBy(n, g) {
		add("log files below generation %d are gone, and no backup covers them: "+
			"a lost database cannot be rolled forward; make a full backup", gen)
	}
	return list
}

// days writes a time for people.
func days(t time.Duration) string {
	if d := int(t.Hours() / 24); d > 1 {
		return fmt.Sprintf("%d days", d)
	}
	return t.Round(time.Second).String()
}

// keepWatch tells the log of warnings until ctx ends: each at once, and again once a day.
func (c *Core) keepWatch(ctx context.Context) {
	told := make(map[string]time.Time)
	t := time.NewTicker(watchTick)
	defer t.Stop()
	for {
		c.warn(told, time.Now())
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (c *Core) warn(told map[string]time.Time, now time.Time) {
	n := c.backups.notes()
	for _, w := range c.warnings(&n, now) {
		kind, _, _ := strings.Cut(w, " is ") // days go on counting
		if last, ok := told[kind]; ok && now.Sub(last) < warnAgain {
			continue
		}
		told[kind] = now
		c.logger.Warn("backup: " + w)
	}
}

// drillDue tells whether it is time for a restore drill.
func (b *BackupConfig) drillDue(now time.Time, n *BackupNotes) bool {
	every := b.DrillEvery.time
	if every == 0 || len(n.Last) == 0 {
		return false
	}
	if n.Drill == nil {
		return true
	}
	if n.Drill.Reason != "" {
		every = min(every, drillRetry)
	}
	return now.Sub(n.Drill.At) >= every
}

// keepDrilling restores the newest backup into a scratch folder at its times, and proves it.
func (c *Core) keepDrilling(ctx context.Context) {
	c.removeDrills()
	t := time.NewTicker(scheduleTick)
	defer t.Stop()
	for {
		n := c.backups.notes()
		if c.cfg.Backup.drillDue(time.Now(), &n) {
			c.drill(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// removeDrills removes what a drill left that was cut short.
func (c *Core) removeDrills() {
	left, err := filepath.Glob(filepath.Join(c.cfg.Backup.DrillScratch, drillFolder+"*"))
	for _, dir := range left {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	if err != nil {
		c.logger.Warn("remains of a restore drill", "err", err)
	}
}

func (c *Core) drill(ctx context.Context) {
	b := &c.cfg.Backup
	at := time.Now()
	var res *DrillResult
	err := os.MkdirAll(b.DrillScratch, 0o700)
	if err == nil {
		res, err = Drill(ctx, DrillOptions{
			From: b.To, Identity: b.DrillIdentity, Scratch: b.DrillScratch,
		})
	}
	if ctx.Err() != nil {
		return // the server ends; the next start tries again
	}
	note := NoteDrill(at, res, err)
	if err != nil {
		c.logger.Error("restore drill failed: this backup would not come back whole", "err", err)
	} else {
		c.logger.Info("restore drill passed", "reaches", note.Reaches, "accounts", note.Accounts,
			"mailboxes", note.Mailboxes, "messages", note.Messages, "took", note.Took)
	}
	if err := c.backups.change(func(n *BackupNotes) { n.Drill = &note }); err != nil {
		c.logger.Error("restore drill not noted", "err", err)
	}
}
