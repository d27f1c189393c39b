package ese

import (
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/version"
	"pillarbox/ese/internal/wal"
)

// Pace of the background work.
const (
	tick           = 50 * time.Millisecond
	cleanBatch     = 256 // transactions cleaned in one step
	writeBatch     = 256 // pages written in one step
	checkpointTick = time.Second
)

// start runs the steps in goroutines, unless the owner does.
func (in *Instance) start() {
	if in.o.Manual || in.o.ReadOnly {
		return
	}
	in.done.Add(2)
	go in.cleaner()
	go in.writer()
}

// cleaner makes lazy commits durable and cleans up after transactions.
func (in *Instance) cleaner() {
	defer in.done.Done()
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-in.stop:
			return
		case <-t.C:
		}
		if in.usable() != nil {
			return
		}
		if end := in.log.End(); end > in.log.Durable() {
			if err := in.WaitDurable(end); err != nil {
				return
			}
		}
		if in.log.Full() != nil {
			continue // cleaning up writes log
		}
		in.cleanRound()
	}
}

// cleanRound is what the cleaner does in a tick.
func (in *Instance) cleanRound() {
	in.backMu.Lock()
	defer in.backMu.Unlock()
	in.try(func() error { return in.cleanVersions(64) })
	in.try(in.freeStreams)
	in.try(func() error { return in.freeDropped(8) })
	in.try(func() error { return in.buildIndexes(64) })
	in.try(in.scrubTick)
	in.try(in.defragTick)
}

// writer writes pages and streams behind the log and moves the checkpoint.
func (in *Instance) writer() {
	defer in.done.Done()
	t := time.NewTicker(tick)
	defer t.Stop()
	last := in.o.Now()
	for {
		select {
		case <-in.stop:
			return
		case <-t.C:
		}
		if in.usable() != nil {
			return
		}
		now := in.o.Now()
		due := now.Sub(last) >= checkpointTick || now.Sub(last) >= checkpointTick/5 && in.overdue()
		if due {
			last = now
		}
		in.writeRound(due)
	}
}

// writeRound is what the writer does in a tick.
func (in *Instance) writeRound(checkpoint bool) {
	in.backMu.Lock()
	defer in.backMu.Unlock()
	in.try(in.writeBehind)
	in.try(in.watchSpace)
	in.watchTransactions()
	if checkpoint {
		in.try(in.moveCheckpoint)
	}
}

// overdue tells that recovery would have to replay twice the checkpoint depth: the log is
// written faster than a checkpoint each second can follow.
func (in *Instance) overdue() bool {
	return in.Checkpoint() < in.back(in.log.Durable(), 2*in.o.CheckpointDepth)
}

// try runs one step; an error stops the instance.
func (in *Instance) try(step func() error) {
	err := step()
	if err == nil || in.usable() != nil || errors.Is(err, ErrWriteConflict) {
		return
	}
	if errors.Is(err, ErrVersionStoreFull) || errors.Is(err, ErrVersionFile) {
		return // it is tried again when transactions have ended
	}
	if noSpace(err) && in.cache.Failed() == nil {
		return // it is tried again when there is space
	}
	in.fail(err)
}

// Step does one piece of background work, number n of Steps. With Options.Manual the owner
// calls it; a simulation does so in an order from its seed.
func (in *Instance) Step(n int) error {
	if err := in.usable(); err != nil || in.o.ReadOnly {
		return err
	}
	in.backMu.Lock()
	defer in.backMu.Unlock()
	switch n {
	case 0:
		return in.WaitDurable(in.log.End())
	case 1:
		return in.cleanVersions(1)
	case 2:
		_, err := in.cache.WriteBatch(8, 0)
		return err
	case 3:
		for _, db := range in.databases() {
			if _, err := db.stream.Write(1 << 20); err != nil {
				return err
			}
		}
		return nil
	case 4:
		return in.moveCheckpoint()
	case 5:
		_, err := in.log.Prepare()
		return err
	case 6:
		return in.freeStreams()
	case 7:
		in.watchTransactions()
		return in.watchSpace()
	case 8:
		return in.freeDropped(1)
	case 9:
		return in.buildIndexes(1)
	case 10:
		return in.scrubStep(32)
	case 11:
		return in.defragStep(16)
	}
	return in.writeBehind()
}

// Steps is the number of kinds of background work that Step knows.
const Steps = 13

// cleanVersions removes kept states that no snapshot needs, and the rows that are gone for
// all. rounds bounds the work; below 0 everything is done.
func (in *Instance) cleanVersions(rounds int) error {
	for ; rounds != 0; rounds-- {
		rows, n := in.versions.Clean(cleanBatch, in.log.End())
		in.cleanMu.Lock()
		in.cleanList = append(in.cleanList, rows...)
		todo := in.cleanList
		in.cleanList = nil
		in.cleanMu.Unlock()
		for i, d := range todo {
			if t := in.treeByID(d.Tree); t != nil {
				if err := t.Purge(d.Key); err != nil {
					in.addDeletes(todo[i:])
					return err
				}
			}
		}
		if n == 0 {
			return nil
		}
	}
	return nil
}

// addDeletes puts rows on the clean-up list.
func (in *Instance) addDeletes(rows []version.Deleted) {
	in.cleanMu.Lock()
	in.cleanList = append(in.cleanList, rows...)
	in.cleanMu.Unlock()
}

// writeBehind writes pages whose changes are older than half the checkpoint depth, or the
// oldest when over half the cache is dirty, and streams past a quarter of their limit.
func (in *Instance) writeBehind() error {
	for range 16 {
		before := in.back(in.log.End(), in.o.CheckpointDepth/2)
		s := in.cache.Stats()
		if s.Dirty > s.Frames/2 {
			before = in.log.End()
		}
		if before == 0 {
			break
		}
		n, err := in.cache.WriteBatch(writeBatch, before)
		if err != nil {
			return err
		}
		if n < writeBatch/2 {
			break
		}
	}
	for _, db := range in.databases() {
		if db.stream.Held() < in.o.StreamBytes/4 && db.stream.Oldest(in.log.End()) >= in.back(in.log.End(), in.o.CheckpointDepth/4) {
			continue
		}
		if _, err := db.stream.Write(in.o.StreamBytes); err != nil {
			return err
		}
	}
	return nil
}

// back is the log position n bytes before pos, roughly; 0 when there is not that much log.
func (in *Instance) back(pos LogPos, n int64) LogPos {
	total := int64(pos.Generation())*in.o.GenerationBytes + pos.Offset() - n
	if total < in.o.GenerationBytes {
		return 0
	}
	return logrec.MakePos(uint32(total/in.o.GenerationBytes), total%in.o.GenerationBytes)
}

// moveCheckpoint works out how far back recovery would have to go and writes it down.
func (in *Instance) moveCheckpoint() error {
	if err := in.keepCounts(); err != nil {
		return err
	}
	in.stepMu.Lock()
	defer in.stepMu.Unlock()
	pos := in.log.Durable()
	pos = in.versions.OldestRecord(pos)
	pos = in.cache.OldestDirty(pos)
	for _, db := range in.databases() {
		// What is written but not synced would hold the checkpoint back for ever.
		if err := db.stream.Sync(); err != nil {
			return err
		}
		pos = db.stream.Oldest(pos)
	}
	if pos <= LogPos(in.checkpoint.Load()) {
		return nil
	}
	for _, db := range in.databases() {
		db.saveFlushMap(pos)
	}
	if err := in.writeCheckpoint(pos); err != nil {
		return err
	}
	in.stats.checkpoints.Add(1)
	in.emit(Event{ID: EventCheckpoint, Pos: pos})
	return in.trimLogs(pos)
}

// writeCheckpoint names the generation in the database headers, then writes the file.
func (in *Instance) writeCheckpoint(pos LogPos) error {
	c := wal.Checkpoint{Pos: pos, Sign: in.log.Signature(), Time: logrec.MakeLogTime(in.o.Now())}
	for _, db := range in.databases() {
		if err := db.checkpointTo(pos); err != nil {
			return err
		}
		c.Attachments = append(c.Attachments, db.attachment())
	}
	for _, id := range slices.Sorted(maps.Keys(in.lost)) {
		c.Attachments = append(c.Attachments, *in.lost[id])
	}
	if err := wal.WriteCheckpoint(in.o.FS, in.checkpointPath(), &c); err != nil {
		return err
	}
	in.checkpoint.Store(uint64(pos))
	return nil
}

func (in *Instance) checkpointPath() string {
	return filepath.Join(in.o.CheckpointDir, in.o.Base+".chk")
}

// trimLogs removes generations below the checkpoint that nobody needs: without any backup those
// past LogKeep; once there is one, nothing that it does not cover (engine.md rule 14).
func (in *Instance) trimLogs(pos LogPos) error {
	keep := in.o.LogKeep / in.o.GenerationBytes
	if in.o.Circular {
		keep = 0
	}
	gen := int64(pos.Generation()) - keep
	if full, last := in.backedUp(); full > 0 && !in.o.Circular {
		gen = min(gen, int64(last)+1)
	}
	if gen <= 1 {
		return nil
	}
	return in.removeLogs(uint32(gen))
}

// removeLogs removes the generations below gen but for those that a running backup reads, or that
// stay for an archive. stepMu is held.
func (in *Instance) removeLogs(gen uint32) error {
	if len(in.lost) > 0 {
		return nil // whatever brings a lost database back needs the log
	}
	gen = in.heldForArchive(gen)
	if in.pinned != 0 {
		gen = min(gen, in.pinned)
	}
	if err := in.log.TruncateBefore(gen); err != nil {
		return err
	}
	if in.removed < gen {
		in.lostToArchive(gen)
		in.removed = gen
		in.emit(Event{ID: EventLogRemoved, Gen: in.removed})
	}
	return nil
}
