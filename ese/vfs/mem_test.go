package vfs

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
)

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func TestCrashKeepsWhatWasSynced(t *testing.T) {
	for seed := range uint64(50) {
		m := NewMem()
		f := create(t, m, "a")
		data := bytes.Repeat([]byte("synced.."), 40_000)
		write(t, f, data, 0)
		syncFile(t, f)
		if err := m.SyncDir("."); err != nil {
			t.Fatal(err)
		}
		if got := content(t, m.CrashClone(seeded(seed)), "a"); !bytes.Equal(got, data) {
			t.Fatalf("seed %d: synced bytes lost", seed)
		}
	}
}

// TestCrashMixesSectors writes all sectors anew and wants each clone to have whole sectors
// of either age, and all clones together to have seen both.
func TestCrashMixesSectors(t *testing.T) {
	const sectors = 300
	m := NewMem()
	f := create(t, m, "a")
	write(t, f, bytes.Repeat([]byte{1}, sectors*memSector), 0)
	syncFile(t, f)
	if err := m.SyncDir("."); err != nil {
		t.Fatal(err)
	}
	write(t, f, bytes.Repeat([]byte{2}, sectors*memSector), 0)
	var none, some, all int
	for seed := range uint64(60) {
		got := content(t, m.CrashClone(seeded(seed)), "a")
		fresh := 0
		for s := range sectors {
			sector := got[s*memSector : (s+1)*memSector]
			if bytes.Count(sector, sector[:1]) != memSector {
				t.Fatalf("seed %d: torn sector %d", seed, s)
			}
			if sector[0] == 2 {
				fresh++
			}
		}
		switch fresh {
		case 0:
			none++
		case sectors:
			all++
		default:
			some++
		}
	}
	if none == 0 || some == 0 || all == 0 {
		t.Fatalf("clones with no, some, all new sectors: %d, %d, %d", none, some, all)
	}
	if got := content(t, m, "a"); bytes.IndexByte(got, 1) >= 0 {
		t.Fatal("the clone changed its origin")
	}
}

func TestCrashSizes(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(200) {
		m := NewMem()
		f := create(t, m, "a")
		write(t, f, bytes.Repeat([]byte{1}, 1000), 0)
		syncFile(t, f)
		if err := m.SyncDir("."); err != nil {
			t.Fatal(err)
		}
		grow := seed%2 == 0
		if grow {
			write(t, f, bytes.Repeat([]byte{2}, 100_000), 1000)
		} else if err := f.Truncate(10); err != nil {
			t.Fatal(err)
		}
		clone := m.CrashClone(seeded(seed))
		got := content(t, clone, "a")
		switch size := len(got); {
		case size == 1000:
			seen["old"]++
		case grow && size == 101_000:
			seen["grown"]++
		case grow && size > 1000 && size < 101_000 && size%memSector == 0:
			seen["part"]++
		case !grow && size == 10:
			seen["cut"]++
		default:
			t.Fatalf("seed %d: size %d", seed, size)
		}
		// What was cut off by the crash must not come back.
		g := create(t, clone, "a")
		if err := g.Truncate(200_000); err != nil {
			t.Fatal(err)
		}
		tail := content(t, clone, "a")[len(got):]
		if slices.ContainsFunc(tail, func(b byte) bool { return b != 0 }) {
			t.Fatalf("seed %d: bytes beyond the kept size survived", seed)
		}
	}
	if len(seen) != 4 {
		t.Fatalf("outcomes seen: %v", seen)
	}
}

func TestCrashKeepsPrefixOfNames(t *testing.T) {
	m := NewMem()
	if err := m.MkdirAll("d", 0o700); err != nil {
		t.Fatal(err)
	}
	old := create(t, m, "d/E00.log")
	write(t, old, []byte("gen1"), 0)
	syncFile(t, old)
	if err := m.SyncDir("d"); err != nil {
		t.Fatal(err)
	}
	tmp := create(t, m, "d/E00tmp.log")
	write(t, tmp, []byte("gen2"), 0)
	syncFile(t, tmp)
	if err := m.Rename("d/E00.log", "d/E0000000001.log"); err != nil {
		t.Fatal(err)
	}
	if err := m.Rename("d/E00tmp.log", "d/E00.log"); err != nil {
		t.Fatal(err)
	}
	if err := m.Remove("d/E0000000001.log"); err != nil {
		t.Fatal(err)
	}
	want := [][]string{
		{"E00.log"},
		{"E00.log", "E00tmp.log"},
		{"E0000000001.log", "E00tmp.log"},
		{"E00.log", "E0000000001.log"},
	}
	seen := map[int]bool{}
	for seed := range uint64(100) {
		clone := m.CrashClone(seeded(seed))
		names, err := clone.ReadDir("d")
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(want, func(w []string) bool { return slices.Equal(w, names) })
		if i < 0 {
			t.Fatalf("seed %d: %v", seed, names)
		}
		if i == 0 && string(content(t, clone, "d/E00.log")) == "gen2" {
			i = len(want) // everything was kept
		}
		seen[i] = true
	}
	if len(seen) != 5 {
		t.Fatalf("outcomes seen: %v", seen)
	}
}

func TestCrashDropsLocksAndIsRepeatable(t *testing.T) {
	m := NewMem()
	if _, err := m.Lock("lock"); err != nil {
		t.Fatal(err)
	}
	if err := m.SyncDir("."); err != nil {
		t.Fatal(err)
	}
	f := create(t, m, "a")
	write(t, f, bytes.Repeat([]byte{3}, 90_000), 100)
	one, two := m.CrashClone(seeded(7)), m.CrashClone(seeded(7))
	if _, err := one.Lock("lock"); err != nil {
		t.Fatal(err)
	}
	names, err := one.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !bytes.Equal(content(t, one, name), content(t, two, name)) {
			t.Fatalf("%s differs between two clones of one seed", name)
		}
	}
}

// TestCloneIsIndependent runs writers while clones are taken and written to.
func TestCloneIsIndependent(t *testing.T) {
	m := NewMem()
	f := create(t, m, "a")
	write(t, f, bytes.Repeat([]byte{1}, 200_000), 0)
	syncFile(t, f)
	if err := m.SyncDir("."); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		var err error
		for i := 0; i < 200 && err == nil; i++ {
			_, err = f.WriteAt(bytes.Repeat([]byte{2}, 3000), int64(i)*900)
			if err == nil && i%10 == 0 {
				err = f.SyncData()
			}
		}
		done <- err
	}()
	for seed := range uint64(40) {
		clone := m.CrashClone(seeded(seed))
		write(t, create(t, clone, "a"), bytes.Repeat([]byte{9}, 200_000), 0)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if bytes.IndexByte(content(t, m, "a"), 9) >= 0 {
		t.Fatal("a write to a clone reached its origin")
	}
}

func BenchmarkMemWriteSync(b *testing.B) {
	m := NewMem()
	f, err := m.OpenFile("a", createFlags, 0)
	if err != nil {
		b.Fatal(err)
	}
	page := make([]byte, 8192)
	b.SetBytes(int64(len(page)))
	for i := 0; b.Loop(); i++ {
		if _, err := f.WriteAt(page, int64(i%4096)*8192); err != nil {
			b.Fatal(err)
		}
		if i%16 == 0 {
			_ = f.SyncData()
		}
	}
}
