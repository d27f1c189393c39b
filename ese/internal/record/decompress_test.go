package record

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

func TestDecompress7Bit(t *testing.T) {
	for n := 1; n < 40; n++ {
		text := []byte(strings.Repeat("Hello, World~", 4)[:n])
		got, err := Decompress([]byte(">"), pack7(nil, text, schemeASCII7))
		if err != nil || string(got) != ">"+string(text) {
			t.Fatalf("ascii, %d characters: %q, %v", n, got, err)
		}
		var wide []byte
		for _, c := range text {
			wide = append(wide, c, 0)
		}
		got, err = Decompress(nil, pack7(nil, wide, schemeUnicode7))
		if err != nil || len(got) != 2*n || got[0] != text[0] || got[1] != 0 || got[2*n-2] != text[n-1] {
			t.Fatalf("unicode, %d characters: %q, %v", n, got, err)
		}
	}
}

func TestDecompressXpress(t *testing.T) {
	alphabet := []byte("abcdefghijklmnopqrstuvwxyz")
	tests := []struct {
		name string
		in   string
		want []byte
		err  error
	}{
		// The two examples of MS-XCA section 3.1.
		{"literals", "18 1a00 3f000000" + hex.EncodeToString(alphabet), alphabet, nil},
		{"long match", "18 2c01 ffffff1f 616263 1700 0fff2601", bytes.Repeat([]byte("abc"), 100), nil},
		{"empty", "18 0000", nil, nil},
		{
			"shared half byte", "18 1900 ffffff3f 6162 0f00 12 0f00",
			bytes.Repeat([]byte("ab"), 14)[:25], nil,
		},
		{"ends early", "18 1a00 3f000000 61", nil, ErrCorrupt},
		{"match before the start", "18 1a00 ffffff7f 61 0f00 00", nil, ErrCorrupt},
		{"match over the end", "18 0300 ffffff7f 61 0700 00", nil, ErrCorrupt},
		{"no flags", "18 0100", nil, ErrCorrupt},
		{"no size", "18 01", nil, ErrCorrupt},
		{"no bytes", "", nil, ErrCorrupt},
		{"scrubbed", "20", nil, ErrUnsupported},
		{"lz4", "38 0000", nil, ErrUnsupported},
	}
	for _, test := range tests {
		got, err := Decompress(nil, unhex(t, test.in))
		if !errors.Is(err, test.err) || !bytes.Equal(got, test.want) {
			t.Errorf("%s: %q, %v, want %q, %v", test.name, got, err, test.want, test.err)
		}
	}
}

func FuzzDecompress(f *testing.F) {
	for _, s := range []string{
		"0f 61", "17 6162", "18 2c01 ffffff1f 616263 1700 0fff2601",
		"18 ffff ffffffff 0f00 ff ff 0000 ffffff7f",
	} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		out, err := Decompress([]byte("xy"), b)
		if err == nil && (len(out) > 1<<16+2+16*len(b) || string(out[:2]) != "xy") {
			t.Fatalf("%d bytes from %d", len(out), len(b))
		}
	})
}
