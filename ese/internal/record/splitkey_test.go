package record

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// What AppendKey makes of several columns, SplitKey takes apart again.
func TestSplitKey(t *testing.T) {
	types := []ColumnType{
		Bit, UnsignedByte, Short, UnsignedShort, Long, UnsignedLong, LongLong, Currency,
		UnsignedLongLong, IEEESingle, IEEEDouble, DateTime, GUID, Text, LongText, Binary, LongBinary,
	}
	rng := rand.New(rand.NewPCG(1, 2))
	type column struct {
		t          ColumnType
		data       []byte
		null, desc bool
	}
	for range 2000 {
		var cols []column
		var key []byte
		for range 1 + rng.IntN(5) {
			c := column{t: types[rng.IntN(len(types))], null: rng.IntN(8) == 0, desc: rng.IntN(3) == 0}
			n := c.t.FixedSize()
			if n == 0 {
				n = rng.IntN(30)
			}
			c.data = make([]byte, n)
			for i := range c.data {
				c.data[i] = byte(rng.Uint32())
				switch c.t {
				case Text, LongText:
					c.data[i] = "ABC XYZ09"[rng.IntN(9)]
				case Bit:
					c.data[i] = byte(rng.IntN(2)) * 0xff
				}
			}
			var err error
			if key, err = AppendKey(key, c.t, c.data, c.null, c.desc, false); err != nil {
				t.Fatal(err)
			}
			cols = append(cols, c)
		}
		rest := key
		for _, c := range cols {
			value, null, r, ok := SplitKey(rest, c.t, c.desc, false)
			if !ok || null != c.null || !null && !bytes.Equal(value, c.data) {
				t.Fatalf("%v %x (null %v, descending %v) came out as %x, %v, %v", c.t, c.data, c.null,
					c.desc, value, null, ok)
			}
			rest = r
		}
		if len(rest) > 0 {
			t.Fatalf("%x is left", rest)
		}
		// A key that is cut off, or any bytes, end without trouble.
		for rest = key[:rng.IntN(len(key)+1)]; ; {
			_, _, r, ok := SplitKey(rest, types[rng.IntN(len(types))], rng.IntN(2) == 0, rng.IntN(2) == 0)
			if !ok {
				break
			}
			rest = r
		}
	}
}
