package cache

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/page"
)

// Log is what the cache asks of the write-ahead log.
type Log interface {
	FlushTo(logrec.LogPos) error
	End() logrec.LogPos
}

// Options configures a Cache.
type Options struct {
	PageSize int   // of every database, in bytes
	Bytes    int64 // of page memory; at least 16 pages are kept
	Log      Log
	ReadOnly bool // repaired pages are not written back
	// OnPage is told of each page that was repaired (err is nil) or is damaged. The page is
	// latched: it must not come back here.
	OnPage func(f *File, no page.No, err error)
	// OldestOpen is the log position of the oldest record of an open transaction, for Stats.
	OldestOpen func() logrec.LogPos
	// BeforeWrite is told, before pages of a file are written, where the log of their changes
	// ends: that log is durable.
	BeforeWrite func(db logrec.DBID, last logrec.LogPos) error
	// OnFail is told once when a page write fails: nothing may be written any more.
	OnFail func(error)
}

// Stats counts since the start.
type Stats struct {
	Reads, Writes, Batches, Evictions uint64
	// UncommittedWrites counts pages written while a transaction older than their newest
	// change was open.
	UncommittedWrites uint64
	Dirty, Frames     int64
}

// Errors of the cache.
var (
	// ErrFull reports that every frame is latched or cannot be written.
	ErrFull = errors.New("page cache full: raise the cache size")
	// ErrClosed reports a page asked for after Close.
	ErrClosed = errors.New("instance is closed")
	// ErrDetached reports a page of a file that was unregistered, or is about to be.
	ErrDetached error = detachedError{}
)

// detachedError is also ErrClosed to those who do not ask what was closed.
type detachedError struct{}

func (detachedError) Error() string        { return "database is dismounted" }
func (detachedError) Is(target error) bool { return target == ErrClosed }

// extraFrames is how many frames beyond the limit may be made when all others are latched
// by one structure change in a tiny cache.
const extraFrames = 64

type key struct {
	db logrec.DBID
	no page.No
}

type shard struct {
	mu sync.Mutex
	m  map[key]*Frame
}

// Cache holds the pages of one instance.
type Cache struct {
	o        Options
	pageSize int
	mem      []byte

	filesMu sync.RWMutex
	files   map[logrec.DBID]*File

	shards [64]shard
	frames []*Frame
	hand   atomic.Uint64

	extraMu sync.Mutex
	extra   []*Frame

	dirty   atomic.Int64
	flushMu sync.Mutex
	io      []byte // copies of the batch being written; guarded by flushMu
	failed  atomic.Pointer[error]
	closed  atomic.Bool

	reads, writes, batches, evictions, uncommitted atomic.Uint64
}

// New makes a cache.
func New(o Options) (*Cache, error) {
	n := max(int(o.Bytes/int64(o.PageSize)), 16)
	mem, err := mapMemory(n * o.PageSize)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes for the page cache: %w", n*o.PageSize, err)
	}
	if o.OnPage == nil {
		o.OnPage = func(*File, page.No, error) {}
	}
	c := &Cache{o: o, pageSize: o.PageSize, mem: mem, files: make(map[logrec.DBID]*File)}
	for i := range c.shards {
		c.shards[i].m = make(map[key]*Frame)
	}
	all := make([]Frame, n)
	for i := range all {
		all[i].c = c
		all[i].P = page.Page(mem[i*o.PageSize : (i+1)*o.PageSize : (i+1)*o.PageSize])
		c.frames = append(c.frames, &all[i])
	}
	return c, nil
}

// Close waits for the latches and gives the memory back. Who comes later gets ErrClosed: a
// page is only touched under its frame's latch, and no frame holds a page any more.
func (c *Cache) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	for _, fr := range c.all() {
		fr.Lock()
		if fr.file != nil {
			c.forget(fr)
		}
		fr.Unlock()
	}
	c.flushMu.Lock() // a batch being written is in memory of its own, but counts on the files
	defer c.flushMu.Unlock()
	return unmapMemory(c.mem)
}

func (c *Cache) shard(k key) *shard {
	return &c.shards[(uint32(k.no)*2654435761>>16^uint32(k.db))&63]
}

// Stats returns the counters.
func (c *Cache) Stats() Stats {
	return Stats{
		Reads: c.reads.Load(), Writes: c.writes.Load(), Batches: c.batches.Load(),
		Evictions: c.evictions.Load(), UncommittedWrites: c.uncommitted.Load(),
		Dirty: c.dirty.Load(), Frames: int64(len(c.frames)),
	}
}

// Mode says how Fetch latches a page and what it may be.
type Mode uint8

// The modes.
const (
	Shared    Mode = iota
	Exclusive      // to change it
	Fresh          // exclusive, content does not matter: it is about to be initialised
	Redo           // exclusive, a damaged or missing page reads as zero; see Frame.Damage
)

// Fetch returns the frame of a page, latched.
func (c *Cache) Fetch(f *File, no page.No, m Mode) (*Frame, error) {
	k := key{f.DB, no}
	sh := c.shard(k)
	for {
		if f.Refuses(m) {
			return nil, fmt.Errorf("page %d of %s: %w", no, f.Name, ErrDetached)
		}
		sh.mu.Lock()
		fr := sh.m[k]
		sh.mu.Unlock()
		if fr == nil {
			got, err := c.load(f, no, m)
			if err != nil || got != nil {
				return got, err
			}
			continue
		}
		if m == Shared {
			fr.RLock()
			if fr.Is(f, no) {
				fr.Touch()
				return fr, nil
			}
			fr.RUnlock()
			continue
		}
		fr.Lock()
		if fr.Is(f, no) && !f.Refuses(m) {
			fr.Touch()
			return fr, nil
		}
		fr.Unlock()
	}
}

// load brings a page in. It returns nil, nil when the caller must look again.
func (c *Cache) load(f *File, no page.No, m Mode) (*Frame, error) {
	if no == 0 || no > math.MaxInt32 {
		return nil, &PageError{File: f.Name, Page: no, Reason: "no such page"}
	}
	fr, err := c.freeFrame()
	if err != nil {
		return nil, err
	}
	k := key{f.DB, no}
	sh := c.shard(k)
	sh.mu.Lock()
	if sh.m[k] != nil { // somebody was faster
		sh.mu.Unlock()
		fr.Unlock()
		return nil, nil
	}
	sh.m[k] = fr
	sh.mu.Unlock()
	fr.file, fr.no = f, no
	err = c.fill(fr, m)
	if f.Refuses(m) {
		// Unregister may have passed this frame by.
		err = fmt.Errorf("page %d of %s: %w", no, f.Name, ErrDetached)
	}
	if err != nil {
		c.forget(fr)
		fr.Unlock()
		return nil, err
	}
	fr.used.Store(true)
	if m == Shared {
		fr.Unlock()
		return nil, nil
	}
	return fr, nil
}

// fill reads and checks the frame's page.
func (c *Cache) fill(fr *Frame, m Mode) error {
	fr.last.Store(uint64(c.o.Log.End()))
	fr.damage = nil
	if m == Fresh {
		clear(fr.P)
		return nil
	}
	f, no := fr.file, fr.no
	c.reads.Add(1)
	if err := f.read(fr.P, no); err != nil {
		return err
	}
	mended, err := f.verify(fr.P, no, m == Redo)
	var pe *PageError
	if m == Redo && errors.As(err, &pe) {
		if !pe.Blank {
			fr.damage = pe
			clear(fr.P)
		}
		return nil
	}
	if err != nil {
		c.o.OnPage(f, no, err)
		return err
	}
	if mended {
		f.mended.Add(1)
		c.o.OnPage(f, no, nil)
		if !c.o.ReadOnly {
			fr.mended(c.o.Log.End())
		}
	}
	return nil
}

// forget takes the frame's page out of the map; the exclusive latch is held.
func (c *Cache) forget(fr *Frame) {
	k := key{fr.file.DB, fr.no}
	sh := c.shard(k)
	sh.mu.Lock()
	delete(sh.m, k)
	sh.mu.Unlock()
	fr.file, fr.no = nil, 0
}

// freeFrame returns an exclusively latched frame that holds no page.
func (c *Cache) freeFrame() (*Frame, error) {
	for round := 0; ; round++ {
		if fr := c.sweep(); fr != nil {
			return fr, nil
		}
		if c.closed.Load() {
			return nil, ErrClosed
		}
		if err := c.Failed(); err != nil {
			return nil, err
		}
		wrote, err := c.WriteBatch(batchPages, 0)
		if err != nil {
			return nil, err
		}
		if wrote == 0 && round > 2 {
			return c.extraFrame()
		}
	}
}

// sweep moves the clock hand over all frames at most twice.
func (c *Cache) sweep() *Frame {
	n := uint64(len(c.frames))
	for range 2 * n {
		fr := c.frames[c.hand.Add(1)%n]
		if fr.used.Load() {
			fr.used.Store(false)
			continue
		}
		if fr.first.Load() != 0 {
			continue
		}
		if got := c.take(fr); got {
			return fr
		}
	}
	return nil
}

// take latches a clean frame and empties it.
func (c *Cache) take(fr *Frame) bool {
	if !fr.TryLock() {
		return false
	}
	if fr.first.Load() != 0 || c.closed.Load() {
		fr.Unlock()
		return false
	}
	if fr.file != nil {
		c.evictions.Add(1)
		c.forget(fr)
	}
	return true
}

// extraFrame makes a frame beyond the limit, or reuses one.
func (c *Cache) extraFrame() (*Frame, error) {
	c.extraMu.Lock()
	defer c.extraMu.Unlock()
	for _, fr := range c.extra {
		if c.take(fr) {
			return fr, nil
		}
	}
	if len(c.extra) >= extraFrames {
		return nil, ErrFull
	}
	if c.closed.Load() {
		return nil, ErrClosed
	}
	fr := &Frame{c: c, P: make(page.Page, c.pageSize)}
	fr.Lock()
	c.extra = append(c.extra, fr)
	return fr, nil
}

// all returns the frames, extra ones included.
func (c *Cache) all() []*Frame {
	c.extraMu.Lock()
	defer c.extraMu.Unlock()
	if len(c.extra) == 0 {
		return c.frames
	}
	return append(c.frames[:len(c.frames):len(c.frames)], c.extra...)
}

// OldestDirty is the log position of the oldest unwritten change, or limit.
func (c *Cache) OldestDirty(limit logrec.LogPos) logrec.LogPos {
	for _, fr := range c.all() {
		if f := logrec.LogPos(fr.first.Load()); f != 0 && f < limit {
			limit = f
		}
	}
	return limit
}

// Failed is the error of a page write that failed, or nil.
func (c *Cache) Failed() error {
	if p := c.failed.Load(); p != nil {
		return *p
	}
	return nil
}
