package ese_test

import (
	"context"
	"errors"

	"pillarbox/ese"
)

// pairSim is a second database of the simulated group, somewhere else: every commit puts its
// marker into both, so both must have the same commits after a crash.
type pairSim struct {
	path string
	tb   *ese.Table
	id   *ese.Column
}

// placePair chooses the folders of a run.
func (s *sim) placePair() {
	s.pair.path = "/d/b.edb"
	if s.seed%4 == 1 {
		s.pair.path = "/far/away/b.edb"
		s.o.LogDir, s.o.CheckpointDir = "/logs", "/chk"
	}
	s.o.Databases = []string{s.pair.path}
	if err := s.disk.MkdirAll("/far/away", 0o700); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sim) openPair() error {
	db, err := s.in.OpenDatabase(s.pair.path)
	if err != nil {
		return err
	}
	if s.pair.tb, err = db.Table("M"); errors.Is(err, ese.ErrNotFound) {
		err = s.in.Update(context.Background(), func(tx *ese.Tx) error {
			s.pair.tb, err = tx.CreateTable(db, ese.TableDef{
				Name:    "M",
				Columns: []ese.ColumnDef{{Name: "ID", Type: ese.Long, NotNull: true}},
				Indexes: []ese.IndexDef{{
					Name: "ID", Primary: true, Columns: []ese.IndexColumn{{Name: "ID"}},
				}},
			})
			return err
		})
	}
	if err == nil {
		s.pair.id, err = s.pair.tb.Column("ID")
	}
	return err
}

func (s *sim) insertPair(tx *ese.Tx, n int) error {
	return tx.Insert(s.pair.tb.NewRow().Set(s.pair.id, ese.Int(n)))
}

// comparePair demands the commits 1 to n in the second database.
func (s *sim) comparePair(n int) {
	seen := int64(0)
	err := s.in.View(func(tx *ese.Tx) error {
		c := tx.Cursor(s.pair.tb.Primary())
		ok, err := c.First()
		for ; ok && err == nil; ok, err = c.Next() {
			if seen++; c.Row().Int(s.pair.id) != seen {
				s.hard("the second database has commit %d, not %d", c.Row().Int(s.pair.id), seen)
			}
		}
		return err
	})
	if err != nil || seen != int64(n) {
		s.hard("the second database has %d commits, the first %d: %v", seen, n, err)
	}
}
