package report

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"pillarbox/ese/internal/dbheader"
	"pillarbox/ese/internal/page"
	"pillarbox/ese/internal/wal"
	"pillarbox/ese/vfs"
)

// ErrDamaged is returned when a file is not whole; what is wrong was printed.
var ErrDamaged = errors.New("the file is damaged (-1018)")

// ErrCorrupted is returned when a database is not consistent; what is wrong was printed.
var ErrCorrupted = errors.New("the database is corrupted (-1206)")

// Checksum proves all checksums of a file. A path that is no file but the base name of log
// files, such as data/E00, means all of them.
func Checksum(ctx context.Context, w io.Writer, fsys vfs.FS, path string) error {
	p := &printer{w: w}
	_, err := fsys.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && len(filepath.Base(path)) == 3:
		err = p.logs(ctx, fsys, path, "")
	case err != nil:
		return err
	case strings.EqualFold(filepath.Ext(path), ".chk"):
		err = p.checkpoint(fsys, path)
	case strings.EqualFold(filepath.Ext(path), ".log"):
		base := filepath.Base(path)
		if len(base) < 3 {
			return fmt.Errorf("%s: not the name of a log file", path)
		}
		err = p.logs(ctx, fsys, filepath.Join(filepath.Dir(path), base[:3]), base)
	default:
		err = p.file(ctx, fsys, path)
	}
	return errors.Join(p.err, err)
}

func (p *printer) checkpoint(fsys vfs.FS, path string) error {
	p.printf("File: %s\n\n", path)
	if _, err := wal.ReadCheckpoint(fsys, path); err != nil {
		return err
	}
	p.printf("checkpoint file is OK\n")
	return nil
}

// file tells a database from a stream file by its header.
func (p *printer) file(ctx context.Context, fsys vfs.FS, path string) error {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	p.printf("File: %s\n\n", path)
	h, which, err := readHeader(f)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if h.FileType == dbheader.FileTypeStream {
		return p.streamFile(ctx, fsys, path, f)
	}
	t := &pageTally{}
	if which == dbheader.Shadow {
		p.printf("the primary header is damaged; its shadow is whole\n\n")
		t.bad++
	}
	start := time.Now()
	if err := t.scan(ctx, f, int(h.PageSize)); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	p.tally(t, time.Since(start))
	if t.bad+t.correctable+t.wrongNumber > 0 {
		return ErrDamaged
	}
	return nil
}

// pageTally counts pages by what their checksums say.
type pageTally struct {
	seen, bad, correctable, blank, wrongNumber int

	highest     page.DBTime
	highestPage page.No
	reads       int
	bytes       int64
}

const readBytes = 256 << 10

func (t *pageTally) scan(ctx context.Context, f vfs.File, pageSize int) error {
	size, err := f.Size()
	if err != nil {
		return err
	}
	buf := make([]byte, readBytes)
	for off := int64(2 * pageSize); off+int64(pageSize) <= size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(int64(readBytes), (size-off)/int64(pageSize)*int64(pageSize))
		if _, err := f.ReadAt(buf[:n], off); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		t.reads++
		t.bytes += n
		for i := int64(0); i < n; i += int64(pageSize) {
			no := page.No((off+i)/int64(pageSize) - 1)
			t.add(page.Page(buf[i:i+int64(pageSize)]), no)
		}
		off += n
	}
	return nil
}

func (t *pageTally) add(p page.Page, no page.No) {
	t.seen++
	switch p.Verify(no) {
	case page.Blank:
		t.blank++
		return
	case page.Correctable:
		t.correctable++
		return
	case page.Bad:
		t.bad++
		// A page written to another page's place is whole under its own number, which the
		// page does not hold: neighbours are tried.
		for _, other := range []page.No{no - 1, no + 1} {
			if p.Verify(other) == page.Good {
				t.wrongNumber++
			}
		}
		return
	}
	if p.DBTime() > t.highest {
		t.highest, t.highestPage = p.DBTime(), no
	}
}

func (p *printer) tally(t *pageTally, took time.Duration) {
	p.printf("%d pages seen\n", t.seen)
	p.printf("%d bad checksums\n", t.bad)
	p.printf("%d correctable checksums\n", t.correctable)
	p.printf("%d uninitialized pages\n", t.blank)
	p.printf("%d wrong page numbers\n", t.wrongNumber)
	p.printf("0x%x highest dbtime (pgno 0x%x)\n\n", uint64(t.highest), uint32(t.highestPage))
	p.printf("%d reads performed\n", t.reads)
	p.printf("%d MB read\n", t.bytes>>20)
	p.printf("%d seconds taken\n", int(took.Seconds()))
	if s := took.Seconds(); s > 0 {
		p.printf("%.0f MB/second\n", float64(t.bytes)/(1<<20)/s)
	}
}
