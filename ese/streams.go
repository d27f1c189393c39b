package ese

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sort"
	"sync"
	"time"

	"pillarbox/ese/internal/stream"
)

// StreamID names a stream in its database.
type StreamID uint64

// extent is a row of pages of one stream: runs of stream.MaxPayload bytes, the last shorter.
type extent struct {
	off   int64 // of its first byte in the stream
	page  stream.PageNo
	pages int
	bytes int64
}

// appendRun writes the next run of a stream behind off bytes and enters its pages.
func (s *streamSpace) appendRun(tx *Tx, id StreamID, last *extent, payload []byte) error {
	n := stream.Pages(len(payload))
	page, err := s.alloc(tx, n)
	if err != nil {
		return err
	}
	if err := s.db.stream.Append(uint64(id), page, payload); err != nil {
		return err
	}
	off := last.off + last.bytes
	joins := last.pages > 0 && last.pages%stream.RunPages == 0 && last.page+stream.PageNo(last.pages) == page
	r := s.owner.NewRow()
	if joins {
		last.pages += n
		last.bytes += int64(len(payload))
		r.Set(s.cPages, Int(last.pages)).Set(s.cBytes, Int(last.bytes))
		return tx.Update(r, Int(id), Int(last.off))
	}
	*last = extent{off: off, page: page, pages: n, bytes: int64(len(payload))}
	r.Set(s.cStream, Int(id)).Set(s.cOffset, Int(off)).Set(s.cPage, Int(page))
	r.Set(s.cPages, Int(n)).Set(s.cBytes, Int(len(payload)))
	return tx.Insert(r)
}

// WriteStream writes a stream as part of the transaction. It is for content that is in
// memory anyway; StreamWriter takes any size.
func (tx *Tx) WriteStream(db *Database, b []byte) (StreamID, error) {
	if err := tx.writable(); err != nil {
		return 0, err
	}
	s := &db.streams
	id := s.newID()
	var last extent
	for first := true; first || len(b) > 0; first = false {
		n := min(len(b), stream.MaxPayload)
		if err := s.appendRun(tx, id, &last, b[:n]); err != nil {
			return 0, fmt.Errorf("write stream to %s: %w", db.name, err)
		}
		b = b[n:]
	}
	return id, nil
}

// StreamWriter writes a stream that belongs to nobody until a transaction adopts it. It is
// an io.WriteCloser for one goroutine. What is not adopted is freed after the lease, and at
// the next opening of the database.
type StreamWriter struct {
	db   *Database
	id   StreamID
	last extent
	buf  []byte
	size int64
	open bool
	err  error
}

// NewStream begins an unowned stream.
func (db *Database) NewStream() (*StreamWriter, error) {
	s := &db.streams
	w := &StreamWriter{db: db, id: s.newID(), buf: make([]byte, 0, stream.MaxPayload), open: true}
	s.mu.Lock()
	s.writers[w.id] = time.Time{}
	s.loose = true
	s.mu.Unlock()
	err := w.short(func(tx *Tx) error {
		r := s.looseT.NewRow().Set(s.cLoose, Int(w.id)).Set(s.cKind, Int(looseUnowned))
		return tx.Insert(r.Set(s.cUntil, Int(db.in.o.Now().Add(leaseTime).UnixMilli())))
	})
	if err != nil {
		w.gone()
		return nil, fmt.Errorf("new stream in %s: %w", db.name, err)
	}
	return w, nil
}

// short runs a transaction of the writer's own, not waiting for the disk.
func (w *StreamWriter) short(fn func(*Tx) error) error {
	for {
		before := w.last
		tx := w.db.in.Begin()
		err := fn(tx)
		if err == nil {
			_, err = tx.CommitLazy()
		}
		if err == nil {
			return nil
		}
		w.last = before
		if rerr := tx.Rollback(); rerr != nil {
			return errors.Join(err, rerr)
		}
		if !errors.Is(err, ErrWriteConflict) {
			return err
		}
		tx.v.AwaitBlocker(w.db.in.stop)
	}
}

// ID names the stream.
func (w *StreamWriter) ID() StreamID { return w.id }

// Size is the number of bytes written.
func (w *StreamWriter) Size() int64 { return w.size }

// Write appends to the stream.
func (w *StreamWriter) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if !w.open {
		return 0, fmt.Errorf("write stream: %w", ErrTxDone)
	}
	n := 0
	for len(p) > 0 {
		k := copy(w.buf[len(w.buf):cap(w.buf)], p)
		w.buf = w.buf[:len(w.buf)+k]
		p, n = p[k:], n+k
		w.size += int64(k)
		if len(w.buf) == cap(w.buf) {
			if w.err = w.flush(); w.err != nil {
				return n, w.err
			}
		}
	}
	return n, nil
}

// flush writes the buffered run.
func (w *StreamWriter) flush() error {
	err := w.short(func(tx *Tx) error {
		return w.db.streams.appendRun(tx, w.id, &w.last, w.buf)
	})
	w.buf = w.buf[:0]
	if err != nil {
		return fmt.Errorf("write stream to %s: %w", w.db.name, err)
	}
	return nil
}

// Close ends the writing. The stream waits for AdoptStream.
func (w *StreamWriter) Close() error {
	if !w.open {
		return w.err
	}
	if w.err == nil && (len(w.buf) > 0 || w.size == 0) {
		w.err = w.flush()
	}
	w.open = false
	w.buf = nil
	s := &w.db.streams
	s.mu.Lock()
	s.writers[w.id] = w.db.in.o.Now().Add(leaseTime)
	s.mu.Unlock()
	return w.err
}

// Abort gives the stream up.
func (w *StreamWriter) Abort() {
	w.open = false
	w.buf = nil
	w.gone()
}

// gone says that nobody will adopt the stream any more.
func (w *StreamWriter) gone() {
	s := &w.db.streams
	s.mu.Lock()
	delete(s.writers, w.id)
	s.loose = true
	s.mu.Unlock()
}

// AdoptStream makes the transaction the owner of a finished unowned stream. ErrNotFound when
// it is not there or its lease has ended.
func (tx *Tx) AdoptStream(db *Database, id StreamID) error {
	s := &db.streams
	if err := tx.Delete(s.looseT, Int(id)); err != nil {
		return fmt.Errorf("adopt stream %d: %w", id, err)
	}
	tx.onCommit = append(tx.onCommit, func() {
		s.mu.Lock()
		delete(s.writers, id)
		s.mu.Unlock()
	})
	return nil
}

// DeleteStream deletes a stream. Its pages are used again once the transaction has committed
// and no snapshot and no reader needs them.
func (tx *Tx) DeleteStream(db *Database, id StreamID) error {
	s := &db.streams
	r := s.looseT.NewRow().Set(s.cLoose, Int(id)).Set(s.cKind, Int(looseFreed))
	if err := tx.Insert(r); err != nil {
		return fmt.Errorf("delete stream %d: %w", id, err)
	}
	s.mu.Lock()
	s.loose = true
	s.mu.Unlock()
	return nil
}

// StreamReader reads a stream. It stays good after its transaction has ended, until Close;
// it is safe for concurrent use.
type StreamReader struct {
	db      *Database
	id      StreamID
	size    int64
	extents []extent

	mu   sync.Mutex
	buf  []byte // memory for a run
	run  []byte // payload of the run read last, in buf
	from int64  // offset of run in the stream
	done bool
}

// OpenStream opens a stream for reading. ErrNotFound when there is none. The reader of a
// stream that the transaction itself has written is good only if the transaction commits.
func (tx *Tx) OpenStream(db *Database, id StreamID) (*StreamReader, error) {
	if err := tx.alive(); err != nil {
		return nil, err
	}
	s := &db.streams
	s.mu.Lock()
	s.pins[id]++
	s.mu.Unlock()
	r := &StreamReader{db: db, id: id}
	err := s.eachExtent(tx, id, func(e extent) error {
		if e.off != r.size {
			return &StreamError{File: db.stream.Name, Page: e.page, Reason: fmt.Sprintf("stream %d has a gap at %d", id, r.size)}
		}
		r.extents = append(r.extents, e)
		r.size += e.bytes
		return nil
	})
	if err == nil && len(r.extents) == 0 {
		err = fmt.Errorf("stream %d of %s: %w", id, db.name, ErrNotFound)
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// eachExtent calls fn for the extents of a stream.
func (s *streamSpace) eachExtent(tx *Tx, id StreamID, fn func(extent) error) error {
	c := tx.Cursor(s.owner.primary)
	if err := c.Prefix(Int(id)); err != nil {
		return err
	}
	ok, err := c.First()
	for ; ok && err == nil; ok, err = c.Next() {
		v := c.Row()
		e := extent{
			off: v.Int(s.cOffset), page: stream.PageNo(v.Int(s.cPage)),
			pages: int(v.Int(s.cPages)), bytes: v.Int(s.cBytes),
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	return err
}

// Size is the length of the stream in bytes.
func (r *StreamReader) Size() int64 { return r.size }

// ReadAt reads from the stream. Every run it touches is checked against its checksum.
func (r *StreamReader) ReadAt(p []byte, off int64) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if off < 0 {
		return 0, fmt.Errorf("read stream %d at %d: %w", r.id, off, ErrBadValue)
	}
	n := 0
	for n < len(p) {
		at := off + int64(n)
		if at >= r.size {
			return n, io.EOF
		}
		whole, err := r.direct(p[n:], at)
		if err != nil {
			return n, err
		}
		if n += whole; whole > 0 {
			continue
		}
		if err := r.load(at); err != nil {
			return n, err
		}
		n += copy(p[n:], r.run[at-r.from:])
	}
	return n, nil
}

// load reads the run that holds the byte at off.
func (r *StreamReader) load(off int64) error {
	if r.done {
		return fmt.Errorf("read stream %d: %w", r.id, ErrTxDone)
	}
	if r.run != nil && off >= r.from && off < r.from+int64(len(r.run)) {
		return nil
	}
	page, from, want := r.find(off)
	if r.buf == nil {
		r.buf = make([]byte, stream.HeaderSize+int(min(r.size, stream.MaxPayload)))
	}
	run, err := r.db.stream.ReadRun(r.buf, uint64(r.id), page, want)
	if err != nil {
		r.run = nil
		return r.closed(err)
	}
	r.run, r.from = run, from
	return nil
}

// extent is the one with the byte at off, which is less than the stream's size.
func (r *StreamReader) extent(off int64) extent {
	k := sort.Search(len(r.extents), func(k int) bool { return off < r.extents[k].off+r.extents[k].bytes })
	return r.extents[k]
}

// find is where the run with the byte at off lies: its page, the offset in the stream that it
// begins at, its length. off is less than the stream's size.
func (r *StreamReader) find(off int64) (page stream.PageNo, from int64, want int) {
	e := r.extent(off)
	i := (off - e.off) / stream.MaxPayload
	return e.page + stream.PageNo(i*stream.RunPages), e.off + i*stream.MaxPayload,
		int(min(e.bytes-i*stream.MaxPayload, stream.MaxPayload))
}

// direct reads the runs that begin at off into p, as many of the extent as p has room for whole. It
// returns how much that is.
func (r *StreamReader) direct(p []byte, off int64) (int, error) {
	if r.done {
		return 0, nil // load says so
	}
	e := r.extent(off)
	at := off - e.off
	if at%stream.MaxPayload != 0 {
		return 0, nil
	}
	n := e.bytes - at
	if room := int64(len(p)); n > room {
		n = room - room%stream.MaxPayload
	}
	page := e.page + stream.PageNo(at/stream.MaxPayload*stream.RunPages)
	return int(n), r.closed(r.db.stream.ReadInto(p[:n], uint64(r.id), page))
}

// closed says ErrClosed where the database has gone under the reader.
func (r *StreamReader) closed(err error) error {
	if errors.Is(err, fs.ErrClosed) {
		return fmt.Errorf("read stream %d: %w", r.id, ErrClosed)
	}
	return err
}

// Close lets the stream's pages be reused if it has been deleted.
func (r *StreamReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done {
		return nil
	}
	r.done, r.run, r.buf = true, nil, nil
	s := &r.db.streams
	s.mu.Lock()
	if s.pins[r.id]--; s.pins[r.id] <= 0 {
		delete(s.pins, r.id)
	}
	s.mu.Unlock()
	return nil
}
