package imap

import (
	"strings"

	"pillarbox/mail"
)

// fetchKind is a kind of data item of FETCH.
type fetchKind uint8

const (
	fetchFlags fetchKind = iota
	fetchUID
	fetchInternalDate
	fetchSize
	fetchEnvelope
	fetchBody          // BODY, the structure without extensions
	fetchBodyStructure // BODYSTRUCTURE
	fetchModSeq
	fetchSection // BODY[...] and the RFC822 forms
)

// fetchItem is one data item as asked.
type fetchItem struct {
	kind fetchKind
	// name stands in front of the value in the response.
	name string

	// The rest is for fetchSection.
	path    []int
	part    mail.SectionKind
	fields  []string // of HEADER.FIELDS, nil for others
	not     bool     // HEADER.FIELDS.NOT
	peek    bool     // does not set \Seen
	partial bool
	offset  int64
	count   int64
}

// fetchQuery is all that one FETCH asks.
type fetchQuery struct {
	items        []fetchItem
	want         FetchWant
	setsSeen     bool
	changedSince bool
	hasFlags     bool
}

// Bounds of what one FETCH may ask.
const (
	maxItems      = 200
	maxFields     = 500
	maxPathLength = 100
)

// add appends an item, once.
func (q *fetchQuery) add(item fetchItem) error {
	if len(q.items) >= maxItems {
		return bad("too many items")
	}
	if item.kind != fetchSection && q.has(item.kind) {
		return nil
	}
	q.items = append(q.items, item)
	switch item.kind {
	case fetchEnvelope, fetchBody, fetchBodyStructure:
		q.want.Structure = true
	case fetchSection:
		q.want.Body = true
		q.want.Structure = q.want.Structure || len(item.path) > 0 || item.part != mail.SectionAll
		q.setsSeen = q.setsSeen || !item.peek
	case fetchFlags:
		q.hasFlags = true
	}
	return nil
}

func (q *fetchQuery) has(kind fetchKind) bool {
	for i := range q.items {
		if q.items[i].kind == kind {
			return true
		}
	}
	return false
}

// fetchItems reads a macro, an item or a list of items (RFC 3501 6.4.5).
func (p *parser) fetchItems(q *fetchQuery) error {
	macros := map[string][]fetchKind{
		"ALL":  {fetchFlags, fetchInternalDate, fetchSize, fetchEnvelope},
		"FAST": {fetchFlags, fetchInternalDate, fetchSize},
		"FULL": {fetchFlags, fetchInternalDate, fetchSize, fetchEnvelope, fetchBody},
	}
	if p.peek() == '(' {
		return p.list(func() error { return p.fetchItem(q) })
	}
	for name, kinds := range macros {
		if !p.word(name) {
			continue
		}
		for _, k := range kinds {
			if err := q.add(fetchItem{kind: k, name: fetchName(k)}); err != nil {
				return err
			}
		}
		return nil
	}
	return p.fetchItem(q)
}

func fetchName(kind fetchKind) string {
	return [...]string{
		"FLAGS", "UID", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY", "BODYSTRUCTURE",
		"MODSEQ", "",
	}[kind]
}

func isItemChar(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || isDigit(c) || c == '.'
}

func (p *parser) fetchItem(q *fetchQuery) error {
	name := strings.ToUpper(p.span(isItemChar))
	if p.peek() == '[' {
		if name != "BODY" && name != "BODY.PEEK" {
			return bad("unknown item")
		}
		item := fetchItem{kind: fetchSection, peek: name == "BODY.PEEK"}
		if err := p.section(&item); err != nil {
			return err
		}
		return q.add(item)
	}
	switch name {
	case "RFC822":
		return q.add(fetchItem{kind: fetchSection, name: name})
	case "RFC822.HEADER":
		return q.add(fetchItem{
			kind: fetchSection, name: name, part: mail.SectionHeader, peek: true,
		})
	case "RFC822.TEXT":
		return q.add(fetchItem{kind: fetchSection, name: name, part: mail.SectionText})
	}
	for kind := fetchFlags; kind < fetchSection; kind++ {
		if name == fetchName(kind) {
			return q.add(fetchItem{kind: kind, name: name})
		}
	}
	return bad("unknown item")
}

// section reads "[1.2.HEADER.FIELDS (a b)]<0.100>".
func (p *parser) section(item *fetchItem) error {
	p.pos++ // the bracket
	start := p.pos
	if err := p.sectionPath(item); err != nil {
		return err
	}
	inner := strings.ToUpper(string(p.b[start:p.pos]))
	if item.fields != nil || strings.HasSuffix(inner, "FIELDS") || strings.HasSuffix(inner, "NOT") {
		list, err := p.fieldList(item)
		if err != nil {
			return err
		}
		inner += " " + list
	}
	if err := p.need(']'); err != nil {
		return err
	}
	item.name = "BODY[" + inner + "]"
	if !p.take('<') {
		return nil
	}
	return p.partialRange(item)
}

// sectionPath reads part numbers and the section text.
func (p *parser) sectionPath(item *fetchItem) error {
	for isDigit(p.peek()) {
		n, err := p.number32()
		if err != nil || n == 0 || n > 1<<30 || len(item.path) >= maxPathLength {
			return bad("bad part number")
		}
		item.path = append(item.path, int(n))
		if !p.take('.') {
			return nil
		}
		if p.peek() == ']' {
			return bad("bad section")
		}
	}
	text := strings.ToUpper(p.span(isItemChar))
	switch text {
	case "":
	case "HEADER":
		item.part = mail.SectionHeader
	case "HEADER.FIELDS", "HEADER.FIELDS.NOT":
		item.part = mail.SectionHeader
		item.not = text == "HEADER.FIELDS.NOT"
		item.fields = []string{}
	case "TEXT":
		item.part = mail.SectionText
	case "MIME":
		if len(item.path) == 0 {
			return bad("MIME needs a part number")
		}
		item.part = mail.SectionMIME
	default:
		return bad("bad section")
	}
	return nil
}

// fieldList reads " (name name ...)" and returns it as it is repeated in the response.
func (p *parser) fieldList(item *fetchItem) (string, error) {
	if err := p.space(); err != nil {
		return "", err
	}
	b := []byte{'('}
	err := p.list(func() error {
		name, err := p.astring()
		if err != nil {
			return err
		}
		if len(item.fields) >= maxFields || name == "" {
			return bad("bad list of fields")
		}
		if len(b) > 1 {
			b = append(b, ' ')
		}
		item.fields = append(item.fields, name)
		b = appendAstring(b, strings.ToUpper(name))
		return nil
	})
	if err == nil && len(item.fields) == 0 {
		err = bad("empty list of fields")
	}
	return string(append(b, ')')), err
}

func appendAstring(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if !isAstringChar(s[i]) {
			return mail.AppendString(b, s)
		}
	}
	return append(b, s...)
}

// partialRange reads "offset.count>"; the response names the offset alone.
func (p *parser) partialRange(item *fetchItem) error {
	offset, err := p.number64()
	if err != nil {
		return err
	}
	if err = p.need('.'); err != nil {
		return err
	}
	count, err := p.number64()
	if err != nil {
		return err
	}
	if count == 0 {
		return bad("a partial fetch of nothing")
	}
	item.partial, item.offset, item.count = true, int64(offset), int64(count)
	item.name += "<" + number(offset) + ">"
	return p.need('>')
}

// fetchModifiers reads "(CHANGEDSINCE n)" (RFC 7162 3.1.4.1).
func (p *parser) fetchModifiers(q *fetchQuery) error {
	return p.list(func() error {
		if !p.word("CHANGEDSINCE") {
			return bad("unknown modifier")
		}
		if err := p.space(); err != nil {
			return err
		}
		n, err := p.number64()
		if err != nil {
			return err
		}
		q.changedSince, q.want.ChangedSince = true, ModSeq(n)
		return nil
	})
}
