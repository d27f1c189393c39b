package offline

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pillarbox/ese/internal/page"
	"pillarbox/ese/vfs"
)

// However little memory there is, the entries come out in the same order, and no file is left.
func TestSorter(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	var list []entry
	for range 3000 {
		e := entry{make([]byte, rng.IntN(12)), binary.BigEndian.AppendUint32(nil, rng.Uint32N(50))}
		for i := range e.key {
			e.key[i] = byte(rng.IntN(3))
		}
		list = append(list, e)
	}
	for _, order := range []func(a, b *entry) int{byKey, byWhole} {
		want := slices.Clone(list)
		slices.SortFunc(want, func(a, b entry) int { return order(&a, &b) })
		for _, limit := range []int{1, 1000, 20_000, 1 << 30} {
			disk := vfs.NewMem()
			spill := &spillFile{fsys: disk, path: "/x.sort"}
			s := &sorter{spill: spill, limit: limit, order: order}
			for _, e := range list {
				if err := s.add(e); err != nil {
					t.Fatal(err)
				}
			}
			if (limit < 1<<30) != exists(disk, spill.path) {
				t.Errorf("limit %d: the file is there: %v", limit, exists(disk, spill.path))
			}
			n := 0
			err := s.each(func(e entry) error {
				if !bytes.Equal(e.key, want[n].key) || !bytes.Equal(e.data, want[n].data) {
					return fmt.Errorf("entry %d is %x %x, not %x %x", n, e.key, e.data, want[n].key, want[n].data)
				}
				n++
				return nil
			})
			if err != nil || n != len(want) {
				t.Errorf("limit %d: %d entries, %v", limit, n, err)
			}
			if err := spill.close(); err != nil || exists(disk, spill.path) {
				t.Errorf("limit %d: the file is left: %v", limit, err)
			}
		}
	}
}

// A rebuilding that spills all the time makes the same database.
func TestRebuildSpills(t *testing.T) {
	disk := fill(t, 4096, 400)
	before := rows(t, disk)
	o := RebuildOptions{FS: disk, Path: path, sortBytes: 2000}
	if _, err := Defragment(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	compare(t, before, rows(t, disk))
	sound(t, disk, 4096)
	if exists(disk, path+".new.sort") {
		t.Error("the spill file is left")
	}
}

// Of rows with the same key in a unique index one is saved, and the other named: the one whose
// page was changed later stays.
func TestRepairDoubles(t *testing.T) {
	const size = 4096
	disk := fill(t, size, 200)
	before := rows(t, disk)
	stamp := make(map[string]page.DBTime)
	image(t, disk, func(b []byte) []byte {
		for no := page.No(1); no.Offset(size)+size <= int64(len(b)); no++ {
			p := page.Page(b[no.Offset(size):][:size])
			if p.Verify(no) != page.Good || !p.Leaf() || p.Flags()&kindMask != 0 {
				continue
			}
			for _, name := range []string{"message 20", "message 70", "message 71"} {
				at := bytes.Index(p, []byte(name))
				if at < 0 || p[at+len(name)] >= '0' && p[at+len(name)] <= '9' {
					continue
				}
				stamp[name] = p.DBTime()
				if name != "message 20" {
					copy(p[at:], "message 20")
				}
			}
			p.Seal(no)
		}
		return b
	})
	if len(stamp) != 3 {
		t.Fatalf("found %v", stamp)
	}
	if _, err := Defragment(t.Context(), RebuildOptions{FS: disk, Path: path}); err == nil {
		t.Error("defragmented")
	}
	l := repaired(t, disk)
	if len(l.Tables) != 1 || len(l.Tables[0].Keys) != 2 {
		t.Fatalf("%+v", l)
	}
	after := rows(t, disk)
	if len(after["Mail"]) != len(before["Mail"])-2 {
		t.Errorf("%d rows of %d", len(after["Mail"]), len(before["Mail"]))
	}
	newest := max(stamp["message 20"], stamp["message 70"], stamp["message 71"])
	lost := 0
	for _, k := range l.Tables[0].Keys {
		if _, saved := after["Mail"][k.Key]; saved || k.Data == "" {
			t.Errorf("%+v is saved: %v", k, saved)
		}
		id, _ := k.Value("ID")
		if stamp["message "+id] == newest {
			lost++
		}
	}
	if lost > 1 || lost == 1 && stamp["message 70"] != stamp["message 71"] {
		t.Errorf("%+v are lost: %v", l.Tables[0].Keys, stamp)
	}
	sound(t, disk, size)
}
