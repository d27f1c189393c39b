package ese

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"sync/atomic"

	"pillarbox/ese/internal/btree"
	"pillarbox/ese/internal/cache"
	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/version"
	"pillarbox/ese/internal/wal"
)

// Instance is an open storage group: one log stream, one page cache, one version store, and
// the databases attached to it. It is safe for concurrent use.
type Instance struct {
	o        Options
	lock     io.Closer
	log      *wal.Log
	logSign  logrec.Signature
	late     *lateLog
	cache    *cache.Cache
	versions *version.Store
	env      *btree.Env
	views    sync.Pool // of *Tx, for View
	packers  sync.Pool // of *record.Compressor
	trees    sync.Map  // version.TreeID -> *btree.Tree

	openMu sync.Mutex // one opening or closing at a time

	dbMu sync.RWMutex
	dbs  map[logrec.DBID]*Database

	failed atomic.Pointer[error]
	closed atomic.Bool
	lastMS atomic.Int64

	backMu     sync.Mutex // held over each round of background work; before stepMu
	stepMu     sync.Mutex // one checkpoint at a time
	checkpoint atomic.Uint64
	cleanList  []version.Deleted // rows to purge, guarded by cleanMu
	cleanMu    sync.Mutex
	stop       chan struct{}
	stopOnce   sync.Once
	done       sync.WaitGroup

	refused    atomic.Uint64 // what versions.Refused was when an event told of it
	fullSince  atomic.Int64  // when the log was found full, Unix ns; 0 while there is space
	dismounted atomic.Bool
	// dismounting: the log was full for too long, and only what has begun ends.
	dismounting atomic.Bool

	recovery RecoveryStats
	loss     *Loss
	lost     map[logrec.DBID]*wal.Attachment // guarded by stepMu, once open
	settled  map[logrec.DBID]LogPos          // see SettleLost; guarded by stepMu
	// attachedAt is set when redo begins before the checkpoint.
	attachedAt map[logrec.DBID]LogPos
	lastGen    uint32 // of the log that recovery replays; 0 afterwards
	replayed   bool   // opening met changes in the log
	stats      struct {
		undone, checkpoints, events           atomic.Uint64
		repaired, damaged, lostWrites         atomic.Uint64
		scrubbed, scrubPasses, trimmed, freed atomic.Uint64
		moved, joined                         atomic.Uint64
	}
	removed uint32 // generations below it were removed; guarded by stepMu
	pinned  uint32 // a running backup needs the log from there on; 0 = none; guarded by stepMu
	// An archive has the generations below archived; those below letGo stay for it only. Both are
	// guarded by stepMu. logTight: a reserve file was used since the archive last took something.
	archived, letGo uint32
	archiveKeep     int64 // guarded by stepMu
	logTight        atomic.Bool

	backupMu sync.Mutex      // one backup at a time, and no closing meanwhile; before openMu
	closing  context.Context // ends when the instance begins to close
	close    context.CancelFunc
}

// lateLog is the log as cache and trees see it. During redo there is none yet: everything
// being replayed is on disk, so flushing is done.
type lateLog struct {
	log *wal.Log
	pos atomic.Uint64 // end of the record being replayed
}

func (l *lateLog) Append(typ logrec.Type, parts ...[]byte) (start, end logrec.LogPos, err error) {
	if l.log == nil {
		return 0, 0, errReplaying
	}
	return l.log.Append(typ, parts...)
}

// Put, PutChange and PutReserved append a record of one part: no list of parts is made for each
// change of a row.
func (l *lateLog) Put(typ logrec.Type, payload []byte) (start, end logrec.LogPos, err error) {
	if l.log == nil {
		return 0, 0, errReplaying
	}
	return l.log.Append(typ, payload)
}

func (l *lateLog) PutChange(
	reserve int64, back LogPos, typ logrec.Type, payload []byte,
) (start, end logrec.LogPos, err error) {
	if l.log == nil {
		return 0, 0, errReplaying
	}
	return l.log.AppendChange(reserve, back, typ, payload)
}

func (l *lateLog) PutReserved(
	release int64, back LogPos, typ logrec.Type, payload []byte,
) (start, end logrec.LogPos, err error) {
	if l.log == nil {
		return 0, 0, errReplaying
	}
	return l.log.AppendReserved(release, back, typ, payload)
}

var errReplaying = errors.New("log is being replayed")

func (l *lateLog) FlushTo(pos logrec.LogPos) error {
	if l.log == nil {
		return nil
	}
	return l.log.FlushTo(pos)
}

func (l *lateLog) End() logrec.LogPos {
	if l.log == nil {
		return logrec.LogPos(l.pos.Load())
	}
	return l.log.End()
}

func (l *lateLog) MaxRecord() int { return l.log.MaxRecord() }

// Open opens the storage group in o.Dir, making it when the folder is empty, and recovers it
// when it was not closed. A second opening gets ErrLocked.
func Open(o Options) (*Instance, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	loss, err := settleLoss(&o)
	if err != nil {
		return nil, fmt.Errorf("open storage group in %s: %w", o.Dir, err)
	}
	in, err := openGroup(o)
	if err == nil && loss != nil {
		if err = in.endLoss(loss); err != nil {
			err = errors.Join(err, in.Close())
		}
	}
	if err != nil {
		return nil, err
	}
	return in, nil
}

// openGroup opens the storage group as its files are.
func openGroup(o Options) (*Instance, error) {
	lock, err := lockGroup(&o)
	if err != nil {
		return nil, err
	}
	in := newInstance(o, lock)
	if !o.ReadOnly {
		if err := removeVersionFile(&o); err != nil {
			return nil, errors.Join(fmt.Errorf("open storage group in %s: %w", o.Dir, err), in.release())
		}
	}
	if err := in.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("open storage group in %s: %w", o.Dir, err), in.release())
	}
	return in, nil
}

// newInstance is one whose log and databases are not open yet.
func newInstance(o Options, lock io.Closer) *Instance {
	in := &Instance{
		o: o, lock: lock, late: &lateLog{}, versions: version.NewStore(versionLimits(&o)),
		dbs: make(map[logrec.DBID]*Database), stop: make(chan struct{}), archiveKeep: o.ArchiveKeep,
	}
	in.versions.Clock(o.Now())
	in.closing, in.close = context.WithCancel(context.Background())
	return in
}

// lockGroup makes the folders and takes the lock of the storage group. A reader makes nothing,
// and goes without the lock where it may not even write that.
func lockGroup(o *Options) (io.Closer, error) {
	if !o.ReadOnly {
		for _, dir := range []string{o.Dir, o.LogDir, o.CheckpointDir} {
			if err := makeFolder(o.FS, dir); err != nil {
				return nil, fmt.Errorf("open storage group: %w", err)
			}
		}
	}
	lock, err := o.FS.Lock(filepath.Join(o.Dir, o.Base+".lock"))
	if err != nil && o.ReadOnly && !errors.Is(err, ErrLocked) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open storage group in %s: %w", o.Dir, err)
	}
	return lock, nil
}

// makeCache makes the page cache and what the trees share.
func (in *Instance) makeCache() (err error) {
	in.cache, err = cache.New(cache.Options{
		PageSize: in.o.PageSize, Bytes: in.o.CacheBytes, Log: in.late,
		ReadOnly: in.o.ReadOnly, OnPage: in.pageEvent,
		OldestOpen: func() logrec.LogPos { return in.versions.OldestRecord(in.late.End()) },
		OnFail:     in.fail, BeforeWrite: in.requireLog,
	})
	if err != nil {
		return err
	}
	in.env = &btree.Env{
		Cache: in.cache, Log: in.late, Versions: in.versions, CopyBytes: in.o.CacheBytes / 4,
	}
	return nil
}

// open makes the parts, recovers, and starts the background.
func (in *Instance) open() error {
	if err := in.makeCache(); err != nil || in.o.ReadOnly {
		return err
	}
	gens, err := wal.Generations(in.o.FS, in.o.LogDir, in.o.Base)
	if err != nil {
		return err
	}
	if len(gens) == 0 {
		err = in.create()
	} else {
		err = in.recover(gens)
	}
	if errors.Is(err, ErrMissingLog) {
		err = in.o.missingLogs(gens, err)
	}
	if err != nil {
		return err
	}
	in.start()
	return nil
}

func (in *Instance) walOptions() wal.Options {
	return wal.Options{
		FS: in.o.FS, Dir: in.o.LogDir, Base: in.o.Base, GenerationBytes: in.o.GenerationBytes,
		PageSize: in.o.PageSize, Computer: in.o.Computer, Now: in.o.Now, Rand: in.o.Rand,
		Manual: in.o.Manual, Parent: in.o.parent, Fork: in.o.fork,
		BeforeGeneration: in.beforeGeneration,
		OnDurable:        in.versions.Durable,
		OnEvent:          in.logEvent,
	}
}

// create begins a new log stream.
func (in *Instance) create() error {
	log, err := wal.Create(in.walOptions())
	if err != nil {
		return err
	}
	in.log, in.late.log, in.logSign = log, log, log.Signature()
	in.versions.Opened(log.End())
	return in.writeCheckpoint(log.End())
}

// beforeGeneration names the generation in the headers of all databases, before anything can
// be written to it.
func (in *Instance) beforeGeneration(gen uint32) error {
	for _, db := range in.databases() {
		if err := db.needGeneration(gen); err != nil {
			return err
		}
	}
	return nil
}

// requireLog is told before pages of a database are written.
func (in *Instance) requireLog(id logrec.DBID, last LogPos) error {
	in.dbMu.RLock()
	db := in.dbs[id]
	in.dbMu.RUnlock()
	if db == nil {
		return fmt.Errorf("write pages of database %d: %w", id, ErrDetached)
	}
	return db.requireLog(last)
}

// databases returns the attached databases.
func (in *Instance) databases() []*Database {
	in.dbMu.RLock()
	defer in.dbMu.RUnlock()
	out := make([]*Database, 0, len(in.dbs))
	for id := logrec.DBID(1); int(id) <= maxDatabases; id++ {
		if db := in.dbs[id]; db != nil {
			out = append(out, db)
		}
	}
	return out
}

// maxDatabases is the number of databases of an instance (ESE: dbid 1 to 6).
const maxDatabases = 6

func (in *Instance) treeByID(id version.TreeID) *btree.Tree {
	t, ok := in.trees.Load(id)
	if !ok {
		return nil
	}
	return t.(*btree.Tree)
}

// fail notes the error after which nothing may be written any more.
func (in *Instance) fail(err error) {
	if in.failed.CompareAndSwap(nil, &err) {
		in.emit(Event{ID: EventFailed, Err: err})
	}
}

// usable is nil while updates may be made.
func (in *Instance) usable() error {
	if in.closed.Load() {
		return ErrClosed
	}
	if in.dismounted.Load() {
		return ErrDismounted
	}
	if p := in.failed.Load(); p != nil {
		return fmt.Errorf("%w: %w", ErrLogDead, *p)
	}
	return nil
}

// Err is the error that stopped the instance, or nil while it works.
func (in *Instance) Err() error {
	if p := in.failed.Load(); p != nil {
		return *p
	}
	return nil
}

// nowMS is UTC in milliseconds, never running backwards.
func (in *Instance) nowMS() int64 {
	now := in.o.Now().UnixMilli()
	for {
		last := in.lastMS.Load()
		if now <= last {
			return last
		}
		if in.lastMS.CompareAndSwap(last, now) {
			return now
		}
	}
}

// Close brings every database to Clean Shutdown and closes the storage group. Transactions
// still open are left to the next recovery, and the databases then stay dirty.
func (in *Instance) Close() error {
	in.close() // a running backup ends
	in.backupMu.Lock()
	defer in.backupMu.Unlock()
	in.openMu.Lock()
	defer in.openMu.Unlock()
	in.halt() // first, so that a background transaction still ends by itself
	if in.closed.Load() {
		return nil
	}
	var err error
	if in.Err() == nil && in.versions.Active() == 0 && !in.o.ReadOnly {
		if err = in.freeDropped(-1); noSpace(err) { // by transactions as well
			err = nil // what is dropped stays on its list
		}
	}
	if in.closed.Swap(true) {
		return nil
	}
	if err == nil {
		err = in.Err()
	}
	if in.dismounted.Load() {
		err = nil // the databases are in Clean Shutdown already
	} else if in.o.ReadOnly {
		err = nil
	} else if err == nil && in.versions.Active() == 0 {
		err = in.closeClean()
	} else if err == nil {
		err = fmt.Errorf("close: %d transactions are open: the databases stay in Dirty Shutdown", in.versions.Active())
	}
	err = errors.Join(err, in.release())
	if !in.o.ReadOnly {
		err = errors.Join(err, removeVersionFile(&in.o))
	}
	return err
}

// closeClean writes everything and marks the databases clean.
func (in *Instance) closeClean() error {
	// Without log for it dead rows stay for the scrub to find.
	if err := in.cleanVersions(-1); err != nil && !noSpace(err) {
		return err
	}
	for _, db := range in.databases() {
		if err := db.detach(); err != nil {
			return err
		}
	}
	_, end, err := in.log.AppendReserved(0, 0, logrec.TypeTerm)
	if err != nil {
		return err
	}
	if err := in.log.FlushTo(end); err != nil {
		return err
	}
	return in.writeCheckpoint(in.log.End())
}

// release closes files and lock, whatever state they are in.
func (in *Instance) release() error {
	var errs []error
	if in.log != nil {
		if err := in.log.Close(); err != nil && in.Err() == nil {
			errs = append(errs, err)
		}
	}
	for _, db := range in.databases() {
		errs = append(errs, db.closeFiles())
	}
	if in.cache != nil {
		errs = append(errs, in.cache.Close())
	}
	errs = append(errs, in.versions.Close())
	if in.lock != nil {
		errs = append(errs, in.lock.Close())
	}
	return errors.Join(errs...)
}

// Kill drops the instance as a crash would: nothing is written or marked. For tests of
// recovery.
func (in *Instance) Kill() error {
	in.close()
	if in.closed.Swap(true) {
		return nil
	}
	in.fail(ErrClosed)
	in.halt()
	return in.release()
}

// halt ends the background work and waits for it.
func (in *Instance) halt() {
	in.stopOnce.Do(func() { close(in.stop) })
	in.done.Wait()
}

// Log positions for status pages.

// Durable is the end of the log on disk.
func (in *Instance) Durable() LogPos {
	if in.log == nil {
		return 0
	}
	return in.log.Durable()
}

// Checkpoint is where recovery would begin.
func (in *Instance) Checkpoint() LogPos { return LogPos(in.checkpoint.Load()) }

// Stats are counters since the instance was opened.
type Stats struct {
	Log               wal.Stats
	Cache             cache.Stats
	Splits            uint64
	Merges            uint64
	Purged            uint64
	Undone            uint64 // transactions rolled back
	Checkpoints       uint64
	VersionBytes      int64
	VersionFileBytes  int64
	ActiveTx          int
	Recovery          RecoveryStats
	DurableLog        LogPos
	CheckpointAt      LogPos
	StreamBytesHeld   int64
	Events            uint64
	PagesRepaired     uint64 // a flipped bit
	PagesDamaged      uint64 // readings of a page that could not be repaired
	LostWrites        uint64
	PagesScrubbed     uint64
	ScrubPasses       uint64 // of a database
	PagesReturned     uint64 // from a tree to the one above it
	PagesTrimmed      uint64 // taken off the ends of files
	PagesMoved        uint64 // to the front, by defragmentation
	PagesJoined       uint64 // emptied into a neighbour by it
	LogFull           bool   // changes are refused
	GenerationsWaited int64
}

// Stats returns the counters.
func (in *Instance) Stats() Stats {
	s := Stats{
		Cache: in.cache.Stats(), Splits: in.env.Splits.Load(),
		Merges: in.env.Merges.Load(), Purged: in.env.Purged.Load(), Undone: in.stats.undone.Load(),
		Checkpoints: in.stats.checkpoints.Load(), VersionBytes: in.versions.Bytes(), VersionFileBytes: in.versions.Spilled(),
		ActiveTx: in.versions.Active(), Recovery: in.recovery,
		DurableLog: in.Durable(), CheckpointAt: in.Checkpoint(),
	}
	if in.log != nil {
		s.Log = in.log.Stats()
	}
	c := &in.stats
	s.Events, s.PagesRepaired, s.PagesDamaged = c.events.Load(), c.repaired.Load(), c.damaged.Load()
	s.LostWrites, s.PagesScrubbed = c.lostWrites.Load(), c.scrubbed.Load()
	s.ScrubPasses, s.PagesTrimmed = c.scrubPasses.Load(), c.trimmed.Load()
	s.PagesMoved, s.PagesJoined = c.moved.Load(), c.joined.Load()
	s.PagesReturned, s.LogFull = c.freed.Load(), in.fullSince.Load() != 0
	s.GenerationsWaited = s.Log.RollsWaited
	for _, db := range in.databases() {
		s.StreamBytesHeld += db.stream.Held()
	}
	return s
}
