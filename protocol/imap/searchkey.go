package imap

import (
	"unicode/utf8"

	"pillarbox/mail"
)

// keyParser reads search keys and resolves sequence numbers.
type keyParser struct {
	*parser
	view    *view
	charset string
	count   int
	depth   int
}

// keys reads keys with blanks between them, which all must match.
func (p *keyParser) keys() (*Criteria, error) {
	var list []*Criteria
	for {
		k, err := p.key()
		if err != nil {
			return nil, err
		}
		list = append(list, k)
		if p.done() || p.peek() == ')' || !p.take(' ') || p.done() {
			return and(list), nil
		}
	}
}

func (p *keyParser) key() (*Criteria, error) {
	if p.count++; p.count > maxKeys {
		return nil, no(CodeLimit, "Too many search keys")
	}
	p.depth++
	defer func() { p.depth-- }()
	if p.depth > maxKeyDepth {
		return nil, no(CodeLimit, "Search is nested too deeply")
	}
	switch c := p.peek(); {
	case c == '(':
		p.pos++
		k, err := p.keys()
		if err != nil {
			return nil, err
		}
		return k, p.need(')')
	case c == '*' || isDigit(c):
		return p.set(false)
	}
	name, err := p.keyword()
	if err != nil {
		return nil, bad("expected a search key")
	}
	if k := flagKey(name); k != nil {
		return k, nil
	}
	if err = p.space(); err != nil {
		return nil, bad("unknown search key or missing argument")
	}
	return p.keyWithArgument(name)
}

// flagKey returns the keys that have no argument.
func flagKey(name string) *Criteria {
	flag := func(f Flag) *Criteria { return &Criteria{Op: OpFlag, Flag: f} }
	all := &Criteria{Op: OpAll}
	switch name {
	case "ALL", "OLD": // \Recent is never set
		return all
	case "NEW", "RECENT":
		return not(all)
	case "ANSWERED":
		return flag(Answered)
	case "DELETED":
		return flag(Deleted)
	case "DRAFT":
		return flag(Draft)
	case "FLAGGED":
		return flag(Flagged)
	case "SEEN":
		return flag(Seen)
	case "UNANSWERED":
		return not(flag(Answered))
	case "UNDELETED":
		return not(flag(Deleted))
	case "UNDRAFT":
		return not(flag(Draft))
	case "UNFLAGGED":
		return not(flag(Flagged))
	case "UNSEEN":
		return not(flag(Seen))
	}
	return nil
}

func (p *keyParser) keyWithArgument(name string) (*Criteria, error) {
	switch name {
	case "NOT":
		k, err := p.key()
		if err != nil {
			return nil, err
		}
		return not(k), nil
	case "OR":
		return p.or()
	case "UID":
		return p.set(true)
	case "KEYWORD", "UNKEYWORD":
		f, err := p.flag()
		k := &Criteria{Op: OpFlag, Flag: f}
		if name == "UNKEYWORD" {
			k = not(k)
		}
		return k, err
	case "LARGER", "SMALLER":
		n, err := p.number64()
		op := OpLarger
		if name == "SMALLER" {
			op = OpSmaller
		}
		return &Criteria{Op: op, Size: int64(n)}, err
	case "MODSEQ":
		return p.modseq()
	case "HEADER":
		field, err := p.astring()
		if err != nil {
			return nil, err
		}
		if err = p.space(); err != nil {
			return nil, err
		}
		return p.text(OpHeader, field)
	case "FROM", "TO", "CC", "BCC", "SUBJECT":
		return p.text(OpHeader, name)
	case "BODY":
		return p.text(OpBody, "")
	case "TEXT":
		return p.text(OpText, "")
	}
	return p.dateKey(name)
}

func (p *keyParser) dateKey(name string) (*Criteria, error) {
	ops := map[string]Op{
		"BEFORE": OpBefore, "ON": OpOn, "SINCE": OpSince,
		"SENTBEFORE": OpSentBefore, "SENTON": OpSentOn, "SENTSINCE": OpSentSince,
	}
	op, ok := ops[name]
	if !ok {
		return nil, bad("unknown search key")
	}
	date, err := p.date()
	return &Criteria{Op: op, Date: date}, err
}

func (p *keyParser) or() (*Criteria, error) {
	a, err := p.key()
	if err != nil {
		return nil, err
	}
	if err = p.space(); err != nil {
		return nil, err
	}
	b, err := p.key()
	if err != nil {
		return nil, err
	}
	return &Criteria{Op: OpOr, Children: []*Criteria{a, b}}, nil
}

func (p *keyParser) set(byUID bool) (*Criteria, error) {
	numbers, err := p.numbers()
	if err != nil {
		return nil, err
	}
	return &Criteria{Op: OpUIDs, UIDs: p.view.resolveLoosely(numbers, byUID)}, nil
}

// modseq reads `[entry-name entry-type] number` (RFC 7162 3.1.5). Change numbers are kept for
// each message, not for each flag, so the entry says nothing.
func (p *keyParser) modseq() (*Criteria, error) {
	if p.peek() == '"' {
		if _, err := p.quoted(); err != nil {
			return nil, err
		}
		if err := p.space(); err != nil {
			return nil, err
		}
		if _, err := p.atom(); err != nil {
			return nil, err
		}
		if err := p.space(); err != nil {
			return nil, err
		}
	}
	n, err := p.number64()
	return &Criteria{Op: OpModSeq, ModSeq: ModSeq(n)}, err
}

// text reads the string to look for. Without a charset it should be ASCII; UTF-8 is what
// clients mean when it is not.
func (p *keyParser) text(op Op, field string) (*Criteria, error) {
	s, err := p.astring()
	if err != nil {
		return nil, err
	}
	if !utf8.ValidString(s) {
		if p.charset == "UTF-8" {
			return nil, bad("text is no UTF-8")
		}
		s = mail.DecodeText("", []byte(s))
	}
	return &Criteria{Op: op, Name: field, Text: s}, nil
}
