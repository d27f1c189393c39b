package address

import (
	"errors"
	"strings"
	"testing"
)

func TestParsePath(t *testing.T) {
	for _, tc := range []struct {
		in, want, rest string
		err            error
	}{
		{"<>", "", "", nil},
		{"<a@b.example> SIZE=3", "a@b.example", " SIZE=3", nil},
		{"<@x.example,@y.example:a@b.example>", "a@b.example", "", nil},
		{`<"a b"@c.example>`, `"a b"@c.example`, "", nil},
		{`<"a\"b"@c.example>`, `"a\"b"@c.example`, "", nil},
		{`<"plain"@c.example>`, `plain@c.example`, "", nil},
		{"<Postmaster>", "Postmaster", "", nil},
		{"<a@[127.0.0.1]>", "a@[127.0.0.1]", "", nil},
		{"<a@[IPv6:::1]>", "a@[IPv6:::1]", "", nil},
		{"<\u7528\u6237@\u4f8b\u5b50.\u6d4b\u8bd5>", "\u7528\u6237@\u4f8b\u5b50.\u6d4b\u8bd5", "", nil},
		{"a@b", "", "", ErrSyntax},
		{"<a@b", "", "", ErrSyntax},
		{"<a..b@c>", "", "", ErrSyntax},
		{"<a@b..c>", "", "", ErrSyntax},
		{"<a b@c>", "", "", ErrSyntax},
		{"<a@>", "", "", ErrSyntax},
		{"<a>", "", "", ErrSyntax},
		{"<\xff@c>", "", "", ErrSyntax},
		{"<" + strings.Repeat("a", 257) + "@c>", "", "", ErrTooLong},
		{"<" + strings.Repeat("a", 256) + "@c>", strings.Repeat("a", 256) + "@c", "", nil},
		{"<a@" + strings.Repeat("c", 64) + ".example>", "", "", ErrSyntax},
		{"<a@-c.example>", "", "", ErrSyntax},
		{"<a@c-.example>", "", "", ErrSyntax},
		{"<a@c.example.>", "", "", ErrSyntax},
		{"<a@[127.0.0]>", "", "", ErrSyntax},
		{"<a@[IPv6:1.2.3.4]>", "", "", ErrSyntax},
		{"<a@[]>", "", "", ErrSyntax},
		{`<""@c>`, "", "", ErrSyntax},
		{"<a@" + strings.Repeat("a.", 128) + "c>", "", "", ErrTooLong},
	} {
		a, rest, err := ParsePath(tc.in)
		if !errors.Is(err, tc.err) {
			t.Errorf("%q: error %v, want %v", tc.in, err, tc.err)
			continue
		}
		if err == nil && (a.String() != tc.want || rest != tc.rest) {
			t.Errorf("%q: got %q, %q", tc.in, a.String(), rest)
		}
	}
}

func TestKey(t *testing.T) {
	for _, tc := range [][2]string{
		{"Alice@Example.ORG", "alice@example.org"},
		{"alice@example.org.", "alice@example.org"},
		{"a@B\u00dcCHER.example", "a@xn--bcher-kva.example"},
		{"a@bu\u0308cher.example", "a@xn--bcher-kva.example"},
		{"a@XN--BCHER-KVA.example", "a@xn--bcher-kva.example"},
		{"u\u0308@x.example", "\u00fc@x.example"},
		{"Postmaster", "postmaster"},
	} {
		a, err := Parse(tc[0])
		if err != nil {
			t.Errorf("%q: %v", tc[0], err)
		}
		if got := a.Key(); got != tc[1] {
			t.Errorf("%q: key %q, want %q", tc[0], got, tc[1])
		}
	}
}

func TestParseList(t *testing.T) {
	show := func(es []Entry) string {
		var b strings.Builder
		for _, e := range es {
			switch e.Kind {
			case GroupStart:
				b.WriteString("{" + e.Name + ":")
			case GroupEnd:
				b.WriteString("}")
			default:
				b.WriteString("[" + e.Name + "|" + e.Route + "|" + e.Local + "|" + e.Domain + "]")
			}
		}
		return b.String()
	}
	for _, tc := range [][2]string{
		{"a@b", "[||a|b]"},
		{"a@b, c@d", "[||a|b][||c|d]"},
		{"Joe Q. Public <j@x.y>", "[Joe Q. Public||j|x.y]"},
		{"\"Doe, J.\" <j@x>", "[Doe, J.||j|x]"},
		{"j@x (Joe Doe)", "[Joe Doe||j|x]"},
		{"(c (nested)) j@x", "[c (nested)||j|x]"},
		{"<@r1,@r2:j@x>", "[|@r1,@r2|j|x]"},
		{"A: a@b, c@d;, e@f", "{A:[||a|b][||c|d]}[||e|f]"},
		{"undisclosed-recipients:;", "{undisclosed-recipients:}"},
		{"g: a@b", "{g:[||a|b]}"},
		{"john . doe @ x . y", "[||john. doe|x.y]"},
		{"\"a b\"@c", "[||a b|c]"},
		{"local", "[||local|]"},
		{"a@[1.2.3.4]", "[||a|[1.2.3.4]]"},
		{",, ,a@b,,", "[||a|b]"},
		{"\"never closed <a@b>", "[||never closed <a@b>|]"},
		{"<a@b", "[||a|b]"},
		{"=?utf-8?Q?J=C3=B6rg?= <j@x>", "[=?utf-8?Q?J=C3=B6rg?=||j|x]"},
		{"\"A\"\r\n <a@b>,\r\n\tB <c@d>", "[A||a|b][B||c|d]"},
		{"a@b@c", "[||a@b|c]"},
		{"<>", ""},
		{"", ""},
	} {
		if got := show(ParseList(tc[0], 100)); got != tc[1] {
			t.Errorf("%q:\n got %s\nwant %s", tc[0], got, tc[1])
		}
	}
	if n := len(ParseList(strings.Repeat("a@b,", 1000), 10)); n != 10 {
		t.Errorf("limit: %d entries", n)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"a@b", "\"x\\\" y\"@[1.2.3.4]", "g:a@b,<@r:c@d>;(x(y", "<a>b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n := len(ParseList(s, 50)); n > 51 {
			t.Fatalf("%d entries", n)
		}
		a, err := Parse(s)
		if err != nil {
			return
		}
		b, err := Parse(a.String())
		if err != nil || a != b {
			t.Fatalf("%q: %+v written %q, read %+v %v", s, a, a.String(), b, err)
		}
		_ = a.Key()
	})
}

// A path prints as what it is read from again.
func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"<a@b.c>", "<>", `<"a\"b"@[1.2.3.4]> SIZE=1`, "<@a,@b:c@d>", "<ö@ü.de>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, _, err := ParsePath(s)
		if err != nil {
			return
		}
		again, rest, err := ParsePath("<" + p.String() + ">")
		if err != nil || again != p || rest != "" {
			t.Errorf("%q: %+v prints as %q, which reads as %+v, %v", s, p, p.String(), again, err)
		}
	})
}
