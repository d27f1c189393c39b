package logrec

import (
	"testing"

	"pillarbox/ese/internal/page"
)

// somePage is a leaf with a prefix and a few nodes.
func somePage() page.Page {
	p := make(page.Page, 4096)
	page.Init(p, 7, page.FlagLeaf)
	p.SetExternal([]byte("prefix"))
	for i, k := range []string{"a", "b", "d"} {
		p.Insert(i, page.NodeVersioned, 6, []byte(k), []byte("some data"))
	}
	p.SetDBTime(5)
	return p
}

// fuzzPage makes a page that redo would accept of raw, or nil: one that passed its check, or
// one that was never written.
func fuzzPage(raw []byte) page.Page {
	p := make(page.Page, 4096)
	copy(p, raw)
	for _, b := range raw {
		if b != 0 && p.Check() != nil {
			return nil
		}
	}
	return p
}

// readAll uses every accessor that a tree uses on a page.
func readAll(t *testing.T, p page.Page) {
	t.Helper()
	if p.Len() < 0 {
		return // never written, and not changed
	}
	if err := p.Check(); err != nil {
		t.Fatalf("a record left a broken page: %v", err)
	}
	for i := range p.Len() {
		p.Search(p.AppendKey(nil, i))
		if !p.Leaf() {
			p.Child(i)
		}
	}
}

// copyKey is the key of a row whose key column holds copyValue.
const copyValue = "a value that a row has twice"

var copyKey = []byte("p\x7fa value \x09that a r\x09ow has t\x09wice\x00\x00\x00\x00\x04")

// FuzzNodeRec: whatever a record and a page hold, Decode and Apply give an error or a sound
// page.
func FuzzNodeRec(f *testing.F) {
	for _, r := range []NodeRec{
		{Tx: 1, DB: 1, Page: 4, Before: 5, After: 9, Op: NodeInsert, Item: 2, Prefix: 6, Key: []byte("prefixc"), Data: []byte("x")},
		{Op: NodeInsert, Item: 3, Prefix: 1, Key: copyKey, Data: []byte("head" + copyValue + "and the rest")},
		{Op: NodeReplace, Item: 1, Key: []byte("prefixb"), Head: 2, Old: []byte("me"), New: make([]byte, 3000)},
		{Op: NodeFlagDelete, Item: 0, Key: []byte("prefixa")},
		{Op: NodeUndelete, Item: 2, Key: []byte("prefixd")},
		{Op: NodeDelta, Item: 1, Key: []byte("prefixb"), Delta: Delta{Off: 1, Width: 8, By: -3}},
		{Op: NodeRemove, CLR: true, UndoNext: 99, Item: 1, Key: []byte("prefixb")},
		{Op: NodeInsert, Item: 0, Prefix: 7, Key: []byte("prefixes"), Data: []byte("prefix too long")},
	} {
		f.Add(r.Append(nil), []byte(somePage()))
		f.Add(r.Append(nil), []byte{})
	}
	f.Fuzz(func(t *testing.T, rec, raw []byte) {
		p := fuzzPage(raw)
		var r NodeRec
		if p == nil || r.Decode(rec, 99) != nil {
			return
		}
		var back NodeRec
		if err := back.Decode(r.Append(nil), 99); err != nil {
			t.Fatalf("a record that was read cannot be written: %v", err)
		}
		before := append(page.Page(nil), p...)
		if err := r.Apply(p); err != nil {
			if string(before) != string(p) {
				t.Fatalf("%v, but the page has changed", err)
			}
			return
		}
		readAll(t, p)
	})
}

// FuzzMacro does the same for the parts of a macro.
func FuzzMacro(f *testing.F) {
	a := Actions{P: somePage()}
	a.Insert(1, 0, 6, []byte("aa"), []byte("new"))
	a.Replace(0, make([]byte, 2000))
	a.SetKey(2, []byte("longer key"))
	a.SetNodeFlags(1, page.NodeDeleted)
	a.Delete(0)
	a.SetNext(9)
	a.SetPrev(8)
	b := Actions{P: make(page.Page, 4096)}
	b.Init(4, page.FlagRoot|page.FlagLeaf, make([]byte, 16))
	b.Insert(0, 0, 0, []byte("k"), []byte("data"))
	c := Actions{P: make(page.Page, 4096)}
	c.Image(somePage())
	c.Truncate(1)
	d := Actions{P: somePage()}
	d.SetFlags(page.FlagLeaf | page.FlagRoot)
	d.SetExternal(nil)
	for _, x := range []Actions{a, b, c, d} {
		rec := AppendMacro(nil, &TreeRec{Tx: 3, DB: 1, Obj: 8, Root: 20, Parent: 1}, []MacroPage{
			{DB: 1, Page: 7, Before: 5, After: 6, Actions: x.Log},
		})
		f.Add(rec, []byte(somePage()))
		f.Add(rec, []byte{})
	}
	f.Fuzz(func(t *testing.T, rec, raw []byte) {
		_, _ = MacroTree(rec)
		_ = EachMacroPage(rec, func(m MacroPage) error {
			if p := fuzzPage(raw); p != nil && m.Apply(p) == nil {
				readAll(t, p)
			}
			return nil
		})
	})
}

// FuzzSmall decodes the small records.
func FuzzSmall(f *testing.F) {
	c := CommitRec{Tx: 3, Prev: 99, TimeMS: 1_700_000_000_000}
	f.Add(c.Append(nil))
	d := DBRec{DB: 1, Path: "a.edb", PageSize: 8192, Signature: make([]byte, SignatureSize)}
	f.Add(d.Append(nil))
	f.Add((&StreamRec{DB: 1, Offset: 4096}).AppendHead(nil))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_ = new(CommitRec).Decode(b, 99)
		_ = new(StreamRec).Decode(b)
		_ = new(TreeRec).Decode(b)
		if d := new(DBRec); d.Decode(b) == nil {
			DecodeSignature(d.Signature)
		}
	})
}
