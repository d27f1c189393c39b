package report

import (
	"context"
	"fmt"
	"io"
	"os"

	"pillarbox/ese"
	"pillarbox/ese/inspect"
	"pillarbox/ese/internal/dbheader"
	"pillarbox/ese/vfs"
)

// The JSON of Integrity.
type integrity struct {
	Findings   []string `json:"findings"`
	More       int      `json:"moreFindings"`
	Pages      int      `json:"pages"`
	Used       int      `json:"used"`
	Available  int      `json:"available"`
	Blank      int      `json:"uninitialized"`
	Tables     int      `json:"tables"`
	Rows       int64    `json:"rows"`
	LongValues int64    `json:"longValues"`
}

// Integrity checks everything in a database that was closed clean. ErrDamaged when there are
// findings; ese.ErrDirtyShutdown for a database that needs recovery first.
func Integrity(ctx context.Context, w io.Writer, fsys vfs.FS, path string) error {
	f, err := fsys.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	h, _, err := dbheader.Read(f)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if h.State != dbheader.CleanShutdown {
		return fmt.Errorf("%s: %w: it is in use, or needs recovery first: eseutil /r BASE",
			path, ese.ErrDirtyShutdown)
	}
	p := &printer{w: w}
	p.printf("Checking database integrity.\n\n")
	bar := NewBar(w, "Scanning")
	r, err := inspect.Check(ctx, f, inspect.CheckOptions{Progress: bar.At})
	bar.End(err)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return p.integrity(r)
}

func (p *printer) integrity(r *inspect.Report) error {
	out := integrity{
		Findings: []string{}, More: r.More, Pages: r.Pages, Used: r.Used, Available: r.Available,
		Blank: r.Blank, Tables: r.Tables, Rows: r.Rows, LongValues: r.LongValues,
	}
	for _, f := range r.Findings {
		out.Findings = append(out.Findings, f.String())
	}
	if !p.data(out) {
		for _, f := range out.Findings {
			p.printf("ERROR: %s\n", f)
		}
		if r.More > 0 {
			p.printf("and %d further errors\n", r.More)
		}
		p.printf("%d pages seen, %d in use, %d available, %d uninitialized\n", r.Pages, r.Used,
			r.Available, r.Blank)
		p.printf("%d tables, %d rows, %d long values\n\n", r.Tables, r.Rows, r.LongValues)
	}
	switch {
	case p.err != nil:
		return p.err
	case r.OK():
		p.printf("Integrity check successful.\n")
		return p.err
	}
	p.printf("Integrity check completed. Database is CORRUPTED: restore it from a backup, or " +
		"repair it with eseutil /p.\n")
	return ErrCorrupted
}
