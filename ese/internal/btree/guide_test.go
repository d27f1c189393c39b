package btree

import (
	"math/rand/v2"
	"slices"
	"testing"

	"pillarbox/ese/internal/page"
)

// TestGuide compares the guide with a plain search over pages of random separators, short
// ones, equal heads and zero bytes among them.
func TestGuide(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	letters := []byte{0, 1, 0x7f, 0xff}
	random := func(shared []byte) []byte {
		k := slices.Clone(shared)
		for range rng.IntN(14) {
			k = append(k, letters[rng.IntN(len(letters))])
		}
		return k
	}
	for range 300 {
		p := make(page.Page, 4096)
		page.Init(p, 7, page.FlagParentOfLeaf)
		shared := random(nil)
		var seps [][]byte
		for range rng.IntN(60) {
			if k := random(shared); len(k) > 0 {
				seps = append(seps, k)
			}
		}
		slices.SortFunc(seps, func(a, b []byte) int { return slices.Compare(a, b) })
		seps = slices.CompactFunc(seps, slices.Equal)
		for i, k := range seps {
			p.Insert(i, 0, 0, k, childData(page.No(i+1)))
		}
		p.Insert(len(seps), 0, 0, nil, childData(page.No(len(seps)+1)))
		g := newInner(nil, 9, p)
		for range 200 {
			key := random(shared)
			switch {
			case rng.IntN(3) == 0:
				key = random(nil)
			case rng.IntN(3) == 0 && len(seps) > 0:
				key = seps[rng.IntN(len(seps))]
			}
			above, below := 0, 0
			for _, s := range seps {
				if slices.Compare(s, key) <= 0 {
					above++
				}
				if slices.Compare(s, key) < 0 {
					below++
				}
			}
			if got := g.child(key); got != above {
				t.Fatalf("child of %x among %x: %d, want %d", key, seps, got, above)
			}
			if got := g.childBelow(key); got != below {
				t.Fatalf("child below %x among %x: %d, want %d", key, seps, got, below)
			}
		}
	}
}

// TestInnerSplit compares a copy that grew split by split with one made of the page.
func TestInnerSplit(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for round := range 50 {
		p := make(page.Page, 8192)
		page.Init(p, 7, page.FlagParentOfLeaf)
		p.Insert(0, 0, 0, nil, childData(1))
		in := newInner(nil, 9, p)
		for n := range 150 {
			key := []byte{0x7f, byte(rng.Uint32()), byte(rng.Uint32()), byte(n)}
			if round%2 == 0 {
				key = []byte{0x7f, byte(n)} // always behind the last
			}
			i := in.child(key)
			if i > 0 && slices.Compare(in.sep(i-1), key) == 0 {
				continue
			}
			right := page.No(100 + n)
			up := p.Child(i)
			p.Replace(i, childData(right))
			p.Insert(i, 0, 0, key, childData(up))
			in.kids[i].leaf.Store(nil)
			in = in.split(i, key, right)
			want := newInner(nil, 9, p)
			if !slices.Equal(in.children, want.children) || !slices.Equal(in.ends, want.ends) ||
				string(in.keys) != string(want.keys) || len(in.kids) != len(want.kids) {
				t.Fatalf("round %d, split %d: %v %x, want %v %x", round, n, in.children, in.keys,
					want.children, want.keys)
			}
			for range 10 {
				key := []byte{0x7f, byte(rng.Uint32()), byte(rng.Uint32())}
				if got, want := in.child(key), want.child(key); got != want {
					t.Fatalf("round %d, split %d: child of %x is %d, want %d", round, n, key, got, want)
				}
			}
		}
	}
}
