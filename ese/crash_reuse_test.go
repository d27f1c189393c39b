package ese_test

import (
	"bytes"

	"pillarbox/ese"
)

// reuseTable is made by no other step.
const reuseTable = "X8"

// reuse has pages change hands in one stretch of log: a table with long values is changed, dropped
// and freed, and another takes its pages when the power is cut. Recovery then reads pages for
// an early record of which the disk may hold a torn later state, and which come whole behind that.
func (s *sim) reuse() {
	s.endAll()
	s.endHeld()
	s.remake(s.makeReused)
	s.catchUp()
	s.remake(s.refill)
	s.settle()
	s.remake(s.dropReused)
	s.settle()
	s.remake(s.makeReused)
	if s.disk.Cut == nil {
		s.counts.Reused++
		s.disk.Left = 1 + s.rng.IntN(40)
	}
	s.settle()
}

// remake does something with the table in a transaction of its own.
func (s *sim) remake(do func(x *simTx)) {
	if s.disk.Cut == nil {
		x := s.begin()
		do(x)
		s.endTx(x)
	}
}

// settle makes what was done durable, gives back what is free and writes pages.
func (s *sim) settle() {
	for i := 0; s.disk.Cut == nil && i < 4; i++ {
		s.steps(0, 1, 8, 2, 2, 2)
	}
}

func (s *sim) makeReused(x *simTx) {
	if _, there := x.view.schema.tables[reuseTable]; there {
		return
	}
	t, err := x.tx.CreateTable(s.db, ese.TableDef{
		Name: reuseTable,
		Columns: []ese.ColumnDef{
			{Name: "ID", Type: ese.Long, NotNull: true}, {Name: "Photo", Type: ese.LongBinary},
		},
		Indexes: []ese.IndexDef{{Name: "ID", Primary: true, Columns: []ese.IndexColumn{{Name: "ID"}}}},
	})
	if err != nil {
		s.fatal("make a table: %v", err)
	}
	cols, rows := t.Columns(), 1+s.rng.IntN(4)
	for i := range rows {
		r := t.NewRow().Set(cols[0], ese.Int(i)).Set(cols[1], ese.Bytes(s.plain(16000)))
		if err := x.tx.Insert(r); err != nil {
			s.fatal("insert into %s: %v", reuseTable, err)
		}
	}
	x.ddl = append(x.ddl, func(m *simSchema) { m.tables[reuseTable] = rows })
}

func (s *sim) dropReused(x *simTx) {
	if _, there := x.view.schema.tables[reuseTable]; !there {
		return
	}
	if err := x.tx.DropTable(s.db, reuseTable); err != nil {
		s.fatal("drop a table: %v", err)
	}
	x.ddl = append(x.ddl, func(m *simSchema) { delete(m.tables, reuseTable) })
}

// refill writes the long values anew.
func (s *sim) refill(x *simTx) {
	n, there := x.view.schema.tables[reuseTable]
	if !there {
		return
	}
	t, err := x.tx.Table(s.db, reuseTable)
	if err != nil {
		s.fatal("%v", err)
	}
	c, err := t.Column("Photo")
	if err != nil {
		s.fatal("%v", err)
	}
	for i := range n {
		r := t.NewRow().Set(c, ese.Bytes(s.plain(16000)))
		if err := x.tx.Update(r, ese.Int(i)); err != nil {
			s.fatal("write row %d of %s anew: %v", i, reuseTable, err)
		}
	}
}

// plain returns up to n bytes that are all the same, so that a value of parts that do not belong
// together shows by itself.
func (s *sim) plain(n int) []byte {
	return bytes.Repeat([]byte{byte(s.rng.Uint32())}, s.rng.IntN(n))
}

func isPlain(b []byte) bool { return len(b) == 0 || bytes.Count(b, b[:1]) == len(b) }
