package ese

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"pillarbox/ese/internal/cache"
	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/vfs"
)

// The flush map file (docs/format-edb.md, "Flush map").
const (
	flushMagic  = 0x32464a50 // "PJF2"
	flushHeader = 4096
	flushType   = 7
	flushSums   = 1024 // where the sums of the chunks begin
	flushChunks = (flushHeader - flushSums) / 4
)

// flushFile is what was saved of a database's flush map.
type flushFile struct {
	mu     sync.Mutex
	f      vfs.File // nil: not open
	number uint64   // of the last save
	sums   []uint32 // of the chunks that the last header names; 0 = a chunk not known
	places []uint8  // where these are
	again  bool     // the last save failed: all chunks go out with the next
}

// flushHead is a header of the file.
type flushHead struct {
	pageSize    uint32
	database    logrec.Signature
	sign        logrec.Signature
	dbtime      uint64
	pos         LogPos
	number      uint64
	cuts        uint32
	sums        []uint32
	headerPlace int // which of the two it was read from
}

func flushSum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

func (h *flushHead) encode() []byte {
	b := make([]byte, flushHeader)
	le := binary.LittleEndian
	le.PutUint32(b[4:], flushMagic)
	le.PutUint32(b[8:], h.pageSize)
	le.PutUint32(b[12:], uint32(len(h.sums)))
	h.database.Encode(b[16:])
	h.sign.Encode(b[44:])
	le.PutUint64(b[72:], h.dbtime)
	le.PutUint64(b[80:], uint64(h.pos))
	le.PutUint64(b[88:], h.number)
	le.PutUint32(b[96:], h.cuts)
	b[667] = flushType
	for i, sum := range h.sums {
		le.PutUint32(b[flushSums+4*i:], sum)
	}
	le.PutUint32(b, flushSum(b[4:]))
	return b
}

// decodeFlushHead reads a header; ok is false when it is not whole.
func decodeFlushHead(b []byte) (h flushHead, ok bool) {
	le := binary.LittleEndian
	if len(b) != flushHeader || le.Uint32(b) != flushSum(b[4:]) ||
		le.Uint32(b[4:]) != flushMagic || le.Uint32(b[12:]) > flushChunks {
		return h, false
	}
	h = flushHead{
		pageSize: le.Uint32(b[8:]), database: logrec.DecodeSignature(b[16:]),
		sign: logrec.DecodeSignature(b[44:]), dbtime: le.Uint64(b[72:]),
		pos: LogPos(le.Uint64(b[80:])), number: le.Uint64(b[88:]), cuts: le.Uint32(b[96:]),
		sums: make([]uint32, le.Uint32(b[12:])),
	}
	for i := range h.sums {
		h.sums[i] = le.Uint32(b[flushSums+4*i:])
	}
	return h, true
}

// flushAt is where chunk i stands in one of its places.
func flushAt(i, place int) int64 {
	return 2*flushHeader + int64(2*i+place)*cache.FlushChunk
}

// clean tells that the map is that of the database's last clean end: the dbtime tells where a
// version without flush maps has changed pages since.
func (h *flushHead) clean(db *header) bool {
	return h.sign == db.HeaderFlush && h.dbtime == uint64(db.DBTime)
}

// covers tells that redo which begins at from meets every page written since the map was saved.
func (h *flushHead) covers(db *header, from LogPos) bool {
	return h.sign == db.HeaderFlush && h.pos >= from && h.cuts == db.Shrinks.N
}

// openFlushMap takes over the newest saved map that good accepts, and goes on saving in its file.
// Without one every page is taken as it is when first read.
func (db *Database) openFlushMap(good func(*flushHead) bool) {
	db.headerMu.Lock()
	header := db.header // a log file that is prepared meanwhile is named in it
	db.headerMu.Unlock()
	ff := &db.flush
	ff.mu.Lock()
	defer ff.mu.Unlock()
	path, flag := sidePath(db.path, ".jfm"), os.O_RDWR
	if db.in.o.ReadOnly {
		flag = os.O_RDONLY
	}
	f, err := db.in.o.FS.OpenFile(path, flag, 0o600)
	if errors.Is(err, fs.ErrNotExist) && flag == os.O_RDWR {
		f, err = db.in.o.FS.OpenFile(path, flag|os.O_CREATE, 0o600)
		if err == nil {
			err = db.in.o.FS.SyncDir(filepath.Dir(path))
		}
	}
	if err != nil {
		if flag == os.O_RDWR {
			db.in.o.Logger.Warn("no flush map", "database", db.name, "error", err)
		}
		if f != nil {
			_ = f.Close()
		}
		return
	}
	ff.f, ff.number, ff.sums, ff.places, ff.again = f, 0, nil, nil, true
	for _, h := range ff.heads() {
		ff.number = max(ff.number, h.number)
		if h.database == header.Signature && h.pageSize == header.PageSize &&
			h.sign != (logrec.Signature{}) && good(&h) && ff.take(db.file, &h) {
			return
		}
	}
}

// noFlushMap accepts none: the database is new.
func noFlushMap(*flushHead) bool { return false }

// heads are the headers that are whole, the newest first.
func (ff *flushFile) heads() []flushHead {
	var out []flushHead
	for place := range 2 {
		b := make([]byte, flushHeader)
		if n, _ := ff.f.ReadAt(b, int64(place)*flushHeader); n < len(b) {
			continue
		}
		if h, ok := decodeFlushHead(b); ok {
			h.headerPlace = place
			out = append(out, h)
		}
	}
	slices.SortFunc(out, func(a, b flushHead) int {
		if a.number > b.number {
			return -1
		}
		return 1
	})
	return out
}

// take gives the map of a header to the cache, when all of its chunks are there.
func (ff *flushFile) take(file *cache.File, h *flushHead) bool {
	bits := make([]byte, len(h.sums)*cache.FlushChunk)
	places := make([]uint8, len(h.sums))
	for i, sum := range h.sums {
		b := bits[i*cache.FlushChunk : (i+1)*cache.FlushChunk]
		there := sum == 0
		for place := 0; place < 2 && !there; place++ {
			n, _ := ff.f.ReadAt(b, flushAt(i, place))
			there = n == len(b) && flushSum(b) == sum
			places[i] = uint8(place)
		}
		if !there {
			return false
		}
		if sum == 0 {
			clear(b)
		}
	}
	ff.sums, ff.places, ff.again = h.sums, places, false
	ff.number = h.number
	file.SetFlushMap(bits)
	return true
}

// saveFlushMap makes what has changed of the map durable, good for a redo that begins at pos.
// What goes wrong is no more than a map that will not be believed.
func (db *Database) saveFlushMap(pos LogPos) {
	if err := db.writeFlushMap(pos, logrec.Signature{}); err != nil {
		db.in.o.Logger.Warn("flush map not written", "database", db.name, "error", err)
	}
}

// endFlushMap saves the map of a clean end and returns the signature that binds it to the
// header, zero when there is none.
func (db *Database) endFlushMap() logrec.Signature {
	sign := db.in.newSignature()
	if err := db.writeFlushMap(0, sign); err != nil {
		db.in.o.Logger.Warn("flush map not written", "database", db.name, "error", err)
		return logrec.Signature{}
	}
	return sign
}

var errNoFlushMap = errors.New("there is no file for it")

// writeFlushMap saves the map with the signature end, or that of the attachment.
func (db *Database) writeFlushMap(pos LogPos, end logrec.Signature) error {
	ff := &db.flush
	ff.mu.Lock()
	defer ff.mu.Unlock()
	if ff.f == nil {
		return errNoFlushMap
	}
	db.headerMu.Lock()
	h := flushHead{
		pageSize: db.header.PageSize, database: db.header.Signature, sign: db.header.HeaderFlush,
		pos: pos, number: ff.number + 1, cuts: db.header.Shrinks.N,
	}
	db.headerMu.Unlock()
	if end != (logrec.Signature{}) {
		h.sign = end
	}
	chunks, n := db.file.FlushChanges(ff.again)
	n = min(n, flushChunks)
	ff.again = true // until all went well
	for len(ff.places) < n {
		ff.places = append(ff.places, 0)
	}
	h.sums = make([]uint32, n)
	copy(h.sums, ff.sums)
	for _, i := range slices.Sorted(maps.Keys(chunks)) {
		if i >= n {
			break
		}
		b := chunks[i]
		if _, err := ff.f.WriteAt(b, flushAt(i, int(1-ff.places[i]))); err != nil {
			return err
		}
		h.sums[i] = flushSum(b)
	}
	h.dbtime = uint64(db.file.DBTime())
	if _, err := ff.f.WriteAt(h.encode(), int64(h.number%2)*flushHeader); err != nil {
		return err
	}
	if err := ff.f.SyncData(); err != nil {
		return err
	}
	for i := range chunks {
		if i < n {
			ff.places[i] = 1 - ff.places[i]
		}
	}
	ff.number, ff.sums, ff.again = h.number, h.sums, false
	return nil
}

// closeFlushMap closes the file.
func (db *Database) closeFlushMap() error {
	ff := &db.flush
	ff.mu.Lock()
	defer ff.mu.Unlock()
	if ff.f == nil {
		return nil
	}
	f := ff.f
	ff.f = nil
	return f.Close()
}
