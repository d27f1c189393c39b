package ese_test

import "testing"

// crashCounts are the minimum counts of a simulation that proves something.
type crashCounts struct {
	ScrubPasses, PagesReturned, PagesTrimmed, PagesMoved, PagesJoined int
	Crashes, InRecovery, Rolls, Checkpoints, Uncommitted, Splits, Merges, Undone, Torn, Commits,
	UndoneInRecovery, Faults, Adds, Quiet, Reused, DDL, Built, Spilled, Longs,
	CheckpointsLost int

	full fullCounts
}

func (c *crashCounts) add(o *crashCounts) {
	c.Crashes += o.Crashes
	c.InRecovery += o.InRecovery
	c.CheckpointsLost += o.CheckpointsLost
	c.Rolls += o.Rolls
	c.Checkpoints += o.Checkpoints
	c.Uncommitted += o.Uncommitted
	c.Splits += o.Splits
	c.Merges += o.Merges
	c.Undone += o.Undone
	c.Torn += o.Torn
	c.Commits += o.Commits
	c.UndoneInRecovery += o.UndoneInRecovery
	c.Faults += o.Faults
	c.Quiet += o.Quiet
	c.Reused += o.Reused
	c.Adds += o.Adds
	c.ScrubPasses += o.ScrubPasses
	c.PagesReturned += o.PagesReturned
	c.PagesTrimmed += o.PagesTrimmed
	c.PagesMoved += o.PagesMoved
	c.PagesJoined += o.PagesJoined
	c.full.add(&o.full)
	c.DDL += o.DDL
	c.Spilled += o.Spilled
	c.Longs += o.Longs
	c.Built += o.Built
}

func (c *crashCounts) demand(t *testing.T) {
	for name, n := range map[string]int{
		"crashes": c.Crashes, "crashes inside recovery": c.InRecovery,
		"checkpoints lost": c.CheckpointsLost, "generation rolls": c.Rolls,
		"checkpoint moves": c.Checkpoints, "pages written with uncommitted changes": c.Uncommitted,
		"splits": c.Splits, "merges": c.Merges, "undone transactions": c.Undone,
		"torn pages restored": c.Torn, "commits": c.Commits, "transactions undone by recovery": c.UndoneInRecovery, "write errors": c.Faults,
		"cuts after a checkpoint at the log's end":             c.Quiet,
		"cuts while pages of a dropped table get others' rows": c.Reused,
		"additions to escrow columns":                          c.Adds,
		"pages moved to the front":                             c.PagesMoved, "pages joined": c.PagesJoined,
		"pages given back": c.PagesReturned,
		"schema changes":   c.DDL, "snapshots with states in the file": c.Spilled,
		"long values changed in place or shared": c.Longs, "reads by indexes added later": c.Built,
	} {
		if n < 10 {
			t.Errorf("only %d %s: the simulation proves nothing", n, name)
		}
	}
	c.full.demand(t)
}
