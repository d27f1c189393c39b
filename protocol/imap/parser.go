package imap

import (
	"bytes"
	"strconv"
	"strings"
	"time"
)

// parser reads the arguments of one command, which is in memory with its literals in place as
// "{n}\r\n" and the bytes.
type parser struct {
	b   []byte
	pos int
}

func (p *parser) done() bool { return p.pos >= len(p.b) }

func (p *parser) peek() byte {
	if p.done() {
		return 0
	}
	return p.b[p.pos]
}

// take consumes c if it is next.
func (p *parser) take(c byte) bool {
	if p.peek() != c || p.done() {
		return false
	}
	p.pos++
	return true
}

func (p *parser) need(c byte) error {
	if !p.take(c) {
		return bad("expected %q", c)
	}
	return nil
}

func (p *parser) space() error {
	if !p.take(' ') {
		return bad("missing argument")
	}
	return nil
}

// end checks that nothing follows. One blank is forgiven, as others do.
func (p *parser) end() error {
	p.take(' ')
	if !p.done() {
		return bad("unexpected text behind the arguments")
	}
	return nil
}

// isAtomChar: RFC 3501 9, ATOM-CHAR.
func isAtomChar(c byte) bool {
	return c > ' ' && c < 0x7f && strings.IndexByte(`(){%*"\]`, c) < 0
}

func isAstringChar(c byte) bool { return isAtomChar(c) || c == ']' }

// span reads bytes as long as they fit.
func (p *parser) span(fits func(byte) bool) string {
	start := p.pos
	for p.pos < len(p.b) && fits(p.b[p.pos]) {
		p.pos++
	}
	return string(p.b[start:p.pos])
}

func (p *parser) atom() (string, error) {
	s := p.span(isAtomChar)
	if s == "" {
		return "", bad("expected an atom")
	}
	return s, nil
}

// keyword reads an atom in capitals.
func (p *parser) keyword() (string, error) {
	s, err := p.atom()
	return strings.ToUpper(s), err
}

// word consumes a keyword if it is next.
func (p *parser) word(w string) bool {
	end := p.pos + len(w)
	if end > len(p.b) || !strings.EqualFold(string(p.b[p.pos:end]), w) ||
		end < len(p.b) && isAtomChar(p.b[end]) {
		return false
	}
	p.pos = end
	return true
}

// astring: an atom or a string.
func (p *parser) astring() (string, error) {
	if c := p.peek(); c == '"' || c == '{' {
		return p.str()
	}
	s := p.span(isAstringChar)
	if s == "" {
		return "", bad("expected a string")
	}
	return s, nil
}

// str: a quoted string or a literal.
func (p *parser) str() (string, error) {
	switch p.peek() {
	case '"':
		return p.quoted()
	case '{':
		return p.literalString()
	}
	return "", bad("expected a string")
}

// nstring: a string or NIL, which gives "".
func (p *parser) nstring() (string, error) {
	if p.word("NIL") {
		return "", nil
	}
	return p.str()
}

func (p *parser) quoted() (string, error) {
	var out []byte
	for p.pos++; p.pos < len(p.b); p.pos++ {
		switch c := p.b[p.pos]; c {
		case '"':
			p.pos++
			return string(out), nil
		case '\r', '\n', 0:
			return "", bad("line end in a quoted string")
		case '\\':
			p.pos++
			if c = p.peek(); c != '"' && c != '\\' {
				return "", bad("bad escape in a quoted string")
			}
			out = append(out, c)
		default:
			out = append(out, c)
		}
	}
	return "", bad("quoted string is not closed")
}

func (p *parser) literalString() (string, error) {
	lineEnd := bytes.IndexByte(p.b[p.pos:], '\n')
	if lineEnd < 0 {
		return "", bad("bad literal")
	}
	head := p.b[p.pos : p.pos+lineEnd+1]
	n, _, ok := trailingLiteral(head)
	if !ok || bytes.LastIndexByte(head, '{') != 0 || n > int64(len(p.b)-p.pos-len(head)) {
		return "", bad("bad literal")
	}
	start := p.pos + len(head)
	p.pos = start + int(n)
	s := p.b[start:p.pos]
	if bytes.IndexByte(s, 0) >= 0 {
		return "", bad("NUL in a literal") // RFC 3501 9: CHAR8
	}
	return string(s), nil
}

// mailbox reads a folder name: modified UTF-7 on the wire, UTF-8 inside, INBOX in any case.
func (p *parser) mailbox() (string, error) {
	raw, err := p.astring()
	if err != nil {
		return "", err
	}
	return mailboxName(raw)
}

func mailboxName(raw string) (string, error) {
	name, err := decodeUTF7(raw)
	if err != nil {
		return "", no(CodeCannot, "Folder name is no valid modified UTF-7")
	}
	if strings.EqualFold(name, "INBOX") {
		return "INBOX", nil
	}
	if len(name) >= 6 && name[5] == '/' && strings.EqualFold(name[:5], "INBOX") {
		return "INBOX" + name[5:], nil
	}
	return name, nil
}

func (p *parser) number64() (uint64, error) {
	s := p.span(isDigit)
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return 0, bad("expected a number")
	}
	return n, nil
}

func (p *parser) number32() (uint32, error) {
	n, err := p.number64()
	if err != nil || n > 1<<32-1 {
		return 0, bad("expected a number below 2^32")
	}
	return uint32(n), nil
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// numbers reads a sequence-set.
func (p *parser) numbers() (numSet, error) {
	var set numSet
	for {
		a, err := p.numberOrStar()
		if err != nil {
			return nil, err
		}
		r := numRange{a, a}
		if p.take(':') {
			if r.b, err = p.numberOrStar(); err != nil {
				return nil, err
			}
		}
		set = append(set, r)
		if !p.take(',') {
			return set, nil
		}
	}
}

func (p *parser) numberOrStar() (uint32, error) {
	if p.take('*') {
		return star, nil
	}
	n, err := p.number32()
	if err != nil || n == 0 {
		return 0, bad("expected a message number")
	}
	return n, nil
}

// Bounds of flags in a command.
const (
	maxFlags      = 200
	maxFlagLength = 255
)

// flags reads "(flag flag ...)", or without parentheses if bare is allowed.
func (p *parser) flags(bare bool) ([]Flag, error) {
	list := []Flag{}
	if !p.take('(') {
		if !bare {
			return nil, bad("expected a list of flags")
		}
		for {
			f, err := p.flag()
			if err != nil {
				return nil, err
			}
			if list = append(list, f); !p.take(' ') {
				return list, nil
			}
		}
	}
	for !p.take(')') {
		if len(list) > 0 {
			if err := p.space(); err != nil {
				return nil, err
			}
		}
		f, err := p.flag()
		if err != nil {
			return nil, err
		}
		if list = append(list, f); len(list) > maxFlags {
			return nil, no(CodeLimit, "Too many flags")
		}
	}
	return list, nil
}

func (p *parser) flag() (Flag, error) {
	system := p.take('\\')
	name, err := p.atom()
	switch {
	case err != nil:
		return "", bad("expected a flag")
	case len(name) > maxFlagLength:
		return "", no(CodeLimit, "Flag is too long")
	case !system:
		return Flag(name), nil
	}
	for _, f := range systemFlags() {
		if strings.EqualFold(string(f[1:]), name) {
			return f, nil
		}
	}
	return "", bad("unknown system flag")
}

func systemFlags() []Flag { return []Flag{Answered, Flagged, Deleted, Seen, Draft} }

// dateTime reads the date-time of APPEND (RFC 3501 9).
func (p *parser) dateTime() (time.Time, error) {
	if p.peek() != '"' {
		return time.Time{}, bad("expected a date")
	}
	s, err := p.quoted()
	if err != nil {
		return time.Time{}, err
	}
	t, err := time.Parse("2-Jan-2006 15:04:05 -0700", strings.TrimLeft(s, " "))
	if err != nil || t.Year() < 1900 {
		return time.Time{}, bad("bad date-time")
	}
	return t, nil
}

// date reads the date of SEARCH, quoted or not.
func (p *parser) date() (time.Time, error) {
	s, err := p.astring()
	if err != nil {
		return time.Time{}, err
	}
	t, err := time.Parse("2-Jan-2006", s)
	if err != nil {
		return time.Time{}, bad("bad date")
	}
	return t, nil
}

// list reads "(x x ...)" and calls item at the start of each x.
func (p *parser) list(item func() error) error {
	if err := p.need('('); err != nil {
		return err
	}
	for first := true; !p.take(')'); first = false {
		if !first {
			if err := p.space(); err != nil {
				return err
			}
		}
		if err := item(); err != nil {
			return err
		}
	}
	return nil
}
