package inspect

import (
	"context"
	"errors"
	"fmt"

	"pillarbox/ese/internal/dbheader"
	"pillarbox/ese/internal/page"
	"pillarbox/ese/vfs"
)

// CheckOptions says how to check. The zero value is usable.
type CheckOptions struct {
	// MaxFindings is the most findings kept; more are counted. Default: 100.
	MaxFindings int
	// SkipRows leaves out everything that needs the rows: rules 4 and 5 of the package.
	SkipRows bool
	// Progress, unless nil, is told how much of the work is done.
	Progress func(done, total int64)
}

// Finding is one thing that is wrong.
type Finding struct {
	Page   page.No // 0 when the place is not one page
	Table  string  // "" when no table is concerned
	Reason string
}

// String prints the finding as one line.
func (f Finding) String() string {
	return (&CorruptError{Page: f.Page, Table: f.Table, Reason: f.Reason}).Error()
}

// Report is the result of a check.
type Report struct {
	Findings []Finding
	// More is the number of findings beyond those kept.
	More int

	State      dbheader.State
	Pages      int // in the file
	Used       int // by trees
	Available  int
	Blank      int // never written
	Reserve    int // at the end of the file, owned by nobody yet
	Tables     int
	Rows       int64
	LongValues int64
	// HighestDBTime is the highest time stamp of a page in use.
	HighestDBTime page.DBTime
}

// OK reports whether nothing is wrong.
func (r *Report) OK() bool { return len(r.Findings) == 0 && r.More == 0 }

// checker is one run of Check.
type checker struct {
	ctx    context.Context
	db     *Database
	opts   CheckOptions
	report *Report
	space  *spaceMap
	table  string // for findings
	done   int64  // pages scanned and pages of trees
}

// step counts a page for Progress: each is scanned, and most are then met in a tree.
func (c *checker) step() {
	if c.done++; c.opts.Progress != nil && c.done%16 == 0 {
		total := 2 * int64(c.db.lastPage)
		c.opts.Progress(min(c.done, total), total)
	}
}

// Check proves the integrity of a database file. The error is for files that cannot be read
// at all, and for ctx; everything else is a finding. Nobody may write the file meanwhile.
func Check(ctx context.Context, f vfs.File, o CheckOptions) (*Report, error) {
	if o.MaxFindings == 0 {
		o.MaxFindings = 100
	}
	db, err := openFile(f)
	if err != nil {
		return nil, err
	}
	c := &checker{ctx: ctx, db: db, opts: o, report: &Report{
		State: db.Header.State, Pages: db.Pages(),
	}}
	if db.HeaderCopy != dbheader.Primary {
		c.find(0, "the primary header is damaged")
	}
	c.space = newSpaceMap(db.lastPage)
	if err := c.scanPages(); err != nil {
		return nil, err
	}
	if err := db.loadCatalog(); err != nil {
		if err := c.note(err); err != nil {
			return nil, err
		}
		return c.report, nil
	}
	if err := c.checkAll(); err != nil {
		return nil, err
	}
	return c.report, nil
}

// checkAll checks everything that the catalog leads to.
func (c *checker) checkAll() error {
	c.report.Tables = len(c.db.tables)
	steps := []func() error{c.checkSpace, c.checkTrees, c.checkCatalog}
	if !c.opts.SkipRows {
		steps = append(steps, c.checkRows)
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	c.report.Used, c.report.Available = c.space.count()
	return nil
}

// find adds a finding.
func (c *checker) find(no page.No, format string, args ...any) {
	if len(c.report.Findings) >= c.opts.MaxFindings {
		c.report.More++
		return
	}
	f := Finding{Page: no, Table: c.table, Reason: fmt.Sprintf(format, args...)}
	c.report.Findings = append(c.report.Findings, f)
}

// note makes a finding of whatever is wrong with the bytes, and passes on failures of the disk
// and the end of the context.
func (c *checker) note(err error) error {
	var read *readError
	if err == nil || errors.As(err, &read) || c.ctx.Err() != nil {
		return err
	}
	var bad *CorruptError
	switch {
	case !errors.As(err, &bad):
		c.find(0, "%v", err)
	case bad.Error() == err.Error():
		c.find(bad.Page, "%s", bad.Reason)
	default:
		c.find(bad.Page, "%v", err)
	}
	return nil
}

// scanPages verifies the checksum of every page, in use or not, in reading order.
func (c *checker) scanPages() error {
	p := make(page.Page, c.db.pageSize)
	for no := page.No(1); no <= c.db.lastPage; no++ {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		c.step()
		if err := c.db.readRaw(no, p); err != nil {
			if err := c.note(err); err != nil {
				return err
			}
			continue
		}
		switch p.Verify(no) {
		case page.Blank:
			c.report.Blank++
		case page.Correctable:
			c.find(no, "one bit is wrong")
		case page.Bad:
			c.find(no, "checksum mismatch")
		}
	}
	return nil
}

// checkCatalog compares the catalog with its shadow, row by row.
func (c *checker) checkCatalog() error {
	c.table = "MSysObjects"
	var rows, shadow tally
	for root, sum := range map[page.No]*tally{catalogPage: &rows, shadowPage: &shadow} {
		err := c.db.walk(root, func(n node) error {
			if !n.deleted {
				sum.add(1, n.key, n.data)
			}
			return nil
		})
		if err := c.note(err); err != nil {
			return err
		}
	}
	if rows != shadow {
		c.find(0, "%d rows differ from the %d of the shadow catalog", rows.n, shadow.n)
	}
	for _, t := range c.db.tables {
		if t.ObjID > c.db.Header.LastObjID {
			c.find(0, "object %d is above the header's last, %d", t.ObjID, c.db.Header.LastObjID)
		}
	}
	return nil
}
