package crashtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
	"pillarbox/ese/inspect"
	"pillarbox/ese/vfs"
	"pillarbox/store"
)

// Counts tell what a run met: a simulation that meets nothing proves nothing.
type Counts struct {
	Lives, CutInOpen, CutInOperation, CutBetween int
	Operations, TookEffect                       int // cut operations that were there afterwards
	Large                                        int // contents that came as streams
	Undeleted, Purged, Forgotten                 int // messages, messages, tombstones
	Removed, RemovalCut                          int // mailboxes
	Engine                                       EngineCounts
}

// EngineCounts tell what the engine below went through (engine.md rule 30).
type EngineCounts struct {
	Rolls, Checkpoints, Uncommitted, Splits, Merges, Undone, UndoneInRecovery, Torn uint64
}

// add takes up an instance's counters before it goes.
func (c *EngineCounts) add(in *ese.Instance) {
	st := in.Stats()
	c.Rolls += uint64(st.Log.Rolls)
	c.Checkpoints += st.Checkpoints
	c.Uncommitted += st.Cache.UncommittedWrites
	c.Splits += st.Splits
	c.Merges += st.Merges
	c.Undone += st.Undone
	c.UndoneInRecovery += uint64(st.Recovery.Undone)
	c.Torn += uint64(st.Recovery.Torn)
}

// sum adds another run's counts.
func (c *EngineCounts) sum(o EngineCounts) {
	c.Rolls += o.Rolls
	c.Checkpoints += o.Checkpoints
	c.Uncommitted += o.Uncommitted
	c.Splits += o.Splits
	c.Merges += o.Merges
	c.Undone += o.Undone
	c.UndoneInRecovery += o.UndoneInRecovery
	c.Torn += o.Torn
}

// Add sums counts up.
func (c *Counts) Add(o Counts) {
	c.Lives += o.Lives
	c.CutInOpen += o.CutInOpen
	c.CutInOperation += o.CutInOperation
	c.CutBetween += o.CutBetween
	c.Operations += o.Operations
	c.TookEffect += o.TookEffect
	c.Large += o.Large
	c.Undeleted += o.Undeleted
	c.Purged += o.Purged
	c.Forgotten += o.Forgotten
	c.Removed += o.Removed
	c.RemovalCut += o.RemovalCut
	c.Engine.sum(o.Engine)
}

// boxes is the number of mailboxes, keepDeleted how long they keep what is deleted.
const (
	boxes       = 3
	keepDeleted = time.Hour
)

// run is one run of a seed.
type run struct {
	rng   *rand.Rand
	o     ese.Options
	d     *esetest.CrashDisk
	in    *ese.Instance
	s     *store.Store
	model *state
	// between are states that an operation of several transactions went through.
	between []*state
	counts  Counts
	words   int // to make each message another
	clock   time.Time
}

// Run works with one seed and returns the first thing that is wrong.
func Run(seed uint64) (Counts, error) {
	r := &run{rng: rand.New(rand.NewPCG(seed, 0x70696c6c6172)), clock: time.Unix(1_800_000_000, 0)}
	r.o = ese.Options{
		Dir: "/data", Manual: true, Circular: true,
		PageSize:        []int{4096, 8192}[r.rng.IntN(2)],
		CacheBytes:      []int64{1 << 20, 4 << 20}[r.rng.IntN(2)],
		GenerationBytes: []int64{64 << 10, 256 << 10}[r.rng.IntN(2)],
		CheckpointDepth: 128 << 10,
		Rand:            r.rng.Uint32,
		Now: func() time.Time {
			r.clock = r.clock.Add(time.Millisecond)
			return r.clock
		},
	}
	if r.rng.IntN(4) == 0 {
		r.o.CacheBytes = 256 << 10 // tiny: pages leave with uncommitted changes
	}
	err := r.lives(vfs.NewMem())
	if err != nil {
		err = fmt.Errorf("seed %d, life %d: %w", seed, r.counts.Lives, err)
	}
	return r.counts, err
}

func (r *run) lives(mem *vfs.Mem) error {
	lives := 2 + r.rng.IntN(4)
	// States one of which must be found: after a cut operation there are two.
	var possible []*state
	for range lives {
		r.counts.Lives++
		next, states, err := r.life(mem, possible)
		if err != nil {
			return err
		}
		mem, possible = next, states
	}
	return r.last(mem, possible)
}

// life opens the store, compares, works, and cuts the power.
func (r *run) life(mem *vfs.Mem, possible []*state) (*vfs.Mem, []*state, error) {
	r.d = &esetest.CrashDisk{Mem: mem, Rand: r.rng}
	if possible != nil && r.rng.IntN(4) == 0 {
		r.d.Left = 1 + r.rng.IntN(60)
	}
	if err := r.open(possible); err != nil {
		return nil, nil, errors.Join(err, r.kill())
	}
	if r.d.Cut != nil {
		r.counts.CutInOpen++
		return r.d.Cut, []*state{r.model}, r.kill()
	}
	ops := 4 + r.rng.IntN(24)
	r.d.Left = 1 + r.rng.IntN(ops*6)
	for range ops {
		before := r.model.clone()
		r.between = nil
		if err := r.work(); err != nil {
			return nil, nil, errors.Join(err, r.kill())
		}
		if r.d.Cut != nil {
			r.counts.CutInOperation++
			return r.d.Cut, append(append([]*state{before}, r.between...), r.model), r.kill()
		}
	}
	r.counts.CutBetween++
	return r.d.Mem.CrashClone(r.rng), []*state{r.model}, r.kill()
}

// kill drops the instance as a crash does; what it still has in mind is lost.
func (r *run) kill() error {
	if r.in == nil {
		return nil
	}
	in := r.in
	r.in = nil
	r.counts.Engine.add(in)
	return in.Kill()
}

// open opens instance and store, checks the store and takes the state that it finds.
func (r *run) open(possible []*state) (err error) {
	o := r.o
	o.FS = r.d
	if r.in, err = ese.Open(o); err != nil {
		r.in = nil
		return err
	}
	ctx := context.Background()
	r.s, err = store.Open(ctx, r.in, store.Options{
		BatchMessages: 1000, Now: o.Now, KeepDeleted: keepDeleted,
	})
	if err != nil {
		return err
	}
	if possible == nil {
		ids := make([]store.MailboxID, boxes)
		for n := range byte(boxes) {
			ids[n] = store.MailboxID{n + 1}
		}
		if err := r.s.CreateMailboxes(ctx, 0, ids); err != nil {
			return err
		}
		r.model, err = read(r.s, boxes, nil)
		return err
	}
	if err := errors.Join(r.check(), r.finishRemoval(possible)); err != nil {
		return err
	}
	held := possible[0].clone().held
	for id, sum := range possible[len(possible)-1].held {
		held[id] = sum
	}
	got, err := read(r.s, boxes, held)
	if err != nil {
		return err
	}
	for i, want := range possible {
		if got.String() == want.String() {
			r.model = want
			if i > 0 {
				r.counts.TookEffect++
			}
			return nil
		}
	}
	return fmt.Errorf("after the crash the store shows\n%s\nbefore it was\n%s\nor would be\n%s",
		got, possible[0], possible[len(possible)-1])
}

func (r *run) check() error {
	found, err := r.s.Check(context.Background())
	if err != nil {
		return err
	}
	if len(found) > 0 {
		return fmt.Errorf("check: %v and %d more", found[0], len(found)-1)
	}
	return nil
}

// last opens the store once more, closes it clean, and lets the engine's checker judge.
func (r *run) last(mem *vfs.Mem, possible []*state) error {
	r.d = &esetest.CrashDisk{Mem: mem, Rand: r.rng}
	if err := r.open(possible); err != nil {
		return errors.Join(err, r.kill())
	}
	if err := r.in.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	f, err := mem.OpenFile("/data/priv1.edb", 0, 0)
	if err != nil {
		return err
	}
	rep, err := inspect.Check(context.Background(), f, inspect.CheckOptions{})
	err = errors.Join(err, f.Close())
	if err == nil && len(rep.Findings) > 0 {
		err = fmt.Errorf("%d findings in priv1.edb, the first: %v", len(rep.Findings), rep.Findings[0])
	}
	return err
}
