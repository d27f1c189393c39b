package server

import (
	"fmt"
	"io"
	"time"

	"pillarbox/ese"
	"pillarbox/store"
	"pillarbox/transport"
)

// Status is the state of a storage group.
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

	LogEnd     string `json:"log_end"`
	Checkpoint string `json:"checkpoint"`

	Backups BackupNotes `json:"backups"`
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
		LogEnd: c.in.Durable().String(), Checkpoint: c.in.Checkpoint().String(),
		Backups: c.backups.notes(),
	}
	s.Warnings = c.warnings(&s.Backups, time.Now())
	s.Purge, _ = c.purged.read()
	if s.Kept, err = c.store.Kept(); err != nil {
		return nil, err
	}
	if err := c.in.Err(); err != nil {
		s.Failure = err.Error()
	}
	return s, nil
}

// metrics is one writer of Prometheus text.
type metrics struct{ w io.Writer }

func (m metrics) counter(name, help string, v any) { m.print("counter", name, help, v) }
func (m metrics) gauge(name, help string, v any)   { m.print("gauge", name, help, v) }

func (m metrics) print(kind, name, help string, v any) {
	fmt.Fprintf(m.w, "# HELP pillarbox_%s %s\n# TYPE pillarbox_%s %s\npillarbox_%s %v\n",
		name, help, name, kind, name, v)
}

// writeMetrics writes the counters of the storage group and the queue.
func (c *Core) writeMetrics(w io.Writer) {
	m := metrics{w}
	up := 1
	if c.in.Err() != nil {
		up = 0
	}
	m.gauge("up", "1 while the storage group works.", up)
	m.gauge("uptime_seconds", "Time since the start.", int64(time.Since(c.started).Seconds()))
	m.gauge("users", "Accounts in the directory.", len(c.dir.Users()))
	if q, err := c.queue.Counts(); err == nil {
		c.queueMetrics(m, q)
	}
	c.keptMetrics(m)
	c.backupMetrics(m)
	c.engineMetrics(m, c.in.Stats())
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
	if at, any := c.lastBackup(&n); any {
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

func (c *Core) engineMetrics(m metrics, s ese.Stats) {
	m.counter("log_records_total", "Log records appended.", s.Log.Records)
	m.counter("log_bytes_total", "Log bytes written.", s.Log.Bytes)
	m.counter("log_syncs_total", "Syncs of the log.", s.Log.Syncs)
	m.counter("log_rolls_total", "Log generations closed.", s.Log.Rolls)
	m.gauge("log_generation", "Current log generation.", s.DurableLog.Generation())
	m.gauge("checkpoint_generation", "Generation where recovery would begin.",
		s.CheckpointAt.Generation())
	full := 0
	if s.LogFull {
		full = 1
	}
	m.gauge("log_full", "1 while changes are refused for want of log space.", full)
	m.counter("log_reserves_used_total", "Log generations made of reserve files.",
		s.Log.ReservesUsed)
	m.counter("log_rolls_waited_total", "Rolls that waited for preparation.", s.Log.RollsWaited)
	m.counter("events_total", "Events of the engine.", s.Events)
	m.counter("page_reads_total", "Pages read from disk.", s.Cache.Reads)
	m.counter("page_writes_total", "Pages written.", s.Cache.Writes)
	m.gauge("pages_dirty", "Pages changed and not yet written.", s.Cache.Dirty)
	m.counter("pages_repaired_total", "Pages with a flipped bit put right.", s.PagesRepaired)
	m.counter("pages_damaged_total", "Readings of pages that cannot be put right.", s.PagesDamaged)
	m.counter("lost_writes_total", "Pages whose last write the disk lost.", s.LostWrites)
	m.counter("pages_scrubbed_total", "Pages verified by the scrub.", s.PagesScrubbed)
	m.counter("scrubs_total", "Databases verified by the scrub.", s.ScrubPasses)
	m.counter("pages_moved_total", "Pages moved to the front by defragmentation.", s.PagesMoved)
	m.counter("pages_joined_total", "Pages emptied into a neighbour by it.", s.PagesJoined)
	m.counter("pages_trimmed_total", "Pages taken off the ends of databases.", s.PagesTrimmed)
	m.counter("page_splits_total", "Pages split.", s.Splits)
	m.counter("page_merges_total", "Pages merged.", s.Merges)
	m.counter("rollbacks_total", "Transactions rolled back.", s.Undone)
	m.counter("checkpoints_total", "Checkpoints written.", s.Checkpoints)
	m.gauge("transactions", "Open transactions.", s.ActiveTx)
	m.gauge("version_store_bytes", "Memory of earlier row versions.", s.VersionBytes)
	m.gauge("stream_held_bytes", "Message bytes waiting to be written.", s.StreamBytesHeld)
	m.gauge("recovery_seconds", "Time that recovery took at the start.",
		s.Recovery.Took.Seconds())
}
