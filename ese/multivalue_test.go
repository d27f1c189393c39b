package ese_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
)

func tagDef(compressed bool) ese.TableDef {
	return ese.TableDef{
		Name: "Tags",
		Columns: []ese.ColumnDef{
			{Name: "ID", Type: ese.Long, NotNull: true},
			{Name: "Tag", Type: ese.Text, Tagged: true, MultiValued: true},
			{Name: "Num", Type: ese.Long, Tagged: true, MultiValued: true},
			{Name: "Note", Type: ese.LongBinary, MultiValued: true, Compressed: compressed},
			{Name: "Kind", Type: ese.Short},
		},
		Indexes: []ese.IndexDef{
			{Name: "ID", Primary: true, Columns: []ese.IndexColumn{{Name: "ID"}}},
			{Name: "Tag", Columns: []ese.IndexColumn{{Name: "Tag"}, {Name: "Kind", Descending: true}}},
			{Name: "Num", Unique: true, Sparse: true, Columns: []ese.IndexColumn{{Name: "Num"}}},
		},
	}
}

// tagRow is a row of the model.
type tagRow struct {
	tags  []string
	nums  []int64
	notes [][]byte
	kind  int64
}

type tagModel struct {
	t    *testing.T
	rng  *rand.Rand
	tb   *ese.Table
	rows map[int]tagRow
}

// Rows with several values, at random: what was stored is read, and each index shows each
// value.
func TestMultiValues(t *testing.T) {
	for i, page := range []int{4096, 8192, 16384, 32768, 4096, 16384} {
		compressed := i >= 4
		t.Run(fmt.Sprint(page, compressed), func(t *testing.T) {
			g := esetest.Open(t, ese.Options{PageSize: page, CacheBytes: 16 * int64(page)})
			m := &tagModel{
				t: t, rng: rand.New(rand.NewPCG(uint64(i), 4)), rows: map[int]tagRow{},
				tb: newTable(t, g, g.Database("a.edb"), tagDef(compressed)),
			}
			for round := range 12 {
				m.round(g)
				if round == 6 {
					g.Crash()
					tb, err := g.Database("a.edb").Table("Tags")
					must(t, err)
					m.tb = tb
				}
				m.compare(g)
			}
			ddl(t, g, func(tx *ese.Tx) error { return tx.DropIndex(m.tb, "Tag") })
			ddl(t, g, func(tx *ese.Tx) error {
				_, err := tx.AddIndex(m.tb, tagDef(compressed).Indexes[1])
				return err
			})
			x, err := m.tb.Index("Tag")
			must(t, err)
			must(t, g.In.BuildIndex(context.Background(), x))
			m.compare(g)
		})
	}
}

// round does some changes in one transaction, and half of the time takes them back.
func (m *tagModel) round(g *esetest.Group) {
	t := m.t
	tx := g.In.Begin()
	rows := maps.Clone(m.rows)
	for range 60 {
		id := m.rng.IntN(50)
		_, there := rows[id]
		if there && m.rng.IntN(4) == 0 {
			must(t, tx.Delete(m.tb, ese.Int(id)))
			delete(rows, id)
			continue
		}
		r, er := m.random(id, rows)
		if there {
			// Columns that are not set keep their values.
			if m.rng.IntN(2) == 0 {
				er = m.tb.NewRow().SetValues(col(t, m.tb, "Tag"), strs(r.tags)...)
				was := rows[id]
				r.nums, r.notes, r.kind = was.nums, was.notes, was.kind
			}
			must(t, tx.Update(er, ese.Int(id)))
		} else {
			must(t, tx.Insert(er.Set(col(t, m.tb, "ID"), ese.Int(id))))
		}
		rows[id] = r
	}
	if m.rng.IntN(3) == 0 {
		must(t, tx.Rollback())
		return
	}
	_, err := tx.Commit()
	must(t, err)
	m.rows = rows
}

func strs(v []string) (out []ese.Value) {
	for _, s := range v {
		out = append(out, ese.String(s))
	}
	return out
}

func (m *tagModel) random(id int, _ map[int]tagRow) (tagRow, *ese.Row) {
	r := tagRow{kind: m.rng.Int64N(4)}
	for range m.rng.IntN(5) {
		r.tags = append(r.tags, strings.ToUpper(fmt.Sprintf("tag%d%s", m.rng.IntN(8), strings.Repeat("x", m.rng.IntN(20)))))
	}
	for i := range m.rng.IntN(4) {
		r.nums = append(r.nums, int64(id*10+i)) // no other row has them
	}
	for range m.rng.IntN(4) {
		r.notes = append(r.notes, []byte(strings.Repeat("n", 1+m.rng.IntN([]int{5, 900, 5000}[m.rng.IntN(3)]))))
	}
	var nums, notes []ese.Value
	for _, n := range r.nums {
		nums = append(nums, ese.Int(n))
	}
	for _, n := range r.notes {
		notes = append(notes, ese.Bytes(n))
	}
	c := func(name string) *ese.Column { return col(m.t, m.tb, name) }
	er := m.tb.NewRow().SetValues(c("Tag"), strs(r.tags)...).SetValues(c("Num"), nums...)
	return r, er.SetValues(c("Note"), notes...).Set(c("Kind"), ese.Int(r.kind))
}

func (m *tagModel) compare(g *esetest.Group) {
	t := m.t
	tx := g.In.BeginReadLatest()
	defer func() { must(t, tx.Rollback()) }()
	tag, num, note := col(t, m.tb, "Tag"), col(t, m.tb, "Num"), col(t, m.tb, "Note")
	for id, r := range m.rows {
		v := view(t, tx, m.tb, id)
		if v.Count(tag) != len(r.tags) || v.Count(num) != len(r.nums) || v.Count(note) != len(r.notes) {
			t.Fatalf("row %d: %d, %d and %d values", id, v.Count(tag), v.Count(num), v.Count(note))
		}
		for i, s := range r.tags {
			if got := string(v.BytesAt(tag, i)); got != s {
				t.Fatalf("row %d: tag %d is %q, want %q", id, i, got, s)
			}
		}
		for i, n := range r.nums {
			if got := v.IntAt(num, i); got != n {
				t.Fatalf("row %d: number %d is %d, want %d", id, i, got, n)
			}
		}
		for i, b := range r.notes {
			got, err := v.BlobAt(note, i, nil)
			if err != nil || string(got) != string(b) {
				t.Fatalf("row %d: note %d has %d bytes, want %d: %v", id, i, len(got), len(b), err)
			}
		}
	}
	count := func(index string, keys func(tagRow) []string) {
		x, err := m.tb.Index(index)
		must(t, err)
		want, got := map[string]int{}, map[string]int{}
		for id, r := range m.rows {
			ks := keys(r)
			slices.Sort(ks)
			if n := len(slices.Compact(ks)); n > 0 {
				want[fmt.Sprint(id)] = n
			}
		}
		c := tx.Cursor(x)
		ok, err := c.First()
		for ; ok && err == nil; ok, err = c.Next() {
			got[fmt.Sprint(c.Row().Int(col(t, m.tb, "ID")))]++
		}
		must(t, err)
		if !maps.Equal(want, got) {
			t.Fatalf("index %s shows %v, want %v", index, got, want)
		}
	}
	count("Tag", func(r tagRow) []string {
		if len(r.tags) == 0 {
			return []string{""} // NULL has an entry
		}
		return slices.Clone(r.tags)
	})
	count("Num", func(r tagRow) (out []string) {
		for _, n := range r.nums {
			out = append(out, fmt.Sprint(n))
		}
		return out
	})
}

// Unique holds for every value; a column that takes one value refuses two.
func TestMultiValuesRefused(t *testing.T) {
	g := esetest.Open(t, ese.Options{})
	db := g.Database("a.edb")
	tb := newTable(t, g, db, tagDef(false))
	id, num, kind := col(t, tb, "ID"), col(t, tb, "Num"), col(t, tb, "Kind")
	row := func(n int, vals ...ese.Value) *ese.Row {
		return tb.NewRow().Set(id, ese.Int(n)).SetValues(num, vals...)
	}
	tx := g.In.Begin()
	must(t, tx.Insert(row(1, ese.Int(5), ese.Int(6), ese.Int(5)))) // a value twice is one entry
	if err := tx.Insert(row(2, ese.Int(7), ese.Int(6))); !errors.Is(err, ese.ErrKeyExists) {
		t.Errorf("a value of another row: %v", err)
	}
	must(t, tx.Insert(row(2, ese.Int(7), ese.Int(8))))
	if err := tx.Update(tb.NewRow().SetValues(num, ese.Int(8), ese.Int(5)), ese.Int(2)); !errors.Is(err, ese.ErrKeyExists) {
		t.Errorf("a change to a value of another row: %v", err)
	}
	two := tb.NewRow().Set(id, ese.Int(3)).SetValues(kind, ese.Int(1), ese.Int(2))
	if err := tx.Insert(two); !errors.Is(err, ese.ErrBadValue) {
		t.Errorf("two values in a plain column: %v", err)
	}
	if err := tx.Insert(row(3, ese.Int(1), ese.Null())); !errors.Is(err, ese.ErrBadValue) {
		t.Errorf("NULL among several values: %v", err)
	}
	for what, d := range map[string]ese.ColumnDef{
		"not tagged": {Name: "X", Type: ese.Text, MultiValued: true},
		"escrow":     {Name: "X", Type: ese.Long, Tagged: true, MultiValued: true, Escrow: true},
	} {
		if _, err := tx.AddColumn(tb, d); !errors.Is(err, ese.ErrSchema) {
			t.Errorf("%s: %v", what, err)
		}
	}
	prim := tagDef(false)
	prim.Name, prim.Indexes[0].Columns[0].Name = "P", "Num"
	if _, err := tx.CreateTable(db, prim); !errors.Is(err, ese.ErrSchema) {
		t.Errorf("several values in the primary key: %v", err)
	}
	must(t, tx.Rollback())
}
