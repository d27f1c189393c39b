package offline

import (
	"bufio"
	"bytes"
	"cmp"
	"container/heap"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"

	"pillarbox/ese/vfs"
)

// sortBytes is how much of one table's index entries is held in memory before it is written to
// the spill file, in order.
const sortBytes = 64 << 20

// spillFile holds sorted runs of index entries, one behind the other. It is made when the first
// is written and removed in the end.
type spillFile struct {
	fsys vfs.FS
	path string
	f    vfs.File
	end  int64
}

// close removes the file.
func (s *spillFile) close() error {
	if s.f == nil {
		return nil
	}
	err := errors.Join(s.f.Close(), s.fsys.Remove(s.path))
	s.f, s.end = nil, 0
	return err
}

// spillRun is a sorted run in the spill file.
type spillRun struct{ at, bytes int64 }

// sorter brings the entries of one index into order, in bounded memory.
type sorter struct {
	spill *spillFile
	limit int // bytes held in memory
	order func(a, b *entry) int

	held  []entry
	bytes int
	runs  []spillRun
}

// add takes an entry, whose slices it keeps.
func (s *sorter) add(e entry) error {
	s.held = append(s.held, e)
	// A slice takes 24 bytes beside its contents.
	s.bytes += len(e.key) + len(e.data) + 48
	if s.bytes < s.limit {
		return nil
	}
	return s.flush()
}

func (s *sorter) sort() {
	slices.SortFunc(s.held, func(a, b entry) int { return s.order(&a, &b) })
}

// flush writes what is held as a run.
func (s *sorter) flush() (err error) {
	p := s.spill
	if p.f == nil {
		if p.f, err = p.fsys.OpenFile(p.path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
			return err
		}
	}
	s.sort()
	at := p.end
	w := bufio.NewWriterSize(io.NewOffsetWriter(p.f, at), 1<<20)
	var buf []byte
	for i := range s.held {
		e := &s.held[i]
		buf = binary.AppendUvarint(buf[:0], uint64(len(e.key)))
		buf = binary.AppendUvarint(buf, uint64(len(e.data)))
		buf = append(append(buf, e.key...), e.data...)
		n, err := w.Write(buf)
		if err != nil {
			return err
		}
		p.end += int64(n)
	}
	s.runs = append(s.runs, spillRun{at, p.end - at})
	clear(s.held)
	s.held, s.bytes = s.held[:0], 0
	return w.Flush()
}

// each calls fn for all entries in order. What is held is one run of them.
func (s *sorter) each(fn func(entry) error) error {
	s.sort()
	if len(s.runs) == 0 {
		for i := range s.held {
			if err := fn(s.held[i]); err != nil {
				return err
			}
		}
		return nil
	}
	m := &merge{order: s.order}
	for _, r := range s.runs {
		in := bufio.NewReaderSize(io.NewSectionReader(s.spill.f, r.at, r.bytes), 64<<10)
		if err := m.begin(func() (entry, error) { return readEntry(in) }); err != nil {
			return err
		}
	}
	held := s.held
	err := m.begin(func() (e entry, err error) {
		if len(held) == 0 {
			return e, io.EOF
		}
		e, held = held[0], held[1:]
		return e, nil
	})
	if err != nil {
		return err
	}
	return m.run(fn)
}

func readEntry(in *bufio.Reader) (e entry, err error) {
	key, err := binary.ReadUvarint(in)
	if err != nil {
		return e, err
	}
	data, err := binary.ReadUvarint(in)
	if err != nil {
		return e, io.ErrUnexpectedEOF
	}
	const most = 1 << 16 // no key and no bookmark is longer
	if key > most || data > most {
		return e, errors.New("spill file: an entry is longer than any can be")
	}
	b := make([]byte, key+data)
	if _, err := io.ReadFull(in, b); err != nil {
		return e, err
	}
	return entry{b[:key:key], b[key:]}, nil
}

// source of a merge: its first entry, and how to get the next.
type mergeSource struct {
	entry
	next func() (entry, error)
}

// merge brings sorted runs together.
type merge struct {
	order   func(a, b *entry) int
	sources []*mergeSource
}

func (m *merge) begin(next func() (entry, error)) error {
	e, err := next()
	if errors.Is(err, io.EOF) {
		return nil
	}
	m.sources = append(m.sources, &mergeSource{e, next})
	return err
}

func (m *merge) run(fn func(entry) error) error {
	heap.Init(m)
	for len(m.sources) > 0 {
		s := m.sources[0]
		if err := fn(s.entry); err != nil {
			return err
		}
		e, err := s.next()
		switch {
		case errors.Is(err, io.EOF):
			heap.Pop(m)
			continue
		case err != nil:
			return err
		}
		s.entry = e
		heap.Fix(m, 0)
	}
	return nil
}

// Len, Less, Swap, Push and Pop are those of heap.Interface.
func (m *merge) Len() int { return len(m.sources) }

// Less compares the first entries of two sources.
func (m *merge) Less(i, j int) bool {
	return m.order(&m.sources[i].entry, &m.sources[j].entry) < 0
}

// Swap exchanges two sources.
func (m *merge) Swap(i, j int) { m.sources[i], m.sources[j] = m.sources[j], m.sources[i] }

// Push adds a source.
func (m *merge) Push(x any) { m.sources = append(m.sources, x.(*mergeSource)) }

// Pop removes the last source.
func (m *merge) Pop() any {
	n := len(m.sources) - 1
	s := m.sources[n]
	m.sources = m.sources[:n]
	return s
}

// byWhole orders entries by key and what they point to in one, as trees of non-unique indexes do.
func byWhole(a, b *entry) int {
	n := min(len(a.key), len(b.key))
	if c := bytes.Compare(a.key[:n], b.key[:n]); c != 0 || len(a.key) == len(b.key) {
		return cmp.Or(c, bytes.Compare(a.data, b.data))
	}
	return bytes.Compare(slices.Concat(a.key[n:], a.data), slices.Concat(b.key[n:], b.data))
}

// byKey orders entries by key alone first.
func byKey(a, b *entry) int {
	return cmp.Or(bytes.Compare(a.key, b.key), bytes.Compare(a.data, b.data))
}
