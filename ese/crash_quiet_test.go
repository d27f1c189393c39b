package ese_test

import (
	"errors"

	"pillarbox/ese"
)

// quiet ends all transactions, lets the background work do all that there is, and cuts the
// power soon after: recovery meets few records or none, and must know by other ways than redo
// what was given out before.
func (s *sim) quiet() {
	s.endAll()
	s.catchUp()
	if s.disk.Cut == nil {
		s.counts.Quiet++
		s.disk.Left = 1 + s.rng.IntN(12)
	}
}

func (s *sim) endAll() {
	for len(s.open) > 0 {
		x := s.open[0]
		s.open = s.open[1:]
		s.endTx(x)
	}
}

// catchUp does the background work until all pages are written, and moves the checkpoint.
func (s *sim) catchUp() {
	for i := 0; i < 100 && s.disk.Cut == nil && (i < 2 || s.in.Stats().Cache.Dirty > 0); i++ {
		s.steps(0, 1, 6, 0, 2, 3, 7)
	}
	s.steps(4)
}

func (s *sim) steps(numbers ...int) {
	for _, n := range numbers {
		if err := s.in.Step(n); err != nil && !errors.Is(err, ese.ErrWriteConflict) {
			s.fatal("step: %v", err)
		}
	}
}
