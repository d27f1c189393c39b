package wal

import (
	"fmt"

	"pillarbox/ese/internal/logrec"
)

// offset is where in the current file the next record goes.
func (l *Log) offset() int64 { return l.head - l.cur.base }

func (l *Log) position() logrec.LogPos { return logrec.MakePos(l.cur.hdr.Gen, l.offset()) }

// claim says what a record may take of the space that is set aside for ends and rollbacks.
type claim struct {
	reserve  int64 // to be set aside with it, or given back when negative
	entitled bool  // it is what space was set aside for
}

// Append copies a record, given in parts, into the ring. It returns the record's position and
// the position behind it, which FlushTo takes. It waits only when the ring is full or the next
// generation is not prepared. ErrFull when there is no file to go on in, or what is left is set
// aside (AppendChange): nothing was appended, and a later call may succeed.
func (l *Log) Append(typ logrec.Type, parts ...[]byte) (start, end logrec.LogPos, err error) {
	return l.append(claim{}, 0, typ, parts)
}

// AppendChange is Append of a record that may have to be taken back: it sets reserve bytes
// aside for that. back is the record before of the same transaction, where the type names it.
func (l *Log) AppendChange(
	reserve int64, back logrec.LogPos, typ logrec.Type, parts ...[]byte,
) (start, end logrec.LogPos, err error) {
	return l.append(claim{reserve: reserve}, back, typ, parts)
}

// AppendReserved is Append of a record that space was set aside for: what ends or takes back
// work. It gives release bytes back, and goes on in a reserve file when the disk is full.
func (l *Log) AppendReserved(
	release int64, back logrec.LogPos, typ logrec.Type, parts ...[]byte,
) (start, end logrec.LogPos, err error) {
	return l.append(claim{reserve: -release, entitled: true}, back, typ, parts)
}

func (l *Log) append(
	c claim, back logrec.LogPos, typ logrec.Type, parts [][]byte,
) (start, end logrec.LogPos, err error) {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	if n > l.MaxRecord() {
		return 0, 0, fmt.Errorf("append %d bytes, at most %d: %w", n, l.MaxRecord(), ErrTooLarge)
	}
	if err := l.lockFor(logrec.FrameSize(n), c); err != nil {
		return 0, 0, err
	}
	defer l.mu.Unlock()
	l.reserved = max(0, l.reserved+c.reserve)
	if l.needMark {
		l.putMark()
	}
	start = l.put(typ, back, parts...)
	end = l.position()
	l.end.Store(uint64(end))
	if l.head-l.tail >= eagerBytes && !l.eager {
		l.eager = true
		select {
		case l.ahead <- struct{}{}:
		default:
		}
	}
	return start, end, nil
}

// eagerBytes of log are not left for the commit to write: while a large transaction goes on,
// the log is written behind it.
const eagerBytes = 512 << 10

// flushLoop flushes what waits, when there is much of it, until Close.
func (l *Log) flushLoop() {
	defer l.done.Done()
	for {
		select {
		case <-l.stop:
			return
		case <-l.ahead:
		}
		_ = l.FlushTo(l.End()) // an error is final, and the next who appends is told
		l.mu.Lock()
		l.eager = false
		l.mu.Unlock()
	}
}

// obstacle is why a record cannot be put into the ring now.
type obstacle uint8

const (
	obstacleNone obstacle = iota
	obstacleFlush
	obstaclePrepare
	obstacleReserve
)

// lockFor locks mu with room for a frame of this size in the current generation and in the
// ring. On an error mu is not locked.
func (l *Log) lockFor(size int, c claim) error {
	for {
		l.mu.Lock()
		err := l.usable()
		if err == nil && !c.entitled {
			err = l.refusal
		}
		if err != nil {
			l.mu.Unlock()
			return err
		}
		what := l.admit(size, c)
		if what == obstacleNone {
			return nil
		}
		l.mu.Unlock()
		if err := l.clear(what, c); err != nil {
			return err
		}
	}
}

// usable is called with mu held.
func (l *Log) usable() error {
	if err := l.Err(); err != nil {
		return err
	}
	if l.closed {
		return ErrClosed
	}
	return nil
}

// clear removes an obstacle, or waits while somebody else does.
func (l *Log) clear(what obstacle, c claim) error {
	switch what {
	case obstacleFlush:
		return l.FlushTo(l.End())
	case obstacleReserve:
		return l.growReserve()
	}
	return l.awaitNext(c.entitled)
}

// admit makes sure that a frame of this size, and End behind it, fit; it rolls when they do not.
func (l *Log) admit(size int, c claim) obstacle {
	need := size
	if l.needMark {
		need += markSize
	}
	if !c.entitled && l.roomAfter(need) < l.reserved+c.reserve {
		return obstacleReserve
	}
	if l.offset()+int64(need)+endSize > l.cur.hdr.Bytes {
		if what := l.roll(); what != obstacleNone {
			return what
		}
		need = size + markSize
	}
	if l.head-l.tail+int64(need) > int64(len(l.ring)) {
		return obstacleFlush
	}
	return obstacleNone
}

// roll writes End and makes the prepared generation the current one. The ring never holds more
// than two generations, so an earlier roll must have been flushed.
func (l *Log) roll() obstacle {
	switch {
	case l.closing != nil:
		return obstacleFlush
	case l.next == nil:
		if l.waited != l.cur.hdr.Gen {
			l.waited = l.cur.hdr.Gen
			l.stats.rollsWaited.Add(1)
		}
		return obstaclePrepare
	case l.head-l.tail+endSize > int64(len(l.ring)):
		return obstacleFlush
	}
	l.put(logrec.TypeEnd, 0)
	l.closing, l.closeAt = l.cur, l.head
	l.cur, l.next = l.next, nil
	l.cur.base = l.head - headerSize
	l.chain = l.cur.hdr.chainStart()
	l.needMark = true
	l.end.Store(uint64(l.position()))
	l.stats.rolls.Add(1)
	return obstacleNone
}

// putMark puts the FlushMark in front of the first record of a flush. At that time the flush
// before may still be under way; but this one is written only after that was synced, and then
// the mark says the truth: all before it is durable.
func (l *Log) putMark() {
	logrec.PutMark(&l.mark, l.cur.hdr.Key, l.o.Rand())
	l.put(logrec.TypeFlushMark, 0, l.mark[:])
	l.needMark = false
}

// put copies one frame into the ring, which has room for it.
func (l *Log) put(typ logrec.Type, back logrec.LogPos, parts ...[]byte) logrec.LogPos {
	pos := l.position()
	n, sum := logrec.SealFrame(&l.header, pos, typ, l.chain, back, parts...)
	l.chain = sum
	l.copyIn(l.header[:n])
	for _, p := range parts {
		l.copyIn(p)
	}
	l.stats.records.Add(1)
	return pos
}

func (l *Log) copyIn(p []byte) {
	n := copy(l.ring[l.head&int64(len(l.ring)-1):], p)
	copy(l.ring, p[n:])
	l.head += int64(len(p))
}

// span returns the ring's bytes of the counts from..to, in up to two pieces.
func (l *Log) span(from, to int64) (a, b []byte) {
	size := int64(len(l.ring))
	i, n := from%size, to-from
	if i+n <= size {
		return l.ring[i : i+n], nil
	}
	return l.ring[i:], l.ring[:n-(size-i)]
}

// Roll closes the current generation, unless it holds no record, and returns when that is on
// disk.
func (l *Log) Roll() error {
	for {
		l.mu.Lock()
		if err := l.usable(); err != nil {
			l.mu.Unlock()
			return err
		}
		what := obstacleNone
		if l.offset() > headerSize {
			what = l.roll()
		}
		l.mu.Unlock()
		if what == obstacleNone {
			return l.FlushTo(l.End())
		}
		if err := l.clear(what, claim{}); err != nil {
			return err
		}
	}
}
