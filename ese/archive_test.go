package ese_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pillarbox/ese"
	"pillarbox/ese/vfs"
)

// archivedGroup is a storage group with an archive, driven step by step.
type archivedGroup struct {
	*fullGroup
	w watcher
}

const (
	archivedGen = 64 << 10
	keep        = 1 << 30
)

func newArchivedGroup(t *testing.T, keep int64, circular bool) *archivedGroup {
	g := &archivedGroup{}
	g.fullGroup = newFullGroup(t, ese.Options{
		GenerationBytes: archivedGen, CheckpointDepth: archivedGen, LogKeep: 1, Circular: circular,
		ArchiveKeep: keep, Observer: g.w.observe, ScrubEvery: -1,
	})
	return g
}

// write adds rows until n generations more are closed, and moves the checkpoint after them.
func (g *archivedGroup) write(n uint32) {
	g.t.Helper()
	for end := g.in.Durable().Generation() + n; g.in.Durable().Generation() < end; {
		must(g.t, g.insertOne(len(g.rows), 3000))
	}
	g.checkpoint()
}

// checkpoint moves the checkpoint to the end of the log.
func (g *archivedGroup) checkpoint() {
	g.t.Helper()
	for i := 0; g.in.Stats().Cache.Dirty > 0; i++ {
		if i == 10_000 {
			g.t.Fatal("pages stay dirty")
		}
		must(g.t, g.in.Step(0))
		must(g.t, g.in.Step(2))
	}
	must(g.t, g.in.Step(3))
	must(g.t, g.in.Step(4))
}

// generations are the closed log files that are there.
func (g *archivedGroup) generations() (gens []uint32) {
	g.t.Helper()
	names, err := g.disk.ReadDir("/d")
	must(g.t, err)
	for _, name := range names {
		var n uint32
		if strings.HasPrefix(name, "E00") && strings.HasSuffix(name, ".log") && len(name) == 15 {
			_, err := fmt.Sscanf(name, "E00%08X.log", &n)
			must(g.t, err)
			gens = append(gens, n)
		}
	}
	slices.Sort(gens)
	return gens
}

// oldest demands which generation is the oldest that is there, without a gap up to the current one.
func (g *archivedGroup) oldest(want uint32) {
	g.t.Helper()
	must(g.t, g.in.Step(5)) // ends the roll
	gens := append(g.generations(), g.in.Durable().Generation())
	for i, gen := range gens {
		if gen != want+uint32(i) {
			g.t.Fatalf("generations %v, want those from %d on", gens, want)
		}
	}
}

// Log stays until the archive has it, whatever else would let it go, and then goes by itself.
func TestArchiveKeepsLog(t *testing.T) {
	for _, circular := range []bool{false, true} {
		t.Run(fmt.Sprintf("circular %v", circular), func(t *testing.T) {
			g := newArchivedGroup(t, keep, circular)
			g.write(5)
			g.oldest(1)
			set := folderSink{g.disk, "/set"}
			info, err := g.in.Backup(t.Context(), ese.BackupOptions{Kind: ese.BackupFull, Sink: set})
			must(t, err)
			g.oldest(1)
			must(t, g.in.Archived(4, keep))
			g.oldest(4)
			must(t, g.in.Archived(2, keep)) // nothing is taken back
			must(t, g.in.Archived(info.High+1, keep))
			g.write(3)
			g.oldest(info.High + 1)
			if e := g.w.find(ese.EventLogNotArchived); len(e) != 0 {
				t.Errorf("log is said to be lost: %+v", e)
			}
			g.expect()
			g.close()
		})
	}
}

// Without an archive nothing stays for it.
func TestNoArchiveKeepsNothing(t *testing.T) {
	g := newArchivedGroup(t, 0, true)
	g.write(5)
	if gens := g.generations(); len(gens) > 1 {
		t.Errorf("generations %v are kept", gens)
	}
	if e := g.w.find(ese.EventLogNotArchived); len(e) != 0 {
		t.Errorf("log is said to be lost: %+v", e)
	}
	g.close()
}

// An archive that stays behind loses what is beyond the limit, and that is said.
func TestArchiveKeepHasALimit(t *testing.T) {
	g := newArchivedGroup(t, 8*archivedGen, true)
	g.write(4)
	must(t, g.in.Archived(3, 8*archivedGen))
	g.write(14)
	now := g.in.Durable().Generation()
	g.oldest(now - 8)
	lost := uint64(0)
	for _, e := range g.w.find(ese.EventLogNotArchived) {
		lost += e.N
	}
	if want := uint64(now - 8 - 3); lost != want {
		t.Errorf("%d generations are said to be lost, want %d", lost, want)
	}
	must(t, g.in.Archived(now-2, 0))
	g.oldest(g.in.Checkpoint().Generation())
	g.expect()
	g.close()
}

// A disk without space takes the log that stays for the archive only, before and after changes are
// refused, and serves on.
func TestArchiveYieldsToServing(t *testing.T) {
	g := newArchivedGroup(t, keep, true)
	g.write(20)
	g.oldest(1)
	full := g.fs.Inject(vfs.Rule{Op: vfs.OpOpen, Path: "E00*.log", Grow: true, Err: vfs.ErrDiskFull})
	refused := 0
	for id := len(g.rows); id < 1000; id++ {
		err := g.insertOne(id, 3000)
		if id%10 == 0 {
			must(t, g.in.Step(7))
			g.checkpoint()
		}
		if err == nil {
			continue
		}
		if refused++; refused > 20 || !errors.Is(err, ese.ErrLogDiskFull) {
			t.Fatal("log that stays for the archive is not given up:", err, g.generations())
		}
		must(t, g.in.Step(7))
		g.now = g.now.Add(time.Second)
	}
	e := g.w.find(ese.EventLogNotArchived)
	if len(e) == 0 {
		t.Error("the loss was not told")
	}
	if slices.Contains(g.generations(), 1) {
		t.Error("nothing went")
	}
	full.Remove()
	g.expect()
	g.close()
}

// What the archive has not taken stays over a restart too.
func TestArchiveKeepsLogOverRestart(t *testing.T) {
	g := newArchivedGroup(t, keep, true)
	g.write(4)
	must(t, g.in.Close())
	g.open()
	g.write(2)
	g.oldest(1)
	must(t, g.in.Archived(3, keep))
	g.oldest(3)
	g.expect()
	g.close()
}
