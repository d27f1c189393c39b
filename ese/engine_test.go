package ese_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
)

func peopleDef() ese.TableDef {
	return ese.TableDef{
		Name: "People",
		Columns: []ese.ColumnDef{
			{Name: "ID", Type: ese.Long, NotNull: true},
			{Name: "Age", Type: ese.Short},
			{Name: "Name", Type: ese.Text},
			{Name: "Key", Type: ese.Binary},
			{Name: "Photo", Type: ese.LongBinary},
		},
		Indexes: []ese.IndexDef{
			{Name: "ID", Primary: true, Columns: []ese.IndexColumn{{Name: "ID"}}},
			{Name: "Name", Unique: true, Sparse: true, Columns: []ese.IndexColumn{{Name: "Name"}}},
			{Name: "Age", Columns: []ese.IndexColumn{{Name: "Age", Descending: true}, {Name: "Name"}}},
		},
	}
}

// photosDef is peopleDef with photos that are compressed, or not.
func photosDef(compressed bool) ese.TableDef {
	def := peopleDef()
	def.Columns[4].Compressed = compressed
	return def
}

func col(t *testing.T, tb *ese.Table, name string) *ese.Column {
	t.Helper()
	c, err := tb.Column(name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFirstRows(t *testing.T) {
	g := esetest.Open(t, ese.Options{})
	db := g.Database("a.edb")
	ctx := context.Background()
	var tb *ese.Table
	if err := g.In.Update(ctx, func(tx *ese.Tx) (err error) {
		tb, err = tx.CreateTable(db, peopleDef())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	id, age, name, photo := col(t, tb, "ID"), col(t, tb, "Age"), col(t, tb, "Name"), col(t, tb, "Photo")
	const n = 3000
	if err := g.In.Update(ctx, func(tx *ese.Tx) error {
		for i := range n {
			k := i * 7919 % n
			r := tb.NewRow().Set(id, ese.Int(k)).Set(age, ese.Int(k%90)).Set(name, ese.String(fmt.Sprintf("NAME %05d", k)))
			r.Set(photo, ese.Bytes(make([]byte, k%5000)))
			if err := tx.Insert(r); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	err := g.In.Update(ctx, func(tx *ese.Tx) error {
		return tx.Insert(tb.NewRow().Set(id, ese.Int(5)))
	})
	if !errors.Is(err, ese.ErrKeyExists) {
		t.Fatalf("second row 5: %v", err)
	}
	check := func() {
		t.Helper()
		if err := g.In.View(func(tx *ese.Tx) error {
			c := tx.Cursor(tb.Primary())
			i := 0
			ok, err := c.First()
			for ; ok && err == nil; ok, err = c.Next() {
				v := c.Row()
				b, err := v.Blob(photo, nil)
				if v.Int(id) != int64(i) || v.String(name) != fmt.Sprintf("NAME %05d", i) || len(b) != i%5000 || err != nil {
					return fmt.Errorf("row %d: id %d name %q photo %d %v", i, v.Int(id), v.String(name), len(b), err)
				}
				i++
			}
			if i != n || err != nil {
				return fmt.Errorf("%d rows, %v", i, err)
			}
			x, err := tb.Index("Age")
			if err != nil {
				return err
			}
			c = tx.Cursor(x)
			ok, err = c.Last()
			last := int64(-1)
			rows := 0
			for ; ok && err == nil; ok, err = c.Prev() {
				if a := c.Row().Int(age); a < last {
					return fmt.Errorf("age %d after %d", a, last)
				}
				last = c.Row().Int(age)
				rows++
			}
			if rows != n {
				return fmt.Errorf("%d rows by age", rows)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	check()
	g.Reopen()
	db = g.Database("a.edb")
	var terr error
	if tb, terr = db.Table("People"); terr != nil {
		t.Fatal(terr)
	}
	id, age, name, photo = col(t, tb, "ID"), col(t, tb, "Age"), col(t, tb, "Name"), col(t, tb, "Photo")
	check()
	g.Crash()
	db = g.Database("a.edb")
	if tb, terr = db.Table("People"); terr != nil {
		t.Fatal(terr)
	}
	id, age, name, photo = col(t, tb, "ID"), col(t, tb, "Age"), col(t, tb, "Name"), col(t, tb, "Photo")
	check()
	if err := g.In.Update(ctx, func(tx *ese.Tx) error {
		for i := 0; i < n; i++ {
			if i%3 == 0 {
				continue
			}
			if err := tx.Delete(tb, ese.Int(i)); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
