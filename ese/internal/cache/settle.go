package cache

import (
	"pillarbox/ese/internal/page"
)

// Settle copies page no into buf as it is now and verifies what is on disk, without taking a
// frame for it: for one who reads every page once. blank tells that it was never written. A
// page that is not right at first sight may just be being written: then a reader's way decides,
// which repairs and reports.
func (c *Cache) Settle(f *File, no page.No, buf page.Page) (blank bool, err error) {
	k := key{f.DB, no}
	sh := c.shard(k)
	sh.mu.Lock()
	cached := sh.m[k] != nil
	sh.mu.Unlock()
	if !cached {
		c.reads.Add(1)
		if err := f.read(buf, no); err != nil {
			return false, err
		}
		t := f.flush.get(no)
		switch buf.Verify(no) {
		case page.Good:
			if buf.Check() == nil && (t == 0 || t == buf.FlushType()) {
				return false, nil
			}
		case page.Blank:
			if t == 0 {
				return true, nil
			}
		}
	}
	fr, err := c.Fetch(f, no, Shared)
	if err != nil {
		return false, err
	}
	copy(buf, fr.P)
	fr.RUnlock()
	return false, nil
}

// Prefetch brings a page in that redo will want. What goes wrong the one who wants it will
// meet again.
func (c *Cache) Prefetch(f *File, no page.No) {
	k := key{f.DB, no}
	sh := c.shard(k)
	sh.mu.Lock()
	there := sh.m[k] != nil
	sh.mu.Unlock()
	if there {
		return
	}
	if fr, err := c.Fetch(f, no, Redo); err == nil {
		fr.Unlock()
	}
}

// DirtyFrom tells whether a page from no on waits to be written.
func (c *Cache) DirtyFrom(f *File, no page.No) bool {
	for _, fr := range c.all() {
		if fr.first.Load() == 0 || !fr.TryRLock() {
			if fr.first.Load() != 0 {
				return true // somebody is at it
			}
			continue
		}
		mine := fr.file == f && fr.no >= no && fr.first.Load() != 0
		fr.RUnlock()
		if mine {
			return true
		}
	}
	return false
}

// Cut makes a file n pages long and forgets the pages behind, which nobody uses or will use
// before the file has grown again.
func (c *Cache) Cut(f *File, n page.No) error {
	f.growMu.Lock()
	defer f.growMu.Unlock()
	if page.No(f.pages.Load()) <= n {
		return nil
	}
	for _, fr := range c.all() {
		fr.Lock()
		if fr.file == f && fr.no > n {
			c.forget(fr)
		}
		fr.Unlock()
	}
	if err := f.f.Truncate((int64(n) + 2) * int64(f.size)); err != nil {
		return err
	}
	f.pages.Store(uint32(n))
	f.flush.cut(n)
	return f.f.SyncData()
}
