package stream

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"

	"pillarbox/ese/internal/dbheader"
	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/vfs"
)

// Log is what a stream file asks of the write-ahead log.
type Log interface {
	Append(typ logrec.Type, parts ...[]byte) (start, end logrec.LogPos, err error)
	FlushTo(logrec.LogPos) error
	End() logrec.LogPos
	MaxRecord() int
}

// File is an open .stm file.
type File struct {
	Name string
	DB   logrec.DBID
	// BeforeWrite, when set, is told before bytes are written where the log of them ends, which
	// is durable.
	BeforeWrite func(last logrec.LogPos) error

	f     vfs.File
	log   Log
	limit int64

	roomMu sync.Mutex
	room   int64 // bytes from the start that surely are on the disk

	writeMu sync.Mutex // one writer to the file at a time

	mu       sync.Mutex
	redoing  bool
	base     int64     // the file's size before redo
	redone   []span    // what redo wrote behind base, in log order
	progress sync.Cond // a run is wholly logged, written or given up
	runs     map[PageNo]*run
	queue    []*run // in log order
	bytes    int64
	unsynced logrec.LogPos // oldest record whose bytes are written but not synced; 0 = none
	failed   error         // of a sync; it is never tried again
}

// span is a range of bytes of the file.
type span struct{ from, to int64 }

// run is a run that is not yet in the file.
type run struct {
	page       PageNo
	data       []byte
	start, end logrec.LogPos // start is 0 until it is logged
}

// NewFile wraps an open .stm file; limit bounds the bytes held for it.
func NewFile(name string, db logrec.DBID, f vfs.File, log Log, limit int64) *File {
	fl := &File{Name: name, DB: db, f: f, log: log, limit: limit, runs: make(map[PageNo]*run)}
	fl.progress.L = &fl.mu
	return fl
}

// Append logs a run of stream id with the given payload at a free page and keeps it for
// writing.
func (f *File) Append(id uint64, page PageNo, payload []byte) error {
	if err := f.wait(); err != nil {
		return err
	}
	r := &run{page: page, data: make([]byte, HeaderSize+len(payload))}
	copy(r.data[HeaderSize:], payload)
	seal(r.data, id)
	// The run is announced before it is logged, so that the checkpoint cannot pass it.
	f.mu.Lock()
	r.start = f.log.End()
	f.runs[page] = r
	f.queue = append(f.queue, r)
	f.bytes += int64(len(r.data))
	f.mu.Unlock()

	step := min(f.log.MaxRecord()-64, MaxPayload)
	var end logrec.LogPos
	for off := 0; off < len(r.data); off += step {
		rec := logrec.StreamRec{DB: f.DB, Offset: page.Offset() + int64(off)}
		piece := r.data[off:min(off+step, len(r.data))]
		var err error
		if _, end, err = f.log.Append(logrec.TypeStream, rec.AppendHead(nil), piece); err != nil {
			f.giveUp(r)
			return fmt.Errorf("write stream to %s: %w", f.Name, err)
		}
	}
	f.mu.Lock()
	r.end = end
	f.progress.Broadcast()
	f.mu.Unlock()
	return nil
}

// Steps in which the file gets room on the disk.
const (
	minRoom = 256 << 10
	maxRoom = 4 << 20
)

// Ensure makes sure of room on the disk for all pages below end. vfs.ErrDiskFull when there
// is none.
func (f *File) Ensure(end PageNo) error {
	need := end.Offset()
	f.roomMu.Lock()
	defer f.roomMu.Unlock()
	if need <= f.room {
		return nil
	}
	for _, size := range []int64{need + min(max(need/8, minRoom), maxRoom), need} {
		err := f.f.Allocate(size)
		if err == nil {
			f.room = size
			return nil
		}
		if !vfs.IsDiskFull(err) || size == need {
			return fmt.Errorf("grow %s to %d bytes: %w", f.Name, size, err)
		}
	}
	return nil
}

// giveUp forgets a run that the log would not take.
func (f *File) giveUp(r *run) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := slices.Index(f.queue, r); i >= 0 {
		f.queue = slices.Delete(f.queue, i, i+1)
	}
	if f.runs[r.page] == r {
		delete(f.runs, r.page)
	}
	f.bytes -= int64(len(r.data))
	f.progress.Broadcast()
}

// wait writes out the oldest runs while more than the limit is held. Where the oldest is
// still being logged by another goroutine it waits for that one.
func (f *File) wait() error {
	for {
		f.mu.Lock()
		for f.bytes > f.limit && len(f.queue) > 0 && f.queue[0].end == 0 {
			f.progress.Wait()
		}
		over := f.bytes > f.limit && len(f.queue) > 0
		f.mu.Unlock()
		if !over {
			return nil
		}
		if _, err := f.Write(f.limit / 4); err != nil {
			return err
		}
	}
}

// Write writes held runs, oldest first, until want bytes are gone or none is left that is
// wholly logged. It returns the bytes written.
func (f *File) Write(want int64) (int64, error) {
	f.writeMu.Lock()
	defer f.writeMu.Unlock()
	f.mu.Lock()
	var batch []*run
	n := int64(0)
	var end logrec.LogPos
	for _, r := range f.queue {
		if n >= want || r.end == 0 {
			break
		}
		batch = append(batch, r)
		n += int64(len(r.data))
		end = max(end, r.end)
	}
	f.mu.Unlock()
	if len(batch) == 0 {
		return 0, nil
	}
	if err := f.log.FlushTo(end); err != nil {
		return 0, err
	}
	if err := f.beforeWrite(end); err != nil {
		return 0, err
	}
	for _, r := range batch {
		if _, err := f.f.WriteAt(r.data, r.page.Offset()); err != nil {
			return 0, fmt.Errorf("write %s: %w", f.Name, err)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range batch {
		if f.unsynced == 0 || r.start < f.unsynced {
			f.unsynced = r.start
		}
		if f.runs[r.page] == r {
			delete(f.runs, r.page)
		}
		f.bytes -= int64(len(r.data))
	}
	f.queue = slices.Delete(f.queue, 0, len(batch))
	f.progress.Broadcast()
	return n, nil
}

func (f *File) beforeWrite(last logrec.LogPos) error {
	if f.BeforeWrite == nil {
		return nil
	}
	return f.BeforeWrite(last)
}

// Redo writes the bytes of a log record again.
func (f *File) Redo(rec logrec.StreamRec, pos logrec.LogPos) error {
	if err := f.beforeWrite(pos); err != nil {
		return err
	}
	if _, err := f.f.WriteAt(rec.Data, rec.Offset); err != nil {
		return fmt.Errorf("redo %s: %w", f.Name, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.unsynced == 0 || pos < f.unsynced {
		f.unsynced = pos
	}
	to := rec.Offset + int64(len(rec.Data))
	if !f.redoing || to <= f.base {
		return nil
	}
	if n := len(f.redone); n > 0 && f.redone[n-1].to == rec.Offset {
		f.redone[n-1].to = to
	} else {
		f.redone = append(f.redone, span{rec.Offset, to})
	}
	return nil
}

// BeginRedo notes the file's size: what lies behind it must come from the log.
func (f *File) BeginRedo() error {
	size, err := f.f.Size()
	if err != nil {
		return fmt.Errorf("size of %s: %w", f.Name, err)
	}
	f.mu.Lock()
	f.redoing, f.base = true, size
	f.mu.Unlock()
	return nil
}

// EndRedo forgets what redo wrote; it returns a function that tells whether a page in use is
// there: before the former end of the file, or written by redo. It is nil without BeginRedo.
// All pages below from are there.
func (f *File) EndRedo() (there func(PageNo) bool, from PageNo) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.redoing {
		return nil, 0
	}
	base, spans := f.base, union(f.redone)
	f.redoing, f.base, f.redone = false, 0, nil
	return func(no PageNo) bool {
		off := no.Offset()
		// A page is written from its start or not at all.
		i, _ := slices.BinarySearchFunc(spans, off, func(s span, at int64) int { return cmp.Compare(s.to-1, at) })
		return off < base || (i < len(spans) && spans[i].from <= off)
	}, PageNo(max(base/PageSize-1, 0))
}

// union sorts spans and joins those that touch.
func union(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var out []span
	for _, s := range spans {
		if n := len(out); n > 0 && s.from <= out[n-1].to {
			out[n-1].to = max(out[n-1].to, s.to)
			continue
		}
		out = append(out, s)
	}
	return out
}

// Sync makes everything written durable.
func (f *File) Sync() error {
	f.writeMu.Lock()
	defer f.writeMu.Unlock()
	f.mu.Lock()
	need, err := f.unsynced != 0, f.failed
	f.mu.Unlock()
	if !need || err != nil {
		return err
	}
	if err := f.f.SyncData(); err != nil {
		// A second sync may succeed without the bytes being there: the log keeps them.
		err = fmt.Errorf("sync %s: %w", f.Name, err)
		f.mu.Lock()
		f.failed = err
		f.mu.Unlock()
		return err
	}
	f.mu.Lock()
	f.unsynced = 0
	f.mu.Unlock()
	return nil
}

// WriteAll writes and syncs everything; no writer may be active.
func (f *File) WriteAll() error {
	if _, err := f.Write(math.MaxInt64); err != nil {
		return err
	}
	return f.Sync()
}

// Oldest is the log position of the oldest run not synced, or limit.
func (f *File) Oldest(limit logrec.LogPos) logrec.LogPos {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.unsynced != 0 {
		limit = min(limit, f.unsynced)
	}
	for _, r := range f.queue {
		limit = min(limit, r.start)
	}
	return limit
}

// Held is the number of bytes waiting to be written.
func (f *File) Held() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bytes
}

// ReadRun reads the payload of a run of stream id: want bytes at page. buf is used when it
// is large enough for a whole run.
func (f *File) ReadRun(buf []byte, id uint64, page PageNo, want int) ([]byte, error) {
	f.mu.Lock()
	r := f.runs[page]
	f.mu.Unlock()
	if r != nil {
		if payload, reason := open(r.data, id, want); reason == "" {
			return append(buf[:0], payload...), nil
		}
	}
	if want < 0 || want > MaxPayload {
		return nil, &BadRunError{f.Name, page, fmt.Sprintf("its extent says %d bytes", want)}
	}
	n := HeaderSize + want
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if _, err := f.f.ReadAt(buf, page.Offset()); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read stream page %d of %s: %w", page, f.Name, err)
	}
	payload, reason := open(buf, id, want)
	if reason != "" {
		return nil, &BadRunError{f.Name, page, reason}
	}
	return payload, nil
}

// vectorReader is a file that fills several buffers by one call.
type vectorReader interface {
	ReadVecAt(bufs [][]byte, off int64) (int, error)
}

// MaxRuns is how many runs ReadInto reads by one call of the system.
const MaxRuns = 16

// ReadInto reads runs of stream id that lie one behind the other from page on into dst, which is as
// long as their payloads: all but the last are full. No byte of it is copied twice, and runs on the
// disk come by one call for each MaxRuns of them.
func (f *File) ReadInto(dst []byte, id uint64, page PageNo) error {
	var room [MaxRuns * HeaderSize]byte
	for len(dst) > 0 {
		n := min(len(dst), MaxRuns*MaxPayload)
		runs := (n + MaxPayload - 1) / MaxPayload
		if f.holds(page, runs) {
			n, runs = min(n, MaxPayload), 1
		}
		if err := f.readRuns(dst[:n], room[:runs*HeaderSize], id, page); err != nil {
			return err
		}
		dst, page = dst[n:], page+PageNo(runs*RunPages)
	}
	return nil
}

// holds tells whether one of the runs from page on waits to be written.
func (f *File) holds(page PageNo, runs int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.runs) == 0 {
		return false
	}
	for i := range runs {
		if f.runs[page+PageNo(i*RunPages)] != nil {
			return true
		}
	}
	return false
}

// readRuns reads the runs whose headers go to heads.
func (f *File) readRuns(dst, heads []byte, id uint64, page PageNo) error {
	f.mu.Lock()
	r := f.runs[page]
	f.mu.Unlock()
	if r != nil && len(heads) == HeaderSize {
		if payload, reason := open(r.data, id, len(dst)); reason == "" {
			copy(dst, payload)
			return nil
		}
	}
	if err := f.fill(dst, heads, page); err != nil {
		return fmt.Errorf("read stream page %d of %s: %w", page, f.Name, err)
	}
	for ; len(heads) > 0; heads, page = heads[HeaderSize:], page+RunPages {
		payload := dst[:min(len(dst), MaxPayload)]
		dst = dst[len(payload):]
		if reason := check(heads[:HeaderSize], payload, id); reason != "" {
			return &BadRunError{f.Name, page, reason}
		}
	}
	return nil
}

// fill reads headers and payloads. What lies behind the end of the file stays as it is: the headers
// tell.
func (f *File) fill(dst, heads []byte, page PageNo) error {
	clear(heads)
	v, vector := f.f.(vectorReader)
	var room [2 * MaxRuns][]byte
	bufs := room[:0]
	off := page.Offset()
	for ; len(heads) > 0; heads = heads[HeaderSize:] {
		payload := dst[:min(len(dst), MaxPayload)]
		dst = dst[len(payload):]
		if bufs = append(bufs, heads[:HeaderSize], payload); vector {
			continue
		}
		for _, b := range bufs {
			if _, err := f.f.ReadAt(b, off); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			off += int64(len(b))
		}
		bufs = bufs[:0]
	}
	if !vector {
		return nil
	}
	if _, err := v.ReadVecAt(bufs, off); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// CopyAt reads the file as it stands on the disk, for a backup: no run is being written
// meanwhile. Fewer bytes come with io.EOF.
func (f *File) CopyAt(p []byte, off int64) (int, error) {
	f.writeMu.Lock()
	defer f.writeMu.Unlock()
	return f.f.ReadAt(p, off)
}

// Size is the size of the file in bytes.
func (f *File) Size() (int64, error) { return f.f.Size() }

// Close closes the file.
func (f *File) Close() error { return f.f.Close() }

// Init writes the file's header by write, durably.
func (f *File) Init(write func(vfs.File) error) error {
	if err := write(f.f); err != nil {
		return fmt.Errorf("header of %s: %w", f.Name, err)
	}
	return nil
}

// CheckSize refuses a file that ends before page last, the highest in use. Page 0 is always
// taken for good, since an empty file has none.
func (f *File) CheckSize(last PageNo) error {
	size, err := f.f.Size()
	if err != nil {
		return fmt.Errorf("size of %s: %w", f.Name, err)
	}
	if last > 0 && size <= last.Offset() {
		return &BadRunError{f.Name, last, fmt.Sprintf(
			"the file has only %d bytes: it was cut, restore it with its database", size)}
	}
	return nil
}

// ReadHeader reads the file's header.
func (f *File) ReadHeader() (dbheader.Header, error) {
	b := make([]byte, PageSize)
	if _, err := f.f.ReadAt(b, 0); err != nil {
		return dbheader.Header{}, fmt.Errorf("header of %s: %w", f.Name, err)
	}
	h, err := dbheader.Parse(b)
	if err != nil {
		return h, fmt.Errorf("header of %s: %w", f.Name, err)
	}
	return h, nil
}
