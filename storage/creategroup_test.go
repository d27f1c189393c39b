package storage

import (
	"context"
	"fmt"
	"sync"
	"testing"
)

// Groups are made at once. Of those with one name one is made, and one that cannot be mounted takes no
// other with it.
func TestGroupsMadeAtOnce(t *testing.T) {
	b := open(t, nil)
	full := "/d/bad"
	b.fs.full.Store(&full)
	defer b.fs.full.Store(nil)
	for i := range 8 {
		var wg sync.WaitGroup
		var errs [3]error
		for n, r := range []GroupRecord{
			{Name: fmt.Sprintf("g%d", i), Dir: fmt.Sprintf("/d/one%d", i)},
			{Name: fmt.Sprintf("g%d", i), Dir: fmt.Sprintf("/d/two%d", i)},
			{Name: fmt.Sprintf("bad%d", i), Dir: fmt.Sprintf("/d/bad%d", i)},
		} {
			wg.Go(func() { errs[n] = b.set.CreateGroup(context.Background(), r, "") })
		}
		wg.Wait()
		if (errs[0] == nil) == (errs[1] == nil) || errs[2] == nil {
			t.Fatalf("%v", errs)
		}
	}
	reg, err := loadRegistry(b.fs, b.set.registryPath())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		name := fmt.Sprintf("g%d", i)
		g := b.set.group(name)
		at := reg.group(name)
		if g == nil || at < 0 || reg.Groups[at].Dir != g.spec.Engine.Dir ||
			reg.Databases[MakePlace(name, "priv1")] == nil {
			t.Errorf("%s is %v, the registry has it at %d", name, g, at)
		}
	}
	if len(reg.Groups) != 8 {
		t.Errorf("%d groups", len(reg.Groups))
	}
}

// A group or database that could not be made leaves nothing that keeps it from being made the next time.
func TestFailedMakingLeavesNothing(t *testing.T) {
	b := open(t, nil)
	ctx := context.Background()
	full := "/d/c"
	for _, full = range []string{"/d/c", "/log/c", "/d/c/c1.stm"} {
		b.fs.full.Store(&full)
		err := b.set.CreateGroup(ctx, GroupRecord{Name: "c", LogDir: "/log/c"}, "c1")
		b.fs.full.Store(nil)
		if err == nil {
			t.Fatalf("%s: made on a full disk", full)
		}
		for _, dir := range []string{"/d/c", "/log/c"} {
			if names, err := b.fs.ReadDir(dir); err == nil && len(names) > 0 {
				t.Errorf("%s: %v is left in %s", full, names, dir)
			}
		}
	}
	if err := b.set.CreateGroup(ctx, GroupRecord{Name: "c", LogDir: "/log/c"}, "c1"); err != nil {
		t.Fatal(err)
	}
	if err := b.set.CreateGroup(ctx, GroupRecord{Name: "e", Dir: "/log/c"}, ""); err == nil {
		t.Error("two groups share a folder")
	}
	for _, full = range []string{"/disk/x.edb", "/disk/x.stm"} {
		b.fs.full.Store(&full)
		err := b.set.CreateDatabase(ctx, "a/x", "/disk")
		b.fs.full.Store(nil)
		if err == nil {
			t.Fatalf("%s: made on a full disk", full)
		}
		if names, _ := b.fs.ReadDir("/disk"); len(names) > 0 {
			t.Errorf("%s: %v is left", full, names)
		}
	}
	if err := b.set.CreateDatabase(ctx, "a/x", "/disk"); err != nil {
		t.Fatal(err)
	}
	if err := b.set.Close(); err != nil {
		t.Fatal(err)
	}
	b.start()
	for _, d := range b.set.Databases() {
		if !d.Mounted {
			t.Errorf("%s is %s", d.Place, d.State)
		}
	}
}
