package storage

import (
	"errors"
	"testing"

	"pillarbox/ese/vfs"
)

// A database outside of its group's folder is locked while it is mounted, wherever it lies, so that
// eseutil cannot write it anew under the server; while another program has it it is not mounted.
func TestDatabaseElsewhereIsLocked(t *testing.T) {
	b := open(t, nil)
	p := MakePlace("a", "far")
	const at, moved = "/far/far.edb", "/further/far.edb"
	locked := func(at string) bool {
		t.Helper()
		l, err := b.fs.Lock(at + ".lock")
		if errors.Is(err, vfs.ErrLocked) {
			return true
		}
		if err == nil {
			err = l.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		return false
	}
	must := func(what string, err error, at string, want bool) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if locked(at) != want {
			t.Errorf("%s: locked is not %v", what, want)
		}
	}
	ctx := t.Context()
	must("made", b.set.CreateDatabase(ctx, p, at), at, true)
	must("dismounted", b.set.DismountDatabase(ctx, p), at, false)
	l, err := b.fs.Lock(at + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.set.MountDatabase(ctx, p); !errors.Is(err, errInUse) {
		t.Errorf("mounted while another program has it: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	must("mounted", b.set.MountDatabase(ctx, p), at, true)
	must("moved", b.set.MoveDatabase(ctx, p, moved, nil), moved, true)
	if _, err := b.fs.Stat(at + ".lock"); err == nil {
		t.Error("the old lock file is still there")
	}
	g, err := b.set.Group("a")
	if err != nil {
		t.Fatal(err)
	}
	must("group dismounted", g.Dismount(), moved, false)
	must("group mounted", g.Mount(ctx), moved, true)
	must("dismounted again", b.set.DismountDatabase(ctx, p), moved, false)
	must("group dismounted again", g.Dismount(), moved, false)
	must("group mounted without it", g.Mount(ctx), moved, false)
	must("mounted again", b.set.MountDatabase(ctx, p), moved, true)
	must("closed", b.set.Close(), moved, false)
	b.start()
	if !locked(moved) {
		t.Error("not locked after the start")
	}
}
