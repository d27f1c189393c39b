package record

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

// wide is text as UTF-16.
func wide(text string) []byte {
	var out []byte
	for _, r := range text {
		out = append(out, byte(r), byte(r>>8))
	}
	return out
}

// mixture is bytes of which some repeat, at any distance.
func mixture(rng *rand.Rand, n, symbols int) []byte {
	b := make([]byte, 0, n)
	for len(b) < n {
		if len(b) > 10 && rng.IntN(3) == 0 {
			from := rng.IntN(len(b))
			b = append(b, b[from:min(from+1+rng.IntN(400), len(b))]...)
		} else {
			b = append(b, byte(rng.IntN(symbols)))
		}
	}
	return b[:n]
}

// roundTrip compresses a value after a prefix, checks that this pays, and reads it back.
func roundTrip(t *testing.T, c *Compressor, b []byte) (stored int) {
	t.Helper()
	out, ok := c.Compress([]byte("xy"), b)
	if string(out[:2]) != "xy" {
		t.Fatalf("the %d bytes overwrote what was before", len(b))
	}
	if !ok {
		if len(out) != 2 {
			t.Fatalf("%d bytes: nothing saved, and %d appended", len(b), len(out)-2)
		}
		return len(b)
	}
	if out = out[2:]; len(out) >= len(b) {
		t.Fatalf("%d bytes became %d", len(b), len(out))
	}
	got, err := Decompress([]byte("zz"), out)
	if err != nil || !bytes.Equal(got[2:], b) {
		t.Fatalf("%d bytes (%.20x) came back as %d: %v", len(b), b, len(got)-2, err)
	}
	return len(out)
}

func TestCompressSchemes(t *testing.T) {
	random := make([]byte, 5000)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range random {
		random[i] = byte(rng.Uint32())
	}
	letters := bytes.Clone(random)
	for i := range letters {
		letters[i] &= 0x7f
	}
	ascii := []byte(strings.Repeat("The quick brown fox jumps over the lazy dog. ", 300))
	tests := []struct {
		name   string
		in     []byte
		scheme byte // 0: stays as it is
		most   int
	}{
		{"empty", nil, 0, 0},
		{"one letter", []byte("a"), 0, 1},
		{"seven letters", []byte("abcdefg"), 0, 7},
		{"nine letters", []byte("abcdefghi"), 0, 9},
		{"seventeen letters", ascii[:17], schemeASCII7, 16},
		{"ASCII, short of XPRESS", ascii[:1023], schemeASCII7, 897},
		{"ASCII that repeats", ascii[:1024], schemeXpress, 130},
		{"UTF-16 of two letters", wide("ab"), schemeUnicode7, 3},
		{"UTF-16", wide(string(ascii[:400])), schemeUnicode7, 351},
		{"UTF-16 beyond ASCII", wide("Grüße aus Köln"), 0, 28},
		{"UTF-16 with odd length", append(wide("abcdefghi"), 'x'), schemeASCII7, 18},
		{"zeros", make([]byte, 1000), schemeUnicode7, 439},
		{"many zeros", make([]byte, maxXpress), schemeXpress, 20},
		{"too many zeros for XPRESS", make([]byte, maxXpress+1), schemeUnicode7, 28673},
		{"high zeros", bytes.Repeat([]byte{0xff}, 2000), schemeXpress, 20},
		{"binary, short of XPRESS", bytes.Repeat([]byte{0xff}, 1023), 0, 1023},
		{"random", random, 0, 5000},
		{"random, maximal", bytes.Repeat(random, 14)[:maxXpress], schemeXpress, 8000},
		{"random ASCII", letters, schemeASCII7, 4376},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := &Compressor{}
			if n := roundTrip(t, c, test.in); n > test.most {
				t.Errorf("takes %d bytes, not %d", n, test.most)
			}
			out, _ := c.Compress([]byte{0}, test.in)
			if len(out) == 1 {
				out = append(out, 0)
			}
			if got := out[1] >> 3; got != test.scheme {
				t.Errorf("scheme %d, want %d", got, test.scheme)
			}
		})
	}
}

// The examples of MS-XCA section 3.1, as its compressor writes them.
func TestCompressXpressExamples(t *testing.T) {
	for in, want := range map[string]string{
		"abcdefghijklmnopqrstuvwxyz": "18 1a00 3f000000" + hex.EncodeToString([]byte("abcdefghijklmnopqrstuvwxyz")),
		strings.Repeat("abc", 100):   "18 2c01 ffffff1f 616263 1700 0fff2601",
	} {
		c := &Compressor{}
		if got, ok := c.packLZ77(nil, []byte(in), 1000); !ok || !bytes.Equal(got, unhex(t, want)) {
			t.Errorf("%.10q: %x, want %s", in, got, want)
		}
	}
}

// Whatever a value is, it comes back, with a Compressor that has seen others.
func TestCompressRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 7))
	c := &Compressor{}
	for range 3000 {
		n := rng.IntN(300)
		switch rng.IntN(4) {
		case 0:
			n = minXpress - 3 + rng.IntN(10)
		case 1:
			n = rng.IntN(9000)
		case 2:
			n = rng.IntN(maxXpress + 2)
		}
		b := mixture(rng, n, 1+rng.IntN(256))
		roundTrip(t, c, b)
		roundTrip(t, c, wide(string(b[:n/4])))
		if len(b) < 1 || len(b) > maxXpress {
			continue
		}
		// XPRESS for all sizes, also where it would not be chosen.
		out, ok := c.packLZ77(nil, b, 2*len(b)+100)
		if got, err := Decompress(nil, out); !ok || err != nil || !bytes.Equal(got, b) {
			t.Fatalf("XPRESS of %d bytes: %d came back, %v", len(b), len(got), err)
		}
	}
}

// Every length and every distance of a match, and each number of flags at the end.
func TestCompressMatches(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 7))
	noise := make([]byte, lzWindow+10)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	c := &Compressor{}
	for n := 3; n < 700; n++ {
		b := append(bytes.Clone(noise[:n+40]), noise[3:3+n]...)
		b = append(b, noise[1000:1000+n%40]...)
		out, ok := c.packLZ77(nil, b, 2*len(b)+100)
		if got, err := Decompress(nil, out); !ok || err != nil || !bytes.Equal(got, b) {
			t.Fatalf("match of %d: %v", n, err)
		}
	}
	for far := lzWindow - 40; far < lzWindow+10; far++ {
		b := append(bytes.Clone(noise[:far]), noise[:100]...)
		out, ok := c.packLZ77(nil, b, 2*len(b)+100)
		if got, err := Decompress(nil, out); !ok || err != nil || !bytes.Equal(got, b) {
			t.Fatalf("match %d back: %v", far, err)
		}
	}
}

func TestCompressAllocates(t *testing.T) {
	c := &Compressor{}
	text := []byte(strings.Repeat("Subject: nothing of importance\r\n", 250))
	packed, out := make([]byte, 0, 2*len(text)), make([]byte, 0, len(text))
	if n := testing.AllocsPerRun(100, func() {
		p, _ := c.Compress(packed, text)
		p7, _ := c.Compress(packed[:0:len(text)], text[:1000])
		if _, err := Decompress(out, p7); err != nil || len(p) == 0 {
			t.Error(err)
		}
	}); n > 0 {
		t.Errorf("%.0f allocations", n)
	}
}

func FuzzCompress(f *testing.F) {
	for _, s := range []string{"", "abc", strings.Repeat("abc", 500), "Gr\xfc\xdfe", "a\x00b\x00c\x00"} {
		f.Add([]byte(s), uint16(1))
	}
	c := &Compressor{}
	f.Fuzz(func(t *testing.T, b []byte, times uint16) {
		b = bytes.Repeat(b, int(times%300))
		b = b[:min(len(b), maxXpress+5)]
		roundTrip(t, c, b)
		if len(b) > maxXpress {
			return
		}
		out, _ := c.packLZ77(nil, b, 2*len(b)+100)
		if got, err := Decompress(nil, out); err != nil || !bytes.Equal(got, b) {
			t.Fatalf("%d bytes: %d came back, %v", len(b), len(got), err)
		}
	})
}

// corpus is mail from PILLARBOX_CORPUS (a tar.gz), cut into chunks of 8 KiB pages.
func corpus(b *testing.B) (chunks [][]byte, size int64) {
	path := os.Getenv("PILLARBOX_CORPUS")
	if path == "" {
		b.Skip("PILLARBOX_CORPUS names no tar.gz of mail")
	}
	fh, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = fh.Close() }()
	z, err := gzip.NewReader(fh)
	if err != nil {
		b.Fatal(err)
	}
	for tr := tar.NewReader(z); ; {
		if _, err := tr.Next(); errors.Is(err, io.EOF) {
			return chunks, size
		} else if err != nil {
			b.Fatal(err)
		}
		all, err := io.ReadAll(tr)
		if err != nil {
			b.Fatal(err)
		}
		size += int64(len(all))
		for at := 0; at < len(all); at += 8110 {
			chunks = append(chunks, all[at:min(at+8110, len(all))])
		}
	}
}

func BenchmarkCompress(b *testing.B) {
	chunks, size := corpus(b)
	c := &Compressor{}
	var packed int64
	buf := make([]byte, 0, 1<<16)
	b.SetBytes(size)
	for b.Loop() {
		packed = 0
		for _, v := range chunks {
			if out, ok := c.Compress(buf, v); ok {
				packed += int64(len(out))
			} else {
				packed += int64(len(v))
			}
		}
	}
	b.ReportMetric(float64(packed)/float64(size), "ratio")
}

func BenchmarkDecompress(b *testing.B) {
	chunks, _ := corpus(b)
	c := &Compressor{}
	var packed [][]byte
	size := int64(0)
	for _, v := range chunks {
		if out, ok := c.Compress(nil, v); ok {
			packed, size = append(packed, out), size+int64(len(v))
		}
	}
	buf := make([]byte, 0, 1<<16)
	b.SetBytes(size)
	for b.Loop() {
		for _, v := range packed {
			if _, err := Decompress(buf, v); err != nil {
				b.Fatal(err)
			}
		}
	}
}
