package cache

import (
	"errors"
	"io"

	"pillarbox/ese/internal/page"
)

// CopyPages fills buf with pages of f from no on as they stand in the file, and returns how
// many there are. No page is being written meanwhile, so none is torn. Each is verified; a
// flipped bit is mended in the copy. A page that was never written is zero.
func (c *Cache) CopyPages(f *File, no page.No, buf []byte) (n int, err error) {
	c.flushMu.Lock()
	defer c.flushMu.Unlock()
	got, err := f.f.ReadAt(buf, no.Offset(f.size))
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	n = got / f.size
	for i := range n {
		p := page.Page(buf[i*f.size : (i+1)*f.size])
		_, err := f.verify(p, no+page.No(i), false)
		var pe *PageError
		if err != nil && !(errors.As(err, &pe) && pe.Blank) {
			return i, err
		}
	}
	return n, nil
}
