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
