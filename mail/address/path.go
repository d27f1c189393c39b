package address

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"
)

// rules are what differs between addresses of our own and those of envelopes.
type rules struct {
	local    int  // bytes of the local part at most
	finalDot bool // the domain may end with one
}

// Parse reads one addr-spec, local@domain, strictly. The bare name postmaster is taken, since
// RFC 5321 4.1.1.3 allows it in RCPT.
func Parse(s string) (Address, error) {
	a, rest, err := rules{local: maxLocal, finalDot: true}.mailbox(s)
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
// Address. A local part may be longer than the 64 bytes that all must support, since lists with
// variable return paths have such.
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
	a, s, err = rules{local: maxPathLocal}.mailbox(s)
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
		_, rest, err := rules{}.domain(s[1:])
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

func (r rules) mailbox(s string) (a Address, rest string, err error) {
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
	if a.Local == "" {
		return Address{}, s, fmt.Errorf("%w: local part", ErrSyntax)
	}
	if len(a.Local) > r.local {
		return Address{}, s, fmt.Errorf("%w: local part", ErrTooLong)
	}
	if !strings.HasPrefix(rest, "@") {
		if strings.EqualFold(a.Local, "postmaster") {
			return a, rest, nil
		}
		return Address{}, s, fmt.Errorf("%w: no domain", ErrSyntax)
	}
	a.Domain, rest, err = r.domain(rest[1:])
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

// domain reads a domain or an address literal (RFC 5321 4.1.2, 4.1.3). Underscores pass: hosts that
// are named so do send mail, and a name is judged by whether it is ours or resolves.
func (r rules) domain(s string) (domain, rest string, err error) {
	n := 0
	if strings.HasPrefix(s, "[") {
		n = strings.IndexByte(s, ']') + 1
		if n == 0 || !isLiteral(s[1:n-1]) {
			return "", s, fmt.Errorf("%w: address literal", ErrSyntax)
		}
		return s[:n], s[n:], nil
	}
	for n < len(s) && isDomainByte(s[n]) {
		n++
	}
	if n > maxDomain {
		return "", s, fmt.Errorf("%w: domain", ErrTooLong)
	}
	name := s[:n]
	if r.finalDot {
		name = strings.TrimSuffix(name, ".")
	}
	for _, label := range strings.Split(name, ".") {
		if !isLabel(label) {
			return "", s, fmt.Errorf("%w: domain", ErrSyntax)
		}
	}
	return s[:n], s[n:], nil
}

func isLabel(s string) bool {
	return s != "" && s[0] != '-' && s[len(s)-1] != '-' && (len(s) <= maxLabel || !isASCII(s))
}

func isLiteral(s string) bool {
	const six = "IPv6:"
	if len(s) > len(six) && strings.EqualFold(s[:len(six)], six) {
		a, err := netip.ParseAddr(s[len(six):])
		return err == nil && a.Is6() && a.Zone() == ""
	}
	a, err := netip.ParseAddr(s)
	return err == nil && a.Is4()
}

func isDomainByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c >= utf8.RuneSelf
}
