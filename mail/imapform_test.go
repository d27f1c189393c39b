package mail

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// imapValue is a parsed value of a response: nil for NIL, string, int64 or []imapValue.
type imapValue any

type imapReader struct{ s string }

var errForm = errors.New("bad form")

// value reads one value strictly: one blank between elements, none elsewhere, but none between
// the lists of a multipart or of an address list either.
func (r *imapReader) value() (imapValue, error) {
	if r.s == "" {
		return nil, errForm
	}
	switch c := r.s[0]; {
	case c == '(':
		return r.list()
	case c == '"':
		return r.quoted()
	case c == '{':
		var n int
		if _, err := fmt.Sscanf(r.s, "{%d}\r\n", &n); err != nil {
			return nil, err
		}
		_, rest, _ := strings.Cut(r.s, "}\r\n")
		if n > len(rest) || strings.IndexByte(rest[:n], 0) >= 0 {
			return nil, errForm
		}
		r.s = rest[n:]
		return rest[:n], nil
	case strings.HasPrefix(r.s, "NIL"):
		r.s = r.s[3:]
		return nil, nil
	default:
		var n int64
		if _, err := fmt.Sscanf(r.s, "%d", &n); err != nil {
			return nil, fmt.Errorf("%w at %.20q", errForm, r.s)
		}
		r.s = strings.TrimLeft(r.s, "0123456789")
		return n, nil
	}
}

func (r *imapReader) quoted() (imapValue, error) {
	var b strings.Builder
	for i := 1; i < len(r.s); i++ {
		switch c := r.s[i]; {
		case c == '"':
			r.s = r.s[i+1:]
			return b.String(), nil
		case c == '\\':
			i++
			b.WriteByte(r.s[i])
		case c == '\r', c == '\n', c == 0, c >= 0x80:
			return nil, fmt.Errorf("%w: byte %d in a quoted string", errForm, c)
		default:
			b.WriteByte(c)
		}
	}
	return nil, errForm
}

func (r *imapReader) list() (imapValue, error) {
	r.s = r.s[1:]
	list := []imapValue{}
	for {
		v, err := r.value()
		if err != nil {
			return nil, err
		}
		list = append(list, v)
		switch {
		case strings.HasPrefix(r.s, ")"):
			r.s = r.s[1:]
			return list, nil
		case strings.HasPrefix(r.s, "("):
		case strings.HasPrefix(r.s, " "):
			r.s = r.s[1:]
		default:
			return nil, fmt.Errorf("%w at %.20q", errForm, r.s)
		}
	}
}

// shape checks a value against a pattern: s string, z string or NIL, n number, P parameters,
// E envelope, A addresses, D disposition, L language, B body with extensions.
func shape(v imapValue, pattern byte) error {
	bad := fmt.Errorf("%w: %v is no %c", errForm, v, pattern)
	list, isList := v.([]imapValue)
	_, isString := v.(string)
	_, isNumber := v.(int64)
	switch pattern {
	case 's':
		if !isString {
			return bad
		}
		return nil
	case 'n':
		if !isNumber {
			return bad
		}
		return nil
	case 'B', 'E':
		if !isList {
			return bad
		}
		if pattern == 'E' {
			return shapes(list, "zzAAAAAAzz")
		}
		return bodyShape(list)
	}
	switch {
	case v == nil:
		return nil
	case pattern == 'z' || pattern == 'L' && isString:
		return shape(v, 's')
	case !isList:
		return bad
	case pattern == 'D':
		return shapes(list, "sP")
	case pattern == 'P' && len(list)%2 != 0:
		return bad
	}
	for _, e := range list {
		if pattern != 'A' {
			if err := shape(e, 's'); err != nil {
				return err
			}
			continue
		}
		a, ok := e.([]imapValue)
		if !ok {
			return bad
		}
		if err := shapes(a, "zzzz"); err != nil {
			return err
		}
	}
	return nil
}

func shapes(list []imapValue, pattern string) error {
	if len(list) != len(pattern) {
		return fmt.Errorf("%w: %v has not the form %s", errForm, list, pattern)
	}
	for i, v := range list {
		if err := shape(v, pattern[i]); err != nil {
			return err
		}
	}
	return nil
}

// bodyShape is body-type-mpart or body-type-1part with body-ext (RFC 3501 9).
func bodyShape(list []imapValue) error {
	n := 0
	for n < len(list) {
		if _, ok := list[n].([]imapValue); !ok {
			break
		}
		if err := shape(list[n], 'B'); err != nil {
			return err
		}
		n++
	}
	switch {
	case n > 0:
		return shapes(list[n:], "sPDLz")
	case list[0] == "text":
		return shapes(list, "ssPzzsn"+"n"+"zDLz")
	case list[0] == "message" && (list[1] == "rfc822" || list[1] == "global"):
		return shapes(list, "ssPzzsn"+"EBn"+"zDLz")
	}
	return shapes(list, "ssPzzsn"+"zDLz")
}

func checkForm(t testing.TB, s *Structure) {
	t.Helper()
	for pattern, text := range map[byte]string{
		'E': string(s.AppendEnvelope(nil)), 'B': string(s.AppendBodyStructure(nil, true)),
	} {
		r := imapReader{text}
		v, err := r.value()
		if err == nil && r.s != "" {
			err = errForm
		}
		if err == nil {
			err = shape(v, pattern)
		}
		if err != nil {
			t.Fatalf("%c: %v\n%s", pattern, err, text)
		}
	}
}

func TestForms(t *testing.T) {
	checkForm(t, index(t, crlf(nested)))
	corpus(t, func(_ string, raw []byte) { checkForm(t, index(t, string(raw))) })
}
