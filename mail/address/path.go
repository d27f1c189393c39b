package address

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Parse reads one addr-spec, local@domain, strictly. The bare name postmaster is taken, since
// RFC 5321 4.1.1.3 allows it in RCPT.
func Parse(s string) (Address, error) {
	a, rest, err := parseMailbox(s)
	if err != nil {
		return Address{}, err
	}
	if rest != "" {
		return Address{}, fmt.Errorf("%w: text behind the address", ErrSyntax)
	}
	return a, nil
}

// ParsePath reads "<...>" of MAIL and RCPT (RFC 5321 4.1.2) at the start of s and returns what
// stands behind it. A source route is read and dropped (RFC 5321 3.6.1); "<>" is the zero
// Address.
func ParsePath(s string) (a Address, rest string, err error) {
	if !strings.HasPrefix(s, "<") {
		return a, s, fmt.Errorf("%w: no <", ErrSyntax)
	}
	s = s[1:]
	if strings.HasPrefix(s, ">") {
		return a, s[1:], nil
	}
	if strings.HasPrefix(s, "@") {
		if s, err = skipRoute(s); err != nil {
			return a, s, err
		}
	}
	a, s, err = parseMailbox(s)
	if err != nil {
		return Address{}, s, err
	}
	if !strings.HasPrefix(s, ">") {
		return Address{}, s, fmt.Errorf("%w: no >", ErrSyntax)
	}
	return a, s[1:], nil
}

func skipRoute(s string) (string, error) {
	for {
		if !strings.HasPrefix(s, "@") {
			return s, fmt.Errorf("%w: source route", ErrSyntax)
		}
		_, rest, err := parseDomain(s[1:])
		if err != nil {
			return s, err
		}
		switch {
		case strings.HasPrefix(rest, ","):
			s = rest[1:]
		case strings.HasPrefix(rest, ":"):
			return rest[1:], nil
		default:
			return rest, fmt.Errorf("%w: source route", ErrSyntax)
		}
	}
}

func parseMailbox(s string) (a Address, rest string, err error) {
	if !utf8.ValidString(s) {
		return a, s, fmt.Errorf("%w: not UTF-8", ErrSyntax)
	}
	if strings.HasPrefix(s, `"`) {
		a.Local, rest, err = parseQuoted(s)
	} else {
		n := 0
		for n < len(s) && (s[n] == '.' || isAtext(s[n])) {
			n++
		}
		a.Local, rest = s[:n], s[n:]
		if !isDotAtom(a.Local) {
			err = fmt.Errorf("%w: local part", ErrSyntax)
		}
	}
	if err != nil {
		return Address{}, s, err
	}
	if len(a.Local) > maxLocal {
		return Address{}, s, fmt.Errorf("%w: local part", ErrTooLong)
	}
	if !strings.HasPrefix(rest, "@") {
		if strings.EqualFold(a.Local, "postmaster") {
			return a, rest, nil
		}
		return Address{}, s, fmt.Errorf("%w: no domain", ErrSyntax)
	}
	a.Domain, rest, err = parseDomain(rest[1:])
	if err != nil {
		return Address{}, s, err
	}
	return a, rest, nil
}

// parseQuoted reads a Quoted-string of RFC 5321: printable ASCII, UTF-8 and quoted pairs.
func parseQuoted(s string) (text, rest string, err error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), s[i+1:], nil
		case c == '\\' && i+1 < len(s) && s[i+1] >= ' ' && s[i+1] < 0x7f:
			i++
			b.WriteByte(s[i])
		case c < ' ' || c == 0x7f || c == '\\':
			return "", s, fmt.Errorf("%w: control character", ErrSyntax)
		default:
			b.WriteByte(c)
		}
	}
	return "", s, fmt.Errorf("%w: quote not closed", ErrSyntax)
}

// parseDomain reads a domain or an address literal. Underscores pass: hosts that are named so
// do send mail, and a name is judged by whether it is ours or resolves.
func parseDomain(s string) (domain, rest string, err error) {
	n := 0
	if strings.HasPrefix(s, "[") {
		n = strings.IndexByte(s, ']') + 1
		if n < 3 || strings.ContainsAny(s[1:n-1], " \t<>[\\\"\r\n\x00") {
			return "", s, fmt.Errorf("%w: address literal", ErrSyntax)
		}
	} else {
		for n < len(s) && isDomainByte(s[n]) {
			n++
		}
		name := strings.TrimSuffix(s[:n], ".")
		for _, label := range strings.Split(name, ".") {
			if label == "" || len(label) > 4*63 || label[0] == '-' {
				return "", s, fmt.Errorf("%w: domain", ErrSyntax)
			}
		}
	}
	if n > maxDomain {
		return "", s, fmt.Errorf("%w: domain", ErrTooLong)
	}
	return s[:n], s[n:], nil
}

func isDomainByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c >= utf8.RuneSelf
}
