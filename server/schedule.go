package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pillarbox/backup"
	"pillarbox/ese"
	"pillarbox/storage"
)

// BackupConfig is the schedule of backups. Without To there is none.
type BackupConfig struct {
	To string `toml:"to"`
	// FullAt is a local time of the day, "03:00"; IncrementalEvery a time such as "1h".
	FullAt           string   `toml:"full_at"`
	IncrementalEvery Duration `toml:"incremental_every"`
	// Keep is a retention rule (backup prune --keep). Empty: nothing is removed.
	Keep      string `toml:"keep"`
	Compress  string `toml:"compress"`
	Encrypt   string `toml:"encrypt"`
	RateBytes int64  `toml:"rate_bytes"`
	// DrillEvery is how often the newest backup is restored into a scratch folder and proved
	// ("7d"). Empty: never. DrillScratch is where (default: the data folder), DrillIdentity the
	// file that opens encrypted sets.
	DrillEvery    Keep   `toml:"drill_every"`
	DrillScratch  string `toml:"drill_scratch"`
	DrillIdentity string `toml:"drill_identity"`
	// WarnAfter is how old the last backup may be before that is warned of. Default: 7d.
	WarnAfter Keep `toml:"warn_after"`
}

// Duration is a time.Duration in a config file.
type Duration time.Duration

// UnmarshalText reads "90s", "1h30m".
func (d *Duration) UnmarshalText(b []byte) error {
	t, err := time.ParseDuration(string(b))
	if err != nil || t <= 0 {
		return fmt.Errorf("%q is not a time such as 30s, 15m or 1h", b)
	}
	*d = Duration(t)
	return nil
}

const (
	fullAtFormat = "15:04"
	// scheduleTick is how often the schedule is looked at, retryAfter how long a failed backup
	// is not tried again.
	scheduleTick = 20 * time.Second
	retryAfter   = 5 * time.Minute
)

func (b *BackupConfig) check() error {
	if b.To == "" {
		rest := *b
		rest.WarnAfter, rest.DrillScratch = Keep{}, ""
		if rest != (BackupConfig{}) {
			return errors.New("backup.to is missing")
		}
		return nil
	}
	if _, err := time.Parse(fullAtFormat, b.FullAt); err != nil {
		return fmt.Errorf("backup.full_at = %q: a time of the day such as 03:00", b.FullAt)
	}
	if b.Keep != "" {
		if _, err := backup.ParseKeep(b.Keep); err != nil {
			return fmt.Errorf("backup.%w", err)
		}
	}
	if _, err := backup.NewCodec(b.Compress, b.Encrypt); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return nil
}

// checkBackup checks schedule and archive.
func (c *Config) checkBackup() error {
	all := true
	for i := range c.Groups {
		g := &c.Groups[i]
		all = all && g.Circular
		if err := g.checkArchive(); err != nil {
			return fmt.Errorf("group %s: %w", g.Name, err)
		}
	}
	if all && c.Backup.IncrementalEvery != 0 {
		return errors.New("circular keeps no log: backup.incremental_every needs it")
	}
	return c.Backup.check()
}

// due is the kind of backup whose time has come; empty when there is none. A log stream without a
// full backup needs one at once.
func (b *BackupConfig) due(now time.Time, n *GroupBackups, stream string) ese.BackupKind {
	if n.Failure != nil && now.Sub(n.Failure.At) < retryAfter {
		return ""
	}
	at, _ := time.Parse(fullAtFormat, b.FullAt) // checked
	y, m, d := now.Date()
	last := time.Date(y, m, d, at.Hour(), at.Minute(), 0, 0, now.Location())
	if last.After(now) {
		last = time.Date(y, m, d-1, at.Hour(), at.Minute(), 0, 0, now.Location())
	}
	full, ok := n.Last[ese.BackupFull]
	if !ok || full.Stream != stream || full.Ended.Before(last) {
		return ese.BackupFull
	}
	since := full.Ended
	if inc := n.Last[ese.BackupIncremental]; inc.Ended.After(since) {
		since = inc.Ended
	}
	if every := time.Duration(b.IncrementalEvery); every > 0 && now.Sub(since) >= every {
		return ese.BackupIncremental
	}
	return ""
}

// keepSchedule makes backups at their times until ctx ends.
func (c *Core) keepSchedule(ctx context.Context) {
	t := time.NewTicker(scheduleTick)
	defer t.Stop()
	for {
		for _, g := range c.store.Groups() {
			c.scheduleGroup(ctx, g)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// scheduleGroup makes the backup of a group that is due. A group with circular logging has no
// incremental ones.
func (c *Core) scheduleGroup(ctx context.Context, g *storage.Group) {
	in, err := g.Instance()
	if err != nil {
		return // said elsewhere
	}
	n := c.backups.notes()
	b := c.cfg.Backup
	if g.Circular() {
		b.IncrementalEvery = 0
	}
	of, stream := n.of(g.Name(), c.backups.first), in.LogSignature()
	if in.NeedsFullBackup() {
		stream = "" // a database is new
	}
	kind := b.due(time.Now(), of, stream)
	if kind != "" {
		c.scheduled(ctx, g.Name(), kind)
	}
}

// scheduled makes one backup and what belongs to it.
func (c *Core) scheduled(ctx context.Context, group string, kind ese.BackupKind) {
	b := &c.cfg.Backup
	start := time.Now()
	res, err := Backup(ctx, c, BackupOptions{
		Kind: string(kind), Group: group, To: b.To, Compress: b.Compress, Encrypt: b.Encrypt,
		Rate: b.RateBytes, Say: func(text string) { c.logger.Info("interrupted backup", "what", text) },
	})
	if err == nil {
		c.logger.Info("backup made", "id", res.ID, "bytes", res.Bytes, "took", time.Since(start))
		if kind == ese.BackupFull && b.Keep != "" {
			err = c.pruneScheduled(ctx, b)
		}
	}
	if ctx.Err() != nil {
		return // the server ends; the next start tries again
	}
	if err != nil {
		c.logger.Error("scheduled backup failed", "group", group, "kind", string(kind), "err", err)
	}
	if nerr := c.backups.attempted(group, kind, err, time.Now()); nerr != nil {
		c.logger.Error("backup not noted", "err", nerr)
	}
}

// pruneScheduled applies the retention rule to sets and archive.
func (c *Core) pruneScheduled(ctx context.Context, b *BackupConfig) error {
	gone, err := PruneBackups(b.To, b.Keep, false, time.Now())
	for _, id := range gone {
		c.logger.Info("backup removed: retention", "id", id)
	}
	if err == nil {
		err = c.cfg.pruneArchives(ctx, b.To)
	}
	if err != nil {
		return fmt.Errorf("prune backups: %w", err)
	}
	return nil
}
