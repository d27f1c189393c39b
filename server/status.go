package server

import (
	"errors"
	"fmt"
	"io"
	"time"

	"pillarbox/ese"
	"pillarbox/storage"
	"pillarbox/store"
	"pillarbox/transport"
)

// Status is the state of the server.
type Status struct {
	Hostname string        `json:"hostname"`
	Dir      string        `json:"dir"`
	Uptime   time.Duration `json:"uptime_ns"`
	Serving  bool          `json:"serving"`
	Failure  string        `json:"failure,omitempty"`

	Domains int `json:"domains"`
	Users   int `json:"users"`

	QueueMessages   int `json:"queue_messages"`
	QueueRecipients int `json:"queue_recipients"`

	// LogEnd and Checkpoint are those of the first storage group.
	LogEnd     string `json:"log_end"`
	Checkpoint string `json:"checkpoint"`

	Groups    []storage.GroupState    `json:"groups"`
	Databases []storage.DatabaseState `json:"databases"`
	Directory storage.DirectoryState  `json:"directory"`

	Backups BackupNotes `json:"backups"`
	// Archives are how far those of the groups are that have one.
	Archives []ArchiveState `json:"archives,omitempty"`
	// Warnings are what endangers the way back.
	Warnings []string `json:"warnings,omitempty"`

	// Kept is what was deleted and can be brought back, Purge the last pass of the purge.
	Kept  store.Kept `json:"kept"`
	Purge *PurgeNote `json:"purge,omitempty"`
}

func (c *Core) status() (*Status, error) {
	q, err := c.queue.Counts()
	if err != nil {
		return nil, err
	}
	s := &Status{
		Hostname: c.cfg.Hostname, Dir: c.cfg.Dir, Uptime: time.Since(c.started),
		Domains: len(c.dir.Domains()), Users: len(c.dir.Users()),
		QueueMessages: q.Messages, QueueRecipients: q.Recipients,
		Backups: c.backups.notes(), Groups: c.store.States(), Databases: c.store.Databases(),
		Directory: c.store.DirectoryState(),
	}
	s.LogEnd, s.Checkpoint = s.Groups[0].LogEnd, s.Groups[0].Checkpoint
	s.Archives = c.archives(&s.Backups, time.Now())
	s.Warnings = append(c.directoryWarnings(s.Directory), c.warnings(&s.Backups, time.Now())...)
	s.Purge, _ = c.purged.read()
	if s.Kept, err = c.store.Kept(); err != nil {
		return nil, err
	}
	if err := c.health(); err != nil {
		s.Failure = err.Error()
	}
	return s, nil
}

// health is why a storage group does not work, or nil.
func (c *Core) health() error {
	var errs []error
	for _, g := range c.store.Groups() {
		if !g.Down() {
			errs = append(errs, g.Err())
		}
	}
	return errors.Join(errs...)
}

// directoryWarnings tell that accounts cannot be changed, and what to do.
func (c *Core) directoryWarnings(d storage.DirectoryState) []string {
	if !d.ReadOnly {
		return nil
	}
	name := c.cfg.Groups[0].Name
	return []string{fmt.Sprintf("the first storage group %s is not mounted: %v; pillarbox group mount %s, or "+
		"pillarbox restore --from DIR --group %s", name, d, name, name)}
}

// metrics is one writer of Prometheus text.
type metrics struct{ w io.Writer }

func (m metrics) counter(name, help string, v any) { m.print("counter", name, help, v) }
func (m metrics) gauge(name, help string, v any)   { m.print("gauge", name, help, v) }

func (m metrics) print(kind, name, help string, v any) {
	m.head(kind, name, help)
	fmt.Fprintf(m.w, "pillarbox_%s %v\n", name, v)
}

func (m metrics) head(kind, name, help string) {
	fmt.Fprintf(m.w, "# HELP pillarbox_%s %s\n# TYPE pillarbox_%s %s\n", name, help, name, kind)
}

// writeMetrics writes the counters of the storage group and the queue.
func (c *Core) writeMetrics(w io.Writer) {
	m := metrics{w}
	up := 1
	if c.health() != nil {
		up = 0
	}
	m.gauge("up", "1 while the storage group works.", up)
	m.gauge("uptime_seconds", "Time since the start.", int64(time.Since(c.started).Seconds()))
	m.gauge("users", "Accounts in the directory.", len(c.dir.Users()))
	c.directoryMetrics(m)
	if q, err := c.queue.Counts(); err == nil {
		c.queueMetrics(m, q)
	}
	c.keptMetrics(m)
	c.backupMetrics(m)
	c.archiveMetrics(m)
	var all []groupStats
	for _, g := range c.store.Groups() {
		if in, err := g.Instance(); err == nil {
			all = append(all, groupStats{g.Name(), in.Stats()})
		}
	}
	c.engineMetrics(m, all)
}

// groupStats are the counters of one group.
type groupStats struct {
	group string
	ese.Stats
}

// directoryMetrics tells whether accounts can be changed, and how the copies of the directory stand.
func (c *Core) directoryMetrics(m metrics) {
	d := c.store.DirectoryState()
	m.gauge("directory_read_only", "1 while the first storage group is not mounted.", flag(d.ReadOnly))
	m.gauge("directory_is_copy", "1 while the directory is a copy in another storage group.",
		flag(d.Copy != ""))
	if !d.AsOf.IsZero() {
		m.gauge("directory_changed_seconds", "Unix time of the last change of the directory.",
			d.AsOf.Unix())
	}
	behind := 0
	for _, f := range c.dir.Followers() {
		behind += flag(f.Behind)
	}
	m.gauge("directory_copies_behind", "Copies of the directory that lack changes.", behind)
}

func (c *Core) queueMetrics(m metrics, q transport.Counts) {
	m.gauge("queue_messages", "Messages in the queue.", q.Messages)
	m.gauge("queue_recipients", "Recipients still to serve.", q.Recipients)
	m.gauge("queue_sending", "Sending jobs under way.", q.Sending)
	age := int64(0)
	if !q.Oldest.IsZero() {
		age = int64(time.Since(q.Oldest).Seconds())
	}
	m.gauge("queue_oldest_seconds", "Age of the oldest queued message.", age)
}

// keptMetrics tells what the last pass of the purge left and what passes removed.
func (c *Core) keptMetrics(m metrics) {
	last, sum := c.purged.read()
	if last != nil {
		m.gauge("recoverable_messages", "Deleted messages that are kept.", last.Kept.Messages)
		m.gauge("recoverable_bytes", "Bytes of deleted messages that are kept.", last.Kept.Bytes)
		m.gauge("disconnected_mailboxes", "Mailboxes without an account.", last.Kept.Disconnected)
	}
	m.counter("purged_messages_total", "Deleted messages removed for good.", sum.Messages)
	m.counter("purged_bytes_total", "Bytes of deleted messages removed for good.", sum.Bytes)
	m.counter("purged_mailboxes_total", "Mailboxes without an account removed for good.", sum.Mailboxes)
	m.counter("purged_tombstones_total", "Tombstones forgotten.", sum.Tombs)
}

// backupMetrics tells how old the way back is.
func (c *Core) backupMetrics(m metrics) {
	n := c.backups.notes()
	if at, all := c.oldestBackup(&n); all {
		m.gauge("backup_age_seconds", "Time since the last backup ended.", int64(time.Since(at).Seconds()))
	}
	if d := n.Drill; d != nil {
		passed := 0
		if d.Reason == "" {
			passed = 1
		}
		m.gauge("drill_passed", "1 when the last restore drill passed.", passed)
		m.gauge("drill_age_seconds", "Time since the last restore drill.", int64(time.Since(d.At).Seconds()))
	}
	m.gauge("backup_warnings", "What status warns of.", len(c.warnings(&n, time.Now())))
}

// engineMetrics writes the counters of the engine, of each group.
func (c *Core) engineMetrics(m metrics, all []groupStats) {
	for _, x := range []struct {
		kind, name, help string
		value            func(*ese.Stats) any
	}{
		{"counter", "log_records_total", "Log records appended.", func(s *ese.Stats) any { return s.Log.Records }},
		{"counter", "log_bytes_total", "Log bytes written.", func(s *ese.Stats) any { return s.Log.Bytes }},
		{"counter", "log_syncs_total", "Syncs of the log.", func(s *ese.Stats) any { return s.Log.Syncs }},
		{"counter", "log_rolls_total", "Log generations closed.", func(s *ese.Stats) any { return s.Log.Rolls }},
		{"gauge", "log_generation", "Current log generation.", func(s *ese.Stats) any { return s.DurableLog.Generation() }},
		{"gauge", "checkpoint_generation", "Generation where recovery would begin.", func(s *ese.Stats) any { return s.CheckpointAt.Generation() }},
		{"gauge", "log_full", "1 while changes are refused for want of log space.", func(s *ese.Stats) any { return flag(s.LogFull) }},
		{"counter", "log_reserves_used_total", "Log generations made of reserve files.", func(s *ese.Stats) any { return s.Log.ReservesUsed }},
		{"counter", "log_rolls_waited_total", "Rolls that waited for preparation.", func(s *ese.Stats) any { return s.Log.RollsWaited }},
		{"counter", "events_total", "Events of the engine.", func(s *ese.Stats) any { return s.Events }},
		{"counter", "page_reads_total", "Pages read from disk.", func(s *ese.Stats) any { return s.Cache.Reads }},
		{"counter", "page_writes_total", "Pages written.", func(s *ese.Stats) any { return s.Cache.Writes }},
		{"gauge", "pages_dirty", "Pages changed and not yet written.", func(s *ese.Stats) any { return s.Cache.Dirty }},
		{"counter", "pages_repaired_total", "Pages with a flipped bit put right.", func(s *ese.Stats) any { return s.PagesRepaired }},
		{"counter", "pages_damaged_total", "Readings of pages that cannot be put right.", func(s *ese.Stats) any { return s.PagesDamaged }},
		{"counter", "lost_writes_total", "Pages whose last write the disk lost.", func(s *ese.Stats) any { return s.LostWrites }},
		{"counter", "pages_scrubbed_total", "Pages verified by the scrub.", func(s *ese.Stats) any { return s.PagesScrubbed }},
		{"counter", "scrubs_total", "Databases verified by the scrub.", func(s *ese.Stats) any { return s.ScrubPasses }},
		{"counter", "pages_moved_total", "Pages moved to the front by defragmentation.", func(s *ese.Stats) any { return s.PagesMoved }},
		{"counter", "pages_joined_total", "Pages emptied into a neighbour by it.", func(s *ese.Stats) any { return s.PagesJoined }},
		{"counter", "pages_trimmed_total", "Pages taken off the ends of databases.", func(s *ese.Stats) any { return s.PagesTrimmed }},
		{"counter", "page_splits_total", "Pages split.", func(s *ese.Stats) any { return s.Splits }},
		{"counter", "page_merges_total", "Pages merged.", func(s *ese.Stats) any { return s.Merges }},
		{"counter", "rollbacks_total", "Transactions rolled back.", func(s *ese.Stats) any { return s.Undone }},
		{"counter", "checkpoints_total", "Checkpoints written.", func(s *ese.Stats) any { return s.Checkpoints }},
		{"gauge", "transactions", "Open transactions.", func(s *ese.Stats) any { return s.ActiveTx }},
		{"gauge", "version_store_bytes", "Memory of earlier row versions.", func(s *ese.Stats) any { return s.VersionBytes }},
		{"gauge", "stream_held_bytes", "Message bytes waiting to be written.", func(s *ese.Stats) any { return s.StreamBytesHeld }},
		{"gauge", "recovery_seconds", "Time that recovery took at the start.", func(s *ese.Stats) any { return s.Recovery.Took.Seconds() }},
	} {
		m.head(x.kind, x.name, x.help)
		for i := range all {
			g := &all[i]
			fmt.Fprintf(m.w, "pillarbox_%s{group=%q} %v\n", x.name, g.group, x.value(&g.Stats))
		}
	}
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}
