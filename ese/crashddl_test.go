package ese_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"pillarbox/ese"
)

// simSchema is what the crash simulation has changed of the schema. Names are never used
// twice, but for tables, which take the names of dropped ones.
type simSchema struct {
	cols   map[string]int64  // columns added to T, with their defaults
	index  map[string]string // indexes added to T, with their columns
	tables map[string]int    // other tables, with their rows
}

func newSimSchema() simSchema {
	return simSchema{map[string]int64{}, map[string]string{}, map[string]int{}}
}

func (s simSchema) clone() simSchema {
	return simSchema{maps.Clone(s.cols), maps.Clone(s.index), maps.Clone(s.tables)}
}

// pick chooses a key of a map, "" when it is empty.
func pick[V any](s *sim, m map[string]V) string {
	if len(m) == 0 {
		return ""
	}
	keys := slices.Sorted(maps.Keys(m))
	return keys[s.rng.IntN(len(keys))]
}

// ddl changes the schema in a transaction.
func (s *sim) ddl(x *simTx) {
	v := &x.view.schema
	s.named++
	name := fmt.Sprintf("%d", s.named)
	var err error
	var fn func(*simSchema)
	switch s.rng.IntN(8) {
	case 0, 1:
		name = fmt.Sprintf("X%d", s.rng.IntN(8))
		if _, there := v.tables[name]; there {
			return
		}
		n := s.rng.IntN(4) * 10
		err = s.makeTable(x, name, n)
		fn = func(m *simSchema) { m.tables[name] = n }
	case 2:
		old := pick(s, v.tables)
		if old == "" {
			return
		}
		err = x.tx.DropTable(s.db, old)
		fn = func(m *simSchema) { delete(m.tables, old) }
	case 3:
		old, to := pick(s, v.tables), fmt.Sprintf("X%d", s.rng.IntN(8))
		if _, there := v.tables[to]; there || old == "" {
			return
		}
		err = x.tx.RenameTable(s.db, old, to)
		fn = func(m *simSchema) { m.tables[to] = m.tables[old]; delete(m.tables, old) }
	case 4:
		if len(v.cols) > 6 {
			return
		}
		def := s.rng.Int64N(100)
		_, err = x.tx.AddColumn(s.tb, ese.ColumnDef{
			Name: "C" + name, Type: ese.Long, Default: ese.Int(def), Tagged: s.rng.IntN(2) == 0,
		})
		fn = func(m *simSchema) { m.cols["C"+name] = def }
	case 5:
		old := pick(s, v.cols)
		if old == "" || slices.Contains(slices.Collect(maps.Values(v.index)), old) {
			return
		}
		err = x.tx.DropColumn(s.tb, old)
		fn = func(m *simSchema) { delete(m.cols, old) }
	case 6:
		c := pick(s, v.cols)
		if c == "" || s.rng.IntN(2) == 0 {
			c = "Age"
		}
		if len(v.index) > 3 {
			return
		}
		_, err = x.tx.AddIndex(s.tb, ese.IndexDef{Name: "I" + name, Columns: []ese.IndexColumn{{Name: c}}})
		fn = func(m *simSchema) { m.index["I"+name] = c }
	default:
		old := pick(s, v.index)
		if old == "" {
			return
		}
		err = x.tx.DropIndex(s.tb, old)
		fn = func(m *simSchema) { delete(m.index, old) }
	}
	if s.conflict(x, err) {
		return
	}
	if err != nil {
		s.fatal("change the schema: %v", err)
	}
	fn(v)
	x.ddl = append(x.ddl, fn)
}

// makeTable makes a table with rows.
func (s *sim) makeTable(x *simTx, name string, rows int) error {
	def := simTable(s.seed)
	def.Name = name
	t, err := x.tx.CreateTable(s.db, def)
	if err != nil {
		return err
	}
	for i := range rows {
		r := t.NewRow()
		for _, c := range t.Columns() {
			switch c.Name() {
			case "ID":
				r.Set(c, ese.Int(i))
			case "Photo":
				r.Set(c, ese.Bytes(s.plain([]int{5000, 16000}[s.rng.IntN(2)])))
			}
		}
		if err := x.tx.Insert(r); err != nil {
			return err
		}
	}
	return nil
}

// setExtra sets some of the columns that were added, and returns those with their values.
func (s *sim) setExtra(x *simTx, er *ese.Row, have map[string]int64) map[string]int64 {
	out := maps.Clone(have)
	for _, name := range slices.Sorted(maps.Keys(x.view.schema.cols)) {
		if s.rng.IntN(3) > 0 {
			continue
		}
		c, err := x.tx.Column(s.tb, name)
		if err != nil {
			s.fatal("%v", err)
		}
		if out == nil {
			out = map[string]int64{}
		}
		out[name] = s.rng.Int64N(1000)
		er.Set(c, ese.Int(out[name]))
	}
	return out
}

func merged(old, now map[string]int64) map[string]int64 {
	if old == nil {
		return now
	}
	out := maps.Clone(old)
	maps.Copy(out, now)
	return out
}

// compareExtra compares the columns that were added.
func (s *sim) compareExtra(tx *ese.Tx, v *ese.RowView, id int, r row, want state) {
	for name, def := range want.schema.cols {
		c, err := tx.Column(s.tb, name)
		if err != nil {
			s.fatal("%v", err)
		}
		val, set := r.extra[name]
		if !set {
			val = def
		}
		if got := v.Int(c); got != val || v.IsNull(c) {
			s.fatal("row %d: column %s is %d, want %d", id, name, got, val)
		}
	}
}

// compareSchema compares tables, columns and indexes, and reads by the indexes that were
// added.
func (s *sim) compareSchema(tx *ese.Tx, want state) {
	var tables []string
	for _, n := range tx.Tables(s.db) {
		if strings.HasPrefix(n, "X") {
			tables = append(tables, n)
			s.countRows(tx, n, want.schema.tables[n])
		}
	}
	if !slices.Equal(tables, slices.Sorted(maps.Keys(want.schema.tables))) {
		s.fatal("tables %v, the model has %v", tables, want.schema.tables)
	}
	for n := 1; n <= s.named; n++ {
		_, is := want.schema.cols[fmt.Sprintf("C%d", n)]
		if _, err := tx.Column(s.tb, fmt.Sprintf("C%d", n)); is != (err == nil) {
			s.fatal("column C%d: %v", n, err)
		}
		_, is = want.schema.index[fmt.Sprintf("I%d", n)]
		x, err := tx.Index(s.tb, fmt.Sprintf("I%d", n))
		if is != (err == nil) {
			s.fatal("index I%d: %v", n, err)
		}
		if is {
			s.compareAdded(tx, x, want)
		}
	}
}

func (s *sim) countRows(tx *ese.Tx, name string, want int) {
	t, err := tx.Table(s.db, name)
	if err != nil {
		s.fatal("%v", err)
	}
	photo, err := t.Column("Photo")
	if err != nil {
		s.fatal("%v", err)
	}
	n := 0
	c := tx.Cursor(t.Primary())
	ok, err := c.First()
	for ; ok && err == nil; ok, err = c.Next() {
		n++
		if b, err := c.Row().Blob(photo, nil); err != nil || !isPlain(b) {
			s.fatal("table %s, row %d: a photo of %d bytes is mixed: %v", name, n, len(b), err)
		}
	}
	if err != nil || n != want {
		s.fatal("table %s has %d rows, want %d: %v", name, n, want, err)
	}
}

func (s *sim) compareAdded(tx *ese.Tx, x *ese.Index, want state) {
	c := tx.Cursor(x)
	n := 0
	ok, err := c.First()
	for ; ok && err == nil; ok, err = c.Next() {
		s.compareRow(tx, c.Row(), want, false)
		n++
	}
	if errors.Is(err, ese.ErrBuilding) {
		return
	}
	if err != nil || n != len(want.rows) {
		s.fatal("index %s shows %d rows, the model has %d: %v", x.Name(), n, len(want.rows), err)
	}
	s.counts.Built++
}
