package vfs

import (
	"bytes"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
)

const (
	memSector       = 512
	memBlock        = 64 << 10
	sectorsPerBlock = memBlock / memSector
)

// memInode is a file's content. Mem.mu guards it.
type memInode struct {
	size       int64
	syncedSize int64
	allocated  int64 // bytes from the start that take space on the disk
	blocks     []memExtent
	dirty      []int // the blocks with unsynced sectors
}

// memExtent is one block of a file. A nil data is a hole.
type memExtent struct {
	data []byte
	// shared means that data belongs to a clone as well and is copied before it is written.
	shared bool
	// old has the durable content of the sectors whose bit in unsynced is set.
	old      []byte
	unsynced [sectorsPerBlock / 64]uint64
}

func (e *memExtent) isUnsynced(sector int) bool {
	return e.unsynced[sector/64]&(1<<(sector%64)) != 0
}

func (e *memExtent) anyUnsynced() bool {
	return slices.ContainsFunc(e.unsynced[:], func(w uint64) bool { return w != 0 })
}

// touch prepares bytes [from,to) of block i for writing: data is private, and the durable
// content of the sectors is kept.
func (ino *memInode) touch(i, from, to int) *memExtent {
	e := &ino.blocks[i]
	switch {
	case e.data == nil:
		e.data = make([]byte, memBlock)
	case e.shared:
		e.data = slices.Clone(e.data)
	}
	e.shared = false
	if !e.anyUnsynced() {
		ino.dirty = append(ino.dirty, i)
		if e.old == nil {
			e.old = make([]byte, memBlock)
		}
	}
	for s := from / memSector; s*memSector < to; s++ {
		if !e.isUnsynced(s) {
			at := s * memSector
			copy(e.old[at:at+memSector], e.data[at:at+memSector])
			e.unsynced[s/64] |= 1 << (s % 64)
		}
	}
	return e
}

// eachBlock calls fn for the parts of [off,off+n) that lie in one block each.
func eachBlock(off int64, n int, fn func(block, from, to int)) {
	for n > 0 {
		from := int(off % memBlock)
		to := min(memBlock, from+n)
		fn(int(off/memBlock), from, to)
		off += int64(to - from)
		n -= to - from
	}
}

func (ino *memInode) write(p []byte, off int64) {
	if len(p) == 0 {
		return
	}
	if end := off + int64(len(p)); end > ino.size {
		ino.resize(end)
	}
	eachBlock(off, len(p), func(block, from, to int) {
		e := ino.touch(block, from, to)
		p = p[copy(e.data[from:to], p):]
	})
}

func (ino *memInode) read(p []byte, off int64) {
	eachBlock(off, len(p), func(block, from, to int) {
		if data := ino.blocks[block].data; data != nil {
			copy(p, data[from:to])
		} else {
			clear(p[:to-from])
		}
		p = p[to-from:]
	})
}

func (ino *memInode) truncate(size int64) {
	// What is cut off reads zero when the file grows again.
	for at := size; at < ino.size; {
		block, from := int(at/memBlock), int(at%memBlock)
		to := int(min(memBlock, int64(from)+ino.size-at))
		if ino.blocks[block].data != nil {
			e := ino.touch(block, from, to)
			clear(e.data[from:to])
		}
		at += int64(to - from)
	}
	ino.allocated = min(ino.allocated, size)
	ino.resize(size)
}

// resize sets the size; blocks of a shrunk file stay, because they may be durable still.
func (ino *memInode) resize(size int64) {
	if n := int((size + memBlock - 1) / memBlock); n > len(ino.blocks) {
		ino.blocks = slices.Grow(ino.blocks, n-len(ino.blocks))[:n]
	}
	ino.size = size
}

func (ino *memInode) sync() {
	for _, i := range ino.dirty {
		e := &ino.blocks[i]
		e.unsynced = [len(e.unsynced)]uint64{}
		e.old = nil
	}
	ino.dirty = ino.dirty[:0]
	ino.syncedSize = ino.size
	n := int((ino.size + memBlock - 1) / memBlock)
	clear(ino.blocks[n:])
	ino.blocks = ino.blocks[:n]
}

// tear says how a power cut treats unsynced sectors.
type tear struct {
	keepNew float64 // the part that has the new content
	hidden  bool    // all is new but for what tearHidden takes back
}

// crash returns a clean inode with a possible outcome of a power cut.
func (ino *memInode) crash(rng *rand.Rand, how tear) *memInode {
	size := ino.syncedSize
	if ino.size != size && rng.Float64() < 0.7 {
		size = ino.size
		if grown := (size - ino.syncedSize) / memSector; grown > 0 && rng.IntN(3) == 0 {
			size = (ino.syncedSize/memSector + 1 + rng.Int64N(grown)) * memSector
			size = min(size, ino.size)
		}
	}
	out := &memInode{size: size, syncedSize: size, allocated: min(size, ino.allocated)}
	out.blocks = make([]memExtent, (size+memBlock-1)/memBlock)
	for i := range out.blocks {
		e := &ino.blocks[i]
		if !e.anyUnsynced() {
			e.shared = e.data != nil
			out.blocks[i] = memExtent{data: e.data, shared: e.shared}
			continue
		}
		data := slices.Clone(e.old)
		for s := range sectorsPerBlock {
			if !e.isUnsynced(s) || rng.Float64() < how.keepNew {
				copy(sector(data, s), sector(e.data, s))
			}
		}
		if how.hidden {
			e.tearHidden(data)
		}
		out.blocks[i] = memExtent{data: data}
	}
	if tail := int(size % memBlock); tail != 0 {
		out.cutTail(tail)
	}
	return out
}

func sector(block []byte, s int) []byte { return block[s*memSector : (s+1)*memSector] }

// tearGroup is how many sectors tearHidden looks at together: 4 KiB, the smallest page.
const tearGroup = 8

// tearHidden tears data, which is all new, so that a checksum of sums modulo two does not see it,
// such as that of a page in an .edb file: four sectors of a group keep what was there before, where
// they have changed in the same bits and their numbers come to zero.
func (e *memExtent) tearHidden(data []byte) {
	for first := 0; first < sectorsPerBlock; first += tearGroup {
		four := e.alike(first)
		if four == nil {
			continue
		}
		for _, s := range four {
			copy(sector(data, first+s), sector(e.old, first+s))
		}
	}
}

// alike returns four unsynced sectors of a group, counted from its begin, that have changed in the
// same bits and whose numbers come to zero modulo two; nil when there are none.
func (e *memExtent) alike(first int) []int {
	for i := range tearGroup {
		for j := i + 1; j < tearGroup; j++ {
			if !e.changedAlike(first+i, first+j) {
				continue
			}
			for k := j + 1; k < tearGroup; k++ {
				l := i ^ j ^ k
				if l > k && e.changedAlike(first+i, first+k) && e.changedAlike(first+i, first+l) {
					return []int{i, j, k, l}
				}
			}
		}
	}
	return nil
}

// changedAlike tells whether two unsynced sectors have changed, and in the same bits.
func (e *memExtent) changedAlike(a, b int) bool {
	if !e.isUnsynced(a) || !e.isUnsynced(b) {
		return false
	}
	oldA, newA, oldB, newB := sector(e.old, a), sector(e.data, a), sector(e.old, b), sector(e.data, b)
	for n, was := range oldA {
		if was^newA[n] != oldB[n]^newB[n] {
			return false
		}
	}
	return !bytes.Equal(oldA, newA)
}

// cutTail zeroes the last block beyond the file's size.
func (ino *memInode) cutTail(tail int) {
	e := &ino.blocks[len(ino.blocks)-1]
	if e.data == nil || !slices.ContainsFunc(e.data[tail:], func(b byte) bool { return b != 0 }) {
		return
	}
	if e.shared {
		e.data, e.shared = slices.Clone(e.data), false
	}
	clear(e.data[tail:])
}

// memFile is an open file of a Mem.
type memFile struct {
	disk     *Mem
	ino      *memInode
	name     string
	writable bool
	closed   bool
}

var _ File = (*memFile)(nil)

// use locks the disk and checks that the handle permits the operation.
func (f *memFile) use(op string, write bool) (unlock func(), err error) {
	f.disk.mu.Lock()
	switch {
	case f.closed:
		err = fs.ErrClosed
	case write && !f.writable:
		err = fs.ErrPermission
	default:
		return f.disk.mu.Unlock, nil
	}
	f.disk.mu.Unlock()
	return nil, &fs.PathError{Op: op, Path: f.name, Err: err}
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	unlock, err := f.use("read", false)
	if err != nil {
		return 0, err
	}
	defer unlock()
	if off < 0 {
		return 0, &fs.PathError{Op: "read", Path: f.name, Err: fs.ErrInvalid}
	}
	n := int(min(int64(len(p)), max(f.ino.size-off, 0)))
	f.ino.read(p[:n], off)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	unlock, err := f.use("write", true)
	if err != nil {
		return 0, err
	}
	defer unlock()
	if off < 0 {
		return 0, &fs.PathError{Op: "write", Path: f.name, Err: fs.ErrInvalid}
	}
	if err := f.disk.allocate(f.ino, off+int64(len(p))); err != nil {
		return 0, &fs.PathError{Op: "write", Path: f.name, Err: err}
	}
	f.ino.write(p, off)
	return len(p), nil
}

func (f *memFile) Allocate(size int64) error {
	unlock, err := f.use("allocate", true)
	if err != nil {
		return err
	}
	defer unlock()
	if size <= f.ino.size {
		return nil
	}
	if err := f.disk.allocate(f.ino, size); err != nil {
		return &fs.PathError{Op: "allocate", Path: f.name, Err: err}
	}
	f.ino.resize(size)
	return nil
}

func (f *memFile) SyncData() error {
	unlock, err := f.use("sync", false)
	if err != nil {
		return err
	}
	defer unlock()
	f.ino.sync()
	return nil
}

func (f *memFile) Truncate(size int64) error {
	unlock, err := f.use("truncate", true)
	if err != nil {
		return err
	}
	defer unlock()
	if size < 0 {
		return &fs.PathError{Op: "truncate", Path: f.name, Err: fs.ErrInvalid}
	}
	f.ino.truncate(size)
	return nil
}

func (f *memFile) Size() (int64, error) {
	unlock, err := f.use("stat", false)
	if err != nil {
		return 0, err
	}
	defer unlock()
	return f.ino.size, nil
}

func (f *memFile) Close() error {
	unlock, err := f.use("close", false)
	if err != nil {
		return err
	}
	defer unlock()
	f.closed = true
	return nil
}
