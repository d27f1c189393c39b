package mail

import (
	"encoding/base64"
	"strings"
)

// DecodeHeader decodes the encoded words of a header value (RFC 2047) to UTF-8. Blanks between
// two encoded words vanish (6.2); what is broken stays as it is written. Neighbouring words of
// one charset are joined before conversion, since many mailers cut inside a character.
func DecodeHeader(s string) string {
	if !strings.Contains(s, "=?") {
		return guessText(s)
	}
	var out strings.Builder
	var run wordRun
	for s != "" {
		start := strings.Index(s, "=?")
		if start < 0 {
			break
		}
		w, length, ok := parseWord(s[start:])
		between := s[:start]
		if !ok {
			run.flush(&out)
			out.WriteString(guessText(s[:start+2]))
			s = s[start+2:]
			continue
		}
		if !run.open || strings.Trim(between, " \t\r\n") != "" {
			run.flush(&out)
			out.WriteString(guessText(between))
		}
		run.add(w, &out)
		s = s[start+length:]
	}
	run.flush(&out)
	out.WriteString(guessText(s))
	return out.String()
}

type encodedWord struct {
	charset string
	text    []byte
}

// wordRun gathers the bytes of neighbouring words with one charset.
type wordRun struct {
	open bool
	encodedWord
}

func (r *wordRun) add(w encodedWord, out *strings.Builder) {
	if r.open && strings.EqualFold(r.charset, w.charset) && !isStateful(w.charset) {
		r.text = append(r.text, w.text...)
		return
	}
	r.flush(out)
	r.open, r.encodedWord = true, w
}

func (r *wordRun) flush(out *strings.Builder) {
	if r.open {
		out.WriteString(DecodeText(r.charset, r.text))
	}
	*r = wordRun{}
}

// isStateful tells charsets whose words each begin in the first state.
func isStateful(charset string) bool {
	return len(charset) >= 8 && strings.EqualFold(charset[:8], "iso-2022")
}

// parseWord reads "=?charset?encoding?text?=" at the start of s.
func parseWord(s string) (w encodedWord, length int, ok bool) {
	charset, rest, ok := strings.Cut(s[2:], "?")
	if !ok || charset == "" || len(charset) > maxToken || strings.ContainsAny(charset, " \t\r\n") {
		return w, 0, false
	}
	if len(rest) < 2 || rest[1] != '?' {
		return w, 0, false
	}
	text, _, ok := strings.Cut(rest[2:], "?=")
	if !ok {
		return w, 0, false
	}
	// A language may stand behind the charset (RFC 2231 5).
	w.charset, _, _ = strings.Cut(charset, "*")
	switch rest[0] {
	case 'B', 'b':
		w.text, ok = decodeB(text)
	case 'Q', 'q':
		w.text, ok = decodeQ(text), true
	default:
		return w, 0, false
	}
	return w, 2 + len(charset) + 1 + 2 + len(text) + 2, ok
}

func decodeB(text string) ([]byte, bool) {
	text = strings.TrimRight(strings.Join(strings.Fields(text), ""), "=")
	out, err := base64.RawStdEncoding.DecodeString(text)
	return out, err == nil || len(out) > 0
}

func decodeQ(text string) []byte {
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '_':
			out = append(out, ' ')
		case c == '=' && i+2 < len(text) && isHex(text[i+1]) && isHex(text[i+2]):
			out = append(out, unhex(text[i+1])<<4|unhex(text[i+2]))
			i += 2
		default:
			out = append(out, c)
		}
	}
	return out
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}
