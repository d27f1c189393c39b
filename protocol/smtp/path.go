package smtp

import (
	"fmt"
	"strings"

	"pillarbox/mail/address"
)

// Path is a mailbox of the envelope. The zero Path is the null reverse-path <>.
type Path = address.Address

// ParseMailbox parses local@domain without brackets.
func ParseMailbox(s string) (Path, error) {
	p, rest, err := address.ParsePath("<" + s + ">")
	if err == nil && (rest != "" || p.Domain == "" || strings.HasPrefix(s, "@")) {
		err = fmt.Errorf("%w: %q", address.ErrSyntax, s)
	}
	if err != nil {
		return Path{}, fmt.Errorf("smtp: %w", err)
	}
	return p, nil
}

// cutPrefixFold is strings.CutPrefix without regard to the case of ASCII letters.
func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}
