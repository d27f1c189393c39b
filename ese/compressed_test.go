package ese_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
)

func packDef() ese.TableDef {
	return ese.TableDef{
		Name: "Packed",
		Columns: []ese.ColumnDef{
			{Name: "ID", Type: ese.Long, NotNull: true},
			{Name: "Age", Type: ese.Short},
			{Name: "Text", Type: ese.LongText, Compressed: true},
			{Name: "Body", Type: ese.LongBinary, Compressed: true, Default: ese.String("nothing there")},
			{Name: "Plain", Type: ese.LongText},
		},
		Indexes: []ese.IndexDef{
			{Name: "ID", Primary: true, Columns: []ese.IndexColumn{{Name: "ID"}}},
			{Name: "Text", Sparse: true, Columns: []ese.IndexColumn{{Name: "Text"}}},
		},
	}
}

// packBodies are values of all kinds: for each scheme, at the sizes where things change.
func packBodies() [][]byte {
	rng := rand.New(rand.NewPCG(4, 4))
	noise := make([]byte, 50_000)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	mail := []byte(strings.Repeat("Received: from a.example by b.example; and so on\r\n", 4000))
	bodies := [][]byte{{}, noise, noise[:1023], noise[:1024], make([]byte, 100_000), pattern(70_000, 1)}
	for _, n := range []int{1, 7, 17, 300, 1022, 1023, 1024, 4000, 9000, len(mail)} {
		bodies = append(bodies, mail[:n], bytes.Join([][]byte{mail[:n/2], noise[:n/4]}, nil))
		var wide []byte
		for _, c := range mail[:n] {
			wide = append(wide, c, 0)
		}
		bodies = append(bodies, wide)
	}
	return bodies
}

// What goes into compressed columns comes out, by every way of reading, also of rows whose
// other columns change, and after a crash; the index over one finds it.
func TestCompressedColumns(t *testing.T) {
	for _, page := range []int{4096, 8192, 16384, 32768} {
		t.Run(fmt.Sprint(page), func(t *testing.T) { packColumns(t, page) })
	}
}

func packText(i int) string { return strings.Repeat(fmt.Sprintf("NAME %04d ", i), 1+i%8) }

func packColumns(t *testing.T, page int) {
	g := esetest.Open(t, ese.Options{PageSize: page})
	tb := newTable(t, g, g.Database("a.edb"), packDef())
	bodies := packBodies()
	fill(t, g, tb, 0, len(bodies), func(r *ese.Row, i int) {
		r.Set(col(t, tb, "Text"), ese.String(packText(i))).Set(col(t, tb, "Body"), ese.Bytes(bodies[i]))
		r.Set(col(t, tb, "Plain"), ese.Bytes(bodies[i][:min(200, len(bodies[i]))]))
	})
	comparePacked(t, g, tb, bodies)
	ddl(t, g, func(tx *ese.Tx) error {
		for i := range bodies {
			must(t, tx.Update(tb.NewRow().Set(col(t, tb, "Age"), ese.Int(i)), ese.Int(i)))
		}
		return tx.DropIndex(tb, "Text")
	})
	comparePacked(t, g, tb, bodies)
	ddl(t, g, func(tx *ese.Tx) error {
		_, err := tx.AddIndex(tb, packDef().Indexes[1])
		return err
	})
	x, err := tb.Index("Text")
	must(t, err)
	must(t, g.In.BuildIndex(context.Background(), x))
	g.Crash()
	tb, err = g.Database("a.edb").Table("Packed")
	must(t, err)
	comparePacked(t, g, tb, bodies)
	x, err = tb.Index("Text")
	must(t, err)
	must(t, g.In.BuildIndex(context.Background(), x)) // that it is complete may be lost
	findPacked(t, g, tb, len(bodies))
	ddl(t, g, func(tx *ese.Tx) error {
		for i := range bodies {
			must(t, tx.Update(tb.NewRow().Set(col(t, tb, "Text"), ese.String("GONE")), ese.Int(i)))
			if i%2 == 0 {
				must(t, tx.Delete(tb, ese.Int(i)))
			}
		}
		return nil
	})
}

// comparePacked reads all rows in all ways.
func comparePacked(t *testing.T, g *esetest.Group, tb *ese.Table, bodies [][]byte) {
	t.Helper()
	tx := g.In.BeginReadLatest()
	defer func() { must(t, tx.Rollback()) }()
	text, body := col(t, tb, "Text"), col(t, tb, "Body")
	for i, want := range bodies {
		v := view(t, tx, tb, i)
		if v.String(text) != packText(i) || v.IsNull(body) || v.Count(body) != 1 {
			t.Fatalf("row %d: text %q", i, v.String(text))
		}
		got, err := v.Blob(body, []byte("xy"))
		if err != nil || string(got[:2]) != "xy" || !bytes.Equal(got[2:], want) {
			t.Fatalf("row %d: %d bytes, not %d: %v", i, len(got)-2, len(want), err)
		}
		if len(want) <= 200 && !bytes.Equal(v.Bytes(body), want) {
			t.Fatalf("row %d: %.20q", i, v.Bytes(body))
		}
		l, err := tx.OpenLong(tb, body, ese.Int(i))
		must(t, err)
		if n, err := l.Size(); err != nil || n != int64(len(want)) {
			t.Fatalf("row %d: size %d, not %d: %v", i, n, len(want), err)
		}
		l, err = v.Open(body)
		must(t, err)
		must(t, iotest.TestReader(l, want))
		part := make([]byte, 100)
		off := len(want) * 2 / 3
		n, err := l.ReadAt(part, int64(off))
		if !bytes.Equal(part[:n], want[off:min(off+100, len(want))]) || err != nil && !errors.Is(err, io.EOF) {
			t.Fatalf("row %d: %d bytes at %d: %v", i, n, off, err)
		}
	}
}

func findPacked(t *testing.T, g *esetest.Group, tb *ese.Table, rows int) {
	t.Helper()
	tx := g.In.BeginReadLatest()
	defer func() { must(t, tx.Rollback()) }()
	x, err := tx.Index(tb, "Text")
	must(t, err)
	for i := range rows {
		c := tx.Cursor(x)
		ok, err := c.Find(ese.String(packText(i)))
		if !ok || err != nil || c.Row().Int(col(t, tb, "ID")) != int64(i) {
			t.Errorf("text of row %d: %v, %v", i, ok, err)
		}
	}
}

// Absent, NULL and default are what they are in other columns; another row shares a value; a
// database that has such a column is refused by versions that do not know it.
func TestCompressedNullAndDefault(t *testing.T) {
	g := esetest.Open(t, ese.Options{})
	db := g.Database("a.edb")
	tb := newTable(t, g, db, packDef())
	text, body := col(t, tb, "Text"), col(t, tb, "Body")
	letter := strings.Repeat("a letter ", 100)
	fill(t, g, tb, 0, 1, nil)
	fill(t, g, tb, 1, 2, func(r *ese.Row, _ int) { r.Set(body, ese.Null()).Set(text, ese.String("T")) })
	fill(t, g, tb, 2, 3, func(r *ese.Row, _ int) { r.Set(body, ese.String(letter)) })
	ddl(t, g, func(tx *ese.Tx) error {
		must(t, tx.Insert(tb.NewRow().Set(col(t, tb, "ID"), ese.Int(3)).Share(body, view(t, tx, tb, 2))))
		must(t, tx.Update(tb.NewRow().Set(text, ese.Null()), ese.Int(1)))
		return tx.Update(tb.NewRow().Set(col(t, tb, "Age"), ese.Int(1)), ese.Int(0))
	})
	must(t, g.In.View(func(tx *ese.Tx) error {
		for i, want := range []string{"nothing there", "", letter, letter} {
			v := view(t, tx, tb, i)
			got, err := v.Blob(body, nil)
			if err != nil || string(got) != want || v.String(body) != want || v.IsNull(body) != (want == "") {
				t.Errorf("row %d: %q, %v", i, got, err)
			}
			if !v.IsNull(text) || v.Count(text) != 0 {
				t.Errorf("row %d has a text", i)
			}
		}
		vt, err := db.Table("MSysPillarbox")
		must(t, err)
		if n := view(t, tx, vt, 1).Int(col(t, vt, "Incompatible")); n&4 == 0 {
			t.Errorf("incompatible features %#x", n)
		}
		return nil
	}))
	ddl(t, g, func(tx *ese.Tx) error {
		_, err := tx.AddColumn(tb, ese.ColumnDef{Name: "N", Type: ese.Text, Tagged: true, Compressed: true})
		if !errors.Is(err, ese.ErrSchema) {
			t.Errorf("a compressed short column: %v", err)
		}
		return nil
	})
}

// Compression takes its share off what is logged and written.
func TestCompressedSize(t *testing.T) {
	body := []byte(strings.Repeat("Received: from a.example by b.example; and so on\r\n", 400))
	var logged [2]uint64
	for i, compressed := range []bool{false, true} {
		g := esetest.Open(t, ese.Options{})
		tb := newTable(t, g, g.Database("a.edb"), photosDef(compressed))
		before := g.In.Stats().Log.Bytes
		fill(t, g, tb, 0, 200, func(r *ese.Row, k int) {
			r.Set(col(t, tb, "Photo"), ese.Bytes(body[:20+k*len(body)/250]))
		})
		logged[i] = uint64(g.In.Stats().Log.Bytes - before)
	}
	if logged[1] > logged[0]/5 {
		t.Errorf("%d bytes logged, uncompressed %d", logged[1], logged[0])
	}
}

// Reading a compressed value into memory that is there allocates nothing.
func TestCompressedAllocates(t *testing.T) {
	g := esetest.Open(t, ese.Options{})
	tb := newTable(t, g, g.Database("a.edb"), packDef())
	body := col(t, tb, "Body")
	fill(t, g, tb, 0, 1, func(r *ese.Row, _ int) { r.Set(body, ese.String(strings.Repeat("a letter ", 100))) })
	must(t, g.In.View(func(tx *ese.Tx) error {
		v := view(t, tx, tb, 0)
		dst := make([]byte, 0, 1000)
		if n := testing.AllocsPerRun(100, func() {
			if b, err := v.Blob(body, dst); err != nil || len(b) != 900 {
				t.Error(len(b), err)
			}
		}); n > 0 {
			t.Errorf("%.0f allocations", n)
		}
		return nil
	}))
}
