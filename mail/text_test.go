package mail

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"
)

func TestDecodeHeader(t *testing.T) {
	for _, tc := range [][2]string{
		{"plain", "plain"},
		{"=?utf-8?Q?J=C3=B6rg_M?= x", "J\u00f6rg M x"},
		{"=?iso-8859-1?q?a?= =?iso-8859-1?q?b?=", "ab"},
		{"=?iso-8859-1?q?a?=\r\n =?utf-8?q?b?= c", "ab c"},
		{"=?utf-8?B?5L2g?=", "\u4f60"},
		{"=?utf-8?B?5L0=?= =?utf-8?B?oA==?=", "\u4f60"}, // cut inside a character
		{"=?gb2312?B?xOO6ww==?=", "\u4f60\u597d"},
		{"=?GBK?B?xOO6ww==?=", "\u4f60\u597d"},
		{"=?gb18030?B?xOO6ww==?=", "\u4f60\u597d"},
		{"=?big5?B?p0Gmbg==?=", "\u4f60\u597d"},
		{"=?ISO-2022-JP?B?GyRCRnxLXBsoQg==?=", "\u65e5\u672c"},
		{"=?euc-kr?B?x9GxuQ==?=", "\ud55c\uad6d"},
		{"=?windows-1251?Q?=CF=F0?=", "\u041f\u0440"},
		{"=?koi8-r?Q?=F0?=", "\u041f"},
		{"=?utf-8*en?q?x?=", "x"},
		{"=?nonsense?q?x=e9?=", "x\u00e9"},
		{"=?broken", "=?broken"},
		{"=?utf-8?x?y?=", "=?utf-8?x?y?="},
		{"a =?utf-8?q?b?=c", "a bc"},
		{"caf\xe9", "caf\u00e9"},
		{"caf\u00e9", "caf\u00e9"},
	} {
		if got := DecodeHeader(tc[0]); got != tc[1] {
			t.Errorf("%q: got %q, want %q", tc[0], got, tc[1])
		}
	}
}

func TestBaseSubject(t *testing.T) {
	for _, tc := range [][2]string{
		{"Re: Re[2]: hello", "hello"},
		{"RE : [list] Fwd: hello  world (fwd) (FWD)", "hello world"},
		{"[list] [x] hello", "hello"},
		{"[list]", "[list]"},
		{"[fwd: Re: hello]", "hello"},
		{"=?utf-8?q?Re=3A_h=C3=A9?=", "h\u00e9"},
		{"Fw: a", "a"},
		{"re", "re"},
		{"Re:", ""},
		{"regard: x", "regard: x"},
		{"", ""},
	} {
		if got := BaseSubject(tc[0]); got != tc[1] {
			t.Errorf("%q: got %q, want %q", tc[0], got, tc[1])
		}
	}
}

func TestParseDate(t *testing.T) {
	for _, tc := range [][2]string{
		{"Mon, 2 Jan 2006 15:04:05 -0700", "2006-01-02T22:04:05Z"},
		{"2 Jan 06 15:04 EST", "2006-01-02T20:04:00Z"},
		{"Thu, 01 Sep 1994 10:00:00 GMT (comment)", "1994-09-01T10:00:00Z"},
		{"Monday, 02-Jan-06 15:04:05 PDT", "2006-01-02T22:04:05Z"},
		{"Mon Jan  2 15:04:05 2006", "2006-01-02T15:04:05Z"},
		{"Mon Jan 2 15:04:05 MST 2006", "2006-01-02T22:04:05Z"},
		{"2006-01-02T15:04:05+02:00", "2006-01-02T13:04:05Z"},
		{"Mon, 2 Jan 2006 15:04:05+0100", "2006-01-02T14:04:05Z"},
		{"2 Jan 99 1:02:03 PM", "1999-01-02T13:02:03Z"},
		{"2 Jan 2006 23:59:60 +0000", "2006-01-03T00:00:00Z"},
		{"2 Jan 102 10:00 Z", "2002-01-02T10:00:00Z"},
		{"Sat, 31 Feb 2006 10:00:00 +0000", ""},
		{"yesterday", ""},
		{"", ""},
		{"99 Jan 2006", ""},
	} {
		got := ""
		if at, ok := ParseDate(tc[0]); ok {
			got = at.UTC().Format(time.RFC3339)
		}
		if got != tc[1] {
			t.Errorf("%q: got %q, want %q", tc[0], got, tc[1])
		}
	}
}

func TestHeaderScan(t *testing.T) {
	head := "From: a@b\r\nTo: c,\r\n\td\r\nX-Long: " + strings.Repeat("x", 10000) +
		"\r\nnot a field\r\nTo : e\r\n\r\nTo: body\r\n"
	var got []string
	err := ScanHeader(strings.NewReader(head), 8, func(name, value string) bool {
		got = append(got, name+"="+value)
		return true
	})
	if want := "From=a@b|To=c, d|X-Long=xxxxxxxx|To=e"; err != nil || strings.Join(got, "|") != want {
		t.Errorf("got %q, %v", got, err)
	}
	match := func(name string) bool { return strings.EqualFold(name, "to") }
	var b bytes.Buffer
	n, err := FilterHeader(&b, strings.NewReader(head), match)
	if want := "To: c,\r\n\td\r\nTo : e\r\n"; err != nil || b.String() != want || n != int64(len(want)) {
		t.Errorf("filtered %q, %d, %v", b.String(), n, err)
	}
	b.Reset()
	n, err = FilterHeader(&b, strings.NewReader(head), func(s string) bool { return s == "X-Long" })
	if err != nil || n != 10010 {
		t.Errorf("long field: %d, %v", n, err)
	}
}

func TestBodyReader(t *testing.T) {
	for _, tc := range []struct{ encoding, charset, in, want string }{
		{"", "", "x", "x"},
		{"base64", "", "aGVs\r\nbG8=\r\n", "hello"},
		{"base64", "", "aGVsbG8", "hello"},
		{"base64", "", "a!G*V s\tbG8=garbage", "hello"},
		{"base64", "", "aGVsbG8h\r\nX", "hello!"},
		{"quoted-printable", "", "a=3Db=\r\nc=\nd=ZZ=", "a=bcd=ZZ"},
		{"base64", "gb2312", "xOO6ww==", "\u4f60\u597d"},
		{"quoted-printable", "iso-8859-1", "=E9", "\u00e9"},
		{"x-unknown", "x-unknown", "raw", "raw"},
	} {
		p := Part{Type: "text", Subtype: "plain", Encoding: tc.encoding}
		if tc.charset != "" {
			p.Params = []Param{{"charset", tc.charset}}
		}
		got, err := io.ReadAll(p.BodyReader(strings.NewReader(tc.in)))
		if err != nil || string(got) != tc.want {
			t.Errorf("%s %q: got %q, %v, want %q", tc.encoding, tc.in, got, err, tc.want)
		}
	}
}

func TestMessageIDs(t *testing.T) {
	for _, tc := range [][2]string{
		{"<a@b> <c@d>", "<a@b>|<c@d>"},
		{"text <a@b>(x)<c @d>", "<a@b>|<c@d>"},
		{"a@b", "<a@b>"},
		{"<broken", ""},
		{"<>", ""},
	} {
		if got := strings.Join(MessageIDs(tc[0]), "|"); got != tc[1] {
			t.Errorf("%q: got %q", tc[0], got)
		}
	}
	long := strings.Repeat("<0123456789@x> ", 5000)
	e := Envelope{}
	e.set("references", long, envelopeBudget)
	if n := len(MessageIDs(e.References)); n != maxIDs {
		t.Errorf("%d references", n)
	}
}

func FuzzHeaderText(f *testing.F) {
	f.Add("=?utf-8?B?5L0=?= =?utf-8?B?oA==?=")
	f.Add("Mon, 2 Jan 2006 15:04:05 -0700")
	f.Add("Re: [x] (fwd)")
	f.Fuzz(func(t *testing.T, s string) {
		_ = DecodeHeader(s)
		if b := BaseSubject(s); len(b) > 4*len(s)+16 {
			t.Fatalf("%q grew to %q", s, b)
		}
		if at, ok := ParseDate(s); ok && (at.Year() < 1899 || at.Year() > 10000) {
			t.Fatal(at)
		}
		_ = MessageIDs(s)
	})
}
