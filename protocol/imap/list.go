package imap

import (
	"errors"
	"slices"
	"strings"

	"pillarbox/mail"
)

// listQuery is LIST as asked (RFC 5258, RFC 5819, RFC 6154).
type listQuery struct {
	patterns       []string
	subscribed     bool // select: only subscribed names
	recursive      bool // select: and parents of such
	specialUse     bool // select: only special folders
	markSubscribed bool // return
	extended       bool // the extended syntax was used
	statusItems    []string
}

// maxPatterns bounds the patterns of one LIST.
const maxPatterns = 100

// list is LIST (RFC 3501 6.3.8).
func (c *conn) list(req *request) error {
	var q listQuery
	if err := req.space(); err != nil {
		return err
	}
	if req.peek() == '(' {
		if err := q.selection(&req.parser); err != nil {
			return err
		}
		if err := req.space(); err != nil {
			return err
		}
	}
	if err := q.names(&req.parser); err != nil {
		return err
	}
	if req.take(' ') && !req.done() {
		if err := c.listReturn(&req.parser, &q); err != nil {
			return err
		}
	}
	if err := req.end(); err != nil {
		return err
	}
	if len(q.patterns) == 1 && q.patterns[0] == "" && !q.extended {
		c.write(`* LIST (\Noselect) "/" ""` + "\r\n") // asks for the delimiter
		return nil
	}
	entries, err := c.session.List(c.ctx)
	if err != nil {
		return err
	}
	return c.writeList(&q, entries)
}

// selection reads "(SUBSCRIBED RECURSIVEMATCH ...)".
func (q *listQuery) selection(p *parser) error {
	q.extended = true
	err := p.list(func() error {
		word, err := p.keyword()
		if err != nil {
			return err
		}
		switch word {
		case "SUBSCRIBED":
			q.subscribed, q.markSubscribed = true, true
		case "RECURSIVEMATCH":
			q.recursive = true
		case "SPECIAL-USE":
			q.specialUse = true
		case "REMOTE": // there are none
		default:
			return bad("unknown selection option")
		}
		return nil
	})
	if err == nil && q.recursive && !q.subscribed {
		return bad("RECURSIVEMATCH needs SUBSCRIBED") // RFC 5258 3.1
	}
	return err
}

// names reads the reference and one pattern, or several in parentheses.
func (q *listQuery) names(p *parser) error {
	reference, err := p.astring()
	if err != nil {
		return err
	}
	if err = p.space(); err != nil {
		return err
	}
	one := func() error {
		s, err := p.pattern()
		if err != nil {
			return err
		}
		if len(q.patterns) >= maxPatterns {
			return bad("too many patterns")
		}
		name := reference + s
		if s == "" && !q.extended {
			name = "" // whatever the reference is, only the delimiter is asked for
		}
		decoded, err := decodeUTF7(name)
		if err != nil {
			return no(CodeCannot, "Pattern is no valid modified UTF-7")
		}
		q.patterns = append(q.patterns, decoded)
		return nil
	}
	if p.peek() == '(' {
		q.extended = true
		return p.list(one)
	}
	return one()
}

// pattern reads a list-mailbox: an astring with wildcards.
func (p *parser) pattern() (string, error) {
	if c := p.peek(); c == '"' || c == '{' {
		return p.str()
	}
	s := p.span(func(c byte) bool { return isAstringChar(c) || c == '*' || c == '%' })
	if s == "" {
		return "", bad("expected a pattern")
	}
	return s, nil
}

// listReturn reads "RETURN (...)".
func (c *conn) listReturn(p *parser, q *listQuery) error {
	if !p.word("RETURN") {
		return bad("unexpected text behind the pattern")
	}
	if err := p.space(); err != nil {
		return err
	}
	q.extended = true
	return p.list(func() error {
		word, err := p.keyword()
		if err != nil {
			return err
		}
		switch word {
		case "SUBSCRIBED":
			q.markSubscribed = true
		case "CHILDREN", "SPECIAL-USE": // always returned
		case "STATUS":
			if err = p.space(); err != nil {
				return err
			}
			q.statusItems, err = c.statusItems(p)
			return err
		default:
			return bad("unknown return option")
		}
		return nil
	})
}

// matches tells whether a name fits one of the patterns.
func (q *listQuery) matches(name string) bool {
	return slices.ContainsFunc(q.patterns, func(p string) bool {
		if name == "INBOX" {
			p = strings.ToUpper(p)
		}
		return MatchFolder(p, name)
	})
}

func (c *conn) writeList(q *listQuery, entries []ListEntry) error {
	parents := parentsOf(entries, func(e *ListEntry) bool { return !e.NonExistent })
	var above map[string]bool
	if q.recursive {
		above = parentsOf(entries, func(e *ListEntry) bool {
			return e.Subscribed && !q.matches(e.Name)
		})
	}
	for i := range entries {
		e := &entries[i]
		childInfo := above[e.Name]
		switch {
		case !q.matches(e.Name),
			q.subscribed && !e.Subscribed && !childInfo,
			!q.subscribed && e.NonExistent,
			q.specialUse && !isSpecial(e):
			continue
		}
		attrs := slices.Clone(e.Attrs)
		if e.NonExistent {
			attrs = append(attrs, `\NonExistent`)
		}
		if e.Subscribed && q.markSubscribed {
			attrs = append(attrs, `\Subscribed`)
		}
		if parents[e.Name] {
			attrs = append(attrs, `\HasChildren`)
		} else if !slices.Contains(attrs, NoInferiors) {
			attrs = append(attrs, `\HasNoChildren`)
		}
		c.writeEntry("LIST", e.Name, attrs, childInfo)
		if q.statusItems == nil || e.NonExistent || slices.Contains(e.Attrs, NoSelect) {
			continue
		}
		// A folder that vanished meanwhile has no status; that is no failure of LIST.
		var refused *Error
		if err := c.writeStatus(e.Name, q.statusItems); err != nil && !errors.As(err, &refused) {
			return err
		}
	}
	return nil
}

func (c *conn) writeEntry(response, name string, attrs []string, childInfo bool) {
	b := []byte("* " + response + " (" + strings.Join(attrs, " ") + `) "/" `)
	b = mail.AppendString(b, encodeUTF7(name))
	if childInfo {
		b = append(b, ` ("CHILDINFO" ("SUBSCRIBED"))`...)
	}
	c.write(string(b) + "\r\n")
}

// parentsOf returns all names above the entries that count.
func parentsOf(entries []ListEntry, counts func(*ListEntry) bool) map[string]bool {
	parents := make(map[string]bool)
	for i := range entries {
		if !counts(&entries[i]) {
			continue
		}
		name := entries[i].Name
		for {
			cut := strings.LastIndexByte(name, '/')
			if cut < 0 || parents[name[:cut]] {
				break
			}
			name = name[:cut]
			parents[name] = true
		}
	}
	return parents
}

func isSpecial(e *ListEntry) bool {
	return slices.ContainsFunc(e.Attrs, func(a string) bool {
		return slices.Contains(specialUses(), a)
	})
}

// lsub is LSUB (RFC 3501 6.3.9). With "%" a parent of a subscribed name is shown as not
// selectable, even if it is not subscribed itself.
func (c *conn) lsub(req *request) error {
	var q listQuery
	if err := req.space(); err != nil {
		return err
	}
	if err := q.names(&req.parser); err != nil {
		return err
	}
	if err := req.end(); err != nil {
		return err
	}
	if q.patterns[0] == "" {
		c.write(`* LSUB (\Noselect) "/" ""` + "\r\n")
		return nil
	}
	entries, err := c.session.List(c.ctx)
	if err != nil {
		return err
	}
	told := make(map[string]bool)
	for i := range entries {
		e := &entries[i]
		if e.Subscribed && q.matches(e.Name) {
			told[e.Name] = true
			c.writeEntry("LSUB", e.Name, e.Attrs, false)
		}
	}
	above := parentsOf(entries, func(e *ListEntry) bool { return e.Subscribed && !told[e.Name] })
	names := make([]string, 0, len(above))
	for name := range above {
		if !told[name] && q.matches(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		c.writeEntry("LSUB", name, []string{NoSelect}, false)
	}
	return nil
}

// MatchFolder tells whether a name fits a pattern: "*" stands for anything, "%" for anything
// without "/" (RFC 3501 6.3.8). It takes time in the product of the lengths at most.
func MatchFolder(pattern, name string) bool {
	// reach[j] tells that the pattern so far fits name[:j].
	reach := make([]bool, len(name)+1)
	reach[0] = true
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '*', '%':
			for j := 1; j <= len(name); j++ {
				crosses := pattern[i] == '%' && name[j-1] == '/'
				reach[j] = reach[j] || reach[j-1] && !crosses
			}
		default:
			for j := len(name); j > 0; j-- {
				reach[j] = reach[j-1] && name[j-1] == pattern[i]
			}
			reach[0] = false
		}
	}
	return reach[len(name)]
}
