package ese_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"pillarbox/ese"
	"pillarbox/ese/esetest"
	"pillarbox/ese/vfs"
)

// losingDisk is a disk that says it has written pages of the .edb and has not, when told to.
type losingDisk struct {
	vfs.FS
	pageSize int64
	arm      bool // the next write of pages is lost
	lost     int
	stale    bool // no write of a flush map arrives
}

type losingFile struct {
	vfs.File
	d    *losingDisk
	edb  bool
	jfm  bool
	skip int64 // the headers are written
}

func (d *losingDisk) OpenFile(name string, flag int, perm os.FileMode) (vfs.File, error) {
	f, err := d.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &losingFile{
		File: f, d: d, edb: strings.HasSuffix(name, ".edb"), jfm: strings.HasSuffix(name, ".jfm"),
		skip: 2 * d.pageSize,
	}, nil
}

func (f *losingFile) WriteAt(b []byte, off int64) (int, error) {
	if f.edb && f.d.arm && off >= f.skip {
		f.d.arm = false
		f.d.lost++
		return len(b), nil
	}
	if f.jfm && f.d.stale {
		return len(b), nil
	}
	return f.File.WriteAt(b, off)
}

// crashRun is a storage group that is changed by chance, with everything durable that it did.
type crashRun struct {
	t    *testing.T
	rng  *rand.Rand
	disk *vfs.Mem
	fs   *losingDisk
	o    ese.Options
	in   *ese.Instance
	db   *ese.Database
	tb   *ese.Table
	ages map[int]int
}

func newCrashRun(t *testing.T, seed uint64) *crashRun {
	r := &crashRun{
		t: t, rng: rand.New(rand.NewPCG(seed, 5)), disk: vfs.NewMem(), ages: map[int]int{},
	}
	r.o = ese.Options{
		Dir: "/d", Manual: true, PageSize: 4096, CacheBytes: 32 * 4096, GenerationBytes: 256 << 10,
		CheckpointDepth: 64 << 10, ScrubEvery: -1,
	}
	must(t, r.open())
	must(t, r.in.Update(context.Background(), func(tx *ese.Tx) (err error) {
		r.tb, err = tx.CreateTable(r.db, peopleDef())
		return err
	}))
	return r
}

func (r *crashRun) open() (err error) {
	r.fs = &losingDisk{FS: r.disk, pageSize: int64(r.o.PageSize)}
	r.o.FS = r.fs
	if r.in, err = ese.Open(r.o); err != nil {
		return err
	}
	if r.db, err = r.in.OpenDatabase("a.edb"); err != nil {
		return err
	}
	if r.tb, err = r.db.Table("People"); errors.Is(err, ese.ErrNotFound) {
		err = nil
	}
	return err
}

// work changes some rows, and lets the background do something.
func (r *crashRun) work(n int) error {
	id, age, photo := col(r.t, r.tb, "ID"), col(r.t, r.tb, "Age"), col(r.t, r.tb, "Photo")
	for range n {
		k, a := r.rng.IntN(400), r.rng.IntN(100)
		err := r.in.Update(context.Background(), func(tx *ese.Tx) error {
			row := r.tb.NewRow().Set(age, ese.Int(a)).Set(photo, ese.Bytes(make([]byte, 400)))
			if _, there := r.ages[k]; there {
				return tx.Update(row, ese.Int(k))
			}
			return tx.Insert(row.Set(id, ese.Int(k)))
		})
		if err != nil {
			return err
		}
		r.ages[k] = a
		if err := r.in.Step([]int{0, 1, 2, 2, 4, 5, 10, 11, 12}[r.rng.IntN(9)]); err != nil {
			return err
		}
	}
	return nil
}

// crash cuts the power.
func (r *crashRun) crash() {
	r.disk = r.disk.CrashClone(r.rng)
	_ = r.in.Kill()
}

// read compares every row, by two indexes, and has every page verified.
func (r *crashRun) read() error {
	for _, name := range []string{"ID", "Age"} {
		if err := r.in.View(func(tx *ese.Tx) error {
			x, err := r.tb.Index(name)
			must(r.t, err)
			n := 0
			c := tx.Cursor(x)
			ok, err := c.First()
			for ; ok && err == nil; ok, err = c.Next() {
				k, a := int(c.Row().Int(col(r.t, r.tb, "ID"))), int(c.Row().Int(col(r.t, r.tb, "Age")))
				if r.ages[k] != a {
					r.t.Errorf("row %d has %d, want %d", k, a, r.ages[k])
				}
				n++
			}
			if err == nil && n != len(r.ages) {
				r.t.Errorf("%d rows by %s, want %d", n, name, len(r.ages))
			}
			return err
		}); err != nil {
			return err
		}
	}
	r.db.StartScrub()
	for again := true; again; again = r.db.Scrub().Running {
		if err := r.in.Step(10); err != nil {
			return err
		}
	}
	if n := r.db.Scrub().Damaged; n > 0 {
		return fmt.Errorf("the scrub found %d: %w", n, ese.ErrLostWrite)
	}
	return nil
}

// TestLostWriteCrash loses a write of pages, goes on for a while and cuts the power: afterwards
// the loss is named, or redo has made it good. Never may an older state pass for the newest.
func TestLostWriteCrash(t *testing.T) {
	named, byMap, mended := 0, 0, 0
	for seed := range uint64(150) {
		r := newCrashRun(t, seed)
		must(t, r.work(60+r.rng.IntN(200)))
		r.fs.arm = seed%4 == 0
		err := r.work(r.rng.IntN(150))
		if seed%4 > 0 && err == nil { // the checkpoint passes what was lost
			r.fs.arm = true
			quiesce(t, r.in)
			err = r.work(r.rng.IntN(3))
		}
		lost, found := r.fs.lost, r.in.Stats().LostWrites
		if err != nil || found > 0 || lost == 0 {
			_ = r.in.Kill() // named while it ran, or nothing was written
			continue
		}
		r.crash()
		if err = r.open(); err == nil {
			err = r.read()
		}
		switch {
		case err == nil:
			mended++
			must(t, r.in.Close())
			esetest.Check(t, r.disk, "/d/a.edb")
		case errors.Is(err, ese.ErrLostWrite):
			named++
			byMap++
		case errors.Is(err, ese.ErrDBTimeTooOld):
			named++
		default:
			t.Errorf("seed %d: %v", seed, err)
		}
		if err != nil && r.in != nil {
			_ = r.in.Kill()
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%d named, %d of them by the flush map; %d made good by redo", named, byMap, mended)
	if byMap < 10 || mended < 10 {
		t.Errorf("%d losses found by the map, %d made good: the test proves nothing", byMap, mended)
	}
}

// TestFlushMapAfterCrash crashes with a flush map that is not there, cut, of some time ago, of
// another database, torn or full of chance: never is a page called lost that was not.
func TestFlushMapAfterCrash(t *testing.T) {
	for seed := range uint64(60) {
		r := newCrashRun(t, seed)
		must(t, r.work(120))
		old := fileBytes(t, r.disk, "/d/a.jfm")
		if seed%6 == 1 {
			r.fs.stale = true
		}
		must(t, r.work(80))
		r.crash()
		now := fileBytes(t, r.disk, "/d/a.jfm")
		switch seed % 6 {
		case 0:
			must(t, r.disk.Remove("/d/a.jfm"))
		case 2:
			setFile(t, r.disk, "/d/a.jfm", now[:r.rng.IntN(len(now))])
		case 3:
			setFile(t, r.disk, "/d/a.jfm", old)
		case 4: // sectors of then among those of now
			for at := 0; at+512 <= min(len(old), len(now)); at += 512 {
				if r.rng.IntN(2) == 0 {
					copy(now[at:at+512], old[at:])
				}
			}
			setFile(t, r.disk, "/d/a.jfm", now)
		case 5:
			for range 1 + r.rng.IntN(50) {
				now[r.rng.IntN(len(now))] ^= byte(1 + r.rng.IntN(255))
			}
			setFile(t, r.disk, "/d/a.jfm", now)
		}
		if seed%7 == 0 {
			must(t, r.disk.Remove("/d/E00.chk"))
		}
		for range 2 { // the second time on what the first opening has saved
			if err := r.open(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if err := r.read(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			must(t, r.work(30))
			r.crash()
		}
		must(t, r.open())
		must(t, r.read())
		must(t, r.in.Close())
		esetest.Check(t, r.disk, "/d/a.edb")
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func fileBytes(t *testing.T, disk *vfs.Mem, name string) []byte {
	f := dbFile(t, disk, name)
	n, err := f.Size()
	must(t, err)
	b := make([]byte, n)
	_, err = f.ReadAt(b, 0)
	must(t, err)
	return b
}

func setFile(t *testing.T, disk *vfs.Mem, name string, b []byte) {
	f, err := disk.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	must(t, err)
	_, err = f.WriteAt(b, 0)
	must(t, err)
	must(t, f.SyncData())
	must(t, f.Close())
	must(t, disk.SyncDir("/d"))
}
