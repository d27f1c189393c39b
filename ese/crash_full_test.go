package ese_test

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"pillarbox/ese"
)

// fullCounts says how often the simulated disk was full, and what came of it.
type fullCounts struct {
	Disks      int // squeezed
	Refused    int // steps refused
	Rollbacks  int // to a savepoint, with the disk full
	Reserves   int // generations made of a reserve file
	Back       int // spaces given back
	Dismounts  int
	NoRoomOpen int // openings that needed space
}

func (c *fullCounts) add(o *fullCounts) {
	c.Disks += o.Disks
	c.Refused += o.Refused
	c.Rollbacks += o.Rollbacks
	c.Reserves += o.Reserves
	c.Back += o.Back
	c.Dismounts += o.Dismounts
	c.NoRoomOpen += o.NoRoomOpen
}

func (c *fullCounts) demand(t *testing.T) {
	for name, n := range map[string]int{
		"full disks": c.Disks, "steps refused": c.Refused, "rollbacks on a full disk": c.Rollbacks,
		"reserve files used": c.Reserves, "spaces given back": c.Back, "dismounts": c.Dismounts,
	} {
		if n < 5 {
			t.Errorf("only %d %s: the simulation proves nothing", n, name)
		}
	}
}

// errNoSpace unwinds a step that a full disk refused.
var errNoSpace = errors.New("no space")

func (s *sim) isFull(err error) bool {
	if errors.Is(err, ese.ErrVersionStoreFull) {
		return true // a full store of earlier states is much the same
	}
	if errors.Is(err, ese.ErrDismounted) { // it is about to be
		return s.in != nil && s.in.Err() == nil
	}
	return s.full && (errors.Is(err, ese.ErrLogDiskFull) || errors.Is(err, ese.ErrDiskFull))
}

// tolerateFull ends the step when one of its errors is that of the full disk, the instance when
// that has dismounted its databases.
func (s *sim) tolerateFull(args []any) {
	for _, a := range args {
		err, ok := a.(error)
		switch {
		case !ok:
		case s.in != nil && errors.Is(s.in.Err(), ese.ErrDismounted) &&
			(errors.Is(err, ese.ErrDismounted) || errors.Is(err, ese.ErrClosed)):
			s.counts.full.Dismounts++
			panic(errBroken)
		case s.isFull(err):
			s.counts.full.Refused++
			panic(errNoSpace)
		}
	}
}

// squeeze sometimes gives the disk an end, or takes it away.
func (s *sim) squeeze() {
	switch {
	case !s.full && s.seed%3 == 0 && s.rng.IntN(100) == 0:
		s.full = true
		s.disk.SetCapacity(s.disk.Used() + int64(s.rng.IntN(3))*s.rng.Int64N(100<<10) + 1)
		s.counts.full.Disks++
	case s.full && s.rng.IntN(40) == 0:
		s.now = s.now.Add(30 * time.Millisecond)
		if err := s.in.Step(7); err != nil {
			s.fatal("look for space: %v", err)
		}
	case s.full && s.rng.IntN(200) == 0:
		s.full = false
		s.disk.SetCapacity(0)
		s.counts.full.Back++
		// Where nobody asks it looks for space once a second, after the log was flushed.
		s.now = s.now.Add(2 * time.Second)
		if err := errors.Join(s.in.Step(0), s.in.Step(5)); err != nil {
			s.fatal("with space again: %v", err)
		}
	}
}

// changeOrFull changes something in a transaction; what a full disk refuses must leave no
// trace, and taking back what the step did before needs no space.
func (s *sim) changeOrFull(x *simTx) {
	defer func() {
		switch r := recover(); r {
		case nil:
		case errNoSpace:
			s.backFromFull(x)
		default:
			panic(r)
		}
	}()
	s.change(x)
}

// backFromFull rolls back to the last savepoint, or all of it.
func (s *sim) backFromFull(x *simTx) {
	s.counts.full.Rollbacks++
	if n := len(x.saves); n > 0 {
		sv := x.saves[n-1]
		if err := x.tx.RollbackTo(sv.sp); err != nil {
			s.hard("roll back to a savepoint on a full disk: %v", err)
		}
		x.view, x.changes, x.adds = sv.view.clone(), maps.Clone(sv.changes), maps.Clone(sv.adds)
		x.ddl = x.ddl[:sv.ddl]
		return
	}
	i := slices.Index(s.open, x)
	s.open = slices.Delete(s.open, i, i+1)
	if err := x.tx.Rollback(); err != nil {
		s.hard("roll back on a full disk: %v", err)
	}
}

// roomToOpen makes room where opening needs some: a growth that the crash took back may not
// find its space again.
func (s *sim) roomToOpen(err error) bool {
	if !s.isFull(err) {
		return false
	}
	s.counts.full.NoRoomOpen++
	if s.in != nil {
		_ = s.in.Kill()
	}
	s.full = false
	s.disk.SetCapacity(0)
	return true
}
