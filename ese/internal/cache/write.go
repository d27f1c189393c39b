package cache

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/page"
	"pillarbox/ese/vfs"
)

// batchPages bounds a write-back batch: its pages stand in one double-write file.
const batchPages = 256

type outPage struct {
	fr    *Frame
	f     *File
	no    page.No
	copy  page.Page
	whole bool // it can do without the double-write file
	last  logrec.LogPos
	// repair: the log has no record of the change, so the flush type stays.
	repair bool
}

// WriteBatch writes up to limit dirty pages, the oldest changes first. With before set only
// pages whose oldest change lies before it are written. It returns how many were written.
func (c *Cache) WriteBatch(limit int, before logrec.LogPos) (int, error) {
	c.flushMu.Lock()
	defer c.flushMu.Unlock()
	if err := c.Failed(); err != nil {
		return 0, err
	}
	if c.closed.Load() {
		return 0, ErrClosed
	}
	out, pos := c.collect(c.candidates(min(limit, batchPages), before))
	if len(out) == 0 {
		return 0, nil
	}
	err := c.o.Log.FlushTo(pos)
	if err == nil {
		err = c.writePages(out)
	}
	for i := range out {
		out[i].fr.written(err == nil)
	}
	if err != nil {
		err = fmt.Errorf("write %d pages: %w", len(out), err)
		if c.failed.CompareAndSwap(nil, &err) && c.o.OnFail != nil {
			c.o.OnFail(err)
		}
		return 0, err
	}
	c.batches.Add(1)
	c.writes.Add(uint64(len(out)))
	return len(out), nil
}

// candidates picks the dirty frames with the oldest changes.
func (c *Cache) candidates(limit int, before logrec.LogPos) []*Frame {
	old := oldest{limit: limit}
	for _, fr := range c.all() {
		f := fr.first.Load()
		if f != 0 && (before == 0 || f < uint64(before)) {
			old.offer(fr, f)
		}
	}
	return old.frames
}

// oldest keeps the limit frames with the lowest ages of those offered: a heap with the
// highest of them on top. All dirty frames are offered for each batch, and few are kept.
type oldest struct {
	limit  int
	frames []*Frame
	ages   []uint64
}

func (o *oldest) offer(fr *Frame, age uint64) {
	if len(o.frames) < o.limit {
		o.frames, o.ages = append(o.frames, fr), append(o.ages, age)
		o.up(len(o.frames) - 1)
		return
	}
	if o.limit > 0 && age < o.ages[0] {
		o.frames[0], o.ages[0] = fr, age
		o.down()
	}
}

func (o *oldest) swap(i, k int) {
	o.frames[i], o.frames[k] = o.frames[k], o.frames[i]
	o.ages[i], o.ages[k] = o.ages[k], o.ages[i]
}

func (o *oldest) up(i int) {
	for i > 0 && o.ages[(i-1)/2] < o.ages[i] {
		o.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (o *oldest) down() {
	for i := 0; ; {
		k := 2*i + 1
		if k >= len(o.ages) {
			return
		}
		if k+1 < len(o.ages) && o.ages[k+1] > o.ages[k] {
			k++
		}
		if o.ages[k] <= o.ages[i] {
			return
		}
		o.swap(i, k)
		i = k
	}
}

// collect copies and seals the pages. pos is what must be durable before they are written.
func (c *Cache) collect(frames []*Frame) (out []outPage, pos logrec.LogPos) {
	if c.io == nil {
		c.io = make([]byte, min(batchPages, len(c.frames)+extraFrames)*c.pageSize)
	}
	open := logrec.LogPos(0)
	if c.o.OldestOpen != nil {
		open = c.o.OldestOpen()
	}
	for _, fr := range frames {
		n := len(out) * c.pageSize
		pg := outPage{copy: page.Page(c.io[n : n+c.pageSize : n+c.pageSize])}
		last, ok := fr.beginWrite(&pg)
		if !ok {
			continue
		}
		if !pg.repair {
			pg.last = last
			pg.copy.SetFlushType(pg.f.flush.next(pg.no, pg.copy.FlushType()))
		}
		pg.copy.Seal(pg.no)
		out = append(out, pg)
		pos = max(pos, last)
		if open != 0 && last > open {
			c.uncommitted.Add(1)
		}
	}
	return out, pos
}

// writePages writes the batch, database by database.
func (c *Cache) writePages(out []outPage) error {
	slices.SortFunc(out, func(a, b outPage) int {
		return cmp.Or(cmp.Compare(a.f.DB, b.f.DB), cmp.Compare(a.no, b.no))
	})
	for len(out) > 0 {
		n := 1
		for n < len(out) && out[n].f == out[0].f {
			n++
		}
		if err := c.beforeWrite(out[:n]); err != nil {
			return err
		}
		if err := out[0].f.writeBatch(out[:n]); err != nil {
			return err
		}
		out = out[n:]
	}
	return nil
}

// beforeWrite tells that pages of one file are about to be written, the double-write file
// included.
func (c *Cache) beforeWrite(out []outPage) error {
	last := logrec.LogPos(0)
	for i := range out {
		last = max(last, out[i].last)
	}
	if c.o.BeforeWrite == nil || last == 0 {
		return nil
	}
	return c.o.BeforeWrite(out[0].f.DB, last)
}

// writeBatch writes pages of one file: double-write first, then in place. A page whose
// unwritten changes begin with a whole page is not written twice, since redo does not read what
// the disk has of it; but one that stands in the double-write file since the last batch must
// be replaced there, or recovery would bring it back.
func (f *File) writeBatch(out []outPage) error {
	twice := func(o *outPage) bool { return !o.whole || f.doubled[o.no] }
	slices.SortStableFunc(out, func(a, b outPage) int {
		switch {
		case twice(&a) == twice(&b):
			return 0
		case twice(&a):
			return -1
		}
		return 1
	})
	n := 0
	for n < len(out) && twice(&out[n]) {
		n++
	}
	pages, err := f.writeDouble(out, n)
	if err != nil {
		return fmt.Errorf("double-write file of %s: %w", f.Name, err)
	}
	// Pages in a row go out in one write.
	for i := 0; i < len(out); {
		j := i + 1
		for j < len(out) && out[j].no == out[j-1].no+1 {
			j++
		}
		if _, err := f.f.WriteAt(pages[i*f.size:j*f.size], out[i].no.Offset(f.size)); err != nil {
			return fmt.Errorf("page %d of %s: %w", out[i].no, f.Name, err)
		}
		i = j
	}
	if err := f.f.SyncData(); err != nil {
		return fmt.Errorf("sync %s: %w", f.Name, err)
	}
	for i := range out {
		f.flush.set(out[i].no, out[i].copy.FlushType())
	}
	return nil
}

// The double-write file (docs/format-edb.md, "Double-write file"):
//
//	0      4      8       12                           4096
//	| crc | magic | count | {pgno, crc of the page} ... | page | page | ...
//
// The sums are CRC-32C: the page's own checksum is a parity and cannot see a sector of equal
// even words that was not written, so tearing is not judged by it.
const (
	doubleHeader = 4096
	doubleMagic  = 0x32574450 // "PDW2"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// writeDouble writes the first n pages of the batch to the double-write file and syncs it. It
// returns all pages one behind the other.
func (f *File) writeDouble(out []outPage, n int) ([]byte, error) {
	size := doubleHeader + len(out)*f.size
	if cap(f.doubleBuf) < size {
		f.doubleBuf = make([]byte, size)
	}
	buf := f.doubleBuf[:size]
	head, pages := buf[:doubleHeader], buf[doubleHeader:]
	for i := range out {
		copy(pages[i*f.size:], out[i].copy)
	}
	if n == 0 {
		return pages, nil
	}
	clear(head)
	binary.LittleEndian.PutUint32(head[4:], doubleMagic)
	binary.LittleEndian.PutUint32(head[8:], uint32(n))
	clear(f.doubled)
	for i := range out[:n] {
		binary.LittleEndian.PutUint32(head[12+8*i:], uint32(out[i].no))
		binary.LittleEndian.PutUint32(head[16+8*i:], crc32.Checksum(out[i].copy, castagnoli))
		f.doubled[out[i].no] = true
	}
	binary.LittleEndian.PutUint32(head, crc32.Checksum(head[4:], castagnoli))
	if _, err := f.double.WriteAt(buf[:doubleHeader+n*f.size], 0); err != nil {
		return nil, err
	}
	return pages, f.double.SyncData()
}

// DoubleBytes is the size of a double-write file.
func DoubleBytes(pageSize int) int64 { return doubleHeader + int64(batchPages*pageSize) }

// ForgetBatch makes the last batch of a double-write file invalid, durably.
func ForgetBatch(double vfs.File) error {
	if _, err := double.WriteAt(make([]byte, doubleHeader), 0); err != nil {
		return err
	}
	return double.SyncData()
}

// RestoreTorn writes back the pages of the last batch that are not in place as they were
// meant to be, and forgets the batch. It runs before redo and returns how many pages it
// restored. A batch that is not whole in the double-write file never began to be written in
// place.
func RestoreTorn(f, double vfs.File, pageSize int) (int, error) {
	head := make([]byte, doubleHeader)
	if n, err := double.ReadAt(head, 0); n < len(head) {
		if errors.Is(err, io.EOF) {
			return 0, nil
		}
		return 0, fmt.Errorf("read double-write file: %w", err)
	}
	count := binary.LittleEndian.Uint32(head[8:])
	if binary.LittleEndian.Uint32(head) != crc32.Checksum(head[4:], castagnoli) ||
		binary.LittleEndian.Uint32(head[4:]) != doubleMagic || count > batchPages {
		return 0, nil
	}
	saved := make([]byte, int(count)*pageSize)
	if n, err := double.ReadAt(saved, doubleHeader); n < len(saved) {
		if errors.Is(err, io.EOF) {
			return 0, nil
		}
		return 0, fmt.Errorf("read double-write file: %w", err)
	}
	for i := range int(count) {
		if crc32.Checksum(saved[i*pageSize:(i+1)*pageSize], castagnoli) != binary.LittleEndian.Uint32(head[16+8*i:]) {
			return 0, nil
		}
	}
	n, err := restorePages(f, head, saved, pageSize)
	if err != nil {
		return n, err
	}
	// A killed process may have left the pages in the operating system's cache only: they must
	// be on the disk before the batch goes.
	if err := f.SyncData(); err != nil {
		return n, err
	}
	return n, ForgetBatch(double)
}

func restorePages(f vfs.File, head, saved []byte, pageSize int) (int, error) {
	restored := 0
	now := make([]byte, pageSize)
	for i := range len(saved) / pageSize {
		no := page.No(binary.LittleEndian.Uint32(head[12+8*i:]))
		want := saved[i*pageSize : (i+1)*pageSize]
		n, err := f.ReadAt(now, no.Offset(pageSize))
		if err != nil && !errors.Is(err, io.EOF) {
			return restored, fmt.Errorf("read page %d: %w", no, err)
		}
		clear(now[n:])
		if bytes.Equal(now, want) {
			continue
		}
		if _, err := f.WriteAt(want, no.Offset(pageSize)); err != nil {
			return restored, fmt.Errorf("restore torn page %d: %w", no, err)
		}
		restored++
	}
	return restored, nil
}

// WriteFile writes every dirty page of a file; nothing may be changing its pages.
func (c *Cache) WriteFile(f *File) error {
	for idle := 0; ; {
		dirty := 0
		for _, fr := range c.all() {
			fr.RLock()
			if fr.file == f && fr.first.Load() != 0 {
				dirty++
			}
			fr.RUnlock()
		}
		if dirty == 0 {
			return nil
		}
		n, err := c.WriteBatch(batchPages, 0)
		if err != nil {
			return err
		}
		if idle++; n > 0 {
			idle = 0
		}
		if idle > 1000 { // a page is latched, but never for so long
			return fmt.Errorf("%d pages of %s stay dirty", dirty, f.Name)
		}
	}
}

// Still refuses changes of a file's pages from now on, or takes them again. It returns when
// nobody is left who began one before.
func (c *Cache) Still(f *File, still bool) {
	if !still {
		f.state.CompareAndSwap(stillFile, openFile)
		return
	}
	f.state.CompareAndSwap(openFile, stillFile)
	for _, fr := range c.all() {
		fr.pass()
	}
}

// pass waits for whoever has the frame to change it.
func (fr *Frame) pass() {
	fr.RLock()
	defer fr.RUnlock()
}

// errClosing is for frames of a file that goes away.
var errClosing = errors.New("page of a closed database is in use")

// Unregister forgets a file and its clean pages; WriteFile came before. Who still asks for one
// of its pages gets ErrDetached, also when another file has its number.
func (c *Cache) Unregister(f *File) error {
	f.state.Store(goneFile)
	for _, fr := range c.all() {
		fr.Lock() // a reader that came late holds it for a moment
		if fr.file == f {
			if fr.first.Load() != 0 {
				fr.Unlock()
				return errClosing
			}
			c.forget(fr)
		}
		fr.Unlock()
	}
	c.filesMu.Lock()
	delete(c.files, f.DB)
	c.filesMu.Unlock()
	return nil
}
