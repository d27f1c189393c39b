package crashtest

import (
	"flag"
	"testing"
)

var (
	seeds = flag.Int("seeds", 60, "seeds of the crash simulation")
	first = flag.Uint64("seed", 1, "first seed of the crash simulation")
)

func TestCrash(t *testing.T) {
	var sum Counts
	for i := range *seeds {
		seed := *first + uint64(i)
		c, err := Run(seed)
		sum.Add(c)
		if err != nil {
			t.Fatalf("repeat with -run TestCrash -seed %d -seeds 1:\n%v", seed, err)
		}
	}
	t.Logf("%d seeds: %+v", *seeds, sum)
	if *seeds < 50 {
		return
	}
	e := sum.Engine
	for name, n := range map[string]uint64{
		"generation rolls": e.Rolls, "checkpoint moves": e.Checkpoints, "splits": e.Splits,
		"pages written with uncommitted changes": e.Uncommitted, "torn pages restored": e.Torn,
		"transactions undone by recovery": e.UndoneInRecovery,
	} {
		if n < uint64(*seeds)/50 {
			t.Errorf("only %d %s: the simulation proves nothing", n, name)
		}
	}
	for name, n := range map[string]int{
		"cuts in recovery": sum.CutInOpen, "cuts in operations": sum.CutInOperation,
		"cut operations that took effect": sum.TookEffect, "large contents": sum.Large,
		"messages undeleted": sum.Undeleted, "messages purged": sum.Purged,
		"tombstones forgotten": sum.Forgotten, "mailboxes removed": sum.Removed,
		"removals of mailboxes cut": sum.RemovalCut,
	} {
		if n < *seeds/50 {
			t.Errorf("only %d %s: the simulation proves nothing", n, name)
		}
	}
}
