package wal

import (
	"fmt"
	"sync/atomic"

	"pillarbox/ese/internal/logrec"
)

// Stats counts what a Log did since it was opened.
type Stats struct {
	Records     int64 // End and FlushMark included
	Flushes     int64
	Writes      int64
	Bytes       int64
	Syncs       int64 // of log files with records
	Rolls       int64
	RollsWaited int64 // rolls for which the next generation was not prepared
	Recycled    int64 // generations made of an old file
	// ReservesUsed counts generations made of a reserve file.
	ReservesUsed int64
}

type counters struct {
	records, flushes, writes, bytes, syncs, rolls, rollsWaited, recycled, reservesUsed atomic.Int64
}

// Stats returns the counters.
func (l *Log) Stats() Stats {
	c := &l.stats
	return Stats{
		Records: c.records.Load(), Flushes: c.flushes.Load(), Writes: c.writes.Load(),
		Bytes: c.bytes.Load(), Syncs: c.syncs.Load(), Rolls: c.rolls.Load(),
		RollsWaited: c.rollsWaited.Load(), Recycled: c.recycled.Load(),
		ReservesUsed: c.reservesUsed.Load(),
	}
}

// FlushTo returns when all records before pos are durable. The first caller becomes the leader
// and writes all there is, with one sync. Who comes meanwhile waits; after the sync those whose
// records it covered are woken, and one of the others to lead the next flush: nobody is woken
// for nothing.
func (l *Log) FlushTo(pos logrec.LogPos) error {
	pos = min(pos, l.End())
	if l.Durable() >= pos {
		return nil
	}
	l.flushMu.Lock()
	defer l.flushMu.Unlock()
	for l.Durable() < pos {
		if err := l.Err(); err != nil {
			return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
		}
		if l.flushing {
			l.await(pos)
			continue
		}
		l.flushing = true
		l.flushMu.Unlock()
		l.flush()
		l.flushMu.Lock()
		l.flushing = false
		l.wakeWaiters()
	}
	return nil
}

// waiter waits for a flush. wake holds one token, so that it is never blocked on.
type waiter struct {
	pos  logrec.LogPos
	wake chan struct{}
}

// await waits, with flushMu given up meanwhile, until the log is durable up to pos, has died,
// or needs a new leader.
func (l *Log) await(pos logrec.LogPos) {
	w, _ := l.idle.Get().(*waiter)
	if w == nil {
		w = &waiter{wake: make(chan struct{}, 1)}
	}
	w.pos = pos
	l.waiters = append(l.waiters, w)
	l.flushMu.Unlock()
	<-w.wake
	l.flushMu.Lock()
	l.idle.Put(w)
}

// wakeWaiters wakes those whose records are durable, and one of the others to lead; all of
// them when the log is dead. flushMu is held.
func (l *Log) wakeWaiters() {
	durable, dead := l.Durable(), l.Err() != nil
	kept := l.waiters[:0]
	led := false
	for _, w := range l.waiters {
		switch {
		case w.pos <= durable || dead:
			w.wake <- struct{}{}
		case !led:
			led = true
			w.wake <- struct{}{}
		default:
			kept = append(kept, w)
		}
	}
	clear(l.waiters[len(kept):])
	l.waiters = kept
}

// flush is the leader's work. Appends go on meanwhile, behind what it has taken.
func (l *Log) flush() {
	l.mu.Lock()
	from, to := l.tail, l.head
	closing, closeAt, cur := l.closing, l.closeAt, l.cur
	end := l.position()
	if to > from {
		l.needMark = true
	}
	l.mu.Unlock()

	at := from
	if closing != nil {
		if !l.writeOut(closing, at, closeAt) {
			return
		}
		at = closeAt
	}
	if to > at && !l.writeOut(cur, at, to) {
		return
	}

	l.mu.Lock()
	l.tail = to
	if closing != nil {
		l.closing = nil
	}
	l.mu.Unlock()
	l.stats.flushes.Add(1)
	l.durable.Store(uint64(end))
	if l.o.OnDurable != nil {
		l.o.OnDurable(end)
	}
	if closing != nil {
		// Its bytes are synced; an error of close would tell nothing more.
		_ = closing.f.Close()
		l.emit(Event{Kind: EventRolled, Gen: closing.hdr.Gen})
		l.wake()
	}
}

// writeOut writes the counts from..to to their file and syncs it. A failure is final.
func (l *Log) writeOut(g *genFile, from, to int64) bool {
	a, b := l.span(from, to)
	off := from - g.base
	for _, p := range [2][]byte{a, b} {
		if len(p) == 0 {
			continue
		}
		if _, err := g.f.WriteAt(p, off); err != nil {
			l.die(fmt.Errorf("write log at %v: %w", logrec.MakePos(g.hdr.Gen, off), err))
			return false
		}
		off += int64(len(p))
		l.stats.writes.Add(1)
		l.stats.bytes.Add(int64(len(p)))
	}
	if err := g.f.SyncData(); err != nil {
		l.die(fmt.Errorf("sync log up to %v: %w", logrec.MakePos(g.hdr.Gen, off), err))
		return false
	}
	l.stats.syncs.Add(1)
	return true
}

// ReadAt returns the record at pos, which Append returned, whether it is durable or still in the
// ring.
func (l *Log) ReadAt(pos logrec.LogPos) (Record, error) {
	if b := l.fromRing(pos); b != nil {
		return decodeAt("log buffer", b, pos)
	}
	return l.fetch.At(pos)
}

// fromRing copies the frame at pos out of the ring, or returns nil when it was written.
func (l *Log) fromRing(pos logrec.LogPos) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.cur
	if l.closing != nil && pos.Generation() == l.closing.hdr.Gen {
		g = l.closing
	}
	count := g.base + pos.Offset()
	if g.hdr.Gen != pos.Generation() || count < l.tail || count >= l.head {
		return nil
	}
	var h [logrec.MaxFrameHeader]byte
	a, b := l.span(count, min(count+logrec.MaxFrameHeader, l.head))
	m := copy(h[:], a)
	m += copy(h[m:], b)
	n, ok := logrec.FrameLen(h[:m])
	if !ok || count+int64(n) > l.head {
		return h[:m]
	}
	a, b = l.span(count, count+int64(n))
	return append(append(make([]byte, 0, n), a...), b...)
}
