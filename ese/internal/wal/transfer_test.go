package wal

import (
	"math/rand/v2"
	"testing"

	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/vfs"
)

// What Collect finds of files of any filling, with records of any length, is what Log and Reader know;
// of a large file with few records it reads little.
func TestCollectMeasures(t *testing.T) {
	fs := vfs.NewCounter(vfs.NewMem())
	o := testOptions(fs, 11)
	o.GenerationBytes, o.BufferBytes = 8<<20, 16<<20
	l := mustCreate(t, o)
	rng := rand.New(rand.NewPCG(4, 4))
	payload := make([]byte, l.MaxRecord())
	for l.Generation() < 3 {
		n := rng.IntN(300)
		if rng.IntN(20) == 0 {
			n = rng.IntN(len(payload)) // longer than the window, at times
		}
		mustAppend(t, l, logrec.TypeNode, payload[:n])
		if _, err := l.Prepare(); err != nil {
			t.Fatal(err)
		}
	}
	mustFlush(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	before := fs.Counts()[".log"].ReadBytes
	s, _, err := Collect(fs, []string{testDir}, "E00", l.Signature(), 1)
	if err != nil || len(s) != 3 {
		t.Fatalf("%d sources: %v", len(s), err)
	}
	if !s[0].Closed || !s[1].Closed || s[2].Closed || s[2].Used != l.End().Offset() {
		t.Errorf("%+v; the log ends at %v", s, l.End())
	}
	read := fs.Counts()[".log"].ReadBytes - before
	if most := 2*(s[0].Used+s[1].Used) + 4*syncStep; read > most {
		t.Errorf("%d bytes were read of records that end at %d and %d", read, s[0].Used, s[1].Used)
	}
}
