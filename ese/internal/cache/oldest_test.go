package cache

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestOldest compares the frames kept with those that a sort puts first.
func TestOldest(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 500 {
		o := oldest{limit: rng.IntN(20)}
		frames := make([]Frame, rng.IntN(60))
		ages := make([]uint64, len(frames))
		for i := range frames {
			ages[i] = 1 + rng.Uint64N(30)
			frames[i].first.Store(ages[i])
			o.offer(&frames[i], ages[i])
		}
		slices.Sort(ages)
		var got []uint64
		for i, fr := range o.frames {
			if fr.first.Load() != o.ages[i] {
				t.Fatalf("frame %d is of age %d, not %d", i, fr.first.Load(), o.ages[i])
			}
			got = append(got, o.ages[i])
		}
		slices.Sort(got)
		if want := ages[:min(o.limit, len(ages))]; !slices.Equal(got, want) {
			t.Fatalf("kept %v, want %v", got, want)
		}
	}
}
