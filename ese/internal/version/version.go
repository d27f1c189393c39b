package version

import (
	"bytes"
	"errors"
	"hash/fnv"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/vfs"
)

// Seq orders commits; 0 is before all of them.
type Seq uint64

// TreeID names a tree in an instance: database and object id.
type TreeID uint64

// MakeTreeID makes a TreeID.
func MakeTreeID(db logrec.DBID, obj uint32) TreeID { return TreeID(db)<<32 | TreeID(obj) }

// Errors of the version store.
var (
	// ErrConflict: another transaction changed the row and is open, or committed after this
	// one began. Roll back and try again.
	ErrConflict = errors.New("write conflict (-1102)")
	// ErrFull: too many earlier row states are kept. What it is wrapped in names the option.
	ErrFull = errors.New("version store full (-1069)")
)

// Change is the state of a node before a transaction changed it.
type Change struct {
	Tree    TreeID
	Key     []byte
	Op      logrec.NodeOp
	Pos     logrec.LogPos // of its log record
	Prev    logrec.LogPos // of the transaction's record before it
	Existed bool          // the node was there (not flagged deleted) before
	Before  []byte        // its data then
	Delta   *logrec.Delta // of a NodeDelta, which has no Before
	tx      *Tx
	older   *Change
	bucket  *Change // next newest change with the same hash
	hash    uint64
	spilled spilled // where Before is, when not in memory
	// floor of a delta is the newest change below that is none: what another delta must look
	// at, however many deltas lie between.
	floor *Change
}

// OpLock is an explicit lock of a node. It is never logged and changes nothing.
const OpLock logrec.NodeOp = 0x40

func (c *Change) size() int64 { return int64(len(c.Key)+len(c.Before)) + 192 }

// Store is the version store of one instance.
type Store struct {
	limits Limits
	bytes  atomic.Int64
	seed   maphash.Seed
	shards [64]shard

	// Commits are appended to the log and numbered under commitMu, so that both orders agree.
	commitMu sync.Mutex
	done     []*Tx // committed with changes, not yet cleaned, in commit order

	// The log reports a sync (Durable) also from inside an append, so this is not commitMu.
	pendingMu sync.Mutex
	pending   []pendingEnd // ended, end record not yet durable; in the order of the log

	fileMu   sync.Mutex // of the temporary file
	file     vfs.File
	fileEnd  int64 // where the next before-image goes
	fileUsed int64 // bytes that are needed still

	cleanMu sync.Mutex    // one Clean at a time
	kept    atomic.Uint64 // log position; see KeptFrom

	last    atomic.Uint64 // pre-commit horizon
	lastPos atomic.Uint64 // end of the newest commit record
	durable atomic.Uint64 // durable horizon

	activeMu sync.Mutex
	now      txList // snapshots begun at the pre-commit horizon, oldest first
	past     txList // snapshots begun at the durable horizon, oldest first
	nextID   uint32

	clock   atomic.Int64  // see Clock
	refused atomic.Uint64 // changes, for want of room
}

// pendingEnd is a transaction whose commit or rollback record ends at end.
type pendingEnd struct {
	seq        Seq // the horizon once the record is durable; 0 for a rollback
	first, end logrec.LogPos
}

// shard is a part of the table of changes: chains of nodes by the hash of their key, newest
// change of each node only. A table of our own, because every change of a row enters and
// leaves it.
type shard struct {
	mu     sync.RWMutex
	n      atomic.Int64 // changes kept
	chains []*Change    // a power of two
	nodes  int          // entries of chains
}

// firstChains is the size a shard's table begins with and goes back to.
const firstChains = 16

// NewStore makes an empty store.
func NewStore(l Limits) *Store {
	s := &Store{limits: l, seed: maphash.MakeSeed(), nextID: 1}
	for i := range s.shards {
		s.shards[i].chains = make([]*Change, firstChains)
	}
	return s
}

// SetNextID makes the next transaction's id at least id: recovery has seen all below.
func (s *Store) SetNextID(id logrec.TxID) {
	s.activeMu.Lock()
	s.nextID = max(s.nextID, uint32(id))
	s.activeMu.Unlock()
}

// Refused counts the changes that found no room.
func (s *Store) Refused() uint64 { return s.refused.Load() }

// Bytes is what the kept states take, in bytes.
func (s *Store) Bytes() int64 { return s.bytes.Load() }

func (s *Store) hash(tree TreeID, key []byte) uint64 {
	var h uint64
	if s.limits.Repeat {
		f := fnv.New64a()
		_, _ = f.Write(key) // never fails
		h = f.Sum64()
	} else {
		h = maphash.Bytes(s.seed, key)
	}
	return h ^ uint64(tree)*0x9e3779b97f4a7c15
}

func (s *Store) shard(h uint64) *shard { return &s.shards[h>>58] }

// chain is where the nodes with this hash are listed.
func (sh *shard) chain(h uint64) **Change { return &sh.chains[h&uint64(len(sh.chains)-1)] }

// newest finds the newest change of a node; the shard's lock is held.
func (sh *shard) newest(h uint64, tree TreeID, key []byte) *Change {
	for c := *sh.chain(h); c != nil; c = c.bucket {
		if c.hash == h && c.Tree == tree && bytes.Equal(c.Key, key) {
			return c
		}
	}
	return nil
}

// setNewest replaces the newest change old of a node by c; either may be nil. The shard's
// lock is held.
func (sh *shard) setNewest(h uint64, old, c *Change) {
	if old == nil {
		sh.enter(h, c)
		return
	}
	at := sh.chain(h)
	for *at != old {
		at = &(*at).bucket
	}
	if c == nil {
		*at = old.bucket
		sh.nodes--
	} else {
		c.bucket = old.bucket
		*at = c
	}
	old.bucket = nil
	if sh.nodes == 0 && len(sh.chains) > 64*firstChains {
		sh.chains = make([]*Change, firstChains)
	}
}

// enter puts a node in front of its chain, in a larger table when this one is crowded.
func (sh *shard) enter(h uint64, c *Change) {
	if sh.nodes >= len(sh.chains) {
		old := sh.chains
		sh.chains = make([]*Change, 2*len(old))
		for _, head := range old {
			for head != nil {
				next, at := head.bucket, sh.chain(head.hash)
				head.bucket, *at = *at, head
				head = next
			}
		}
	}
	at := sh.chain(h)
	c.bucket, *at = *at, c
	sh.nodes++
}

// Conflict tells whether tx may do op to the node: nil, or ErrConflict. Deltas get on with
// each other; everything else needs all that others did to be in tx's snapshot.
func (s *Store) Conflict(tx *Tx, tree TreeID, key []byte, op logrec.NodeOp) error {
	h := s.hash(tree, key)
	sh := s.shard(h)
	if sh.n.Load() == 0 {
		return nil
	}
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	c := sh.newest(h, tree, key)
	if op == logrec.NodeDelta && c != nil && c.Op == op {
		c = c.floor
	}
	for ; c != nil; c = c.older {
		if !tx.Sees(c.tx) {
			return tx.runInto(c)
		}
		if c.Op != logrec.NodeDelta {
			return nil // whoever made it saw all below
		}
	}
	return nil
}

// runInto notes whom tx has to wait for before it tries again.
func (tx *Tx) runInto(c *Change) error {
	if c.tx.seq.Load() == 0 {
		tx.blocker = c.tx
	}
	return ErrConflict
}

// Referenced tells whether the node has any kept change: its page state must stay.
func (s *Store) Referenced(tree TreeID, key []byte) bool {
	h := s.hash(tree, key)
	sh := s.shard(h)
	if sh.n.Load() == 0 {
		return false
	}
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.newest(h, tree, key) != nil
}

// Keeps tells whether any change of a database's rows is kept, of a transaction that runs or
// has ended.
func (s *Store) Keeps(db logrec.DBID) bool {
	for i := range s.shards {
		if s.shards[i].keeps(db) {
			return true
		}
	}
	return false
}

func (sh *shard) keeps(db logrec.DBID) bool {
	if sh.n.Load() == 0 {
		return false
	}
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	for _, c := range sh.chains {
		for ; c != nil; c = c.bucket {
			if logrec.DBID(c.Tree>>32) == db {
				return true
			}
		}
	}
	return false
}

// Add keeps the state before a change; key and before are copied. The caller holds the
// node's page latched for writing and has asked Conflict and Reserve.
func (s *Store) Add(tx *Tx, c *Change) {
	n := tx.memory.change()
	*n = Change{
		Tree: c.Tree, Op: c.Op, Pos: c.Pos, Prev: c.Prev, Existed: c.Existed,
		Key: tx.memory.bytes(c.Key), Before: tx.memory.bytes(c.Before), Delta: c.Delta, spilled: c.spilled, tx: tx,
	}
	n.hash = s.hash(c.Tree, c.Key)
	sh := s.shard(n.hash)
	sh.mu.Lock()
	old := sh.newest(n.hash, c.Tree, c.Key)
	n.older = old
	if n.Op == logrec.NodeDelta {
		if n.floor = old; old != nil && old.Op == n.Op {
			n.floor = old.floor
		}
	}
	sh.setNewest(n.hash, old, n)
	sh.n.Add(1)
	sh.mu.Unlock()
	s.bytes.Add(n.size())
	tx.kept += n.size() + int64(n.spilled.n)
	tx.changes = append(tx.changes, n)
	tx.edits++
}

// Drop takes back a change of a running transaction: the newest of its node but for deltas
// and locks. Rollback has restored the page under the same latch.
func (s *Store) Drop(c *Change) {
	sh := s.shard(c.hash)
	sh.mu.Lock()
	sh.unlink(c)
	sh.mu.Unlock()
	c.tx.kept -= c.size() + int64(c.spilled.n)
	s.forget(c)
}

// forget gives back what a change took.
func (s *Store) forget(c *Change) {
	s.bytes.Add(-c.size())
	s.Unreserve(c)
}

// unlink takes a change out of its chain; the shard's lock is held. It reports whether the
// node has no other change left.
func (sh *shard) unlink(c *Change) bool {
	sh.n.Add(-1)
	older := c.older
	c.older = nil
	n := sh.newest(c.hash, c.Tree, c.Key)
	if n == c {
		sh.setNewest(c.hash, c, older)
		return older == nil
	}
	for n != nil && n.older != c {
		n = n.older
	}
	if n != nil {
		n.older = older
	}
	return false
}

// Visible works out what tx sees of a node whose page state is (exists, data). The result
// may lie in the store; it is never changed.
func (s *Store) Visible(tx *Tx, tree TreeID, key []byte, exists bool, data []byte) (bool, []byte, error) {
	h := s.hash(tree, key)
	sh := s.shard(h)
	if sh.n.Load() == 0 {
		return exists, data, nil
	}
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	own := false // data is a copy that may be changed
	for c := sh.newest(h, tree, key); c != nil; c = c.older {
		seen := tx.Sees(c.tx)
		switch {
		case c.Op == logrec.NodeDelta:
			if seen || !c.Delta.Fits(data) {
				continue
			}
			if !own {
				data, own = bytes.Clone(data), true
			}
			c.Delta.Inverse().Add(data)
		case seen:
			return exists, data, nil
		case c.Op != OpLock:
			var err error
			if data, err = s.Before(c); err != nil {
				return false, nil, err
			}
			exists, own = c.Existed, c.spilled.n > 0
		}
	}
	return exists, data, nil
}

// remove drops a change whose commit every snapshot includes. It reports whether the node has
// no other change left.
func (s *Store) remove(c *Change) bool {
	sh := s.shard(c.hash)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s.forget(c)
	return sh.unlink(c)
}
