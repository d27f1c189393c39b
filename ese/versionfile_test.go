package ese_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
	"pillarbox/ese/vfs"
)

const versionFile = "/data/E00ver.tmp"

// wideDef has rows of about 1.2 KB.
func wideDef() ese.TableDef {
	return ese.TableDef{
		Name: "W",
		Columns: []ese.ColumnDef{
			{Name: "ID", Type: ese.Long, NotNull: true},
			{Name: "A", Type: ese.Binary},
			{Name: "B", Type: ese.Binary},
		},
		Indexes: []ese.IndexDef{{Name: "ID", Primary: true, Columns: []ese.IndexColumn{{Name: "ID"}}}},
	}
}

func wide(n int) ese.Value { return ese.Bytes(bytes.Repeat([]byte{byte(n)}, 600)) }

// newWide makes a table of rows whose columns all hold byte 1.
func newWide(t *testing.T, g *esetest.Group, rows int) *ese.Table {
	t.Helper()
	tb := newTable(t, g, g.Database("a.edb"), wideDef())
	fill(t, g, tb, 0, rows, func(r *ese.Row, _ int) {
		r.Set(col(t, tb, "A"), wide(1)).Set(col(t, tb, "B"), wide(1))
	})
	settle(t, g)
	return tb
}

// settle lets the version store forget what nobody needs.
func settle(t *testing.T, g *esetest.Group) {
	t.Helper()
	for range 300 {
		for n := range 2 {
			must(t, g.In.Step(n))
		}
	}
}

func setAll(tx *ese.Tx, tb *ese.Table, rows, n int) error {
	for i := range rows {
		r := tb.NewRow()
		for _, c := range tb.Columns()[1:] {
			r.Set(c, wide(n))
		}
		if err := tx.Update(r, ese.Int(i)); err != nil {
			return err
		}
	}
	return nil
}

// allHave tells whether the transaction sees byte n in all rows.
func allHave(tx *ese.Tx, tb *ese.Table, rows, n int) error {
	c := tx.Cursor(tb.Primary())
	seen := 0
	ok, err := c.First()
	for ; ok && err == nil; ok, err = c.Next() {
		for _, x := range tb.Columns()[1:] {
			if b := c.Row().Bytes(x); len(b) != 600 || int(b[0]) != n || int(b[599]) != n {
				return errors.New("a row is not what it should be")
			}
		}
		seen++
	}
	if err == nil && seen != rows {
		err = errors.New("rows are missing")
	}
	return err
}

// A transaction changes far more than the version store's memory holds: earlier states go to
// the file, snapshots read them there, rollback puts them back, and the file is gone at the end.
func TestVersionFile(t *testing.T) {
	const rows = 1000
	for _, page := range []int{4096, 8192, 32768} {
		g := esetest.Open(t, ese.Options{
			PageSize: page, CacheBytes: 16 * int64(page), VersionBytes: 512 << 10, Manual: true,
		})
		tb := newWide(t, g, rows)
		before := g.In.BeginRead()
		tx := g.In.Begin()
		must(t, setAll(tx, tb, rows, 2))
		if s := g.In.Stats(); s.VersionFileBytes < 300<<10 || s.VersionBytes > 512<<10 {
			t.Errorf("%d bytes in memory, %d in the file", s.VersionBytes, s.VersionFileBytes)
		}
		must(t, allHave(tx, tb, rows, 2))
		must(t, allHave(before, tb, rows, 1))
		must(t, tx.Rollback())
		must(t, allHave(before, tb, rows, 1))
		if s := g.In.Stats(); s.VersionFileBytes != 0 {
			t.Errorf("%d bytes in the file after the rollback", s.VersionFileBytes)
		}
		tx = g.In.Begin()
		must(t, setAll(tx, tb, rows, 3))
		_, err := tx.Commit()
		must(t, err)
		must(t, allHave(before, tb, rows, 1))
		must(t, before.Rollback())
		settle(t, g)
		if s := g.In.Stats(); s.VersionFileBytes != 0 || s.VersionBytes != 0 {
			t.Errorf("%d bytes in memory and %d in the file for nobody", s.VersionBytes, s.VersionFileBytes)
		}
		tx = g.In.Begin()
		must(t, setAll(tx, tb, rows, 4))
		g.Crash()
		if _, err := g.FS.Stat(versionFile); err == nil {
			t.Error("the file is there after the opening")
		}
		tb, err = g.Database("a.edb").Table("W")
		must(t, err)
		must(t, g.In.View(func(tx *ese.Tx) error { return allHave(tx, tb, rows, 3) }))
		tx = g.In.Begin()
		must(t, setAll(tx, tb, rows, 5))
		must(t, tx.Rollback())
		g.Reopen()
		if _, err := g.FS.Stat(versionFile); err == nil {
			t.Error("the file is there after the end")
		}
	}
}

// Each limit refuses by its name, and what it refuses leaves no trace.
func TestVersionLimits(t *testing.T) {
	const rows = 1000
	for name, o := range map[string]ese.Options{
		"TxVersionBytes":   {TxVersionBytes: 100 << 10},
		"VersionFileBytes": {VersionBytes: 256 << 10, VersionFileBytes: 100 << 10},
		"VersionBytes":     {VersionBytes: 256 << 10, VersionFileBytes: -1},
	} {
		o.Manual = true
		g := esetest.Open(t, o)
		tb := newTable(t, g, g.Database("a.edb"), wideDef())
		for i := 0; i < rows; i += 50 {
			fill(t, g, tb, i, i+50, func(r *ese.Row, _ int) {
				r.Set(col(t, tb, "A"), wide(1)).Set(col(t, tb, "B"), wide(1))
			})
			settle(t, g)
		}
		err := g.In.Update(context.Background(), func(tx *ese.Tx) error { return setAll(tx, tb, rows, 2) })
		if !errors.Is(err, ese.ErrVersionStoreFull) || !strings.Contains(err.Error(), "Options."+name) {
			t.Errorf("%s: %v", name, err)
		}
		must(t, g.In.View(func(tx *ese.Tx) error { return allHave(tx, tb, rows, 1) }))
		must(t, g.In.Update(context.Background(), func(tx *ese.Tx) error { return setAll(tx, tb, 10, 1) }))
	}
}

// A full disk under the file refuses the change, a read error the read; nothing else is
// harmed, and what was begun is taken back by the log.
func TestVersionFileFails(t *testing.T) {
	const rows = 1000
	mem := vfs.NewMem()
	faults := vfs.NewFault(mem)
	in, err := ese.Open(ese.Options{Dir: "/data", FS: faults, VersionBytes: 512 << 10, Manual: true})
	must(t, err)
	g := &esetest.Group{In: in}
	db, err := in.OpenDatabase("a.edb")
	must(t, err)
	tb := newTable(t, g, db, wideDef())
	fill(t, g, tb, 0, rows, func(r *ese.Row, _ int) {
		r.Set(col(t, tb, "A"), wide(1)).Set(col(t, tb, "B"), wide(1))
	})
	settle(t, g)
	full := errors.New("planted: no space left")
	rule := faults.Inject(vfs.Rule{Op: vfs.OpWrite, Path: "*ver.tmp", After: 20, Times: -1, Err: full})
	tx := in.Begin()
	if err := setAll(tx, tb, rows, 2); !errors.Is(err, ese.ErrVersionFile) || !errors.Is(err, full) {
		t.Errorf("with a full disk: %v", err)
	}
	must(t, tx.Rollback())
	must(t, in.Err())
	rule.Remove()

	before := in.BeginRead()
	tx = in.Begin()
	must(t, setAll(tx, tb, rows, 3))
	rule = faults.Inject(vfs.Rule{Op: vfs.OpRead, Path: "*ver.tmp", Times: -1, Err: errors.New("planted read error")})
	if err := allHave(before, tb, rows, 1); !errors.Is(err, ese.ErrVersionFile) {
		t.Errorf("with a read error: %v", err)
	}
	must(t, tx.Rollback())
	must(t, in.Err())
	rule.Remove()
	must(t, allHave(before, tb, rows, 1))
	must(t, before.Rollback())
	must(t, in.Close())
	esetest.Check(t, mem, "/data/a.edb")
}
