package version

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"pillarbox/ese/internal/logrec"
)

// Tx is one transaction's place in the version store. Its methods are for one goroutine.
type Tx struct {
	ID    logrec.TxID
	Begin Seq           // it sees commits up to this one
	Last  logrec.LogPos // its newest log record; 0 when it has none
	// Horizon is the log position up to which the log must be durable before anything that
	// this transaction learned may reach a client (engine.md rule 1).
	Horizon  logrec.LogPos
	ReadOnly bool
	// Latest makes it see, and lets it change, what others have committed since it began. It
	// is for rows of the engine's own, which a lock outside of this store gives to one
	// transaction at a time, and whose earlier states no reader asks for.
	Latest bool
	// Reserved is the log, in bytes, that is set aside for taking it back.
	Reserved int64
	// Record is memory for the log record being made; its content is of no interest.
	Record []byte

	seq     atomic.Uint64 // its commit's number; 0 while it is open
	first   atomic.Uint64 // a log position at or before its first record; 0 = no record
	changes []*Change
	memory  memory
	kept    int64  // bytes, in memory and file
	edits   uint64 // changes made and taken back: what cursors compare

	list       *txList
	prev, next *Tx

	began   int64       // clock at Begin; guarded by activeMu
	tooLong atomic.Bool // see Overdue

	blocker *Tx // the open transaction that a change of this one ran into
	endMu   sync.Mutex
	ended   bool
	waiters chan struct{} // closed at the end, made by the first who waits
}

// finish wakes those who wait for the transaction's end.
func (tx *Tx) finish() {
	tx.endMu.Lock()
	defer tx.endMu.Unlock()
	if !tx.ended && tx.waiters != nil {
		close(tx.waiters)
	}
	tx.ended = true
}

// Renew makes a read-only transaction that has ended one that has not begun.
func (tx *Tx) Renew() {
	tx.Begin, tx.Horizon, tx.ReadOnly, tx.ended = 0, 0, false, false
	tx.tooLong.Store(false)
}

// Abandon wakes those who wait for a transaction that will never end: the instance is dead.
func (tx *Tx) Abandon() { tx.finish() }

// AwaitBlocker waits until the transaction that stood in the way has ended, at most until
// stop is closed. The caller has rolled back, so it holds nothing that others wait for.
func (tx *Tx) AwaitBlocker(stop <-chan struct{}) {
	b := tx.blocker
	if b == nil {
		return
	}
	b.endMu.Lock()
	if b.ended {
		b.endMu.Unlock()
		return
	}
	if b.waiters == nil {
		b.waiters = make(chan struct{})
	}
	ch := b.waiters
	b.endMu.Unlock()
	select {
	case <-ch:
	case <-stop:
	}
}

// txList is a list of running transactions in the order of Begin.
type txList struct{ head, tail *Tx }

func (l *txList) add(tx *Tx) {
	tx.list, tx.prev, tx.next = l, l.tail, nil
	if l.tail != nil {
		l.tail.next = tx
	} else {
		l.head = tx
	}
	l.tail = tx
}

func (l *txList) remove(tx *Tx) {
	if tx.prev != nil {
		tx.prev.next = tx.next
	} else {
		l.head = tx.next
	}
	if tx.next != nil {
		tx.next.prev = tx.prev
	} else {
		l.tail = tx.prev
	}
	tx.list, tx.prev, tx.next = nil, nil, nil
}

// Begin starts a transaction: a read-write one at the pre-commit horizon, a read-only one at
// the durable horizon unless latest is set.
func (s *Store) Begin(tx *Tx, readOnly, latest bool) {
	s.activeMu.Lock()
	defer s.activeMu.Unlock()
	tx.ReadOnly, tx.began = readOnly, s.clock.Load()
	if readOnly && !latest {
		tx.Begin = Seq(s.durable.Load())
		s.past.add(tx)
		return
	}
	tx.Begin = Seq(s.last.Load())
	tx.Horizon = logrec.LogPos(s.lastPos.Load())
	if !readOnly {
		tx.ID = logrec.TxID(s.nextID)
		s.nextID++
	}
	s.now.add(tx)
}

// End forgets a transaction that has committed or is wholly undone.
func (s *Store) End(tx *Tx) {
	s.activeMu.Lock()
	if tx.list != nil {
		tx.list.remove(tx)
	}
	s.activeMu.Unlock()
	tx.finish()
}

// Logged says that tx is about to log its first record, at or after pos.
func (tx *Tx) Logged(pos logrec.LogPos) {
	if tx.first.Load() == 0 {
		tx.first.Store(uint64(pos))
	}
}

// HasLogged tells whether the transaction has written anything.
func (tx *Tx) HasLogged() bool { return tx.first.Load() != 0 }

// Mark is the number of changes so far; rolling back to it undoes those after.
func (tx *Tx) Mark() int { return len(tx.changes) }

// Edits rises with every change made or taken back, unlike Mark, which returns to where it
// was: a cursor's copy is good while it stands still.
func (tx *Tx) Edits() uint64 { return tx.edits }

// Newest returns the newest change, or nil.
func (tx *Tx) Newest() *Change {
	if len(tx.changes) == 0 {
		return nil
	}
	return tx.changes[len(tx.changes)-1]
}

// Pop forgets the newest change, after it was undone.
func (tx *Tx) Pop() {
	n := len(tx.changes) - 1
	tx.changes[n] = nil
	tx.changes = tx.changes[:n]
	tx.edits++
}

// Commit runs write, which appends the commit record, and makes tx visible to transactions
// that begin after it. The log position returned is the end of the record.
func (s *Store) Commit(tx *Tx, write func() (logrec.LogPos, error)) (logrec.LogPos, error) {
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	end, err := write()
	if err != nil {
		return 0, err
	}
	seq := Seq(s.last.Load() + 1)
	tx.seq.Store(uint64(seq))
	// Pending before visible: whoever sees the commit finds its end here or durable.
	s.addPending(pendingEnd{seq, logrec.LogPos(tx.first.Load()), end})
	if len(tx.changes) > 0 {
		s.done = append(s.done, tx)
	}
	s.activeMu.Lock()
	s.last.Store(uint64(seq))
	s.lastPos.Store(uint64(end))
	if tx.list != nil {
		tx.list.remove(tx)
	}
	s.activeMu.Unlock()
	tx.finish()
	return end, nil
}

// RolledBack ends a transaction whose rollback record ends at end.
func (s *Store) RolledBack(tx *Tx, end logrec.LogPos) {
	// It makes nothing visible: a number here could run ahead of a commit behind it in the log.
	s.addPending(pendingEnd{0, logrec.LogPos(tx.first.Load()), end})
	s.End(tx)
}

// addPending keeps the list in the order of the log. A rollback is appended without commitMu,
// so it may come here before or after a commit that stands on its other side.
func (s *Store) addPending(p pendingEnd) {
	s.pendingMu.Lock()
	defer s.pendingMu.Unlock()
	i := len(s.pending)
	for i > 0 && s.pending[i-1].end > p.end {
		i--
	}
	s.pending = slices.Insert(s.pending, i, p)
}

// Durable moves the durable horizon: the log is synced up to pos.
func (s *Store) Durable(pos logrec.LogPos) {
	s.pendingMu.Lock()
	defer s.pendingMu.Unlock()
	n, seq := 0, Seq(0)
	for n < len(s.pending) && s.pending[n].end <= pos {
		seq = max(seq, s.pending[n].seq)
		n++
	}
	if n == 0 {
		return
	}
	s.activeMu.Lock()
	s.durable.Store(max(s.durable.Load(), uint64(seq)))
	s.activeMu.Unlock()
	s.pending = append(s.pending[:0], s.pending[n:]...)
}

// Last is the newest commit's number.
func (s *Store) Last() Seq { return Seq(s.last.Load()) }

// Oldest is the oldest horizon that a snapshot has or may still begin at.
func (s *Store) Oldest() Seq {
	s.activeMu.Lock()
	defer s.activeMu.Unlock()
	o := Seq(s.durable.Load())
	if s.now.head != nil {
		o = min(o, s.now.head.Begin)
	}
	if s.past.head != nil {
		o = min(o, s.past.head.Begin)
	}
	return o
}

// OldestRecord is a log position at or before the first record of every transaction whose end
// is not durable, or limit when none lies before it: the checkpoint may not pass it, or a
// crash would leave a transaction whose records recovery does not meet.
func (s *Store) OldestRecord(limit logrec.LogPos) logrec.LogPos {
	s.pendingMu.Lock()
	defer s.pendingMu.Unlock()
	for _, p := range s.pending {
		if p.first != 0 {
			limit = min(limit, p.first)
		}
	}
	s.activeMu.Lock()
	defer s.activeMu.Unlock()
	for tx := s.now.head; tx != nil; tx = tx.next {
		if f := logrec.LogPos(tx.first.Load()); f != 0 {
			limit = min(limit, f)
		}
	}
	return limit
}

// Clock tells the store the time: transactions that begin from now on have it. It need not be
// exact.
func (s *Store) Clock(now time.Time) { s.clock.Store(now.UnixNano()) }

// Overdue is a transaction that was found to be open for too long.
type Overdue struct {
	ID  logrec.TxID // 0 for a read-only one
	Age time.Duration
}

// Overdue marks the transactions that have been open for longer than limit, and returns those
// that it had not marked before.
func (s *Store) Overdue(now time.Time, limit time.Duration) (out []Overdue) {
	s.activeMu.Lock()
	defer s.activeMu.Unlock()
	for _, l := range []*txList{&s.now, &s.past} {
		for tx := l.head; tx != nil; tx = tx.next {
			age := time.Duration(now.UnixNano() - tx.began)
			if age <= limit {
				break // the list is in the order of Begin
			}
			if !tx.tooLong.Swap(true) {
				out = append(out, Overdue{tx.ID, age})
			}
		}
	}
	return out
}

// TooLong tells that Overdue has marked the transaction.
func (tx *Tx) TooLong() bool { return tx.tooLong.Load() }

// Updating is the number of running transactions that have logged something.
func (s *Store) Updating() (n int) {
	s.activeMu.Lock()
	defer s.activeMu.Unlock()
	for tx := s.now.head; tx != nil; tx = tx.next {
		if tx.HasLogged() {
			n++
		}
	}
	return n
}

// Running tells whether a transaction that may change something has this number.
func (s *Store) Running(id logrec.TxID) bool {
	s.activeMu.Lock()
	defer s.activeMu.Unlock()
	for tx := s.now.head; tx != nil; tx = tx.next {
		if !tx.ReadOnly && tx.ID == id {
			return true
		}
	}
	return false
}

// Active is the number of running transactions.
func (s *Store) Active() (n int) {
	s.activeMu.Lock()
	defer s.activeMu.Unlock()
	for _, l := range []*txList{&s.now, &s.past} {
		for tx := l.head; tx != nil; tx = tx.next {
			n++
		}
	}
	return n
}

// Deleted is a row that its transaction deleted and nobody can see any more.
type Deleted struct {
	Tree TreeID
	Key  []byte
}

// Clean removes the changes of up to limit committed transactions that every snapshot
// includes. end is the end of the log, read before the call. It returns the rows to be removed
// from their pages and the number of transactions done.
func (s *Store) Clean(limit int, end logrec.LogPos) (rows []Deleted, n int) {
	s.cleanMu.Lock()
	defer s.cleanMu.Unlock()
	oldest := s.Oldest()
	for n < limit {
		s.commitMu.Lock()
		if len(s.done) == 0 || Seq(s.done[0].seq.Load()) > oldest {
			s.commitMu.Unlock()
			break
		}
		tx := s.done[0]
		s.done[0] = nil
		s.done = s.done[1:]
		s.commitMu.Unlock()
		for _, c := range tx.changes {
			last := s.remove(c)
			if last && c.Op == logrec.NodeFlagDelete {
				rows = append(rows, Deleted{c.Tree, c.Key})
			}
		}
		tx.changes = nil
		n++
	}
	s.findKept(end)
	return rows, n
}

// KeptFrom is a log position that lies at or before the record of every change kept here. A
// page whose newest record ends at or before it has no earlier states: what stands on it is
// what everybody sees.
func (s *Store) KeptFrom() logrec.LogPos { return logrec.LogPos(s.kept.Load()) }

// Opened says where the log ends when the instance is opened: nothing is kept of what stands
// before.
func (s *Store) Opened(pos logrec.LogPos) {
	s.Durable(pos)
	s.lastPos.Store(uint64(pos))
	s.kept.Store(uint64(pos))
}

// findKept works out KeptFrom. Changes are kept of transactions that run and of those that
// wait to be cleaned; what has logged nothing so far will log behind end.
func (s *Store) findKept(end logrec.LogPos) {
	pos := s.OldestRecord(end)
	s.commitMu.Lock()
	for _, tx := range s.done {
		if f := logrec.LogPos(tx.first.Load()); f != 0 {
			pos = min(pos, f)
		}
	}
	s.commitMu.Unlock()
	s.kept.Store(max(s.kept.Load(), uint64(pos)))
}

// Sees tells whether what another transaction did is part of what tx sees.
func (tx *Tx) Sees(other *Tx) bool {
	if other == tx {
		return true
	}
	q := other.seq.Load()
	return q != 0 && (tx.Latest || Seq(q) <= tx.Begin)
}

// Committed is the number of the transaction's commit, 0 while it has none.
func (tx *Tx) Committed() Seq { return Seq(tx.seq.Load()) }

// OldestWriter is the oldest snapshot of the running read-write transactions, or the newest
// commit's number when none runs.
func (s *Store) OldestWriter() Seq {
	s.activeMu.Lock()
	defer s.activeMu.Unlock()
	for tx := s.now.head; tx != nil; tx = tx.next {
		if !tx.ReadOnly {
			return tx.Begin
		}
	}
	return Seq(s.last.Load())
}
