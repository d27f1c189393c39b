package btree

import (
	"sync"

	"pillarbox/ese/internal/cache"
	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/page"
)

// Mtr is one structure change. It holds the latches of its pages until Commit or Abort.
type Mtr struct {
	env   *Env
	pages []*MPage
	// Tree, when set, ties the change to a transaction that makes or undoes a tree.
	Tree *logrec.TreeRec
	// Undo marks a change that a rollback needs: it may use the log and the pages that are
	// kept for that.
	Undo bool
	// Reserve is the log to be set aside for taking the change back.
	Reserve int64
	// Pos is where the record stands, after Commit.
	Pos logrec.LogPos
}

// MPage is a page latched by a Mtr. Changes go through A.
type MPage struct {
	Fr    *cache.Frame
	File  *cache.File
	No    page.No
	A     logrec.Actions
	saved page.Page // its bytes before the first change
	log   *[]byte   // memory lent for A.Log
	lent  bool      // the latch is the caller's

	announced bool // Commit has made the page dirty
}

// NewMtr begins a structure change.
func (e *Env) NewMtr() *Mtr { return &Mtr{env: e} }

// Get latches a page for change; a page it already holds is returned again.
func (m *Mtr) Get(f *cache.File, no page.No, mode cache.Mode) (*MPage, error) {
	for _, p := range m.pages {
		if p.No == no && p.File == f {
			return p, nil
		}
	}
	fr, err := m.env.Cache.Fetch(f, no, mode)
	if err != nil {
		return nil, err
	}
	p := &MPage{Fr: fr, File: f, No: no, A: logrec.Actions{P: fr.P}}
	m.pages = append(m.pages, p)
	return p, nil
}

// borrow adds a page whose exclusive latch the caller holds and keeps.
func (m *Mtr) borrow(f *cache.File, fr *cache.Frame) *MPage {
	p := &MPage{Fr: fr, File: f, No: fr.No(), A: logrec.Actions{P: fr.P}, lent: true}
	m.pages = append(m.pages, p)
	return p
}

// P is the page for reading.
func (p *MPage) P() page.Page { return p.Fr.P }

// Edit returns the page's actions, keeping its bytes for Abort before the first change.
func (p *MPage) Edit() *logrec.Actions {
	if p.saved == nil {
		p.saved = pagePool.get(len(p.Fr.P))
		copy(p.saved, p.Fr.P)
		p.log = recordPool.get()
		p.A.Log = *p.log
	}
	return &p.A
}

// Commit logs all changes as one record and releases the latches. On error nothing has
// happened and the latches are released as well.
func (m *Mtr) Commit() error {
	parts := make([]logrec.MacroPage, 0, len(m.pages))
	for _, p := range m.pages {
		if p.saved == nil {
			continue
		}
		if err := p.A.Err(); err != nil {
			m.Abort()
			return err
		}
		before := p.saved.DBTime()
		after, err := p.File.NextDBTime(p.No, before)
		if err != nil {
			m.Abort()
			return err
		}
		parts = append(parts, logrec.MacroPage{
			DB: p.File.DB, Page: p.No, Before: before, After: after, Actions: p.A.Log,
		})
	}
	if len(parts) == 0 {
		m.Abort()
		return nil
	}
	pos := m.env.Log.End()
	i := 0
	for _, p := range m.pages {
		if p.saved == nil {
			continue
		}
		if parts[i].Absolute() {
			p.announced = p.Fr.DirtyWhole(pos)
		} else {
			p.announced = p.Fr.Dirty(pos)
		}
		i++
	}
	buf := recordPool.get()
	*buf = logrec.AppendMacro(*buf, m.Tree, parts)
	start, end, err := m.append(*buf)
	recordPool.put(buf)
	if err != nil {
		for _, p := range m.pages {
			if p.announced {
				p.Fr.Undirty(pos)
			}
		}
		m.Abort()
		return err
	}
	m.Pos = start
	i = 0
	for _, p := range m.pages {
		if p.saved == nil {
			continue
		}
		p.Fr.P.SetDBTime(parts[i].After)
		p.Fr.Logged(end)
		i++
	}
	m.release()
	return nil
}

func (m *Mtr) append(rec []byte) (start, end logrec.LogPos, err error) {
	if m.Undo {
		return m.env.Log.PutReserved(0, 0, logrec.TypeMacro, rec)
	}
	return m.env.Log.PutChange(m.Reserve, 0, logrec.TypeMacro, rec)
}

// Abort puts every page back as it was and releases the latches.
func (m *Mtr) Abort() {
	for _, p := range m.pages {
		if p.saved != nil {
			copy(p.Fr.P, p.saved)
		}
	}
	m.release()
}

func (m *Mtr) release() {
	for _, p := range m.pages {
		if p.saved != nil {
			pagePool.put(p.saved)
			*p.log, p.A.Log = p.A.Log, nil
			recordPool.put(p.log)
		}
		if !p.lent {
			p.Fr.Unlock()
		}
	}
	m.pages = nil
}

// bufPool lends page-sized buffers of at most 32 KiB.
type bufPool struct{ p sync.Pool }

func newBufPool() *bufPool {
	b := &bufPool{}
	b.p.New = func() any { return new([32768]byte) }
	return b
}

func (b *bufPool) get(n int) page.Page { return b.p.Get().(*[32768]byte)[:n] }
func (b *bufPool) put(p page.Page)     { b.p.Put((*[32768]byte)(p[:32768])) }

// pagePool is never written to after start: a pool, not state.
var pagePool = newBufPool()

// recordLender lends buffers for log records and their parts.
type recordLender struct{ p sync.Pool }

// keptRecord bounds what a buffer that is kept may take, in bytes.
const keptRecord = 128 << 10

func (l *recordLender) get() *[]byte {
	if b, ok := l.p.Get().(*[]byte); ok {
		return b
	}
	return new([]byte)
}

func (l *recordLender) put(b *[]byte) {
	if cap(*b) > keptRecord {
		return
	}
	*b = (*b)[:0]
	l.p.Put(b)
}

// recordPool is a pool, not state.
var recordPool recordLender
