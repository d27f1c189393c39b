package line

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	long := strings.Repeat("x", 100)
	for _, tc := range []struct {
		in, want, next string
		err            error
	}{
		{"NOOP\r\nQUIT\r\n", "NOOP", "QUIT", nil},
		{"\r\nQUIT\r\n", "", "QUIT", nil},
		{long[:40] + "\r\nQUIT\r\n", long[:40], "QUIT", nil},
		{long[:41] + "\r\nQUIT\r\n", TooLong, "QUIT", nil},
		{long + "\r\nQUIT\r\n", TooLong, "QUIT", nil},
		{long[:40] + "\rX\r\nQUIT\r\n", TooLong, "QUIT", nil},
		{"NO\rOP\r\nQUIT\r\n", HasControls, "QUIT", nil},
		{"NO\x00OP\r\nQUIT\r\n", HasControls, "QUIT", nil},
		{"NOOP\nQUIT\r\n", "", "", ErrBareLF},
		{long + "\nQUIT\r\n", "", "", ErrBareLF},
		{strings.Repeat(long, 3) + "\r\n", "", "", ErrSkipped},
		{"NOOP", "", "", io.ErrUnexpectedEOF},
		{"", "", "", io.ErrUnexpectedEOF},
	} {
		br := bufio.NewReaderSize(strings.NewReader(tc.in), 16)
		got, err := Read(br, 40, 200)
		if got != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("%q: %q, %v", tc.in, got, err)
		}
		if err != nil {
			continue
		}
		if next, err := Read(br, 40, 200); next != tc.next || err != nil {
			t.Errorf("%q: the next line is %q, %v", tc.in, next, err)
		}
	}
}

// Any bytes give lines without CR and LF, in order, or an error; no line that ends with a bare LF
// passes.
func FuzzRead(f *testing.F) {
	for _, s := range []string{"a\r\nb\r\n", "a\nb\r\n", "a\rb\r\n", "\r\n", "\r", strings.Repeat("y", 90) + "\r\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		br := bufio.NewReaderSize(strings.NewReader(s), 16)
		rest := s
		for {
			got, err := Read(br, 30, 60)
			if err != nil {
				return
			}
			want, after, ok := strings.Cut(rest, "\n")
			if rest = after; !ok || !strings.HasSuffix(want, "\r") {
				t.Fatalf("%q: a line without CRLF passed as %q", s, got)
			}
			want = want[:len(want)-1]
			switch {
			case len(want) > 30:
				want = TooLong
			case strings.ContainsAny(want, "\r\x00"):
				want = HasControls
			}
			if got != want {
				t.Fatalf("%q: %q, want %q", s, got, want)
			}
		}
	})
}
