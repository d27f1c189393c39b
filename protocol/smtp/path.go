package smtp

import (
	"errors"
	"net/netip"
	"strings"
	"unicode/utf8"
)

// Limits of RFC 5321 4.5.3.1. Local parts are taken a little longer than the 64 octets that
// all must support, since lists with variable return paths use more.
const (
	maxLocalBytes  = 256
	maxDomainBytes = 255
)

var errPath = errors.New("smtp: malformed address")

// Path is a mailbox of the envelope. The zero Path is the null reverse-path <>.
type Path struct {
	// Local is the local part without quotes and escapes.
	Local string
	// Domain is as it was written: a name, or an address literal with its brackets. It is empty
	// for <> and for <postmaster>.
	Domain string
}

// IsNull reports whether p is <>.
func (p Path) IsNull() bool { return p == Path{} }

// IsASCII reports whether the path can be sent without SMTPUTF8.
func (p Path) IsASCII() bool { return isASCII(p.Local) && isASCII(p.Domain) }

// String is the address as it stands between < and >, quoted where RFC 5321 4.1.2 asks for it.
func (p Path) String() string {
	if p.IsNull() {
		return ""
	}
	local := p.Local
	if !isDotString(local) {
		local = quoteLocal(local)
	}
	if p.Domain == "" {
		return local
	}
	return local + "@" + p.Domain
}

func quoteLocal(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	b.WriteByte('"')
	return b.String()
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// isAtext reports whether b may stand in an atom (RFC 5322 3.2.3, RFC 6531 3.3).
func isAtext(b byte) bool {
	switch {
	case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', b >= utf8.RuneSelf:
		return true
	}
	return strings.IndexByte("!#$%&'*+-/=?^_`{|}~", b) >= 0
}

func isDotString(s string) bool {
	if s == "" || s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, "..") {
		return false
	}
	for i := range len(s) {
		if s[i] != '.' && !isAtext(s[i]) {
			return false
		}
	}
	return true
}

// ParseMailbox parses local@domain without brackets.
func ParseMailbox(s string) (Path, error) {
	p, rest, err := parseMailbox(s)
	if err != nil {
		return Path{}, err
	}
	if rest != "" || p.Domain == "" {
		return Path{}, errPath
	}
	return p, nil
}

// parsePath reads <path> from the beginning of s and returns what follows it. A source route is
// read and ignored (RFC 5321 4.1.2, appendix C).
func parsePath(s string) (p Path, rest string, err error) {
	s, ok := strings.CutPrefix(s, "<")
	if !ok {
		return Path{}, "", errPath
	}
	if rest, ok := strings.CutPrefix(s, ">"); ok {
		return Path{}, rest, nil
	}
	if strings.HasPrefix(s, "@") {
		i := strings.IndexByte(s, ':')
		if i < 0 {
			return Path{}, "", errPath
		}
		for _, hop := range strings.Split(s[:i], ",") {
			if len(hop) < 2 || hop[0] != '@' || !validDomain(hop[1:]) {
				return Path{}, "", errPath
			}
		}
		s = s[i+1:]
	}
	p, s, err = parseMailbox(s)
	if err != nil {
		return Path{}, "", err
	}
	s, ok = strings.CutPrefix(s, ">")
	if !ok {
		return Path{}, "", errPath
	}
	return p, s, nil
}

// parseMailbox reads local@domain, or a local part alone (for <postmaster>), up to > or the end.
func parseMailbox(s string) (p Path, rest string, err error) {
	if strings.HasPrefix(s, `"`) {
		p.Local, s, err = parseQuoted(s[1:])
	} else {
		i := 0
		for i < len(s) && (s[i] == '.' || isAtext(s[i])) {
			i++
		}
		p.Local, s = s[:i], s[i:]
		if !isDotString(p.Local) {
			err = errPath
		}
	}
	if err != nil || p.Local == "" || len(p.Local) > maxLocalBytes || !utf8.ValidString(p.Local) {
		return Path{}, "", errPath
	}
	s, ok := strings.CutPrefix(s, "@")
	if !ok {
		return p, s, nil
	}
	end := strings.IndexByte(s, '>')
	if end < 0 {
		end = len(s)
	}
	p.Domain, s = s[:end], s[end:]
	if !validDomain(p.Domain) {
		return Path{}, "", errPath
	}
	return p, s, nil
}

// parseQuoted reads a quoted string behind its opening quote (RFC 5321 4.1.2, Quoted-string).
func parseQuoted(s string) (local, rest string, err error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '"' {
			return b.String(), s[i+1:], nil
		}
		if c == '\\' {
			if i++; i == len(s) {
				break
			}
			c = s[i]
		}
		if c < ' ' || c == 0x7f {
			break
		}
		b.WriteByte(c)
	}
	return "", "", errPath
}

// validDomain accepts names and address literals (RFC 5321 4.1.2, 4.1.3). An underscore is taken,
// since hosts with such names send mail.
func validDomain(s string) bool {
	if s == "" || len(s) > maxDomainBytes || !utf8.ValidString(s) {
		return false
	}
	if lit, ok := strings.CutPrefix(s, "["); ok {
		lit, ok = strings.CutSuffix(lit, "]")
		return ok && validLiteral(lit)
	}
	for _, label := range strings.Split(s, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' ||
			isASCII(label) && len(label) > 63 {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if c < utf8.RuneSelf && (!isAtext(c) || strings.IndexByte("!#$%&'*+/=?^`{|}~", c) >= 0) {
				return false
			}
		}
	}
	return true
}

func validLiteral(s string) bool {
	if six, ok := cutPrefixFold(s, "IPv6:"); ok {
		a, err := netip.ParseAddr(six)
		return err == nil && a.Is6() && a.Zone() == ""
	}
	a, err := netip.ParseAddr(s)
	return err == nil && a.Is4()
}

// cutPrefixFold is strings.CutPrefix without regard to the case of ASCII letters.
func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}
