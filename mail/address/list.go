package address

import "strings"

// Kind tells what an Entry is.
type Kind uint8

// Kinds of entries.
const (
	Mailbox Kind = iota
	GroupStart
	GroupEnd
)

// Entry is one element of a header address list.
type Entry struct {
	Kind Kind
	// Name is the display name, or the group's name for GroupStart; without quotes, RFC 2047
	// words untouched.
	Name string
	// Route is an obsolete source route, as "@a,@b" (RFC 5322 4.4).
	Route string
	Address
}

// ParseList reads an address list of a header field, unfolded or not. It takes what it can and
// never fails; at most limit entries are returned, so that a list of a million costs little.
func ParseList(s string, limit int) []Entry {
	p := listParser{s: s, limit: limit}
	p.run()
	return p.out
}

// listParser gathers words until a delimiter tells what they were.
type listParser struct {
	s       string
	pos     int
	limit   int
	out     []Entry
	words   strings.Builder // words as a phrase or an addr-spec
	at      int             // index of the last @ in words, plus one; 0 when none
	glue    bool            // the next word joins the last without a blank
	comment string
	done    bool // an angle address was already taken from this element
	inGroup bool
}

func (p *listParser) run() {
	for p.pos < len(p.s) && len(p.out) < p.limit {
		switch c := p.s[p.pos]; c {
		case ' ', '\t', '\r', '\n':
			p.pos++
		case '(':
			p.comment = p.readComment()
		case '"':
			p.word(p.readQuoted())
		case ',':
			p.pos++
			p.flush()
		case '<':
			p.angle()
		case ':':
			p.pos++
			p.groupStart()
		case ';':
			p.pos++
			p.flush()
			p.groupEnd()
		case '@', '.':
			p.pos++
			p.joint(c)
		case '[':
			p.word(p.readLiteral())
		default:
			p.word(p.readAtom())
		}
	}
	if len(p.out) < p.limit {
		p.flush()
	}
	p.groupEnd()
}

func (p *listParser) word(w string) {
	if p.words.Len() > 0 && !p.glue {
		p.words.WriteByte(' ')
	}
	p.words.WriteString(w)
	p.glue = false
}

// joint takes a dot or an at sign, which bind the words around them (obs-local-part). After a
// blank a dot ends an initial, as in "John Q. Public", and binds only what stands next to it.
func (p *listParser) joint(c byte) {
	p.words.WriteByte(c)
	if c == '@' {
		p.at = p.words.Len()
		p.glue = true
		return
	}
	p.glue = p.pos >= len(p.s) || !isBlank(p.s[p.pos]) || p.at > 0
}

func (p *listParser) groupStart() {
	if p.inGroup || p.done {
		return
	}
	p.out = append(p.out, Entry{Kind: GroupStart, Name: p.words.String()})
	p.inGroup = true
	p.reset()
}

func (p *listParser) groupEnd() {
	if p.inGroup {
		p.out = append(p.out, Entry{Kind: GroupEnd})
		p.inGroup = false
	}
}

func (p *listParser) reset() {
	p.words.Reset()
	p.at, p.glue, p.comment, p.done = 0, false, "", false
}

// flush ends an element that had no angle address: its words are an addr-spec, its comment is
// the name, as old mailers wrote it.
func (p *listParser) flush() {
	if !p.done && p.words.Len() > 0 {
		e := Entry{Name: p.comment}
		e.Local, e.Domain = splitSpec(p.words.String(), p.at)
		p.out = append(p.out, e)
	}
	p.reset()
}

// splitSpec cuts an addr-spec at its last @ (at is that index plus one).
func splitSpec(spec string, at int) (local, domain string) {
	if at == 0 {
		return spec, ""
	}
	return spec[:at-1], spec[at:]
}

// angle reads "<route:local@domain>".
func (p *listParser) angle() {
	p.pos++
	sub := listParser{s: p.s, pos: p.pos}
	e := Entry{Name: p.words.String()}
	for sub.pos < len(sub.s) && sub.s[sub.pos] != '>' {
		switch c := sub.s[sub.pos]; c {
		case ' ', '\t', '\r', '\n', '<':
			sub.pos++
		case '(':
			sub.readComment()
		case '"':
			sub.word(sub.readQuoted())
		case '[':
			sub.word(sub.readLiteral())
		case '@', '.':
			sub.pos++
			sub.joint(c)
		case ',', ';':
			sub.pos++
			sub.words.WriteByte(c)
			sub.glue = true
		case ':':
			sub.pos++
			e.Route = sub.words.String()
			sub.reset()
		default:
			sub.word(sub.readAtom())
		}
	}
	p.pos = min(sub.pos+1, len(p.s))
	e.Local, e.Domain = splitSpec(sub.words.String(), sub.at)
	if e.Name == "" {
		e.Name = p.comment
	}
	if !p.done && (e.Local != "" || e.Domain != "" || e.Name != "") {
		p.out = append(p.out, e)
	}
	p.reset()
	p.done = true
}

func (p *listParser) readAtom() string {
	start := p.pos
	for p.pos < len(p.s) && strings.IndexByte(" \t\r\n(\",<:;@.[", p.s[p.pos]) < 0 {
		if p.s[p.pos] == '>' && p.pos > start {
			break
		}
		p.pos++
	}
	return p.s[start:p.pos]
}

// readQuoted reads a quoted-string; one that is not closed goes to the end.
func (p *listParser) readQuoted() string {
	var b strings.Builder
	for p.pos++; p.pos < len(p.s); p.pos++ {
		switch c := p.s[p.pos]; c {
		case '"':
			p.pos++
			return b.String()
		case '\r', '\n':
		case '\\':
			if p.pos+1 < len(p.s) {
				p.pos++
				b.WriteByte(p.s[p.pos])
			}
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// readComment reads a comment with the comments in it, without recursion.
func (p *listParser) readComment() string {
	var b strings.Builder
	depth := 0
	for ; p.pos < len(p.s); p.pos++ {
		switch c := p.s[p.pos]; c {
		case '(':
			depth++
			if depth > 1 {
				b.WriteByte(c)
			}
		case ')':
			depth--
			if depth == 0 {
				p.pos++
				return strings.TrimSpace(b.String())
			}
			b.WriteByte(c)
		case '\r', '\n':
		case '\\':
			if p.pos+1 < len(p.s) {
				p.pos++
				b.WriteByte(p.s[p.pos])
			}
		default:
			b.WriteByte(c)
		}
	}
	return strings.TrimSpace(b.String())
}

func (p *listParser) readLiteral() string {
	start := p.pos
	for p.pos < len(p.s) && strings.IndexByte("],<> \t\r\n", p.s[p.pos]) < 0 {
		p.pos++
	}
	if p.pos < len(p.s) && p.s[p.pos] == ']' || p.pos == start {
		p.pos++
	}
	return p.s[start:min(p.pos, len(p.s))]
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }
