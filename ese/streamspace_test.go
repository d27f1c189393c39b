package ese_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"testing"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
)

// TestStreamSpaceStays replaces streams, also in transactions that began before pages of every
// region were taken and given back: they too find the pages that are free.
func TestStreamSpaceStays(t *testing.T) {
	g := esetest.Open(t, ese.Options{Dir: "/db", Manual: true, Circular: true})
	db := g.Database("a.edb")
	rng := rand.New(rand.NewPCG(7, 7))
	const streams = 400
	live := make([]ese.StreamID, streams)
	replace := func(tx *ese.Tx, i int) error {
		if live[i] != 0 {
			if err := tx.DeleteStream(db, live[i]); err != nil {
				return err
			}
		}
		var err error
		live[i], err = tx.WriteStream(db, bytes.Repeat([]byte{byte(i)}, 1+rng.IntN(64<<10)))
		return err
	}
	turn := func() {
		must(t, g.In.Update(context.Background(), func(tx *ese.Tx) error { return replace(tx, rng.IntN(streams-1)) }))
		if rng.IntN(8) == 0 {
			must(t, g.In.Step(1)) // what no snapshot needs
			must(t, g.In.Step(6)) // streams that were deleted
		}
	}
	for i := range streams {
		must(t, g.In.Update(context.Background(), func(tx *ese.Tx) error { return replace(tx, i) }))
	}
	for range 120 {
		old := g.In.Begin()
		for range rng.IntN(60) {
			turn()
		}
		must(t, replace(old, streams-1))
		_, err := old.Commit()
		must(t, err)
	}
	// 13 MiB on the average, and what is deleted while the old transaction runs.
	size, err := g.FS.Stat("/db/a.stm")
	must(t, err)
	if size > 28<<20 {
		t.Errorf("the stream file has %d MiB", size>>20)
	}
}
