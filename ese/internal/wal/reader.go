package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/vfs"
)

// Record is one record of a stream.
type Record struct {
	Type logrec.Type
	Pos  logrec.LogPos
	End  logrec.LogPos
	// Back is the record before of the same transaction, where the type names it.
	Back logrec.LogPos
	// Payload is, from Reader.Next, valid until the next call.
	Payload []byte
}

// End is the end of a stream, where Open goes on.
type End struct {
	Pos   logrec.LogPos
	Chain uint32 // the crc of the last record
	File  string // base name of the file that holds Pos
}

// ReaderOptions configures a Reader. The zero value is usable.
type ReaderOptions struct {
	// OnGeneration is called when a generation is begun, for progress.
	OnGeneration func(GenInfo)
	// Keep leaves the payloads of records valid for good: each generation gets memory of its
	// own.
	Keep bool
}

// Reader walks a stream from a position to its end. It holds one generation in memory.
type Reader struct {
	files files
	o     ReaderOptions
	gens  []GenInfo
	at    int    // index in gens
	buf   []byte // the whole file gens[at]
	off   int64
	chain uint32
	done  bool
	// closed is where the last End stands.
	closed logrec.LogPos
}

// NewReader begins at from, which must be the position of a record or of the stream's end; 0 is
// the oldest record there is.
func NewReader(
	fsys vfs.FS, dir, base string, from logrec.LogPos, o ReaderOptions,
) (*Reader, error) {
	r := &Reader{files: files{fsys, dir, base}, o: o}
	var err error
	if r.gens, err = Generations(fsys, dir, base); err != nil {
		return nil, err
	}
	if len(r.gens) == 0 {
		return nil, r.files.missing(max(1, from.Generation()))
	}
	if from != 0 {
		for r.at < len(r.gens) && r.gens[r.at].Gen < from.Generation() {
			r.at++
		}
		if r.at == len(r.gens) || r.gens[r.at].Gen != from.Generation() {
			return nil, r.files.missing(from.Generation())
		}
	}
	if err := r.load(); err != nil {
		return nil, err
	}
	if from == 0 {
		return r, nil
	}
	return r, r.seek(from.Offset())
}

// seek goes to the record at offset off of the loaded generation. It walks there from the
// beginning, to know the chain also where no record follows. When bytes before off are damaged,
// which is no matter, the record itself tells the chain.
func (r *Reader) seek(off int64) error {
	for r.off < off {
		f, ok := r.frame()
		if !ok || f.Type == logrec.TypeEnd {
			break
		}
		r.step(f)
	}
	if r.off == off {
		return nil
	}
	if off >= headerSize && off < int64(len(r.buf)) {
		if f, ok := logrec.DecodeFrame(r.buf[off:], logrec.MakePos(r.gens[r.at].Gen, off)); ok {
			r.off, r.chain = off, f.Prev
			return nil
		}
	}
	return r.corrupt(off, logrec.ErrLogCorrupt, "no record begins here")
}

// load reads generation gens[at] as a whole: the records of one are needed together anyway when
// its end has to be judged, and a generation is small.
func (r *Reader) load() error {
	g := r.gens[r.at]
	if r.o.Keep {
		r.buf = nil
	}
	buf, err := r.files.readWhole(g, r.buf)
	if err != nil {
		return err
	}
	r.buf, r.off, r.chain = buf, headerSize, g.Header.chainStart()
	if r.o.OnGeneration != nil {
		r.o.OnGeneration(g)
	}
	return nil
}

func (f files) readWhole(g GenInfo, buf []byte) ([]byte, error) {
	file, h, err := f.open(g.Gen)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	if h != g.Header {
		return nil, fmt.Errorf("read %s: %w", f.path(g.Name), errors.New("file changed meanwhile"))
	}
	if int64(cap(buf)) < h.Bytes {
		buf = make([]byte, h.Bytes)
	}
	buf = buf[:h.Bytes]
	if n, err := file.ReadAt(buf, 0); n < len(buf) {
		return nil, fmt.Errorf("read %s: %w", f.path(g.Name), err)
	}
	return buf, nil
}

func (r *Reader) pos() logrec.LogPos { return logrec.MakePos(r.gens[r.at].Gen, r.off) }

// frame returns the record at the current place when it is valid and continues the chain.
func (r *Reader) frame() (logrec.Frame, bool) {
	f, ok := logrec.DecodeFrame(r.buf[r.off:], r.pos())
	return f, ok && f.Prev == r.chain
}

func (r *Reader) step(f logrec.Frame) {
	r.off += int64(f.Size)
	r.chain = f.Sum
}

// Next returns the next record; io.EOF at the end of the stream, whose place End then tells.
// Damage is a *logrec.CorruptError. FlushMark and End are not returned.
func (r *Reader) Next() (Record, error) {
	for !r.done {
		f, ok := r.frame()
		if !ok {
			if err := r.judge(); err != nil {
				return Record{}, err
			}
			r.done = true
			break
		}
		rec := Record{Type: f.Type, Pos: r.pos(), Back: f.Back, Payload: f.Payload}
		r.step(f)
		rec.End = r.pos()
		switch f.Type {
		case logrec.TypeFlushMark:
		case logrec.TypeEnd:
			r.closed = rec.Pos
			if err := r.advance(); err != nil {
				return Record{}, err
			}
		default:
			return rec, nil
		}
	}
	return Record{}, io.EOF
}

// End is the end of the stream, after Next returned io.EOF.
func (r *Reader) End() End {
	return End{Pos: r.pos(), Chain: r.chain, File: r.gens[r.at].Name}
}

// Closed is where the End record stands behind which Next found no next generation; 0 when it is
// another error.
func (r *Reader) Closed() logrec.LogPos {
	if r.closed.Generation() != r.gens[r.at].Gen {
		return 0
	}
	return r.closed
}

// Header is the header of the generation that is being read.
func (r *Reader) Header() Header { return r.gens[r.at].Header }

// advance goes to the next generation after an End record.
func (r *Reader) advance() error {
	cur := &r.gens[r.at]
	if r.at+1 == len(r.gens) || r.gens[r.at+1].Gen != cur.Gen+1 {
		return r.files.missing(cur.Gen + 1)
	}
	next := &r.gens[r.at+1]
	if reason, bad := next.Header.follows(&cur.Header); bad != nil {
		return &logrec.CorruptError{File: r.files.path(next.Name), Reason: reason, Err: bad}
	}
	r.at++
	return r.load()
}

// judge decides what an invalid record means: nil for the end of the stream, else an error
// (docs/format-log.md, "Where the stream ends").
func (r *Reader) judge() error {
	used, err := r.successorUsed()
	if err != nil {
		return err
	}
	if used {
		return r.corrupt(r.off, logrec.ErrLogCorrupt, "no valid record in a closed generation")
	}
	g := r.gens[r.at]
	if m := findMark(r.buf, r.off+1, g.Header); m != 0 {
		return r.corrupt(r.off, logrec.ErrLogCorrupt,
			fmt.Sprintf("record is damaged, and a flush at %v proves that it was committed",
				logrec.MakePos(g.Gen, m)))
	}
	return nil
}

// successorUsed reports whether records were ever written behind the current generation.
func (r *Reader) successorUsed() (bool, error) {
	rest := r.gens[r.at+1:]
	if len(rest) == 0 {
		return false, nil
	}
	if rest[len(rest)-1].Gen > r.gens[r.at].Gen+1 {
		return true, nil
	}
	buf, err := r.files.readWhole(rest[0], nil)
	if err != nil {
		return false, err
	}
	return findMark(buf, headerSize, rest[0].Header) != 0, nil
}

// findMark returns the offset of the first FlushMark of this file from from on, or 0.
func findMark(buf []byte, from int64, h Header) int64 {
	var key [4]byte
	binary.LittleEndian.PutUint32(key[:], h.Key)
	for at := from + logrec.MinFrame; at < int64(len(buf)); at++ {
		i := bytes.Index(buf[at:], key[:])
		if i < 0 {
			break
		}
		at += int64(i)
		off := at - logrec.MinFrame
		if logrec.IsMark(buf[off:], logrec.MakePos(h.Gen, off), h.Key) {
			return off
		}
	}
	return 0
}

func (r *Reader) corrupt(off int64, sentinel error, reason string) error {
	g := r.gens[r.at]
	return &logrec.CorruptError{
		File: r.files.path(g.Name), Pos: logrec.MakePos(g.Gen, off), Reason: reason, Err: sentinel,
	}
}
