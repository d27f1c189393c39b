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

// Every bit of a page of each size is flipped in turn and must be repaired.
func TestRepairEveryBit(t *testing.T) {
	for _, size := range []int{4096, 8192, 16384, 32768} {
		rng := rand.New(rand.NewPCG(1, uint64(size)))
		orig := make(Page, size)
		for i := range orig {
			orig[i] = byte(rng.Uint32())
		}
		orig.SetFlags(orig.Flags() | FlagNewChecksum)
		orig.Seal(99)
		step := 1
		if testing.Short() || size > 8192 {
			step = 7
		}
		p := make(Page, size)
		for bit := 0; bit < size*8; bit += step {
			copy(p, orig)
			p[bit/8] ^= 1 << (bit % 8)
			if st := p.Verify(99); st == Good {
				t.Fatalf("%d: flip of bit %d not detected", size, bit)
			}
			if !p.Repair(99) || !bytes.Equal(p, orig) {
				t.Fatalf("%d: flip of bit %d not repaired", size, bit)
			}
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
	type kv struct{ k, v []byte }
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 2))
		p := make(Page, 4096+4096*int(seed%2))
		Init(p, 8, FlagLeaf)
		p.SetExternal([]byte("prefix-"))
		var model []kv
		for step := range 3000 {
			key := fmt.Appendf(nil, "prefix-%04d", rng.IntN(300))
			if rng.IntN(4) == 0 {
				key = fmt.Appendf(nil, "q%d", rng.IntN(100))
			}
			val := bytes.Repeat([]byte{byte(step)}, rng.IntN(60))
			i, ok := p.Search(key)
			j := sort.Search(len(model), func(j int) bool { return bytes.Compare(model[j].k, key) >= 0 })
			if i != j || ok != (j < len(model) && bytes.Equal(model[j].k, key)) {
				t.Fatalf("seed %d step %d: search %d %v, model %d", seed, step, i, ok, j)
			}
			switch {
			case ok && rng.IntN(2) == 0:
				p.Delete(i)
				model = append(model[:j], model[j+1:]...)
			case ok:
				if len(val)-len(model[j].v) <= p.Free() {
					p.Replace(i, val)
					model[j].v = val
				}
			default:
				n := p.PrefixLen(key)
				if NodeSize(n, len(key)-n, len(val)) <= p.Free() {
					p.Insert(i, 0, n, key[n:], val)
					model = append(model[:j:j], append([]kv{{key, val}}, model[j:]...)...)
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
			if k := p.AppendKey(nil, i); !bytes.Equal(k, m.k) || !bytes.Equal(p.Node(i).Data, m.v) {
				t.Fatalf("seed %d: node %d is %q, model %q", seed, i, k, m.k)
			}
		}
	}
}

// Any bytes: Check says no, or every accessor stays inside the page.
func FuzzCheck(f *testing.F) {
	p := make(Page, 4096)
	Init(p, 8, FlagLeaf)
	p.Insert(0, 0, 0, []byte("key"), []byte("data"))
	f.Add([]byte(p), []byte("key"))
	f.Fuzz(func(t *testing.T, b, key []byte) {
		p := make(Page, 4096)
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
