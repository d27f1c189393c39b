package store

import (
	"context"
	"fmt"
	"slices"

	"pillarbox/ese"
)

// IntegrityTest names one of the tests of CheckIntegrity.
type IntegrityTest string

// The tests, in the order of the report.
const (
	CountersTest   IntegrityTest = "counters"           // of folders and mailboxes, recounted
	ReferencesTest IntegrityTest = "content references" // of each content, against placements
	UIDsTest       IntegrityTest = "uids"               // below uidnext
	ChangesTest    IntegrityTest = "change numbers"     // of messages, folders and mailboxes
	FoldersTest    IntegrityTest = "folder trees"       // parents, cycles, names
	PlacementsTest IntegrityTest = "placements"         // against the content they name
	PromotedTest   IntegrityTest = "promoted fields"    // against the stored message
	StreamsTest    IntegrityTest = "streams"            // each has an owner
	TombstonesTest IntegrityTest = "tombstones"         // of what is gone
	RecoverTest    IntegrityTest = "recoverable items"  // what was deleted and can be brought back
)

func integrityTests() []IntegrityTest {
	return []IntegrityTest{
		CountersTest, ReferencesTest, UIDsTest, ChangesTest, FoldersTest, PlacementsTest,
		PromotedTest, StreamsTest, TombstonesTest, RecoverTest,
	}
}

// IntegrityOptions says what CheckIntegrity does. The zero value checks the whole store.
type IntegrityOptions struct {
	// Fix mends what can be.
	Fix bool
	// Mailboxes limits the check to these and what they hold. nil: all, and what nobody holds.
	Mailboxes []MailboxID
}

// IntegrityResult is what came of one test.
type IntegrityResult struct {
	Test IntegrityTest
	// Checked counts the objects looked at, Found those with a fault, Mended the faults mended.
	Checked, Found, Mended int64
}

// IntegrityFinding is one fault.
type IntegrityFinding struct {
	Test IntegrityTest
	// Mailbox is the one it is in, zero for what several share.
	Mailbox MailboxID
	Place   string
	Reason  string
	// Mended says what was done; "" where the fault is still there.
	Mended string
}

// IntegrityReport is the outcome of CheckIntegrity.
type IntegrityReport struct {
	Results []IntegrityResult
	// Findings are the first maxFindings; Results counts all.
	Findings []IntegrityFinding
}

// Left is the number of faults that are still there.
func (r *IntegrityReport) Left() (n int64) {
	for _, t := range r.Results {
		n += t.Found - t.Mended
	}
	return n
}

// Add adds the report of another store.
func (r *IntegrityReport) Add(o *IntegrityReport) {
	for i, t := range o.Results {
		r.Results[i].Checked += t.Checked
		r.Results[i].Found += t.Found
		r.Results[i].Mended += t.Mended
	}
	r.Findings = append(r.Findings, o.Findings...)
	r.Findings = r.Findings[:min(len(r.Findings), maxFindings)]
}

// CheckIntegrity checks the store against itself while it is used: each mailbox on a snapshot,
// contents and streams by windows, each message read outside of transactions. With Fix a
// mailbox that has faults is checked again under its write lock and mended in the same
// transaction, so what was only in the making is no fault. It reads bytes first, since
// they decide about everything that was made of them.
func (s *Store) CheckIntegrity(ctx context.Context, o IntegrityOptions) (*IntegrityReport, error) {
	v := &verifier{s: s, ctx: ctx, fix: o.Fix, window: 1 << 20}
	return v.run(o)
}

// verifier is one run of CheckIntegrity.
type verifier struct {
	s      *Store
	ctx    context.Context
	fix    bool
	window int // how many contents or streams are held in memory at a time
	report IntegrityReport
}

func (v *verifier) run(o IntegrityOptions) (*IntegrityReport, error) {
	for _, t := range integrityTests() {
		v.report.Results = append(v.report.Results, IntegrityResult{Test: t})
	}
	for _, d := range v.s.mounted() {
		var err error
		if o.Mailboxes == nil {
			err = v.orphanMailboxes(d)
		}
		var boxes []*box
		if err == nil {
			boxes, err = v.boxes(d, o.Mailboxes)
		}
		if err == nil {
			err = v.database(d, boxes, o.Mailboxes == nil)
		}
		if err != nil {
			return &v.report, fmt.Errorf("check the integrity of the store: %w", err)
		}
	}
	return &v.report, nil
}

// database checks one database, or these mailboxes of it and what they hold.
func (v *verifier) database(d *database, boxes []*box, whole bool) error {
	var only map[int64]bool // nil: all contents
	if !whole {
		if len(boxes) == 0 {
			return nil
		}
		var err error
		if only, err = v.held(d, boxes); err != nil {
			return err
		}
	}
	if err := v.contents(d, only); err != nil {
		return err
	}
	for _, b := range boxes {
		if err := v.mailbox(b); err != nil {
			return err
		}
	}
	if whole {
		return v.streams(d)
	}
	return nil
}

// boxes lists the mailboxes of a database, or those of them that were asked for.
func (v *verifier) boxes(d *database, ids []MailboxID) (boxes []*box, err error) {
	all, err := v.s.boxesOf(d)
	if err != nil || ids == nil {
		return all, err
	}
	for _, b := range all {
		if slices.Contains(ids, b.id) {
			boxes = append(boxes, b)
		}
	}
	return boxes, nil
}

// held collects the contents of mailboxes.
func (v *verifier) held(d *database, boxes []*box) (map[int64]bool, error) {
	held := make(map[int64]bool)
	for _, b := range boxes {
		err := v.s.in.View(func(tx *ese.Tx) error {
			return v.each(tx, d.msg.t, func(r *ese.RowView) error {
				held[r.Int(d.msg.cid)] = true
				return nil
			}, ese.Int(b.mbx))
		})
		if err != nil {
			return nil, err
		}
	}
	return held, nil
}

// each calls fn for the rows of a table whose first key columns have these values.
func (v *verifier) each(
	tx *ese.Tx, t *ese.Table, fn func(*ese.RowView) error, prefix ...ese.Value,
) error {
	c := checker{ctx: v.ctx, tx: tx}
	return c.each(t, fn, prefix...)
}

func (v *verifier) result(t IntegrityTest) *IntegrityResult {
	for i := range v.report.Results {
		if v.report.Results[i].Test == t {
			return &v.report.Results[i]
		}
	}
	panic("store: integrity test " + string(t) + " has no result")
}

// add takes a finding into the report.
func (v *verifier) add(f IntegrityFinding) {
	r := v.result(f.Test)
	r.Found++
	if f.Mended != "" {
		r.Mended++
	}
	if len(v.report.Findings) < maxFindings {
		v.report.Findings = append(v.report.Findings, f)
	}
}

// mailbox checks a mailbox on a snapshot, and where it has faults once more under its lock.
func (v *verifier) mailbox(b *box) error {
	x := newExam(v, b)
	if err := v.s.in.View(x.run); err != nil {
		return err
	}
	if v.fix && len(x.faults) > 0 {
		err := v.s.write(v.ctx, []*box{b}, func(o *op) error {
			x = newExam(v, b)
			if err := x.run(o.tx); err != nil {
				return err
			}
			return x.mend(o, o.state(b))
		})
		if err != nil {
			return err
		}
	}
	for t, n := range x.checked {
		v.result(t).Checked += n
	}
	for _, f := range x.faults {
		v.add(f.IntegrityFinding)
	}
	return nil
}
