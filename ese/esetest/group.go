package esetest

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"pillarbox/ese"
	"pillarbox/ese/inspect"
	"pillarbox/ese/vfs"
)

// Group is a storage group under test.
type Group struct {
	In  *ese.Instance
	FS  *vfs.Mem
	Rng *rand.Rand

	t   testing.TB
	o   ese.Options
	dbs []string
}

// Open opens a storage group on the memory disk o.FS, or on one of its own. When the test ends
// it is closed, opened once more if that was not clean, and every database checked.
func Open(t testing.TB, o ese.Options) *Group {
	t.Helper()
	g := &Group{t: t, FS: vfs.NewMem(), Rng: rand.New(rand.NewPCG(1, 2))}
	if disk, ok := o.FS.(*vfs.Mem); ok {
		g.FS = disk
	}
	if o.Dir == "" {
		o.Dir = "/data"
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = 8 << 20
	}
	g.o = o
	g.open()
	t.Cleanup(func() { g.close() })
	return g
}

func (g *Group) open() {
	g.t.Helper()
	o := g.o
	o.FS = g.FS
	in, err := ese.Open(o)
	if err != nil {
		g.t.Fatalf("open: %v", err)
	}
	g.In = in
}

// Database opens, or makes, a database of the group.
func (g *Group) Database(name string) *ese.Database {
	g.t.Helper()
	db, err := g.In.OpenDatabase(name)
	if err != nil {
		g.t.Fatalf("open database: %v", err)
	}
	for _, n := range g.dbs {
		if n == name {
			return db
		}
	}
	g.dbs = append(g.dbs, name)
	return db
}

func (g *Group) close() {
	g.t.Helper()
	if err := g.In.Close(); err != nil {
		g.t.Errorf("close: %v", err)
		return
	}
	for _, n := range g.dbs {
		Check(g.t, g.FS, filepath.Join(g.o.Dir, n))
	}
}

// Reopen closes the group clean, checks it, and opens it again.
func (g *Group) Reopen() {
	g.t.Helper()
	g.close()
	g.open()
}

// Crash cuts the power and opens the group again on what the disk kept.
func (g *Group) Crash() {
	g.t.Helper()
	g.FS = g.FS.CrashClone(g.Rng)
	if err := g.In.Kill(); err != nil {
		g.t.Logf("kill: %v", err)
	}
	g.open()
}

// Check runs the full check of one database file and reports every finding.
func Check(t testing.TB, fs vfs.FS, path string) {
	t.Helper()
	f, err := fs.OpenFile(path, 0, 0)
	if err != nil {
		t.Errorf("check: %v", err)
		return
	}
	defer func() { _ = f.Close() }()
	rep, err := inspect.Check(context.Background(), f, inspect.CheckOptions{})
	if err != nil {
		t.Errorf("check %s: %v", path, err)
		return
	}
	for i, fd := range rep.Findings {
		if i == 20 {
			t.Errorf("check %s: and %d more", path, len(rep.Findings)-i)
			break
		}
		t.Errorf("check %s: %v", path, fd)
	}
}
