package ese_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"testing"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
	"pillarbox/ese/inspect"
)

// Every column type is stored, read back by the engine, and read cell by cell from the file
// by the reader that knows nothing of the engine.
func TestColumnTypes(t *testing.T) {
	g := esetest.Open(t, ese.Options{})
	db := g.Database("a.edb")
	guid := []byte("0123456789abcdef")
	long := bytes.Repeat([]byte("long value "), 2000)
	f64 := binary.LittleEndian.AppendUint64(nil, math.Float64bits(-2.5))
	cells := []struct {
		name string
		typ  ese.ColumnType
		v    ese.Value
		want []byte
	}{
		{"Bit", ese.Bit, ese.Bool(true), []byte{0xff}},
		{"UByte", ese.UnsignedByte, ese.Int(200), []byte{200}},
		{"Short", ese.Short, ese.Int(-2), []byte{0xfe, 0xff}},
		{"Long", ese.Long, ese.Int(-3), []byte{0xfd, 0xff, 0xff, 0xff}},
		{"Currency", ese.Currency, ese.Int(7), []byte{7, 0, 0, 0, 0, 0, 0, 0}},
		{"Double", ese.IEEEDouble, ese.Float(-2.5), f64},
		{"DateTime", ese.DateTime, ese.Float(-2.5), f64},
		{"ULong", ese.UnsignedLong, ese.Int(uint32(math.MaxUint32)), []byte{255, 255, 255, 255}},
		{"LongLong", ese.LongLong, ese.Int(int64(-1)), bytes.Repeat([]byte{255}, 8)},
		{"GUID", ese.GUID, ese.Bytes(guid), guid},
		{"UShort", ese.UnsignedShort, ese.Int(65535), []byte{255, 255}},
		{"ULongLong", ese.UnsignedLongLong, ese.Int(uint64(math.MaxUint64)), bytes.Repeat([]byte{255}, 8)},
		{"Binary", ese.Binary, ese.Bytes([]byte{0, 1, 2}), []byte{0, 1, 2}},
		{"Text", ese.Text, ese.String("text"), []byte("text")},
		{"LongBinary", ese.LongBinary, ese.Bytes(long), long},
		{"LongText", ese.LongText, ese.String("short long text"), []byte("short long text")},
		{"Absent", ese.LongBinary, ese.Null(), nil},
	}
	def := ese.TableDef{Name: "Types", Indexes: []ese.IndexDef{
		{Name: "PK", Primary: true, Columns: []ese.IndexColumn{{Name: "GUID"}}},
		{Name: "Mixed", Columns: []ese.IndexColumn{{Name: "Double", Descending: true}, {Name: "Text"}, {Name: "Binary"}, {Name: "Bit"}}},
	}}
	for _, c := range cells {
		def.Columns = append(def.Columns, ese.ColumnDef{Name: c.name, Type: c.typ})
	}
	must(t, g.In.Update(context.Background(), func(tx *ese.Tx) error {
		tb, err := tx.CreateTable(db, def)
		if err != nil {
			return err
		}
		r := tb.NewRow()
		for _, c := range cells {
			r.Set(col(t, tb, c.name), c.v)
		}
		if err := tx.Insert(r); err != nil {
			return err
		}
		var v ese.RowView
		var buf []byte
		ok, err := tx.Get(tb, &v, &buf, ese.Bytes(guid))
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		if v.Float(col(t, tb, "Double")) != -2.5 || v.Int(col(t, tb, "Short")) != -2 || !v.Bool(col(t, tb, "Bit")) || !v.IsNull(col(t, tb, "Absent")) {
			t.Error("the engine reads other values than it was given")
		}
		for _, c := range []struct {
			name string
			v    ese.Value
		}{{"Short", ese.Int(70000)}, {"UByte", ese.Int(300)}, {"GUID", ese.Bytes([]byte{1})}, {"Bit", ese.String("x")}} {
			bad := tb.NewRow().Set(col(t, tb, "GUID"), ese.Bytes(bytes.Repeat([]byte{9}, 16))).Set(col(t, tb, c.name), c.v)
			if err := tx.Insert(bad); !errors.Is(err, ese.ErrBadValue) {
				t.Errorf("%s takes a value that does not fit: %v", c.name, err)
			}
		}
		return nil
	}))
	g.Reopen() // clean, so that the file holds everything
	f, err := g.FS.OpenFile("/data/a.edb", 0, 0)
	must(t, err)
	defer func() { _ = f.Close() }()
	file, err := inspect.Open(f)
	must(t, err)
	names := 0
	for _, tb := range file.Tables() {
		if tb.Primary() != nil {
			names++
		}
	}
	tb := file.Table("Types")
	if tb == nil || names < 5 {
		t.Fatalf("the reader finds %d tables with a primary index, Types: %v", names, tb != nil)
	}
	rows := 0
	must(t, tb.Rows(func(r inspect.Row) error {
		rows++
		for i := range tb.Columns {
			c := &tb.Columns[i]
			vals, err := r.Values(c, 1<<20)
			if err != nil {
				return err
			}
			for _, cell := range cells {
				if cell.name != c.Name {
					continue
				}
				var got []byte
				if len(vals) > 0 {
					got = vals[0].Data
				}
				if !bytes.Equal(got, cell.want) {
					t.Errorf("column %d %s: %.20x in the file, want %.20x", i, c.Name, got, cell.want)
				}
			}
		}
		return nil
	}))
	if rows != 1 {
		t.Errorf("%d rows", rows)
	}
}
