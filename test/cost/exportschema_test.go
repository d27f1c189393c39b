package cost_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
	"pillarbox/ese/vfs"
	"pillarbox/test/program"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func col(t *testing.T, tb *ese.Table, name string) *ese.Column {
	t.Helper()
	c, err := tb.Column(name)
	must(t, err)
	return c
}

// exported runs Debian's esedbexport on a database and returns its tables: cells by row, the
// names of the columns first.
func exported(t *testing.T, db string) map[string][][]string {
	t.Helper()
	tool, err := exec.LookPath("esedbexport")
	if err != nil {
		t.Skip("esedbexport is not installed (libesedb-utils)")
	}
	out := filepath.Join(t.TempDir(), "out")
	said, err := program.Run(t, time.Minute, exec.Command(tool, "-v", "-t", out, db))
	if err != nil || strings.Contains(said, "mismatch") || strings.Contains(said, "corrupt") {
		t.Fatalf("esedbexport: %v\n%s", err, said)
	}
	files, err := filepath.Glob(filepath.Join(out+".export", "*"))
	must(t, err)
	tables := make(map[string][][]string)
	for _, f := range files {
		b, err := os.ReadFile(f)
		must(t, err)
		var rows [][]string
		for l := range strings.Lines(string(b)) {
			rows = append(rows, strings.Split(strings.TrimSuffix(l, "\n"), "\t"))
		}
		name := filepath.Base(f)
		tables[name[:strings.LastIndex(name, ".")]] = rows
	}
	return tables
}

// onDisk opens a group in a folder, runs fn, closes it, checks it, and returns the database's
// path.
func onDisk(t *testing.T, fn func(in *ese.Instance, db *ese.Database)) string {
	t.Helper()
	dir := t.TempDir()
	in, err := ese.Open(ese.Options{Dir: dir})
	must(t, err)
	db, err := in.OpenDatabase("a.edb")
	must(t, err)
	fn(in, db)
	must(t, in.Close())
	path := filepath.Join(dir, "a.edb")
	esetest.Check(t, vfs.OS(), path)
	return path
}

// cell is the cell of a column in the row whose first column has a value.
func cell(t *testing.T, rows [][]string, key, column string) string {
	t.Helper()
	at := -1
	for i, n := range rows[0] {
		if n == column {
			at = i
		}
	}
	for _, r := range rows[1:] {
		if r[0] == key && at >= 0 && at < len(r) {
			return r[at]
		}
	}
	t.Errorf("no cell of row %s, column %s in %v", key, column, rows[0])
	return ""
}

// Another reader understands tables whose schema has changed. (It shows columns that a row
// does not have as empty, whatever their default.)
func TestExportChangedSchema(t *testing.T) {
	ctx := context.Background()
	path := onDisk(t, func(in *ese.Instance, db *ese.Database) {
		var tb *ese.Table
		must(t, in.Update(ctx, func(tx *ese.Tx) (err error) {
			tb, err = tx.CreateTable(db, ese.TableDef{
				Name: "S",
				Columns: []ese.ColumnDef{
					{Name: "ID", Type: ese.Long, NotNull: true},
					{Name: "N", Type: ese.LongLong, Escrow: true},
					{Name: "Small", Type: ese.Long, Escrow: true},
					{Name: "Pad", Type: ese.Binary},
				},
				Indexes: []ese.IndexDef{{Name: "ID", Primary: true, Columns: []ese.IndexColumn{{Name: "ID"}}}},
			})
			must(t, err)
			must(t, tx.Insert(tb.NewRow().Set(tb.Columns()[0], ese.Int(1)).Set(col(t, tb, "Pad"), ese.String("x"))))
			return tx.Add(tb, col(t, tb, "N"), -5, ese.Int(1))
		}))
		must(t, in.Update(ctx, func(tx *ese.Tx) error {
			must(t, tx.DropColumn(tb, "Small"))
			must(t, tx.DropColumn(tb, "Pad"))
			for _, d := range []ese.ColumnDef{
				{Name: "Rank", Type: ese.Long, Default: ese.Int(77)},
				{Name: "Town", Type: ese.Text, Default: ese.String("nowhere")},
			} {
				if _, err := tx.AddColumn(tb, d); err != nil {
					return err
				}
			}
			return tx.RenameTable(db, "S", "Renamed")
		}))
		must(t, in.Update(ctx, func(tx *ese.Tx) error {
			r := tb.NewRow().Set(tb.Columns()[0], ese.Int(2)).Set(col(t, tb, "Rank"), ese.Int(3))
			return tx.Insert(r.Set(col(t, tb, "Town"), ese.String("here")))
		}))
	})
	rows := exported(t, path)["Renamed"]
	if len(rows) != 3 {
		t.Fatalf("rows %q", rows)
	}
	for _, c := range [][3]string{
		{"1", "N", "-5"}, {"2", "N", "0"}, {"2", "Rank", "3"}, {"2", "Town", "here"},
	} {
		if got := cell(t, rows, c[0], c[1]); got != c[2] {
			t.Errorf("row %s, column %s: %q, want %q", c[0], c[1], got, c[2])
		}
	}
}

// Another reader shows several values of a text column, and finds its way past those of
// others. (Several
// numbers, and the compact form for two values, it shows as nothing: engine.md 26.)
func TestExportMultiValues(t *testing.T) {
	path := onDisk(t, func(in *ese.Instance, db *ese.Database) {
		must(t, in.Update(context.Background(), func(tx *ese.Tx) error {
			tb, err := tx.CreateTable(db, ese.TableDef{
				Name: "Tags",
				Columns: []ese.ColumnDef{
					{Name: "ID", Type: ese.Long, NotNull: true},
					{Name: "Num", Type: ese.Long, Tagged: true, MultiValued: true},
					{Name: "Tag", Type: ese.Text, Tagged: true, MultiValued: true},
					{Name: "Last", Type: ese.Text, Tagged: true},
				},
				Indexes: []ese.IndexDef{
					{Name: "ID", Primary: true, Columns: []ese.IndexColumn{{Name: "ID"}}},
					{Name: "Tag", Columns: []ese.IndexColumn{{Name: "Tag"}}},
				},
			})
			must(t, err)
			for i, tags := range [][]ese.Value{
				{ese.String("one")},
				{ese.String("one"), ese.String("two")},
				{ese.String("one"), ese.String("two"), ese.String("three")},
			} {
				r := tb.NewRow().Set(col(t, tb, "ID"), ese.Int(i)).SetValues(col(t, tb, "Tag"), tags...)
				r.SetValues(col(t, tb, "Num"), ese.Int(1), ese.Int(2), ese.Int(3)).Set(col(t, tb, "Last"), ese.String("end"))
				must(t, tx.Insert(r))
			}
			return nil
		}))
	})
	rows := exported(t, path)["Tags"]
	for _, c := range [][3]string{
		{"0", "Tag", "one"}, {"2", "Tag", "one; two; three"}, {"0", "Last", "end"}, {"1", "Last", "end"}, {"2", "Last", "end"},
	} {
		if got := cell(t, rows, c[0], c[1]); got != c[2] {
			t.Errorf("row %s, column %s: %q, want %q", c[0], c[1], got, c[2])
		}
	}
}

// Another reader undoes the 7-bit form of compressed text, and shows what was left as it is.
// (XPRESS it does not undo: engine.md 26. Compressed text of an even number of bytes it takes
// for UTF-16 whatever the code page; so those here are odd.)
func TestExportCompressed(t *testing.T) {
	texts := []string{"", "short", strings.Repeat("seven bits each ", 60) + "."}
	path := onDisk(t, func(in *ese.Instance, db *ese.Database) {
		must(t, in.Update(context.Background(), func(tx *ese.Tx) error {
			tb, err := tx.CreateTable(db, ese.TableDef{
				Name: "Packed",
				Columns: []ese.ColumnDef{
					{Name: "ID", Type: ese.Long, NotNull: true},
					{Name: "Text", Type: ese.LongText, Compressed: true},
					{Name: "Last", Type: ese.Text, Tagged: true},
				},
				Indexes: []ese.IndexDef{{Name: "ID", Primary: true, Columns: []ese.IndexColumn{{Name: "ID"}}}},
			})
			must(t, err)
			for i, text := range texts {
				r := tb.NewRow().Set(col(t, tb, "ID"), ese.Int(i)).Set(col(t, tb, "Text"), ese.String(text))
				must(t, tx.Insert(r.Set(col(t, tb, "Last"), ese.String("end"))))
			}
			return nil
		}))
	})
	rows := exported(t, path)["Packed"]
	for i, text := range texts {
		key := strconv.Itoa(i)
		if got := cell(t, rows, key, "Text"); got != text {
			t.Errorf("row %d: %q, want %q", i, got, text)
		}
		if got := cell(t, rows, key, "Last"); got != "end" {
			t.Errorf("row %d: last column %q", i, got)
		}
	}
}
