package record

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// catalogLayout is the catalog's own: columns 1 to 9.
func catalogLayout() *Layout { return NewLayout([]int{4, 2, 4, 4, 4, 4, 4, 1, 2, 4, 2, 4}) }

func le(v uint64, size int) []byte {
	out := make([]byte, size)
	for i := range out {
		out[i] = byte(v >> (8 * i))
	}
	return out
}

// TestGoldenRecords encodes and parses rows as they stand in files written by Windows.
func TestGoldenRecords(t *testing.T) {
	tests := []struct {
		name   string
		hex    string
		fields []Field
	}{
		{
			"table row", "08 80 2000 02000000 0100 02000000 04000000 50000000 000000c0 14000000" +
				"ff 00 0b00 4d53 79734f626a65637473",
			[]Field{
				{ID: 1, Data: le(2, 4)},
				{ID: 2, Data: le(1, 2)},
				{ID: 3, Data: le(2, 4)},
				{ID: 4, Data: le(4, 4)},
				{ID: 5, Data: le(80, 4)},
				{ID: 6, Data: le(0xc0000000, 4)},
				{ID: 7, Data: le(20, 4)},
				{ID: 8, Data: le(0xff, 1)},
				{ID: 128, Data: []byte("MSysObjects")},
			},
		},
		{
			"column row", "09 80 2300 02000000 0200 01000000 04000000 04000000 01000000 e4040000" +
				"2a 0400 80fe 0a00 4f626a69645461626c65",
			[]Field{
				{ID: 1, Data: le(2, 4)},
				{ID: 2, Data: le(2, 2)},
				{ID: 3, Data: le(1, 4)},
				{ID: 4, Data: le(4, 4)},
				{ID: 5, Data: le(4, 4)},
				{ID: 6, Data: le(1, 4)},
				{ID: 7, Data: le(1252, 4)},
				{ID: 9, Data: le(4, 2)},
				{ID: 128, Data: []byte("ObjidTable")},
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			want := unhex(t, test.hex)
			got, err := catalogLayout().Encode(nil, test.fields, false)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("Encode = %x, %v\nwant %x", got, err, want)
			}
			checkFields(t, catalogLayout(), got, test.fields, false)
		})
	}
}

// checkFields parses b and wants exactly these columns in it.
func checkFields(t *testing.T, l *Layout, b []byte, fields []Field, largePage bool) {
	t.Helper()
	r, err := Parse(b, largePage)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Fits(l) {
		t.Fatal("the record does not fit its layout")
	}
	byID := map[ColumnID]Field{}
	for _, f := range fields {
		byID[f.ID] = f
		if !r.Present(f.ID) {
			t.Fatalf("column %d is absent", f.ID)
		}
	}
	for id := FirstFixed; id <= LastVar; id++ {
		var data []byte
		var ok bool
		if id.IsFixed() {
			data, ok = r.Fixed(l, id)
		} else {
			data, ok = r.Var(id)
		}
		want, present := byID[id]
		if ok != (present && !want.Null) || !bytes.Equal(data, want.Data) && ok {
			t.Fatalf("column %d = %x, %v, want %x", id, data, ok, want.Data)
		}
	}
	seen := 0
	r.EachTagged(func(id ColumnID, got Tagged) bool {
		seen++
		f, ok := byID[id]
		want := Tagged{
			Data: f.Data, Null: f.Null, Separated: f.Separated, LongValue: f.LongValue,
			Compressed: f.Compressed,
		}
		if f.Null {
			want = Tagged{Null: true}
		}
		if !ok || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
			t.Fatalf("tagged column %d = %+v, want %+v", id, got, want)
		}
		if same, ok := r.Tagged(id); !ok || !bytes.Equal(same.Data, got.Data) {
			t.Fatalf("Tagged(%d) differs from EachTagged", id)
		}
		return true
	})
	tagged := 0
	for id := range byID {
		if id.IsTagged() {
			tagged++
		}
	}
	if seen != tagged {
		t.Fatalf("%d tagged columns, want %d", seen, tagged)
	}
	if _, ok := r.Tagged(60000); ok {
		t.Fatal("found a column that is not there")
	}
}

func TestRoundTripRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		sizes := make([]int, rng.IntN(40))
		for i := range sizes {
			sizes[i] = []int{1, 2, 4, 8, 16}[rng.IntN(5)]
		}
		var fields []Field
		value := func(n int) []byte {
			b := make([]byte, n)
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
			return b
		}
		for i, size := range sizes {
			if rng.IntN(2) == 0 {
				f := Field{ID: ColumnID(i + 1), Null: rng.IntN(4) == 0}
				if !f.Null {
					f.Data = value(size)
				}
				fields = append(fields, f)
			}
		}
		for id := FirstVar; id < FirstVar+10; id++ {
			if rng.IntN(3) == 0 {
				f := Field{ID: id, Null: rng.IntN(4) == 0}
				if !f.Null {
					f.Data = value(rng.IntN(20))
				}
				fields = append(fields, f)
			}
		}
		for id := FirstTagged; id < FirstTagged+10; id++ {
			if rng.IntN(3) == 0 {
				f := Field{ID: id, Null: rng.IntN(4) == 0}
				if !f.Null {
					f.Data = value(rng.IntN(300))
					f.LongValue, f.Compressed = rng.IntN(2) == 0, rng.IntN(4) == 0
					f.Separated = rng.IntN(4) == 0
				}
				fields = append(fields, f)
			}
		}
		large := rng.IntN(2) == 0
		l := NewLayout(sizes)
		prefix := []byte("before")
		b, err := l.Encode(prefix, fields, large)
		if err != nil {
			t.Fatal(err)
		}
		checkFields(t, l, b[len(prefix):], fields, large)
	}
}

func TestEncodeErrors(t *testing.T) {
	l := NewLayout([]int{4})
	tests := []struct {
		name   string
		fields []Field
		want   string
	}{
		{"order", []Field{{ID: 128}, {ID: 1, Data: le(1, 4)}}, "out of order"},
		{"twice", []Field{{ID: 128}, {ID: 128}}, "out of order"},
		{"size", []Field{{ID: 1, Data: le(1, 2)}}, "2 bytes for a column of 4"},
		{"unknown", []Field{{ID: 2, Data: le(1, 2)}}, "not in the layout"},
		{"var", []Field{{ID: 128, Data: make([]byte, 40000)}}, ErrTooBig.Error()},
		{"tagged", []Field{{ID: 256, Data: make([]byte, 9000)}, {ID: 257}}, ErrTooBig.Error()},
	}
	for _, test := range tests {
		b, err := l.Encode(nil, test.fields, false)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %x, %v", test.name, b, err)
		}
	}
}

func TestParseCorrupt(t *testing.T) {
	for _, s := range []string{
		"", "010203", "80 7f 0400", "01 7f 0400", "00 7f ffff", "00 80 0400", "00 80 0400 0500 61",
		"00 81 0400 0200 0100 6161",
		"00 7f 0400 01", "00 7f 0400 0001 0300", "00 7f 0400 0001 0800 00",
		"00 7f 0400 0000 0400", "00 7f 0400 0001 0440",
	} {
		if _, err := Parse(unhex(t, s), false); !errors.Is(err, ErrCorrupt) {
			t.Errorf("Parse(%s) = %v", s, err)
		}
	}
}

func TestMultiValues(t *testing.T) {
	tests := []struct {
		name string
		in   Tagged
		want string // values separated by |, * = separated, ! = error
	}{
		{"null", Tagged{Null: true}, ""},
		{"one", Tagged{Data: []byte("x")}, "x"},
		{"two", Tagged{TwoValues: true, MultiValue: true, Data: []byte("\x02aabbb")}, "aa|bbb"},
		{"two short", Tagged{TwoValues: true, Data: []byte("\x02a")}, "!"},
		{"many", Tagged{MultiValue: true, Data: []byte("\x06\x00\x08\x80\x0a\x00aabbc")}, "aa|bb*|c"},
		{"empty value", Tagged{MultiValue: true, Data: []byte("\x04\x00\x04\x00")}, "|"},
		{"odd", Tagged{MultiValue: true, Data: []byte("\x03\x00\x04")}, "!"},
		{"over", Tagged{MultiValue: true, Data: []byte("\x04\x00\x09\x00a")}, "!"},
		{"none", Tagged{MultiValue: true}, "!"},
	}
	for _, test := range tests {
		values, err := test.in.Values()
		var parts []string
		for _, v := range values {
			s := string(v.Data)
			if v.Separated {
				s += "*"
			}
			parts = append(parts, s)
		}
		got := strings.Join(parts, "|")
		if err != nil {
			got = "!"
		}
		if got != test.want {
			t.Errorf("%s: %q, %v", test.name, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	l := catalogLayout()
	seed, err := l.Encode(nil, []Field{
		{ID: 2, Data: le(7, 2)},
		{ID: 128, Data: []byte("name")},
		{ID: 130, Null: true},
		{ID: 256, Data: []byte("\x02aabb"), LongValue: true},
		{ID: 300, Null: true},
	}, false)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed, false)
	f.Add(seed, true)
	f.Add([]byte{0, 127, 4, 0}, true)
	f.Fuzz(func(t *testing.T, b []byte, large bool) {
		r, err := Parse(b, large)
		if err != nil {
			return
		}
		r.Fits(l)
		for id := ColumnID(0); id < 300; id++ {
			r.Present(id)
			r.Fixed(l, id)
			r.Var(id)
		}
		r.EachTagged(func(_ ColumnID, tag Tagged) bool {
			if values, err := tag.Values(); err == nil {
				for _, v := range values {
					if _, err := Decompress(nil, v.Data); err != nil && v.Compressed {
						return true
					}
				}
			}
			return true
		})
	})
}

// valueOrder makes values of a type in rising order.
func valueOrder(t ColumnType, rng *rand.Rand) [][]byte {
	var out [][]byte
	size := t.FixedSize()
	switch t {
	case Bit:
		return [][]byte{{0}, {0xff}}
	case UnsignedByte, UnsignedShort, UnsignedLong, UnsignedLongLong, Short, Long, LongLong, Currency:
		signed := t == Short || t == Long || t == LongLong || t == Currency
		var values []uint64
		for range 200 {
			values = append(values, rng.Uint64()>>rng.IntN(64)&(1<<(8*size-1)<<1-1))
		}
		slices.SortFunc(values, func(a, b uint64) int {
			if signed {
				shift := 64 - 8*size
				if int64(a<<shift) < int64(b<<shift) {
					return -1
				}
				if int64(a<<shift) > int64(b<<shift) {
					return 1
				}
				return 0
			}
			if a < b {
				return -1
			} else if a > b {
				return 1
			}
			return 0
		})
		for _, v := range slices.Compact(values) {
			out = append(out, le(v, size))
		}
	case Binary:
		for range 300 {
			b := make([]byte, rng.IntN(30))
			for i := range b {
				b[i] = byte(rng.IntN(2)) * 255
			}
			out = append(out, b)
		}
		slices.SortFunc(out, bytes.Compare)
		out = slices.CompactFunc(out, bytes.Equal)
	case Text:
		for range 300 {
			b := make([]byte, rng.IntN(12))
			for i := range b {
				b[i] = "ABC~! "[rng.IntN(6)]
			}
			out = append(out, b)
		}
		slices.SortFunc(out, bytes.Compare)
		out = slices.CompactFunc(out, bytes.Equal)
	}
	return out
}

func TestKeyOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	types := []ColumnType{
		Bit, UnsignedByte, Short, Long, LongLong, Currency, UnsignedShort, UnsignedLong,
		UnsignedLongLong, Binary, Text, LongBinary,
	}
	for _, typ := range types {
		order := typ
		if typ == LongBinary {
			order = Binary
		}
		values := append([][]byte{nil}, valueOrder(order, rng)...)
		for _, descending := range []bool{false, true} {
			var last []byte
			for i, v := range values {
				// A second segment must not change the order of the first.
				key, err := AppendKey([]byte("k"), typ, v, i == 0, descending, false)
				if err != nil {
					t.Fatal(err)
				}
				key = append(key, byte(rng.Uint32()))
				if c := bytes.Compare(last, key); i > 0 && (c >= 0) != descending {
					t.Fatalf("%v: key %x of %x after %x", typ, key, v, last)
				}
				last = key
			}
		}
	}
}

func TestGoldenKeys(t *testing.T) {
	guid := unhex(t, "000102030405060708090a0b0c0d0e0f")
	tests := []struct {
		typ   ColumnType
		data  []byte
		fixed bool
		want  string
	}{
		{Long, le(1, 4), false, "7f80000001"},
		{Short, le(1, 2), false, "7f8001"},
		{Text, []byte("Basic"), false, "7f424153494300"},
		{Text, nil, false, "40"},
		{Bit, []byte{1}, false, "7fff"},
		{IEEEDouble, le(0x3ff0000000000000, 8), false, "7fbff0000000000000"},
		{IEEESingle, le(0xbf800000, 4), false, "7f407fffff"},
		{Binary, []byte("12345678"), false, "7f313233343536373808"},
		{Binary, []byte("123456789"), false, "7f313233343536373809" + "390000000000000001"},
		{Binary, []byte("12"), true, "7f3132"},
		{GUID, guid, false, "7f0a0b0c0d0e0f08090607040500010203"},
	}
	for _, test := range tests {
		key, err := AppendKey(nil, test.typ, test.data, false, false, test.fixed)
		if err != nil || hex.EncodeToString(key) != test.want {
			t.Errorf("%v %x: %x, %v, want %s", test.typ, test.data, key, err, test.want)
		}
	}
	_, err := AppendKey(nil, Text, []byte("\xe4"), false, false, false)
	if !errors.Is(err, ErrNotASCII) {
		t.Errorf("text that is not ASCII: %v", err)
	}
	if _, err := AppendKey(nil, Long, nil, false, false, false); err == nil {
		t.Error("a Long of no bytes made a key")
	}
	if _, err := AppendKey(nil, SLV, []byte{1}, false, false, false); err == nil {
		t.Error("an SLV made a key")
	}
}

// Several values of a column are read as they were written, on small and large pages, in the
// compact form and the other, with long values among them.
func TestSeveralValues(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 2000 {
		large := rng.IntN(2) == 0
		var fields []Field
		for id := FirstTagged; id < FirstTagged+4; id++ {
			f := Field{ID: id, LongValue: rng.IntN(2) == 0}
			for range 2 + rng.IntN(4) {
				v := FieldValue{Data: make([]byte, rng.IntN(300))}
				if f.LongValue && rng.IntN(3) == 0 {
					v = FieldValue{Data: []byte{1, 2, 3, 4}, Separated: true}
				}
				for i := range v.Data {
					v.Data[i] = byte(rng.Uint32())
				}
				f.Values = append(f.Values, v)
			}
			fields = append(fields, f)
		}
		b, err := NewLayout(nil).Encode(nil, fields, large)
		if err != nil {
			t.Fatal(err)
		}
		rec, err := Parse(b, large)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range fields {
			tg, ok := rec.Tagged(f.ID)
			vals, err := tg.Values()
			if !ok || err != nil || len(vals) != len(f.Values) || !tg.MultiValue || tg.LongValue != f.LongValue {
				t.Fatalf("column %d: %v %v, %d values of %d", f.ID, ok, err, len(vals), len(f.Values))
			}
			for i, v := range vals {
				if !bytes.Equal(v.Data, f.Values[i].Data) || v.Separated != f.Values[i].Separated {
					t.Fatalf("column %d: value %d is %x, want %x", f.ID, i, v.Data, f.Values[i].Data)
				}
			}
		}
	}
}
