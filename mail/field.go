package mail

import "strings"

// Caps of what is kept of one part's Content-* fields, in bytes or entries.
const (
	maxToken       = 64
	maxParams      = 24
	maxParamValue  = 1024
	maxContentText = 1024
	maxLanguages   = 8
)

// contentType is a parsed Content-Type or Content-Disposition.
type contentType struct {
	value  string // "text/plain" or "attachment", lower case
	params []Param
}

// parseContent reads "value; name=value; ..." and takes what it can of broken forms (RFC 2045
// 5.1 with comments, missing quotes and stray semicolons).
func parseContent(s string) contentType {
	l := fieldLexer{s: s}
	var ct contentType
	ct.value = strings.ToLower(l.until(";"))
	for l.pos < len(l.s) && len(ct.params) < maxParams {
		l.pos++ // the semicolon
		name := l.until(";=")
		if l.pos >= len(l.s) || l.s[l.pos] == ';' {
			continue
		}
		l.pos++ // the equals sign
		value := l.value()
		if name != "" && len(name) <= maxToken && len(value) <= maxParamValue {
			ct.params = append(ct.params, Param{strings.ToLower(name), value})
		}
	}
	return ct
}

type fieldLexer struct {
	s   string
	pos int
}

// until reads up to one of the delimiters, without blanks and comments.
func (l *fieldLexer) until(delims string) string {
	var b strings.Builder
	for l.pos < len(l.s) {
		c := l.s[l.pos]
		if strings.IndexByte(delims, c) >= 0 {
			break
		}
		switch c {
		case ' ', '\t', '\r', '\n':
			l.pos++
		case '(':
			l.comment()
		default:
			b.WriteByte(c)
			l.pos++
		}
	}
	return b.String()
}

func (l *fieldLexer) comment() {
	for depth := 0; l.pos < len(l.s); l.pos++ {
		switch l.s[l.pos] {
		case '\\':
			l.pos++
		case '(':
			depth++
		case ')':
			depth--
			if depth == 0 {
				l.pos++
				return
			}
		}
	}
	l.pos = len(l.s)
}

// value reads a parameter's value and leaves the position at the next semicolon or the end.
func (l *fieldLexer) value() string {
	for l.pos < len(l.s) && isWSP(l.s[l.pos]) {
		l.pos++
	}
	if l.pos >= len(l.s) || l.s[l.pos] != '"' {
		// Unquoted values with blanks ("name=my file.doc") are seen in the wild.
		start := l.pos
		for l.pos < len(l.s) && l.s[l.pos] != ';' {
			if l.s[l.pos] == '(' && l.pos > start && isWSP(l.s[l.pos-1]) {
				v := l.s[start:l.pos]
				l.until(";")
				return strings.TrimSpace(v)
			}
			l.pos++
		}
		return strings.TrimSpace(l.s[start:l.pos])
	}
	var b strings.Builder
	for l.pos++; l.pos < len(l.s) && l.s[l.pos] != '"'; l.pos++ {
		if l.s[l.pos] == '\\' && l.pos+1 < len(l.s) {
			l.pos++
		}
		b.WriteByte(l.s[l.pos])
	}
	l.until(";")
	return b.String()
}

func isWSP(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// unfold removes line ends and the blanks behind them but one (RFC 5322 2.2.3), and NULs.
func unfold(raw []byte) string {
	var b strings.Builder
	b.Grow(len(raw))
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; c {
		case 0:
		case '\r', '\n':
			for i+1 < len(raw) && isWSP(raw[i+1]) {
				i++
			}
			b.WriteByte(' ')
		default:
			b.WriteByte(c)
		}
	}
	return strings.Trim(b.String(), " \t")
}

// clip cuts s to at most n bytes, not inside a UTF-8 sequence.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}

// setContentField stores one Content-* field. The first of each name counts.
func (p *Part) setContentField(name string, value string) {
	switch name {
	case "content-type":
		if p.Type == "" {
			p.setType(parseContent(value))
		}
	case "content-transfer-encoding":
		if p.Encoding == "" {
			l := fieldLexer{s: value}
			p.Encoding = clip(strings.ToLower(l.until(";")), maxToken)
		}
	case "content-id":
		setOnce(&p.ID, value)
	case "content-description":
		setOnce(&p.Description, value)
	case "content-md5":
		setOnce(&p.MD5, value)
	case "content-location":
		setOnce(&p.Location, value)
	case "content-disposition":
		if p.Disposition == "" {
			d := parseContent(value)
			p.Disposition, p.DispParams = clip(d.value, maxToken), d.params
		}
	case "content-language":
		p.setLanguage(value)
	}
}

func setOnce(dst *string, value string) {
	if *dst == "" {
		*dst = clip(value, maxContentText)
	}
}

// setType takes a parsed Content-Type. An unusable one means text/plain (RFC 2045 5.2).
func (p *Part) setType(ct contentType) {
	major, minor, ok := strings.Cut(ct.value, "/")
	if !ok || major == "" || minor == "" || len(major) > maxToken || len(minor) > maxToken {
		p.Type, p.Subtype = "text", "plain"
		return
	}
	p.Type, p.Subtype, p.Params = major, minor, ct.params
}

func (p *Part) setLanguage(value string) {
	if p.Language != nil {
		return
	}
	l := fieldLexer{s: value}
	for l.pos < len(l.s) && len(p.Language) < maxLanguages {
		if tag := l.until(","); tag != "" && len(tag) <= maxToken {
			p.Language = append(p.Language, tag)
		}
		l.pos++
	}
}
