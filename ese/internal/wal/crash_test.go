package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"testing"

	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/vfs"
)

// crashRun is one seeded run of appends, flushes, rolls, preparations and truncations on a
// memory disk, with power cuts between and inside the steps.
type crashRun struct {
	t    *testing.T
	seed uint64
	rng  *rand.Rand
	mem  *vfs.Mem
	l    *Log
	// want are the records of the stream; those up to durable were promised.
	want    []Record
	durable logrec.LogPos
	stats   Stats
	crashes int
	// noSync makes the next syncs fail, so that a kill finds bytes written and not synced.
	noSync bool
}

var errNoSync = errors.New("no sync")

func (c *crashRun) fail(format string, args ...any) {
	c.t.Helper()
	c.t.Fatalf("seed %d: %s", c.seed, fmt.Sprintf(format, args...))
}

func (c *crashRun) options() Options { return testOptions(cutDisk{c.mem, c}, c.rng.Uint64()) }

// check reads a clone of the disk: all that was durable must be there, and what is behind must
// be what was appended.
func (c *crashRun) check(disk *vfs.Mem) ([]Record, End) {
	c.t.Helper()
	got, end, err := readAll(disk, 0)
	if err != nil {
		c.fail("after a crash: %v", err)
	}
	first := 0
	for len(got) > 0 && first < len(c.want) && c.want[first].Pos < got[0].Pos {
		first++
	}
	want := c.want[first:]
	for i, rec := range got {
		if i >= len(want) || !sameRecord(rec, want[i]) {
			c.fail("record at %v was never appended", rec.Pos)
		}
	}
	if len(got) < len(want) && want[len(got)].End <= c.durable {
		c.fail("record at %v was durable and is gone", want[len(got)].Pos)
	}
	return got, end
}

func (c *crashRun) crash() {
	c.crashes++
	c.stats = addStats(c.stats, c.l.Stats())
	disk := c.mem
	if c.rng.IntN(2) == 0 {
		disk = c.mem.CrashClone(c.rng)
	} else {
		// A kill: what was written stays in the operating system's cache, synced or not.
		c.noSync = true
		if err := c.l.FlushTo(c.l.End()); err != nil && !errors.Is(err, errNoSync) {
			c.fail("flush: %v", err)
		}
		c.noSync = false
	}
	_, end := c.check(disk)
	n := len(c.want)
	for n > 0 && c.want[n-1].End > end.Pos {
		n--
	}
	// Cuts inside of Open find what was on the disk before it.
	c.want, c.mem, c.durable = c.want[:n], disk, 0
	l, err := Open(c.options(), end)
	if err != nil {
		c.fail("open: %v", err)
	}
	c.l, c.durable = l, end.Pos
	// A second cut right after opening must not lose what was called durable.
	c.check(disk.CrashClone(c.rng))
}

func addStats(a, b Stats) Stats {
	a.Rolls += b.Rolls
	a.RollsWaited += b.RollsWaited
	a.Recycled += b.Recycled
	a.Flushes += b.Flushes
	return a
}

// cutDisk clones the disk at a random sync, as a power cut inside a step would leave it.
type cutDisk struct {
	vfs.FS
	c *crashRun
}

type cutFile struct {
	vfs.File
	c *crashRun
}

func (d cutDisk) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := d.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return cutFile{f, d.c}, nil
}

func (d cutDisk) SyncDir(dir string) error {
	d.c.cut()
	return d.FS.SyncDir(dir)
}

func (f cutFile) SyncData() error {
	f.c.cut()
	if f.c.noSync {
		return errNoSync
	}
	return f.File.SyncData()
}

// cut looks at what a power cut at this moment would leave, without ending the run.
func (c *crashRun) cut() {
	if c.l == nil || c.rng.IntN(4) != 0 {
		return
	}
	c.crashes++
	c.check(c.mem.CrashClone(c.rng))
}

func (c *crashRun) step() {
	switch c.rng.IntN(20) {
	case 0, 1, 2, 3, 4:
		if err := c.l.FlushTo(c.l.End()); err != nil {
			c.fail("flush: %v", err)
		}
		c.durable = c.l.Durable()
	case 5:
		if _, err := c.l.Prepare(); err != nil {
			c.fail("prepare: %v", err)
		}
	case 6:
		if err := c.l.Roll(); err != nil {
			c.fail("roll: %v", err)
		}
		c.durable = c.l.Durable()
	case 7:
		if g := c.l.Generation(); g > 3 && c.rng.IntN(2) == 0 {
			if err := c.l.TruncateBefore(g - 1); err != nil {
				c.fail("truncate: %v", err)
			}
		}
	default:
		payload := make([]byte, c.rng.IntN(2000)+c.rng.IntN(2)*c.rng.IntN(9000))
		for i := range payload {
			payload[i] = byte(i * 7)
		}
		rec := Record{Type: 16 + logrec.Type(c.rng.IntN(8)), Payload: payload}
		var back logrec.LogPos
		if n := len(c.want); n > 0 && c.rng.IntN(3) > 0 {
			back = c.want[n-1-c.rng.IntN(min(n, 40))].Pos
		}
		if rec.Type.Linked() {
			rec.Back = back
		}
		var err error
		rec.Pos, rec.End, err = c.l.AppendChange(0, back, rec.Type, payload)
		if err != nil {
			c.fail("append: %v", err)
		}
		c.want = append(c.want, rec)
		c.durable = c.l.Durable()
	}
}

func TestCrash(t *testing.T) {
	seeds := uint64(500)
	if testing.Short() {
		seeds = 50
	}
	var total Stats
	crashes := 0
	for seed := range seeds {
		c := &crashRun{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 77)), mem: vfs.NewMem()}
		c.l = mustCreate(t, c.options())
		for range 3 {
			for range 10 + c.rng.IntN(50) {
				c.step()
			}
			c.crash()
		}
		total = addStats(total, c.stats)
		crashes += c.crashes
	}
	t.Logf("%d seeds: %d crashes, %+v", seeds, crashes, total)
	if n := int64(seeds); total.Rolls < n || total.RollsWaited < n/10 || total.Recycled < n/20 {
		t.Error("too little happened to prove anything")
	}
}
