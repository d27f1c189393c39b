package ese_test

import (
	"hash/crc64"
	"testing"
)

// A seed reproduces its run: the same writes and syncs in the same order, so that what a seed
// has found once it finds again.
func TestCrashRepeats(t *testing.T) {
	for seed := *crashFirst; seed < *crashFirst+uint64(min(*crashSeeds, 40)); seed++ {
		var sums [2]uint64
		var counts [2]crashCounts
		for i := range sums {
			s := newSim(t, seed)
			sum := crc64.New(crc64.MakeTable(crc64.ECMA))
			s.disk.Trace = sum
			s.run()
			sums[i], counts[i] = sum.Sum64(), s.counts
		}
		if sums[0] != sums[1] || counts[0] != counts[1] {
			t.Errorf("seed %d is not repeated:\n%+v\n%+v", seed, counts[0], counts[1])
		}
	}
}
