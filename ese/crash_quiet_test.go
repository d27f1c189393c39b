package ese_test

import (
	"errors"

	"pillarbox/ese"
)

// quiet ends all transactions, lets the background work do all that there is, and cuts the
// power soon after: recovery meets few records or none, and must know by other ways than redo
// what was given out before.
func (s *sim) quiet() {
	for len(s.open) > 0 {
		x := s.open[0]
		s.open = s.open[1:]
		s.endTx(x)
	}
	for i := 0; i < 100 && s.disk.Cut == nil && (i < 2 || s.in.Stats().Cache.Dirty > 0); i++ {
		for _, n := range []int{0, 1, 6, 0, 2, 3, 7} {
			if err := s.in.Step(n); err != nil && !errors.Is(err, ese.ErrWriteConflict) {
				s.fatal("step: %v", err)
			}
		}
	}
	if err := s.in.Step(4); err != nil {
		s.fatal("step: %v", err)
	}
	if s.disk.Cut == nil {
		s.counts.Quiet++
		s.disk.Left = 1 + s.rng.IntN(12)
	}
}
