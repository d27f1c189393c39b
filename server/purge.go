package server

import (
	"context"
	"sync"
	"time"

	"pillarbox/directory"
	"pillarbox/storage"
	"pillarbox/store"
)

// PurgeNote tells of the last pass of the purge.
type PurgeNote struct {
	At        time.Time `json:"at"`
	Messages  int64     `json:"messages"`
	Bytes     int64     `json:"bytes"`
	Mailboxes int64     `json:"mailboxes"`
	Tombs     int64     `json:"tombstones"`
	// Reason is why a mailbox could not be purged.
	Reason string `json:"reason,omitempty"`
	// Kept is what there was after it.
	Kept store.Kept `json:"kept"`
}

// purgeNotes remembers the last pass.
type purgeNotes struct {
	mu   sync.Mutex
	last *PurgeNote
	sum  store.Purged // since the start
}

func (n *purgeNotes) read() (*PurgeNote, store.Purged) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.last, n.sum
}

// purgeOptions says what the purge removes.
func (c *Core) purgeOptions() store.PurgeOptions {
	s := &c.cfg.Store
	return store.PurgeOptions{
		KeepMailboxes: s.KeepMailboxes.time, KeepTombs: s.KeepTombstones.time,
		RecoverableBytes: s.RecoverableBytes,
		Owned: func(id store.MailboxID) bool {
			_, err := c.dir.Recipient(directory.GUID(id))
			// A copy of the directory may lack what was not acknowledged.
			return err == nil || c.store.DirectoryState().Copy != ""
		},
	}
}

// firstPurge is when the first pass begins: a start has better things to do.
const firstPurge = time.Minute

// keepPurging purges at its times until ctx ends.
func (c *Core) keepPurging(ctx context.Context) {
	every := time.Duration(c.cfg.Store.PurgeEvery)
	wait := min(firstPurge, every)
	p := c.store.NewPurge(c.purgeOptions())
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		c.purgePass(ctx, p)
		wait = every
	}
}

// purgePass goes over all mailboxes once, with a pause after each transaction. What stands in the
// way of one mailbox does not keep the others.
func (c *Core) purgePass(ctx context.Context, p *storage.Purge) {
	note := &PurgeNote{}
	before := p.Purged()
	whole := c.purgeSteps(ctx, p, note)
	after := p.Purged()
	note.At = time.Now()
	note.Messages, note.Bytes = after.Messages-before.Messages, after.Bytes-before.Bytes
	note.Mailboxes, note.Tombs = after.Mailboxes-before.Mailboxes, after.Tombs-before.Tombs
	if note.Messages+note.Mailboxes+note.Tombs > 0 {
		c.logger.Info("purged", "messages", note.Messages, "bytes", note.Bytes,
			"mailboxes", note.Mailboxes, "tombstones", note.Tombs)
	}
	if !whole {
		return // the server ends
	}
	var err error
	if note.Kept, err = c.store.Kept(); err != nil {
		c.logger.Error("count what is kept", "err", err)
	}
	c.purged.mu.Lock()
	c.purged.last, c.purged.sum = note, after
	c.purged.mu.Unlock()
}

// purgeSteps does the steps of a pass; false when the server ends meanwhile.
func (c *Core) purgeSteps(ctx context.Context, p *storage.Purge, note *PurgeNote) bool {
	pause := time.Duration(store.PurgeBatch) * time.Second / time.Duration(c.cfg.Store.PurgeRate)
	for {
		did, done, err := p.Step(ctx)
		switch {
		case err != nil && (ctx.Err() != nil || c.health() != nil):
			return false
		case err != nil:
			c.logger.Error("purge", "err", err)
			note.Reason = err.Error()
		case done:
			return true
		case !did:
			continue
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause):
		}
	}
}
