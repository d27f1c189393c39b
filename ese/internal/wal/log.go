package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/vfs"
)

// States of a Log.
var (
	// ErrLogDead is the state after a failed write or sync of the log: nothing more is accepted.
	ErrLogDead = errors.New("log is dead after a failed write")
	// ErrOutcomeUnknown is what waiters get then: their records may be durable or not.
	ErrOutcomeUnknown = errors.New("outcome unknown: the log failed before it was durable")
	// ErrTooLarge refuses a record longer than MaxRecord.
	ErrTooLarge = errors.New("record too large for the log")
	// ErrFull refuses what needs more log than there is disk (engine.md rule 17).
	ErrFull = errors.New("log disk full (-529): make space where the log is; reads go on, and " +
		"changes as soon as there is space")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("log is closed")
)

const (
	endSize  = logrec.EndSize
	markSize = logrec.MarkSize
	// endReserve is set aside for the records of a clean end.
	endReserve = 4096
)

// genFile is an open generation. base is the ring count that offset 0 of the file would have,
// so that count - base is an offset.
type genFile struct {
	hdr  Header
	f    vfs.File
	base int64
	name string // guarded by prepMu
}

// Log is a stream open for appending. Its methods may be called by any goroutine.
type Log struct {
	o     Options
	files files
	sign  logrec.Signature
	// The stream that this one left, and where.
	parent logrec.Signature
	fork   logrec.LogPos
	fetch  *Fetcher

	end     atomic.Uint64 // next record's position
	durable atomic.Uint64
	failure atomic.Pointer[error]
	full    atomic.Pointer[error] // why the last record was refused for lack of space
	stats   counters

	mu       sync.Mutex
	ring     []byte
	head     int64 // count of bytes appended; head-tail never exceeds len(ring)
	tail     int64 // count of bytes written and synced
	chain    uint32
	cur      *genFile
	closing  *genFile // the generation before cur while part of it is in the ring
	closeAt  int64    // count at which closing ends
	next     *genFile // prepared
	needMark bool     // the next record is the first of a flush
	waited   uint32   // generation whose roll was counted as waiting
	closed   bool
	reserved int64 // bytes set aside for rollbacks and ends
	reserves int   // reserve files
	refusal  error // of everything that no space was set aside for
	header   [logrec.MaxFrameHeader]byte
	mark     [logrec.MarkPayloadSize]byte

	flushMu  sync.Mutex
	flushing bool
	waiters  []*waiter // for a flush, in the order they came
	idle     sync.Pool // of *waiter

	prepMu     sync.Mutex
	found      *genFile // prepared by an earlier run, not yet announced
	spares     []string // recyclable files
	kept       []string // the reserve files; len is reserves
	failing    error    // of the last preparation
	tryAgain   time.Time
	renameStep int

	eager bool          // flushLoop was told to write; guarded by mu
	ahead chan struct{} // tells flushLoop

	kick chan struct{}
	stop chan struct{}
	done sync.WaitGroup
}

func newLog(o Options) *Log {
	l := &Log{
		o:     o,
		files: files{o.FS, o.Dir, o.Base},
		ring:  make([]byte, o.BufferBytes),
		ahead: make(chan struct{}, 1),
		kick:  make(chan struct{}, 1),
		stop:  make(chan struct{}),
	}
	l.fetch = NewFetcher(o.FS, o.Dir, o.Base)
	l.needMark, l.reserved = true, endReserve
	return l
}

// Create makes a new stream: a new signature, generation 1 and the reserve files. It refuses a
// folder that holds log files of this base name.
func Create(o Options) (*Log, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := o.FS.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("create log folder: %w", err)
	}
	gens, err := Generations(o.FS, o.Dir, o.Base)
	if err != nil {
		return nil, err
	}
	if len(gens) > 0 {
		return nil, fmt.Errorf("create log: %s: %w", gens[0].Name, fs.ErrExist)
	}
	l := newLog(o)
	l.sign = logrec.NewSignature(o.Rand(), o.Now(), o.Computer)
	l.parent, l.fork = o.Parent, o.Fork
	for range minReserves {
		if err := l.addReserve(); err != nil {
			return nil, err
		}
	}
	first, err := l.createNext(1, logrec.LogTime{}, false)
	if err != nil {
		return nil, err
	}
	err = o.FS.Rename(l.files.path(l.files.next()), l.files.path(l.files.current()))
	if err == nil {
		err = o.FS.SyncDir(o.Dir)
	}
	if err != nil {
		_ = first.f.Close()
		return nil, fmt.Errorf("name first log file: %w", err)
	}
	first.name = l.files.current()
	l.start(first, headerSize, first.hdr.chainStart())
	return l, nil
}

// start sets the place of the next record and starts the preparation.
func (l *Log) start(cur *genFile, offset int64, chain uint32) {
	cur.base = -offset
	l.cur = cur
	l.chain = chain
	pos := uint64(logrec.MakePos(cur.hdr.Gen, offset))
	l.end.Store(pos)
	l.durable.Store(pos)
	if !l.o.Manual {
		l.done.Add(2)
		go l.prepareLoop()
		go l.flushLoop()
		l.wake()
	}
}

// Open continues a stream after recovery has read it to its end. What lies behind the end is
// overwritten.
func Open(o Options, end End) (*Log, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	gens, err := Generations(o.FS, o.Dir, o.Base)
	if err != nil {
		return nil, err
	}
	at := -1
	for i, g := range gens {
		if g.Gen == end.Pos.Generation() {
			at = i
		}
	}
	l := newLog(o)
	if at < 0 {
		return nil, l.files.missing(end.Pos.Generation())
	}
	if off := end.Pos.Offset(); off < headerSize || off > gens[at].Header.Bytes-endSize ||
		at < len(gens)-2 {
		return nil, fmt.Errorf("open log at %v: the stream cannot end there", end.Pos)
	}
	l.sign = gens[at].Header.Sign
	l.parent, l.fork = gens[at].Header.Parent, gens[at].Header.Fork
	if err := l.normalise(gens, at); err != nil {
		return nil, err
	}
	cur, err := l.adopt(gens[at], l.files.current())
	if err != nil {
		return nil, err
	}
	// What recovery read may have been only in the operating system's cache. Positions before
	// the end are called durable from here on, so they must be.
	if err := cur.f.SyncData(); err != nil {
		_ = cur.f.Close()
		return nil, fmt.Errorf("sync %s: %w", cur.name, err)
	}
	if at+1 < len(gens) {
		if err := l.keepSuccessor(gens[at+1], &cur.hdr); err != nil {
			_ = cur.f.Close()
			return nil, err
		}
	}
	l.start(cur, end.Pos.Offset(), end.Chain)
	return l, nil
}

// normalise gives the files the names they have outside of a roll: the current one E00.log, an
// unused successor E00tmp.log, all others their numbers. Each step leaves a state that
// Generations understands.
func (l *Log) normalise(gens []GenInfo, at int) error {
	f := l.files
	names, err := l.o.FS.ReadDir(l.o.Dir)
	if err != nil {
		return fmt.Errorf("list log files: %w", err)
	}
	known := at+1 < len(gens) && gens[at+1].Name == f.next() || gens[at].Name == f.next()
	for _, name := range names {
		if name == f.next() && !known {
			if err := l.o.FS.Remove(f.path(name)); err != nil {
				return fmt.Errorf("remove unfinished log file: %w", err)
			}
		}
		if f.isSpare(name) {
			l.spares = append(l.spares, name)
		}
		if f.isReserve(name) {
			if err := l.keepReserve(name); err != nil {
				return err
			}
		}
	}
	rename := func(g *GenInfo, to string) error {
		if g.Name == to {
			return nil
		}
		if err := l.o.FS.Rename(f.path(g.Name), f.path(to)); err != nil {
			return fmt.Errorf("name log file: %w", err)
		}
		g.Name = to
		return nil
	}
	if at+1 < len(gens) && gens[at+1].Name == f.current() {
		if err := rename(&gens[at+1], f.next()); err != nil {
			return err
		}
	}
	if at > 0 {
		// Its End may never have been synced by the run that wrote it.
		if err := l.syncFile(gens[at-1].Name); err != nil {
			return err
		}
		if err := rename(&gens[at-1], f.numbered(gens[at-1].Gen)); err != nil {
			return err
		}
	}
	if err := rename(&gens[at], f.current()); err != nil {
		return err
	}
	if err := l.o.FS.SyncDir(l.o.Dir); err != nil {
		return fmt.Errorf("sync log folder: %w", err)
	}
	return nil
}

func (l *Log) syncFile(name string) error {
	file, err := l.o.FS.OpenFile(l.files.path(name), os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open log file: %w", err)
	}
	err = file.SyncData()
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("sync %s: %w", name, err)
	}
	return nil
}

// adopt opens an existing generation for writing.
func (l *Log) adopt(g GenInfo, name string) (*genFile, error) {
	file, err := l.o.FS.OpenFile(l.files.path(name), os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open log file: %w", err)
	}
	return &genFile{hdr: g.Header, f: file, name: name}, nil
}

// keepSuccessor takes over a generation prepared by an earlier run, or removes one that does
// not fit: of another size, since records up to MaxRecord must fit, or of another chain.
func (l *Log) keepSuccessor(g GenInfo, cur *Header) error {
	if _, bad := g.Header.follows(cur); bad != nil || g.Header.Bytes != l.o.GenerationBytes {
		if err := l.o.FS.Remove(l.files.path(g.Name)); err != nil {
			return fmt.Errorf("remove unused log file: %w", err)
		}
		if err := l.o.FS.SyncDir(l.o.Dir); err != nil {
			return fmt.Errorf("sync log folder: %w", err)
		}
		return nil
	}
	next, err := l.adopt(g, l.files.next())
	if err != nil {
		return err
	}
	if err := next.f.SyncData(); err != nil {
		_ = next.f.Close()
		return fmt.Errorf("sync %s: %w", next.name, err)
	}
	l.found = next
	return nil
}

// End is the position of the next record.
func (l *Log) End() logrec.LogPos { return logrec.LogPos(l.end.Load()) }

// Durable is the position up to which all records are on disk.
func (l *Log) Durable() logrec.LogPos { return logrec.LogPos(l.durable.Load()) }

// Signature is the identity of the stream.
func (l *Log) Signature() logrec.Signature { return l.sign }

// Parent is the stream that this one left, and where; zero when it is the first.
func (l *Log) Parent() (logrec.Signature, logrec.LogPos) { return l.parent, l.fork }

// Generation is the number of the current generation.
func (l *Log) Generation() uint32 { return l.End().Generation() }

// MaxRecord is the longest payload that Append takes.
func (l *Log) MaxRecord() int {
	return int(min(l.o.GenerationBytes/4, int64(len(l.ring)/4))) - logrec.MaxFrameHeader
}

// Err is the final error of the log, wrapping ErrLogDead, or nil.
func (l *Log) Err() error {
	if p := l.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// die makes err the final error.
func (l *Log) die(err error) {
	err = fmt.Errorf("%w: %w", ErrLogDead, err)
	if l.failure.CompareAndSwap(nil, &err) {
		l.emit(Event{Kind: EventDead, Gen: l.Generation(), Err: err})
	}
}

// Close flushes and closes the files. E00.log stays in place.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	l.closed = true
	l.mu.Unlock()
	close(l.stop)
	l.done.Wait()
	err := l.FlushTo(l.End())
	l.prepMu.Lock()
	defer l.prepMu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, g := range []*genFile{l.closing, l.cur, l.next, l.found} {
		if g == nil {
			continue
		}
		if cerr := g.f.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("close log file: %w", cerr)
		}
	}
	if cerr := l.fetch.Close(); err == nil {
		err = cerr
	}
	return err
}
