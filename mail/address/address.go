package address

import (
	"errors"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// Limits of RFC 5321 4.5.3.1 and RFC 1035 2.3.4, in bytes.
const (
	maxLocal     = 64
	maxPathLocal = 256
	maxDomain    = 255
	maxLabel     = 63
)

// Errors of Parse and ParsePath.
var (
	ErrSyntax  = errors.New("address syntax")
	ErrTooLong = errors.New("address too long")
)

// Address is one mail address. The zero value is the null reverse path "<>".
type Address struct {
	// Local is the local part without quotes.
	Local string
	// Domain is the domain as written, or an address literal with its brackets. Empty only
	// for the null path and the bare name postmaster (RFC 5321 4.5.1).
	Domain string
}

// IsZero tells whether a is the null path.
func (a Address) IsZero() bool { return a.Local == "" && a.Domain == "" }

// IsASCII tells whether the address can be sent without SMTPUTF8 as it is written.
func (a Address) IsASCII() bool { return isASCII(a.Local) && isASCII(a.Domain) }

// String writes the address as an addr-spec, the local part quoted if it must be.
func (a Address) String() string {
	if a.IsZero() {
		return ""
	}
	local := a.Local
	if !isDotAtom(local) {
		local = Quote(local)
	}
	if a.Domain == "" {
		return local
	}
	return local + "@" + a.Domain
}

// Key returns the form in which addresses are compared and stored as keys: NFC, the local part
// in lower case, the domain in lower-case A-labels.
func (a Address) Key() string {
	local := strings.ToLower(norm.NFC.String(a.Local))
	if a.Domain == "" {
		return local
	}
	return local + "@" + DomainKey(a.Domain)
}

// DomainKey returns a domain in lower-case A-labels, without a final dot. What IDNA refuses is
// only put in lower case, so that it can still be compared and still be answered.
func DomainKey(domain string) string {
	d := strings.ToLower(norm.NFC.String(strings.TrimSuffix(domain, ".")))
	if strings.HasPrefix(d, "[") || isASCII(d) && !strings.Contains(d, "xn--") {
		return d
	}
	ascii, err := idna.New(idna.MapForLookup(), idna.Transitional(false),
		idna.StrictDomainName(false)).ToASCII(d)
	if err != nil || ascii == "" {
		return d
	}
	return ascii
}

// Quote writes s as a quoted-string (RFC 5322 3.2.4).
func Quote(s string) string {
	var b strings.Builder
	b.Grow(len(s) + 2)
	b.WriteByte('"')
	for i := 0; i < len(s); i++ {
		if s[i] == '"' || s[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	b.WriteByte('"')
	return b.String()
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// isAtext is RFC 5322 3.2.3 with the UTF-8 of RFC 6532 3.2.
func isAtext(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c >= utf8.RuneSelf:
		return true
	}
	return c != 0 && strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

func isDotAtom(s string) bool {
	for _, atom := range strings.Split(s, ".") {
		if atom == "" {
			return false
		}
		for i := 0; i < len(atom); i++ {
			if !isAtext(atom[i]) {
				return false
			}
		}
	}
	return true
}
