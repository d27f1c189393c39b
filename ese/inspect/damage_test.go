package inspect

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"

	"pillarbox/ese/internal/dbheader"
	"pillarbox/ese/internal/page"
)

// image is a database in memory that tests damage.
type image struct {
	t    testing.TB
	data []byte
	db   *Database // of the undamaged file
}

func newImage(t testing.TB, data []byte) *image {
	t.Helper()
	db, err := Open(memFile(t, data))
	if err != nil {
		t.Fatal(err)
	}
	return &image{t: t, data: bytes.Clone(data), db: db}
}

func (m *image) page(no page.No) page.Page {
	at := int(no.Offset(m.db.pageSize))
	return page.Page(m.data[at : at+m.db.pageSize])
}

// edit changes a page and seals it again.
func (m *image) edit(no page.No, fn func(p page.Page)) {
	p := m.page(no)
	fn(p)
	p.Seal(no)
}

// root returns the root page of a tree in the image's table that is not a system table.
func (m *image) table() *Table { return m.db.tables[len(m.db.tables)-1] }

func (m *image) index(name string) page.No {
	for _, x := range m.table().Indexes {
		if x.Name == name {
			return x.Root
		}
	}
	m.t.Fatalf("no index %s", name)
	return 0
}

// leaves returns the leaves of a tree in order.
func (m *image) leaves(root page.No) []page.No {
	var out []page.No
	err := m.db.walk(root, func(n node) error {
		if len(out) == 0 || out[len(out)-1] != n.page {
			out = append(out, n.page)
		}
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

func (m *image) spaceTree(root page.No, second page.No) page.No {
	h, ok := parseSpaceHeader(m.page(root).External())
	if !ok || h.flags&spaceMultiple == 0 {
		m.t.Fatalf("page %d has no space trees", root)
	}
	return page.No(h.space) + second
}

// put replaces the data of a node without changing its size.
func put(p page.Page, i int, change func(data []byte)) { change(p.Node(i).Data) }

// TestCheckFindsDamage plants one fault at a time, with good checksums, and wants it named.
func TestCheckFindsDamage(t *testing.T) {
	tests := []struct {
		name, sample string
		damage       func(m *image)
		want         string
	}{
		{"bit", "index", func(m *image) { m.page(40)[100] ^= 4 }, "one bit is wrong"},
		{"bytes", "index", func(m *image) { copy(m.page(40)[100:], "damage") }, "checksum mismatch"},
		{"never written", "index", func(m *image) { clear(m.page(40)) }, "never written"},
		{"header", "index", func(m *image) { m.data[600]++ }, "primary header is damaged"},
		{"object id", "index", func(m *image) {
			m.edit(40, func(p page.Page) { binary.LittleEndian.PutUint32(p[24:], 5) })
		}, "object id 5, should be 13"},
		{"flags", "index", func(m *image) {
			m.edit(40, func(p page.Page) { p.SetFlags(p.Flags() &^ page.FlagIndex) })
		}, "not have the tree's kind"},
		{"overlap", "index", func(m *image) {
			m.edit(m.leaves(catalogPage)[0], func(p page.Page) {
				copy(p[len(p)-12+2:len(p)-12+4], p[len(p)-8+2:len(p)-8+4])
			})
		}, "tags overlap"},
		{"uniqueness", "index", func(m *image) {
			m.edit(40, func(p page.Page) { p.SetFlags(p.Flags() ^ page.FlagNonUnique) })
		}, "not have the tree's kind"},
		{"dbtime", "index", func(m *image) {
			m.edit(40, func(p page.Page) { p.SetDBTime(1 << 40) })
		}, "above the header's"},
		{"free bytes", "index", func(m *image) {
			m.edit(40, func(p page.Page) { binary.LittleEndian.PutUint16(p[28:], 5) })
		}, "bytes free, header says 5"},
		{"sibling", "index", func(m *image) {
			m.edit(m.leaves(catalogPage)[1], func(p page.Page) { p.SetPrev(99) })
		}, "left sibling is page 99"},
		{"sibling of last", "index", func(m *image) {
			leaves := m.leaves(catalogPage)
			m.edit(leaves[len(leaves)-1], func(p page.Page) { p.SetNext(99) })
		}, "last leaf has a right sibling, page 99"},
		{"separator", "index", func(m *image) {
			m.edit(catalogPage, func(p page.Page) { p.Node(0).Suffix[0] = 0 })
		}, "is not below the separator"},
		{"key order", "index", func(m *image) {
			m.edit(m.leaves(catalogPage)[0], func(p page.Page) {
				p.Node(3).Suffix[len(p.Node(3).Suffix)-1] = 1
			})
		}, "after 7f"},
		{"child twice", "index", func(m *image) {
			m.edit(catalogPage, func(p page.Page) {
				put(p, 1, func(b []byte) { binary.LittleEndian.PutUint32(b, uint32(p.Child(0))) })
			})
		}, "used twice"},
		{"leak", "index", func(m *image) {
			m.edit(m.spaceTree(rootPage, 1), func(p page.Page) {
				put(p, 0, func(b []byte) { b[0]-- })
			})
		}, "1 pages from here leaked: owned by object 1"},
		{"available and used", "index", func(m *image) {
			m.edit(m.spaceTree(rootPage, 1), func(p page.Page) {
				put(p, 0, func(b []byte) { b[0]++ })
			})
		}, "available"},
		{"space trees zeroed", "index", func(m *image) {
			clear(m.page(2))
			clear(m.page(3))
		}, "never written"},
		{"parent", "index", func(m *image) {
			m.edit(40, func(p page.Page) { p.External()[4]++ })
		}, "parent is page 32, should be 31"},
		{"index entry gone", "index", func(m *image) {
			m.edit(m.index("IxLong"), func(p page.Page) { p.Delete(0) })
		}, "index IxLong has 0 entries, not the 1"},
		{"index entry missing by name", "index", func(m *image) {
			m.edit(m.index("IxLong"), func(p page.Page) { p.Delete(0) })
		}, "index IxLong: no entry 7f"},
		{"unicode index entry gone", "index", func(m *image) {
			m.edit(m.index("IxUnicode"), func(p page.Page) { p.Delete(0) })
		}, "index IxUnicode has 0 entries"},
		{"index entry of no row", "index", func(m *image) {
			m.edit(m.index("IxShort"), func(p page.Page) {
				put(p, 0, func(b []byte) { b[len(b)-1]++ })
			})
		}, "which is not there"},
		{"row value", "index", func(m *image) {
			m.edit(m.table().Root, func(p page.Page) {
				put(p, 0, func(b []byte) { b[4+1+1]++ }) // UnsignedByte or the value before it
			})
		}, "columns of key"},
		{"row key", "basic", func(m *image) {
			m.edit(m.table().Root, func(p page.Page) { p.Node(0).Suffix[4] = 0 })
		}, "has columns of key 7f80000001"},
		{"row offsets", "basic", func(m *image) {
			m.edit(m.table().Root, func(p page.Page) {
				put(p, 0, func(b []byte) { b[2] = 0xff })
			})
		}, "row: corrupt record"},
		{"reference count", "multi", func(m *image) {
			m.editLong(true, func(b []byte) { b[0]++ })
		}, "counts 2 references, rows have 1"},
		{"no references", "multi", func(m *image) {
			m.editLong(true, func(b []byte) { b[0] = 0 })
		}, "has no references"},
		{"long value size", "multi", func(m *image) {
			m.editLong(true, func(b []byte) { b[4] += 3 })
		}, "long value 1: chunk at 0"},
		{"long value gone", "binary", func(m *image) {
			m.edit(m.table().LongValueRoot, func(p page.Page) { p.Truncate(0) })
		}, "long value 1 is referred to 1 times and is not there"},
		{"chunk gone", "binary", func(m *image) {
			m.edit(m.table().LongValueRoot, func(p page.Page) { p.Truncate(1) })
		}, "long value 1 begins at"},
		{"root gone", "binary", func(m *image) {
			m.edit(m.table().LongValueRoot, func(p page.Page) { p.Delete(0) })
		}, "belongs to no long value"},
		{"shadow catalog", "index", func(m *image) {
			m.edit(m.leaves(shadowPage)[0], func(p page.Page) { p.Delete(2) })
		}, "differ from the"},
		{"catalog", "index", func(m *image) {
			m.edit(m.leaves(catalogPage)[0], func(p page.Page) {
				put(p, 3, func(b []byte) { b[len(b)-1]++ })
			})
		}, "differ from the"},
		{"catalog root", "index", func(m *image) {
			m.edit(catalogPage, func(p page.Page) { p.SetFlags(p.Flags() &^ page.FlagRoot) })
		}, "root flag is wrong"},
		{"object ids", "index", func(m *image) {
			h := m.db.Header
			h.LastObjID = 7
			h.Encode(m.data[:h.PageSize])
		}, "above the header's last, 7"},
	}
	files := sampleBytes(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := newImage(t, files["dissect-"+test.sample+".edb"])
			test.damage(m)
			r, err := Check(context.Background(), memFile(t, m.data), CheckOptions{MaxFindings: 1000})
			if err != nil {
				t.Fatal(err)
			}
			var all []string
			for _, f := range r.Findings {
				all = append(all, f.String())
			}
			if text := strings.Join(all, "\n"); !strings.Contains(text, test.want) {
				t.Errorf("no finding %q in:\n%s", test.want, text)
			}
		})
	}
}

// editLong changes the first root or chunk in the table's long value tree.
func (m *image) editLong(root bool, change func(b []byte)) {
	leaf := m.leaves(m.table().LongValueRoot)[0]
	m.edit(leaf, func(p page.Page) {
		for i := range p.Len() {
			_, _, isRoot, ok := parseLongKey(nodeKey(nil, p, p.Node(i)))
			if ok && isRoot == root {
				put(p, i, change)
				return
			}
		}
		m.t.Fatal("no such node")
	})
}

// TestCheckSurvives changes random bytes, with good checksums: no panic, no endless walk.
func TestCheckSurvives(t *testing.T) {
	files := sampleBytes(t)
	rng := rand.New(rand.NewPCG(5, 6))
	for _, name := range []string{"dissect-index.edb", "dissect-multi.edb"} {
		db, err := Open(memFile(t, files[name]))
		if err != nil {
			t.Fatal(err)
		}
		for range 40 {
			data := bytes.Clone(files[name])
			m := &image{t: t, data: data, db: db}
			for range 1 + rng.IntN(4) {
				no := page.No(1 + rng.IntN(70))
				if m.page(no).Verify(no) != page.Good {
					continue
				}
				m.edit(no, func(p page.Page) { mutate(rng, p[page.HeaderSize(len(p))-24:]) })
			}
			checkNoPanic(t, data)
		}
	}
}

// mutate changes a few bytes, mostly where there are some.
func mutate(rng *rand.Rand, b []byte) {
	for range 1 + rng.IntN(3) {
		at := rng.IntN(len(b))
		for range 20 {
			if b[at] != 0 {
				break
			}
			at = rng.IntN(len(b))
		}
		b[at] = byte(rng.Uint32())
	}
}

func checkNoPanic(t testing.TB, data []byte) {
	t.Helper()
	f := memFile(t, data)
	if _, err := Check(context.Background(), f, CheckOptions{}); err != nil {
		t.Fatal(err)
	}
	if d, err := Open(f); err == nil {
		_ = d.Dump(new(bytes.Buffer), DumpOptions{})
	}
}

// FuzzCheck writes bytes over the pages of a small file and seals them.
func FuzzCheck(f *testing.F) {
	f.Add([]byte("\x00\x00\x10\x00\x00\x00\x01\x00"), uint16(1))
	f.Fuzz(func(t *testing.T, b []byte, no uint16) {
		data := make([]byte, 40*4096)
		h := dbheader.New(4096)
		h.DBTime = 1 << 30
		h.Encode(data[:4096])
		h.Encode(data[4096:8192])
		for n := page.No(1); n <= 38; n++ {
			p := page.Page(data[n.Offset(4096) : n.Offset(4096)+4096])
			page.Init(p, page.ObjID(n%5), page.FlagRoot|page.FlagLeaf)
			p.SetExternal(make([]byte, 16))
			if uint16(n) == no {
				copy(p[16:], b)
			}
			p.Seal(n)
		}
		checkNoPanic(t, data)
	})
}

// TestSplitBuffer moves a page from the available extents to a split buffer, of either tree.
func TestSplitBuffer(t *testing.T) {
	data := sampleBytes(t)["dissect-index.edb"]
	for second := range page.No(2) {
		m := newImage(t, data)
		var moved uint32
		m.edit(m.spaceTree(rootPage, 1), func(p page.Page) {
			nd := p.Node(0)
			moved = binary.BigEndian.Uint32(nodeKey(nil, p, nd)) - binary.LittleEndian.Uint32(nd.Data) + 1
			nd.Data[0]--
		})
		m.edit(m.spaceTree(rootPage, second), func(p page.Page) {
			binary.LittleEndian.PutUint32(p.External()[0:], moved)
			binary.LittleEndian.PutUint32(p.External()[4:], 1)
		})
		r, err := Check(context.Background(), memFile(t, m.data), CheckOptions{})
		if err != nil || !r.OK() {
			t.Errorf("space tree %d: %v, %v", second, err, r.Findings)
		}
	}
}
