package page

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
)

// The worked examples of docs/format-edb.md.
func TestSumExamples(t *testing.T) {
	p := make(Page, 4096)
	p.SetFlags(FlagNewChecksum)
	p.Seal(7)
	if got := fmt.Sprintf("%08x %08x", p.u32(4), p.u32(0)); got != "7ed2012d 00002007" {
		t.Errorf("all-zero page: ecc and xor %s", got)
	}
	p[100] ^= 1 << 4
	xor, ecc := blockSum(p, true)
	if ecc != 0x02090209 || xor^7 != 0x00002017 {
		t.Errorf("one bit set: ecc %08x xor %08x", ecc, xor^7)
	}
	if !p.Repair(7) || p[100] != 0 {
		t.Error("the flipped bit was not repaired")
	}
}

// testPage is a leaf full of nodes, some of them compressed or flagged.
func testPage(size int) Page {
	rng := rand.New(rand.NewPCG(1, uint64(size)))
	p := make(Page, size)
	Init(p, 8, FlagLeaf)
	p.SetExternal([]byte("prefix-"))
	for i := 0; ; i++ {
		key := fmt.Appendf(nil, "prefix-%06d", i)
		val := make([]byte, rng.IntN(90))
		for j := range val {
			val[j] = byte(rng.Uint32())
		}
		n := p.PrefixLen(key) * (i % 2)
		if NodeSize(n, len(key)-n, len(val)) > p.Free() {
			break
		}
		p.Insert(i, NodeFlags(i%4), n, key[n:], val)
	}
	p.SetDBTime(77)
	return p
}

// Every bit of a page of each size is flipped in turn and must be detected and repaired.
func TestRepairEveryBit(t *testing.T) {
	for _, size := range []int{4096, 8192, 16384, 32768} {
		for part := range 2 {
			t.Run(fmt.Sprintf("%d-%d", size, part), func(t *testing.T) {
				t.Parallel()
				p := testPage(size)
				p.Seal(99)
				repairEveryBit(t, p, 99, part*size*4, (part+1)*size*4)
			})
		}
	}
}

func repairEveryBit(t *testing.T, orig Page, no No, from, to int) {
	p := bytes.Clone(orig)
	step := 1
	if testing.Short() {
		step = 7
	}
	for bit := from; bit < to; bit += step {
		p := Page(p)
		p[bit/8] ^= 1 << (bit % 8)
		if st := p.Verify(no); st != Correctable {
			t.Fatalf("%d: flip of bit %d: status %d", len(p), bit, st)
		}
		if !p.Repair(no) || !bytes.Equal(p, orig) || p.Check() != nil {
			t.Fatalf("%d: flip of bit %d not repaired", len(p), bit)
		}
	}
}

func TestSamplesVerify(t *testing.T) {
	files, _ := filepath.Glob("../../../../shared/samples/edb/*.gz")
	if len(files) == 0 {
		t.Skip("../shared/samples is not there")
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		size := int(Page(b).u32(236))
		if size == 0 {
			size = 4096
		}
		good := 0
		for no := No(1); int(no.Offset(size))+size <= len(b); no++ {
			p := Page(b[no.Offset(size) : no.Offset(size)+int64(size)])
			switch p.Verify(no) {
			case Good:
				good++
				if good == 5 && (size > 4096 || strings.Contains(name, "basic")) {
					repairEveryBit(t, p, no, 0, 8*size)
				}
				if err := p.Check(); err != nil {
					t.Errorf("%s page %d: %v", filepath.Base(name), no, err)
				}
			case Blank:
			default:
				t.Logf("%s page %d: damaged", filepath.Base(name), no)
			}
		}
		if good < 10 {
			t.Errorf("%s: only %d good pages", name, good)
		}
	}
}

// Random edits against a sorted slice; Check after each.
func TestEditModel(t *testing.T) {
	type kv struct {
		k, v []byte
		f    NodeFlags
	}
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 2))
		p := make(Page, 4096<<(seed%4))
		Init(p, 8, FlagLeaf)
		p.SetExternal([]byte("prefix-"))
		var model []kv
		for step := range 3000 {
			key := fmt.Appendf(nil, "prefix-%04d", rng.IntN(900))
			if rng.IntN(4) == 0 {
				key = fmt.Appendf(nil, "q%d", rng.IntN(100))
			}
			val := bytes.Repeat([]byte{byte(step)}, rng.IntN(160))
			i, ok := p.Search(key)
			j := sort.Search(len(model), func(j int) bool { return bytes.Compare(model[j].k, key) >= 0 })
			if i != j || ok != (j < len(model) && bytes.Equal(model[j].k, key)) {
				t.Fatalf("seed %d step %d: search %d %v, model %d", seed, step, i, ok, j)
			}
			switch {
			case ok && rng.IntN(2) == 0:
				p.Delete(i)
				model = append(model[:j], model[j+1:]...)
			case ok && rng.IntN(3) == 0:
				model[j].f = NodeFlags(rng.IntN(4))
				p.SetNodeFlags(i, model[j].f)
			case ok:
				if len(val)-len(model[j].v) <= p.Free() {
					p.Replace(i, val)
					model[j].v = val
				}
			default:
				n := p.PrefixLen(key)
				if NodeSize(n, len(key)-n, len(val)) <= p.Free() {
					f := NodeFlags(rng.IntN(4))
					p.Insert(i, f, n, key[n:], val)
					model = append(model[:j:j], append([]kv{{key, val, f}}, model[j:]...)...)
				}
			}
			if err := p.Check(); err != nil {
				t.Fatalf("seed %d step %d: %v", seed, step, err)
			}
		}
		if p.Len() != len(model) {
			t.Fatalf("seed %d: %d nodes, model %d", seed, p.Len(), len(model))
		}
		for i, m := range model {
			nd := p.Node(i)
			if k := p.AppendKey(nil, i); !bytes.Equal(k, m.k) || !bytes.Equal(nd.Data, m.v) ||
				nd.Flags&^NodeCompressed != m.f {
				t.Fatalf("seed %d: node %d is %q, model %q", seed, i, k, m.k)
			}
		}
	}
}

// Any bytes: Check says no, or every accessor stays inside the page.
func FuzzCheck(f *testing.F) {
	for large := range 4 {
		f.Add([]byte(testPage(4096<<large)), []byte("prefix-000003"), uint8(large))
	}
	f.Fuzz(func(t *testing.T, b, key []byte, size uint8) {
		p := make(Page, 4096<<(size%4))
		copy(p, b)
		if p.Check() != nil {
			return
		}
		p.Search(key)
		for i := range p.Len() {
			p.AppendKey(nil, i)
			if !p.Leaf() {
				p.Child(i)
			}
		}
		if !p.Leaf() && p.Len() > 0 {
			p.SearchChild(key)
		}
	})
}

func BenchmarkVerify8K(b *testing.B) {
	p := make(Page, 8192)
	Init(p, 8, FlagLeaf)
	p.Seal(5)
	b.SetBytes(8192)
	for b.Loop() {
		if p.Verify(5) != Good {
			b.Fatal("bad")
		}
	}
}

func BenchmarkSearch(b *testing.B) {
	p := make(Page, 8192)
	Init(p, 8, FlagLeaf)
	var keys [][]byte
	for i := range 70 {
		k := fmt.Appendf(nil, "%016d", i*7)
		keys = append(keys, k)
		p.Insert(i, 0, 0, k, make([]byte, 84))
	}
	i := 0
	for b.Loop() {
		if _, ok := p.Search(keys[i%len(keys)]); !ok {
			b.Fatal("not found")
		}
		i++
	}
}
