package logrec

import (
	"bytes"
	"testing"
)

// TestCopied shows that the log holds the value of a binary key column once, wherever it stands
// in the data, and that data which only looks like it comes back as well.
func TestCopied(t *testing.T) {
	value := []byte(copyValue)
	long := bytes.Repeat([]byte{9, 8, 7}, 4*maxCopied)
	for _, c := range []struct {
		name      string
		key, data []byte
		saved     int
	}{
		{"in the middle", copyKey, append([]byte("head"), append(value, "rest"...)...), len(value) - 2},
		{"at the beginning", copyKey, append(value[:len(value):len(value)], "rest"...), len(value) - 2},
		{"alone", copyKey, value, len(value) - 2},
		{"not there", copyKey, []byte("something else"), 0},
		{"a part of it", copyKey, value[:len(value)-1], 0},
		{"no data", copyKey, nil, 0},
		{"no binary key", []byte("\x7f\x80\x00\x00\x01"), []byte("\x80\x00\x00\x01 and more"), 0},
		{"a short value", []byte("\x7fabc\x00\x00\x00\x00\x00\x03"), []byte("abc"), 0},
		{"a whole chunk", []byte("\x7f12345678\x08"), []byte("0 12345678 9"), 6},
		{"no first byte", []byte("12345678\x08"), []byte("0 12345678 9"), 0},
		{"too far behind", copyKey, append(long, value...), 0},
		{"a chunk without an end", []byte("\x7f12345678\x09"), []byte("12345678"), 0},
	} {
		r := NodeRec{Op: NodeInsert, Prefix: 1, Key: c.key, Data: c.data}
		b := r.Append(nil)
		plain := r
		plain.Key = bytes.Repeat([]byte{0xff}, len(c.key))
		if got := len(plain.Append(nil)) - len(b); got != c.saved {
			t.Errorf("%s: %d bytes saved, want %d", c.name, got, c.saved)
		}
		var back NodeRec
		if err := back.Decode(b, 7); err != nil || !bytes.Equal(back.Data, c.data) || back.Prefix != 1 || back.Prev != 7 {
			t.Errorf("%s: came back as %q, %v", c.name, back.Data, err)
		}
		// The memory of one record serves the next.
		if err := back.Decode(b, 7); err != nil || !bytes.Equal(back.Data, c.data) {
			t.Errorf("%s: came back the second time as %q, %v", c.name, back.Data, err)
		}
	}
}
