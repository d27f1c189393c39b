package inspect

import (
	"errors"
	"fmt"
	"io"

	"pillarbox/ese/internal/dbheader"
	"pillarbox/ese/internal/page"
	"pillarbox/ese/vfs"
)

// CorruptError reports bytes that no writer of the format produces.
type CorruptError struct {
	Page   page.No // 0 when the place is not one page
	Table  string  // "" when no table is known
	Reason string
}

func (e *CorruptError) Error() string {
	switch {
	case e.Page == 0 && e.Table == "":
		return e.Reason
	case e.Page == 0:
		return fmt.Sprintf("table %s: %s", e.Table, e.Reason)
	case e.Table == "":
		return fmt.Sprintf("page %d: %s", e.Page, e.Reason)
	}
	return fmt.Sprintf("page %d of table %s: %s", e.Page, e.Table, e.Reason)
}

// readError is a failure of the disk, as opposed to bytes that are wrong.
type readError struct {
	page page.No
	err  error
}

func (e *readError) Error() string { return fmt.Sprintf("read page %d: %v", e.page, e.err) }

func (e *readError) Unwrap() error { return e.err }

func corruptPage(no page.No, format string, args ...any) error {
	return &CorruptError{Page: no, Reason: fmt.Sprintf(format, args...)}
}

// cachePages bounds the pages kept; walks go down from the root again and again.
const cachePages = 256

// Database is an open database. It is not for use by several goroutines at once.
type Database struct {
	// Header is the file's header.
	Header dbheader.Header
	// HeaderCopy is the copy it was read from.
	HeaderCopy dbheader.Copy

	file     vfs.File
	pageSize int
	lastPage page.No
	cache    map[page.No]page.Page
	order    []page.No // of the cache, oldest first
	tables   []*Table
	byName   map[string]*Table
}

// Open reads the header and the catalog. The file may be of any revision and state; nothing
// is recovered or written. The caller closes f after the last use of the Database.
func Open(f vfs.File) (*Database, error) {
	d, err := openFile(f)
	if err != nil {
		return nil, err
	}
	if err := d.loadCatalog(); err != nil {
		return nil, fmt.Errorf("read catalog: %w", err)
	}
	return d, nil
}

// openFile is Open without the catalog.
func openFile(f vfs.File) (*Database, error) {
	h, which, err := dbheader.Read(f)
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	d := &Database{
		Header: h, HeaderCopy: which, file: f, pageSize: int(h.PageSize),
		cache: map[page.No]page.Page{}, byName: map[string]*Table{},
	}
	if n := size/int64(d.pageSize) - 2; n > 0 {
		d.lastPage = page.No(min(n, 1<<31))
	}
	return d, nil
}

// Pages is the number of pages in the file, without the headers.
func (d *Database) Pages() int { return int(d.lastPage) }

// LargePages reports whether pages have the form for 16 and 32 KiB.
func (d *Database) LargePages() bool { return d.pageSize > 8192 }

// Tables returns the tables in order of their object ids.
func (d *Database) Tables() []*Table { return d.tables }

// Table returns a table by its exact name, or nil.
func (d *Database) Table(name string) *Table { return d.byName[name] }

// readRaw reads a page without looking at it.
func (d *Database) readRaw(no page.No, buf []byte) error {
	if no == 0 || no > d.lastPage {
		return corruptPage(no, "the file has %d pages", d.lastPage)
	}
	if _, err := d.file.ReadAt(buf, no.Offset(d.pageSize)); err != nil {
		if errors.Is(err, io.EOF) {
			return corruptPage(no, "the file ends in it")
		}
		return &readError{no, err}
	}
	return nil
}

// Page returns a page whose checksum and structure are good; one flipped bit is mended in
// the copy. The caller must not change it.
func (d *Database) Page(no page.No) (page.Page, error) {
	if p, ok := d.cache[no]; ok {
		return p, nil
	}
	p := make(page.Page, d.pageSize)
	if err := d.readRaw(no, p); err != nil {
		return nil, err
	}
	switch p.Verify(no) {
	case page.Blank:
		return nil, corruptPage(no, "never written")
	case page.Bad:
		return nil, corruptPage(no, "checksum mismatch")
	case page.Correctable:
		if !p.Repair(no) {
			return nil, corruptPage(no, "checksum mismatch")
		}
	}
	if err := p.Check(); err != nil {
		return nil, corruptPage(no, "%v", err)
	}
	if len(d.order) >= cachePages {
		delete(d.cache, d.order[0])
		d.order = d.order[1:]
	}
	d.cache[no] = p
	d.order = append(d.order, no)
	return p, nil
}
