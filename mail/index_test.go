package mail

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

func index(t testing.TB, msg string) *Structure {
	t.Helper()
	s, err := Index(strings.NewReader(msg))
	if err != nil {
		t.Fatal(err)
	}
	check(t, s, []byte(msg))
	return s
}

// check holds a Structure against the invariants of doc.go and against its own blob.
func check(t testing.TB, s *Structure, msg []byte) {
	t.Helper()
	if s.Size != int64(len(msg)) || s.Root.End != s.Size {
		t.Fatalf("size %d, root ends at %d, message has %d", s.Size, s.Root.End, len(msg))
	}
	lines := func(from, to int64) int64 { return int64(bytes.Count(msg[from:to], []byte("\n"))) }
	s.Walk(func(p *Part) bool {
		if p.HeaderStart > p.BodyStart || p.BodyStart > p.End {
			t.Fatalf("offsets %d %d %d", p.HeaderStart, p.BodyStart, p.End)
		}
		if got := lines(p.HeaderStart, p.BodyStart); got != p.HeaderLines {
			t.Fatalf("part at %d: %d header lines, counted %d", p.HeaderStart, p.HeaderLines, got)
		}
		if got := lines(p.BodyStart, p.End); got != p.BodyLines {
			t.Fatalf("part at %d: %d body lines, counted %d", p.HeaderStart, p.BodyLines, got)
		}
		at := p.BodyStart
		for _, c := range p.Children {
			if c.HeaderStart < at || c.End > p.End {
				t.Fatalf("child %d-%d outside %d-%d", c.HeaderStart, c.End, at, p.End)
			}
			at = c.End
		}
		return true
	})
	blob := s.AppendBinary(nil)
	if len(blob) > MaxBlob {
		t.Fatalf("blob of %d bytes", len(blob))
	}
	back, err := Decode(blob)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := render(s), render(back); a != b {
		t.Fatalf("blob changed the structure:\n%s\n%s", a, b)
	}
	if again := back.AppendBinary(nil); !bytes.Equal(blob, again) {
		t.Fatal("blob is not stable")
	}
}

func render(s *Structure) string {
	b := s.AppendEnvelope(nil)
	b = append(b, '\n')
	b = s.AppendBodyStructure(b, true)
	return fmt.Sprintf("%s %s %v %v %v", b, s.Root.Envelope.References, s.Header8Bit, s.Body8Bit, s.Size)
}

const nested = `From: "Doe, J." <j@x.example>
To: a@b.example, =?utf-8?q?=C3=9C?= <c@d.example>
Subject: hello "you"
Date: Mon, 2 Jan 2006 15:04:05 -0700
Message-ID: <1@x>
References: <0@x>
 <00@x>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="b1"

preamble
--b1

one
--b1
Content-Type: message/rfc822

Subject: inner
From: in@x
Content-Type: multipart/alternative; boundary=b2

--b2
Content-Type: text/html; charset="utf-8"
Content-Transfer-Encoding: BASE64

PGI+
--b2
Content-Disposition: attachment; filename="a b.txt"

--b2--

--b1
Content-Type: image/png; name=x.png
Content-ID: <img@x>
Content-Description: a picture
Content-Language: en, de
Content-MD5: Q2hlY2s=
Content-Location: http://x/

png
--b1--
epilogue
`

func TestBodyStructure(t *testing.T) {
	s := index(t, crlf(nested))
	wantEnvelope := `("Mon, 2 Jan 2006 15:04:05 -0700" "hello \"you\"" ` +
		`(("Doe, J." NIL "j" "x.example")) (("Doe, J." NIL "j" "x.example")) ` +
		`(("Doe, J." NIL "j" "x.example")) ((NIL NIL "a" "b.example")` +
		`("=?utf-8?q?=C3=9C?=" NIL "c" "d.example")) NIL NIL NIL "<1@x>")`
	if got := string(s.AppendEnvelope(nil)); got != wantEnvelope {
		t.Errorf("envelope\n got %s\nwant %s", got, wantEnvelope)
	}
	inner := `(NIL "inner" ((NIL NIL "in" "x")) ((NIL NIL "in" "x")) ((NIL NIL "in" "x")) ` +
		`NIL NIL NIL NIL NIL)`
	want := `(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 0)` +
		`("message" "rfc822" NIL NIL NIL "7bit" 240 ` + inner +
		` (("text" "html" ("charset" "utf-8") NIL NIL "base64" 4 0)` +
		`("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0) "alternative") 13)` +
		`("image" "png" ("name" "x.png") "<img@x>" "a picture" "7bit" 3) "mixed")`
	if got := string(s.AppendBodyStructure(nil, false)); got != want {
		t.Errorf("body\n got %s\nwant %s", got, want)
	}
	ext := string(s.AppendBodyStructure(nil, true))
	for _, part := range []string{
		`"7bit" 3 "Q2hlY2s=" NIL ("en" "de") "http://x/")`,
		`"7bit" 0 0 NIL ("attachment" ("filename" "a b.txt")) NIL NIL)`,
		` "mixed" ("boundary" "b1") NIL NIL NIL)`,
	} {
		if !strings.Contains(ext, part) {
			t.Errorf("bodystructure lacks %s:\n%s", part, ext)
		}
	}
	if s.Root.Envelope.References != "<0@x> <00@x>" {
		t.Errorf("references %q", s.Root.Envelope.References)
	}
}

func TestSection(t *testing.T) {
	msg := crlf(nested)
	s := index(t, msg)
	for _, tc := range []struct {
		path string
		kind SectionKind
		want string // "-" for none
	}{
		{"1", SectionAll, "one"},
		{"1", SectionMIME, "\r\n"},
		{"1", SectionHeader, "-"},
		{"1.1", SectionAll, "-"},
		{"2", SectionHeader, "Subject: inner\r\nFrom: in@x\r\n" +
			"Content-Type: multipart/alternative; boundary=b2\r\n\r\n"},
		{"2.1", SectionAll, "PGI+"},
		{"2.1", SectionMIME, "Content-Type: text/html; charset=\"utf-8\"\r\n" +
			"Content-Transfer-Encoding: BASE64\r\n\r\n"},
		{"2.2", SectionAll, ""},
		{"2.3", SectionAll, "-"},
		{"3", SectionAll, "png"},
		{"3", SectionText, "-"},
		{"4", SectionAll, "-"},
		{"0", SectionAll, "-"},
		{"", SectionMIME, "-"},
		{"", SectionText, msg[strings.Index(msg, "preamble"):]},
		{"", SectionHeader, msg[:strings.Index(msg, "preamble")]},
		{"", SectionAll, msg},
	} {
		off, n, ok := s.Section(path(tc.path), tc.kind)
		got := "-"
		if ok {
			got = msg[off : off+n]
		}
		if got != tc.want {
			t.Errorf("%s kind %d: got %q, want %q", tc.path, tc.kind, got, tc.want)
		}
	}
	single := crlf("Subject: x\nContent-Type: message/rfc822\n\nSubject: y\n\nbody\n")
	s = index(t, single)
	for _, tc := range [][2]string{{"1", "Subject: y\r\n\r\nbody\r\n"}, {"1.1", "body\r\n"}} {
		off, n, ok := s.Section(path(tc[0]), SectionAll)
		if !ok || single[off:off+n] != tc[1] {
			t.Errorf("%s: %q %v", tc[0], single[off:off+n], ok)
		}
	}
}

func path(s string) []int {
	var p []int
	for _, f := range strings.FieldsFunc(s, func(r rune) bool { return r == '.' }) {
		n := 0
		_, _ = fmt.Sscan(f, &n)
		p = append(p, n)
	}
	return p
}

func TestBroken(t *testing.T) {
	multi := "Content-Type: multipart/mixed; boundary=b\n\n"
	for _, tc := range []struct{ name, msg, want string }{
		{"empty", "", `("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0)`},
		{"no header", "\nbody\n", `("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 6 1)`},
		{"header only", "Subject: x", `("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0)`},
		{"bad type", "Content-Type: nonsense\n\nx\n", `("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 1)`},
		{"no boundary", "Content-Type: multipart/mixed\n\nx\n", `("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 1)`},
		{"no parts", multi + "x\n", `(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0) "mixed")`},
		{"never closed", multi + "--b\n\nx\n", `(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 3 1) "mixed")`},
		{"part is header only", multi + "--b\nContent-Type: image/gif\n--b--", `(("image" "gif" NIL NIL NIL "7bit" 0) "mixed")`},
		{"closed without line end", multi + "--b\n\nx\n--b--", `(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1 0) "mixed")`},
		{"adjacent", multi + "--b\n--b\n\n--b--\n", `(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0)("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0) "mixed")`},
		{"outer ends inner", multi + "--b\nContent-Type: multipart/x; boundary=c\n\n--c\nContent-Type: a/b\n\n--b--\n", `((("a" "b" NIL NIL NIL "7bit" 0) "x") "mixed")`},
		{"digest", "Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: q\n\nz\n--b--\n", `(("message" "rfc822" NIL NIL NIL "7bit" 15 (NIL "q" NIL NIL NIL NIL NIL NIL NIL NIL) ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 1 0) 2) "digest")`},
		{"message cut", multi + "--b\nContent-Type: message/rfc822\n--b--\n", `(("application" "octet-stream" NIL NIL NIL "7bit" 0) "mixed")`},
	} {
		s := index(t, crlf(tc.msg))
		if got := string(s.AppendBodyStructure(nil, false)); got != tc.want {
			t.Errorf("%s:\n got %s\nwant %s", tc.name, got, tc.want)
		}
		index(t, tc.msg) // with bare LF
	}
}

func TestFlagsAndRaw(t *testing.T) {
	s := index(t, "Subject: gr\xfc\xdf \"x\"\r\nTo: local\r\nFrom: <>\r\n\r\nok\r\n")
	if !s.Header8Bit || s.Body8Bit || s.HasNUL || s.BareLineEnd {
		t.Errorf("flags %+v", s)
	}
	got := string(s.AppendEnvelope(nil))
	want := "(NIL {10}\r\ngr\xfc\xdf \"x\" NIL NIL NIL ((NIL NIL \"local\" \"MISSING_DOMAIN\")) " +
		"NIL NIL NIL NIL)"
	if want = strings.Replace(want, "{10}", "{8}", 1); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for msg, bare := range map[string]bool{
		"a\r\n": false, "a\n": true, "a\rb\r\n": true, "a\r\r\n": true, "a\r": true, "": false,
	} {
		for _, step := range []int{1, 100} {
			x := NewIndexer()
			for i := 0; i < len(msg); i += step {
				_, _ = x.Write([]byte(msg[i:min(i+step, len(msg))]))
			}
			if s := x.Finish(); s.BareLineEnd != bare {
				t.Errorf("%q step %d: bare %v", msg, step, s.BareLineEnd)
			}
		}
	}
	if s := index(t, "A: b\r\n\r\n\xc3\x28 \x00\r\n"); !s.Body8Bit || !s.HasNUL || s.Header8Bit {
		t.Errorf("flags %+v", s)
	}
}

func TestLimits(t *testing.T) {
	many := crlf("Content-Type: multipart/mixed; boundary=b\n\n") +
		strings.Repeat("--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\nx\r\n", 20000)
	s := index(t, many)
	if n := len(s.Root.Children); !s.Truncated || n < 300 || n > maxParts {
		t.Errorf("%d parts, truncated %v", n, s.Truncated)
	}
	var deep strings.Builder
	for i := range 300 {
		fmt.Fprintf(&deep, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	index(t, deep.String())
	index(t, strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 300))
	headers := strings.Repeat("To: somebody@a.example, other@b.example\r\n", 200000) +
		strings.Repeat("X-Y: z\r\n", 200000) + "Subject: " + strings.Repeat("x", 1<<20) + "\r\n\r\n"
	s = index(t, headers)
	if e := s.Root.Envelope; len(e.To) > maxField || len(e.To) < maxField/2 || len(e.Subject) != 4096 {
		t.Errorf("to %d, subject %d bytes", len(e.To), len(e.Subject))
	}
	fat := crlf("Subject: " + strings.Repeat("s", 5000) + "\nTo: " + strings.Repeat("a@b,", 9000) +
		"\nCc: " + strings.Repeat("c@d,", 9000) + "\nContent-Type: multipart/mixed; boundary=b" +
		strings.Repeat("; p="+strings.Repeat("v", 1000), 24) + "\nContent-Disposition: x" +
		strings.Repeat("; p="+strings.Repeat("v", 1000), 24) + "\n\n--b\n\nx\n--b--\n")
	if s = index(t, fat); s.Root.Envelope.Subject == "" || len(s.Root.Children) != 1 {
		t.Errorf("fat header lost the envelope or the parts")
	}
}

// corpus calls fn for each message of ../shared/corpora.
func corpus(t *testing.T, fn func(name string, msg []byte)) {
	files, _ := filepath.Glob(filepath.Join("..", "..", "shared", "corpora", "*.tar.gz"))
	if len(files) == 0 {
		t.Skip("../shared/corpora is absent")
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		tr := tar.NewReader(z)
		for {
			h, err := tr.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(tr)
			if err != nil {
				t.Fatal(err)
			}
			if h.Typeflag == tar.TypeReg {
				fn(h.Name, data)
			}
		}
		_ = f.Close()
	}
}

func TestCorpora(t *testing.T) {
	n, multi, dated := 0, 0, 0
	corpus(t, func(_ string, raw []byte) {
		for _, msg := range []string{
			string(raw),
			strings.ReplaceAll(strings.ReplaceAll(string(raw), "\r\n", "\n"), "\n", "\r\n"),
		} {
			s := index(t, msg)
			reassemble(t, s, msg)
			x := NewIndexer()
			for i := 0; i < len(msg); i += 7 {
				_, _ = x.Write([]byte(msg[i:min(i+7, len(msg))]))
			}
			if a, b := render(s), render(x.Finish()); a != b {
				t.Fatalf("pieces give another structure:\n%s\n%s", a, b)
			}
			s.Walk(func(p *Part) bool {
				body := strings.NewReader(msg[p.BodyStart:p.End])
				if _, err := io.Copy(io.Discard, p.BodyReader(body)); err != nil &&
					!strings.Contains(err.Error(), "base64") {
					t.Fatal(err)
				}
				return true
			})
			if s.Root.IsMultipart() {
				multi++
			}
			if _, ok := ParseDate(s.Root.Envelope.Date); ok {
				dated++
			}
			_ = BaseSubject(s.Root.Envelope.Subject)
			n++
		}
	})
	t.Logf("%d messages, %d multiparts, %d dates read", n, multi, dated)
	if n < 6000 || multi < 500 || dated < 5000 {
		t.Errorf("%d messages, %d multiparts, %d dates read", n, multi, dated)
	}
}

// reassemble joins what IMAP would give for the parts with what lies between them.
func reassemble(t *testing.T, s *Structure, msg string) {
	t.Helper()
	var b strings.Builder
	var walk func(p *Part)
	walk = func(p *Part) {
		b.WriteString(msg[p.HeaderStart:p.BodyStart])
		at := p.BodyStart
		for i, c := range p.Children {
			b.WriteString(msg[at:c.HeaderStart])
			if p.IsMultipart() {
				delimiter := strings.TrimRight(msg[at:c.HeaderStart], "\r\n \t")
				if !strings.HasSuffix(delimiter, strings.TrimRight(p.Param("boundary"), " \t")) {
					t.Fatalf("part %d does not follow its boundary: %q", i+1, delimiter)
				}
			}
			walk(c)
			at = c.End
		}
		b.WriteString(msg[at:p.End])
	}
	walk(s.Root)
	if b.String() != msg {
		t.Fatal("parts do not reassemble")
	}
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(crlf(nested)), 3)
	f.Add([]byte("Content-Type: multipart/digest; boundary=\"\n--b\n"), 1)
	f.Add([]byte("Content-Type: message/rfc822\n\nA:\r\n\r\n--\r"), 2)
	f.Fuzz(func(t *testing.T, msg []byte, step int) {
		s := index(t, string(msg))
		reassemble(t, s, string(msg))
		checkForm(t, s)
		x := NewIndexer()
		step = max(step, 1)
		for i := 0; i < len(msg); i += step {
			if step > len(msg) {
				step = len(msg)
			}
			_, _ = x.Write(msg[i:min(i+step, len(msg))])
		}
		if a, b := render(s), render(x.Finish()); a != b {
			t.Fatalf("pieces give another structure:\n%s\n%s", a, b)
		}
	})
}

func FuzzDecode(f *testing.F) {
	s, _ := Index(strings.NewReader(crlf(nested)))
	f.Add(s.AppendBinary(nil))
	f.Add([]byte{1, 0, 0})
	f.Fuzz(func(t *testing.T, blob []byte) {
		s, err := Decode(blob)
		if err != nil {
			if !errors.Is(err, ErrBlob) {
				t.Fatal(err)
			}
			return
		}
		_ = render(s)
		for _, p := range [][]int{nil, {1}, {1, 1}, {2, 1, 3}} {
			for kind := SectionAll; kind <= SectionMIME; kind++ {
				off, n, ok := s.Section(p, kind)
				if ok && (off < 0 || n < 0 || off > s.Size-n) {
					t.Fatalf("section %v at %d+%d of %d", p, off, n, s.Size)
				}
			}
		}
	})
}
