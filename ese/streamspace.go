package ese

import (
	"fmt"
	"sync"
	"time"

	"pillarbox/ese/internal/stream"
	"pillarbox/ese/internal/version"
)

// The tables of the .stm file (docs/format-stm.md, "Tables").
const (
	streamTable = "MSysStreams"     // which pages belong to a stream
	spaceTable  = "MSysStreamSpace" // which pages are free
	looseTable  = "MSysStreamLoose" // streams without an owner
)

// A region is 1,024 pages (4 MiB) with one row and one bitmap. A transaction that takes or frees
// pages has the region to itself until it ends, so that two never change the same row. It works
// on the row's latest state, not on that of its snapshot: the pages that are free now are free
// for whoever comes, however long ago it began.
const (
	regionPages = 1024
	regionMap   = regionPages / 8
)

// Kinds of loose streams.
const (
	looseUnowned = 1 // being written, or written and not yet adopted
	looseFreed   = 2 // deleted; the pages come back when nobody can read them
)

// leaseTime is how long a stream may stay without an owner once its writer is gone.
const leaseTime = time.Hour

func streamTables() []TableDef {
	return []TableDef{
		{
			Name: streamTable,
			Columns: []ColumnDef{
				{Name: "Stream", Type: LongLong, NotNull: true},
				{Name: "Offset", Type: LongLong, NotNull: true},
				{Name: "Page", Type: UnsignedLong},
				{Name: "Pages", Type: Long},
				{Name: "Bytes", Type: LongLong},
			},
			Indexes: []IndexDef{{Name: "Stream", Primary: true, Columns: indexColumns("Stream", "Offset")}},
		},
		{
			Name:    spaceTable,
			Columns: []ColumnDef{{Name: "Region", Type: Long, NotNull: true}, {Name: "Map", Type: Binary}},
			Indexes: []IndexDef{{Name: "Region", Primary: true, Columns: indexColumns("Region")}},
		},
		{
			Name: looseTable,
			Columns: []ColumnDef{
				{Name: "Stream", Type: LongLong, NotNull: true},
				{Name: "Kind", Type: Short},
				{Name: "Until", Type: LongLong},
			},
			Indexes: []IndexDef{{Name: "Stream", Primary: true, Columns: indexColumns("Stream")}},
		},
	}
}

// region is what is known of a region's free pages.
type region struct {
	space *streamSpace
	no    int
	run   int  // free pages in a row, at most; the map may have less
	busy  bool // a transaction holds it
}

// streamSpace hands out the pages of a .stm file.
type streamSpace struct {
	db *Database

	mu      sync.Mutex
	regions []*region
	hint    int // where take begins to look
	nextID  StreamID
	firstID StreamID               // ids below belong to former runs of the program
	writers map[StreamID]time.Time // of unowned streams: end of the lease, zero while written
	pins    map[StreamID]int
	garbage []StreamID // to be freed once every snapshot is at garbageSeq
	gseq    version.Seq
	loose   bool // there may be loose streams

	owner, space, looseT            *Table
	cStream, cOffset, cPage, cPages *Column
	cBytes, cRegion, cMap           *Column
	cLoose, cKind, cUntil           *Column
}

func (s *streamSpace) init(db *Database) {
	s.db = db
	s.writers, s.pins = make(map[StreamID]time.Time), make(map[StreamID]int)
}

// load reads the regions and finds the next stream id. The catalog has just been read.
func (s *streamSpace) load(tx *Tx) error {
	// The cleaner may be looking already.
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.owner, err = s.db.Table(streamTable); err != nil {
		return err
	}
	if s.space, err = s.db.Table(spaceTable); err != nil {
		return err
	}
	if s.looseT, err = s.db.Table(looseTable); err != nil {
		return err
	}
	o, sp, l := s.owner.col, s.space.col, s.looseT.col
	s.cStream, s.cOffset, s.cPage, s.cPages, s.cBytes = o("Stream"), o("Offset"), o("Page"), o("Pages"), o("Bytes")
	s.cRegion, s.cMap = sp("Region"), sp("Map")
	s.cLoose, s.cKind, s.cUntil = l("Stream"), l("Kind"), l("Until")
	s.regions = nil
	last := stream.PageNo(0)
	there, from := s.db.stream.EndRedo()
	c := tx.Cursor(s.space.primary)
	ok, err := c.First()
	for ; ok && err == nil; ok, err = c.Next() {
		for n := c.Row().Int(s.cRegion); int64(len(s.regions)) < n; {
			s.regions = append(s.regions, &region{space: s, no: len(s.regions), run: regionPages})
		}
		s.regions = append(s.regions, &region{space: s, no: len(s.regions), run: longestRun(c.Row().Bytes(s.cMap))})
		m, first := c.Row().Bytes(s.cMap), stream.PageNo((len(s.regions)-1)*regionPages)
		if at := lastUsed(m); at >= 0 {
			last = first + stream.PageNo(at)
		}
		if there != nil && first+regionPages > from {
			if err := s.checkThere(m, first, there); err != nil {
				return err
			}
		}
	}
	if err != nil {
		return err
	}
	if err := s.db.stream.CheckSize(last); err != nil {
		return err
	}
	s.nextID, s.loose = 1, true
	for _, t := range []*Table{s.owner, s.looseT} {
		c := tx.Cursor(t.primary)
		ok, err := c.Last()
		if err != nil {
			return err
		}
		if ok {
			s.nextID = max(s.nextID, StreamID(c.Row().Int(t.col("Stream")))+1)
		}
	}
	s.firstID = s.nextID
	return nil
}

// checkThere refuses a file that was cut before recovery: pages in use behind its end that
// the log did not bring back.
func (s *streamSpace) checkThere(m []byte, first stream.PageNo, there func(stream.PageNo) bool) error {
	for i := range len(m) * 8 {
		if p := first + stream.PageNo(i); m[i/8]>>(i%8)&1 != 0 && !there(p) {
			return &StreamError{
				File: s.db.stream.Name, Page: p,
				Reason: "the file was cut before this page: restore it with its database",
			}
		}
	}
	return nil
}

// lastUsed is the highest set bit, -1 when there is none.
func lastUsed(m []byte) int {
	for i := len(m)*8 - 1; i >= 0; i-- {
		if m[i/8]>>(i%8)&1 != 0 {
			return i
		}
	}
	return -1
}

// longestRun is the length of the longest row of clear bits.
func longestRun(m []byte) int {
	longest, run := 0, 0
	for _, b := range m {
		switch b {
		case 0:
			run += 8
			continue
		case 0xff:
			longest, run = max(longest, run), 0
			continue
		}
		for i := range 8 {
			if b>>i&1 == 0 {
				run++
				continue
			}
			longest, run = max(longest, run), 0
		}
	}
	return max(longest, run)
}

// newID hands out a stream id.
func (s *streamSpace) newID() StreamID {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.nextID
	s.nextID++
	return id
}

// take holds a region with room for n pages for the transaction. When none will do the file
// grows by one.
//
// The lowest regions come first, so that those at the end of the file empty.
func (s *streamSpace) take(tx *Tx, n int) *region {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range tx.regions {
		if r.space == s && r.run >= n {
			return r
		}
	}
	for i := range s.regions {
		r := s.regions[(s.hint+i)%len(s.regions)]
		if r.busy || r.run < n {
			continue
		}
		s.hint = r.no
		r.busy = true
		tx.regions = append(tx.regions, r)
		return r
	}
	r := &region{space: s, no: len(s.regions), run: regionPages, busy: true}
	s.regions = append(s.regions, r)
	tx.regions = append(tx.regions, r)
	return r
}

// hold takes a certain region for the transaction, false when it cannot have it now.
func (s *streamSpace) hold(tx *Tx, no int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if no >= len(s.regions) {
		return false
	}
	r := s.regions[no]
	for _, h := range tx.regions {
		if h == r {
			return true
		}
	}
	if r.busy {
		return false
	}
	r.busy = true
	tx.regions = append(tx.regions, r)
	return true
}

// releaseRegions gives regions back at the end of a transaction.
func (tx *Tx) releaseRegions() {
	for _, r := range tx.regions {
		r.space.mu.Lock()
		r.busy = false
		r.space.mu.Unlock()
	}
	tx.regions = nil
}

// forgetRuns says, after changes were taken back, that the room in the regions that the
// transaction holds is not known: the maps tell.
func (tx *Tx) forgetRuns() {
	for _, r := range tx.regions {
		r.space.mu.Lock()
		r.run = regionPages
		r.space.mu.Unlock()
	}
}

// alloc takes n contiguous pages.
func (s *streamSpace) alloc(tx *Tx, n int) (stream.PageNo, error) {
	for {
		r := s.take(tx, n)
		m, found, err := s.regionMap(tx, r.no)
		if err != nil {
			return 0, err
		}
		at := findRun(m, n)
		if at < 0 {
			s.setRun(r.no, m)
			continue
		}
		no := stream.PageNo(r.no*regionPages + at)
		if err := s.db.stream.Ensure(no + stream.PageNo(n)); err != nil {
			return 0, err
		}
		setBits(m, at, n, true)
		return no, s.putMap(tx, r.no, m, found)
	}
}

// regionMap reads a region's bitmap, set bits meaning used. A region without a row is free:
// the transaction that wanted to take it first has rolled back.
func (s *streamSpace) regionMap(tx *Tx, no int) (m []byte, found bool, err error) {
	var v RowView
	var buf []byte
	m = make([]byte, regionMap)
	tx.v.Latest = true
	defer func() { tx.v.Latest = false }()
	found, err = tx.Get(s.space, &v, &buf, Int(no))
	if err != nil || !found {
		return m, false, err
	}
	if n := copy(m, v.Bytes(s.cMap)); n != regionMap {
		return nil, false, fmt.Errorf("%s: region %d has a map of %d bytes", s.db.stream.Name, no, n)
	}
	return m, true, nil
}

// putMap writes a region's bitmap.
func (s *streamSpace) putMap(tx *Tx, no int, m []byte, found bool) error {
	s.setRun(no, m)
	tx.v.Latest = true
	defer func() { tx.v.Latest = false }()
	r := s.space.NewRow().Set(s.cMap, Bytes(m))
	if found {
		return tx.Update(r, Int(no))
	}
	return tx.Insert(r.Set(s.cRegion, Int(no)))
}

// setRun notes what room a region has, whose map the caller holds.
func (s *streamSpace) setRun(no int, m []byte) {
	run := longestRun(m)
	s.mu.Lock()
	s.regions[no].run = run
	s.mu.Unlock()
}

// findRun finds n clear bits in a row, -1 when there are none.
func findRun(m []byte, n int) int {
	run := 0
	for i := range len(m) * 8 {
		if run == 0 && i%8 == 0 && m[i/8] == 0xff {
			continue
		}
		if m[i/8]>>(i%8)&1 != 0 {
			run = 0
			continue
		}
		if run++; run == n {
			return i - n + 1
		}
	}
	return -1
}

func setBits(m []byte, at, n int, v bool) {
	for i := at; i < at+n; i++ {
		if v {
			m[i/8] |= 1 << (i % 8)
		} else {
			m[i/8] &^= 1 << (i % 8)
		}
	}
}
