package ese

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"pillarbox/ese/internal/record"
)

// LongValue reads and writes a long column of one row in pieces: no more than one chunk, less
// than a page, is in memory. It is an io.Reader, Writer, Seeker, ReaderAt and WriterAt, for one
// goroutine, and good until its transaction ends. Many small writes at the end each write the
// last chunk again: gather them (bufio.Writer).
type LongValue struct {
	tx     *Tx
	t      *Table
	c      *Column
	pk     []byte // nil: of a view, not to be written
	lid    uint32 // 0: the value is in the record, or NULL
	inline []byte
	size   int64
	at     int64  // where Read and Write go on
	edits  uint64 // of the transaction, when the row was read
	own    bool   // locked, with one reference: chunks may be changed in place
	buf    []byte
	plain  []byte // room for a compressed chunk
	// While the transaction's edits stand at heldEdits, buf is the chunk at held-1. 0: none.
	held      int64
	heldEdits uint64
}

// OpenLong opens a long column of the row with the primary key, to be read and, in a
// read-write transaction, written. A NULL is an empty value until it is written to.
func (tx *Tx) OpenLong(t *Table, c *Column, key ...Value) (*LongValue, error) {
	if err := tx.alive(); err != nil {
		return nil, err
	}
	if !c.long() || c.multi {
		return nil, fmt.Errorf("open %s of %s: %w: not a long column of one value", c.name, t.Name(), ErrSchema)
	}
	pk, err := t.primary.searchKey(nil, key)
	if err != nil {
		return nil, err
	}
	l := &LongValue{tx: tx, t: t, c: c, pk: pk}
	if err := l.reload(); err != nil {
		return nil, t.opError("open a long value of", t.primary, err)
	}
	return l, nil
}

// Open opens a long column of the row for reading.
func (v *RowView) Open(c *Column) (*LongValue, error) {
	l := &LongValue{tx: v.tx, t: v.t, c: c}
	return l, l.take(v)
}

// reload reads the row.
func (l *LongValue) reload() error {
	var v RowView
	var buf []byte
	ok, err := l.tx.getKey(l.t, &v, &buf, l.pk)
	if err == nil && !ok {
		err = ErrNotFound
	}
	if err != nil {
		return err
	}
	return l.take(&v)
}

// take finds the value in a row.
func (l *LongValue) take(v *RowView) error {
	b, sep, _, err := v.value(l.c)
	if err != nil {
		return err
	}
	l.edits, l.own, l.lid, l.held = l.tx.v.Edits(), false, 0, 0
	if !sep {
		l.inline, l.size = slices.Clone(b), int64(len(b))
		return nil
	}
	l.inline, l.lid = nil, lidOf(b)
	if l.t.lv.Load() == nil || l.lid == 0 {
		return fmt.Errorf("table %s: malformed long-value id %x", l.t.Name(), b)
	}
	_, size, err := l.t.lvRoot(l.tx, l.lid)
	l.size = int64(size)
	return err
}

// fresh reads the row again when the transaction has changed something meanwhile.
func (l *LongValue) fresh() error {
	if err := l.tx.alive(); err != nil {
		return err
	}
	switch {
	case l.pk == nil || l.edits == l.tx.v.Edits():
		return nil
	}
	return l.reload()
}

// Size is the value's length in bytes.
func (l *LongValue) Size() (int64, error) { return l.size, l.fresh() }

// ReadAt reads len(p) bytes from off on; io.EOF when there are fewer.
func (l *LongValue) ReadAt(p []byte, off int64) (n int, err error) {
	if err := l.fresh(); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, fmt.Errorf("%w: offset %d", ErrBadValue, off)
	}
	for n < len(p) && off < l.size {
		b, from, err := l.chunk(off)
		if err != nil {
			return n, err
		}
		k := copy(p[n:], b[off-from:])
		n, off = n+k, off+int64(k)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// chunk reads the chunk that holds off, and says where it begins.
func (l *LongValue) chunk(off int64) (b []byte, from int64, err error) {
	if l.lid == 0 {
		return l.inline, 0, nil
	}
	step := l.step()
	from = off / step * step
	if l.held == from+1 && l.heldEdits == l.tx.v.Edits() {
		return l.buf, from, nil
	}
	if err = l.load(from, min(step, l.size-from)); err == nil {
		l.held, l.heldEdits = from+1, l.tx.v.Edits()
	}
	return l.buf, from, err
}

// load reads the chunk at from, of which there are want bytes.
func (l *LongValue) load(from, want int64) error {
	var ok bool
	var err error
	l.held = 0
	l.buf, ok, err = l.t.lv.Load().Get(&l.tx.v, l.key(from), l.buf[:0])
	if err == nil && !ok {
		err = errors.New("it is missing")
	}
	if err == nil && int64(len(l.buf)) < want {
		if l.plain, err = expandChunk(l.plain[:0], l.buf, int(want)); err == nil {
			l.buf, l.plain = l.plain, l.buf
		}
	}
	if err == nil && int64(len(l.buf)) != want {
		err = fmt.Errorf("it has %d bytes, not %d", len(l.buf), want)
	}
	if err != nil {
		return fmt.Errorf("table %s: long value %d: chunk at %d: %w: run the integrity check",
			l.t.Name(), l.lid, from, err)
	}
	return nil
}

// store returns a chunk as it is to be stored, in memory that the next use of the value
// takes again.
func (l *LongValue) store(data []byte) (stored []byte) {
	stored, l.plain = l.t.chunk(l.c.packed, l.plain, data)
	return stored
}

func (l *LongValue) step() int64 { return int64(chunkSize(l.t.db.in.o.PageSize)) }

func (l *LongValue) key(off int64) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, l.lid), uint32(off))
}

// Read reads on.
func (l *LongValue) Read(p []byte) (int, error) {
	n, err := l.ReadAt(p, l.at)
	l.at += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// Seek sets where Read and Write go on.
func (l *LongValue) Seek(off int64, whence int) (int64, error) {
	if err := l.fresh(); err != nil {
		return l.at, err
	}
	switch whence {
	case io.SeekCurrent:
		off += l.at
	case io.SeekEnd:
		off += l.size
	}
	if off < 0 {
		return l.at, fmt.Errorf("%w: offset %d", ErrBadValue, off)
	}
	l.at = off
	return off, nil
}

// Write writes on, over what is there or behind it.
func (l *LongValue) Write(p []byte) (int, error) {
	n, err := l.WriteAt(p, l.at)
	l.at += int64(n)
	return n, err
}

// WriteAt writes p at off. A gap behind the end is filled with zeros. After an error nothing
// of it has happened.
func (l *LongValue) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > math.MaxInt32 {
		return 0, fmt.Errorf("%w: %d bytes at %d of a long value", ErrTooBig, len(p), off)
	}
	if len(p) == 0 {
		return 0, nil
	}
	err := l.change(func() error {
		if err := l.grow(off); err != nil {
			return err
		}
		end := off + int64(len(p))
		was := l.size
		l.size = max(l.size, end)
		for rest := p; len(rest) > 0; {
			k, err := l.put(rest, off, was)
			if err != nil {
				return err
			}
			rest, off = rest[k:], off+int64(k)
		}
		return l.storeSize(was)
	})
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// Truncate makes the value size bytes long, with zeros where it grows.
func (l *LongValue) Truncate(size int64) error {
	if size < 0 || size > math.MaxInt32 {
		return fmt.Errorf("%w: long value of %d bytes", ErrTooBig, size)
	}
	return l.change(func() error {
		if size >= l.size {
			return l.grow(size)
		}
		was, step := l.size, l.step()
		if from := size / step * step; size > from {
			b, _, err := l.chunk(from)
			if err == nil {
				err = l.t.lv.Load().Replace(&l.tx.v, l.key(from), l.store(b[:size-from]))
			}
			if err != nil {
				return err
			}
		}
		if err := l.t.cutLV(l.tx, l.key((size+step-1)/step*step), l.lid); err != nil {
			return err
		}
		l.size = size
		return l.storeSize(was)
	})
}

// change runs a change of the value; what a failed one has done is taken back.
func (l *LongValue) change(fn func() error) error {
	if err := l.tx.writable(); err != nil {
		return err
	}
	if l.pk == nil {
		return fmt.Errorf("write a long value of %s: %w: opened from a view; use Tx.OpenLong", l.t.Name(), ErrReadOnly)
	}
	mark := l.tx.v.Mark()
	err := l.fresh()
	if err == nil {
		err = l.claim()
	}
	if err == nil {
		err = fn()
	}
	if err != nil {
		err = l.tx.fallBack(mark, err)
		l.edits = math.MaxUint64 // read the row again
		return fmt.Errorf("write a long value of %s: %w", l.t.Name(), err)
	}
	l.edits = l.tx.v.Edits()
	return nil
}

// claim makes the value the row's alone, in chunks of its own, and keeps others from sharing
// it until the transaction ends.
func (l *LongValue) claim() error {
	if l.own {
		return nil
	}
	for _, x := range l.t.s.Load().second {
		if x.kept(l.tx) && slices.Contains(x.cols, l.c) {
			return fmt.Errorf("%w: column %s is a key of index %s: use Update", ErrSchema, l.c.name, x.name)
		}
	}
	if err := l.t.tree.Lock(&l.tx.v, l.pk); err != nil {
		return err
	}
	if l.lid != 0 {
		if err := l.t.lv.Load().Lock(&l.tx.v, binary.BigEndian.AppendUint32(nil, l.lid)); err != nil {
			return err
		}
		refs, _, err := l.t.lvRoot(l.tx, l.lid)
		if err != nil {
			return err
		}
		if refs == 1 {
			l.own = true
			return nil
		}
	}
	return l.separate()
}

// separate gives the row a long value of its own with the same content.
func (l *LongValue) separate() error {
	id, err := l.t.writeLV(l.tx, nil, false)
	if err != nil {
		return err
	}
	src := *l
	l.lid, l.inline, l.size, l.own = lidOf(id), nil, src.size, true
	l.buf, l.plain, l.held = nil, nil, 0 // src has them now
	for off := int64(0); off < src.size; off += l.step() {
		b, _, err := src.chunk(off)
		if err != nil {
			return err
		}
		if src.lid == 0 {
			b = b[off:min(off+l.step(), src.size)]
		}
		if err := l.t.lv.Load().Insert(&l.tx.v, l.key(off), l.store(b)); err != nil {
			return err
		}
	}
	if err := l.t.putRoot(l.tx, l.lid, 1, uint32(l.size)); err != nil {
		return err
	}
	r := l.t.NewRow().Set(l.c, Value{kind: kindLong, n: uint64(l.lid)})
	return l.tx.updateKey(r, l.pk) // it lets the old value go
}

// grow appends zeros up to size.
func (l *LongValue) grow(size int64) error {
	was := l.size
	zeros := make([]byte, l.step())
	for l.size < size {
		n := min(size-l.size, l.step()-l.size%l.step())
		off := l.size
		l.size += n
		if _, err := l.put(zeros[:n], off, off); err != nil {
			return err
		}
	}
	return l.storeSize(was)
}

// put writes what of p fits the chunk at off; was is the size that is stored.
func (l *LongValue) put(p []byte, off, was int64) (int, error) {
	step := l.step()
	from := off / step * step
	k := int(min(int64(len(p)), from+step-off))
	lv := l.t.lv.Load()
	if from >= was { // a new chunk; what is before off was filled
		return k, lv.Insert(&l.tx.v, l.key(from), l.store(p[:k]))
	}
	if err := l.load(from, min(step, was-from)); err != nil {
		return 0, err
	}
	at := int(off - from)
	if at+k > len(l.buf) {
		l.buf = append(l.buf[:at], p[:k]...)
	} else {
		copy(l.buf[at:], p[:k])
	}
	return k, lv.Replace(&l.tx.v, l.key(from), l.store(l.buf))
}

// storeSize notes a new size in the root.
func (l *LongValue) storeSize(was int64) error {
	if l.size == was {
		return nil
	}
	return l.t.putRoot(l.tx, l.lid, 1, uint32(l.size))
}

// Share gives a long column the value that it has in another row of the table, which the
// transaction sees: a long one is not copied, both rows refer to it until one changes.
func (r *Row) Share(c *Column, from *RowView) *Row {
	b, sep, ok, err := from.value(c)
	switch {
	case err != nil:
		return r.Set(c, Value{kind: kindShared}) // refused when it is stored
	case !ok:
		return r.Set(c, Null())
	case !sep:
		return r.Set(c, Bytes(slices.Clone(b)))
	case from.t != r.t:
		return r.Set(c, Value{kind: kindShared}) // refused when it is stored
	}
	return r.Set(c, Value{kind: kindShared, n: uint64(lidOf(b))})
}

// refer makes f refer to a long value that is there.
func (r *Row) refer(tx *Tx, c *Column, f *record.Field, old *RowView) error {
	v := r.vals[c.pos]
	lid := uint32(v.n)
	if !c.long() || lid == 0 || r.t.lv.Load() == nil {
		return fmt.Errorf("%w: column %s of %s cannot share a long value of another table", ErrBadValue, c.name, r.t.Name())
	}
	f.Data, f.Separated = binary.LittleEndian.AppendUint32(nil, lid), true
	if v.kind == kindLong {
		return nil
	}
	if old != nil {
		if b, sep, _ := old.field(c); sep && lidOf(b) == lid {
			return nil // it has it already
		}
	}
	return r.t.shareLV(tx, lid)
}
