package imap

import (
	"strings"

	"pillarbox/mail"
)

// search is SEARCH and UID SEARCH (RFC 3501 6.4.4) with RETURN (RFC 4731) and MODSEQ (RFC 7162
// 3.1.5).
func (c *conn) search(req *request) error {
	if err := req.space(); err != nil {
		return err
	}
	var out searchOutput
	if req.word("RETURN") {
		if err := req.space(); err != nil {
			return err
		}
		if err := req.searchReturn(&out); err != nil {
			return err
		}
		if err := req.space(); err != nil {
			return err
		}
	}
	charset := ""
	if req.word("CHARSET") {
		var err error
		if charset, err = req.searchCharset(); err != nil {
			return err
		}
	}
	k := keyParser{parser: &req.parser, view: c.view, charset: charset}
	criteria, err := k.keys()
	if err != nil {
		return err
	}
	if err = req.end(); err != nil {
		return err
	}
	out.withModSeq = criteria.usesModSeq()
	if out.withModSeq {
		c.enableCondstore()
	}
	return c.runSearch(req, criteria, &out)
}

func (c *conn) runSearch(req *request, criteria *Criteria, out *searchOutput) error {
	err := c.mailbox.Search(c.ctx, criteria, func(uid UID, modseq ModSeq) error {
		n := c.view.seq(uid)
		if n == 0 {
			return nil
		}
		if req.uid {
			n = uint32(uid)
		}
		out.found = append(out.found, n)
		out.highest = max(out.highest, modseq)
		return nil
	})
	if err != nil {
		return err
	}
	if out.extended {
		c.writeESearch(req, out)
	} else {
		c.writeSearch(out)
	}
	return nil
}

// searchOutput is what a search found and how it is told.
type searchOutput struct {
	extended             bool
	min, max, count, all bool
	withModSeq           bool
	found                []uint32 // ascending
	highest              ModSeq
}

// searchReturn reads "(MIN MAX COUNT ALL)"; none means ALL (RFC 4731 3.1).
func (r *request) searchReturn(out *searchOutput) error {
	out.extended = true
	err := r.list(func() error {
		word, err := r.keyword()
		if err != nil {
			return err
		}
		switch word {
		case "MIN":
			out.min = true
		case "MAX":
			out.max = true
		case "COUNT":
			out.count = true
		case "ALL":
			out.all = true
		default:
			return bad("unknown return option")
		}
		return nil
	})
	if !out.min && !out.max && !out.count {
		out.all = true
	}
	return err
}

// searchCharset reads " name ".
func (r *request) searchCharset() (string, error) {
	if err := r.space(); err != nil {
		return "", err
	}
	name, err := r.astring()
	if err != nil {
		return "", err
	}
	switch name = strings.ToUpper(name); name {
	case "UTF-8", "US-ASCII":
		return name, r.space()
	}
	return "", no("BADCHARSET (US-ASCII UTF-8)", "Charset is not supported")
}

func (c *conn) writeSearch(out *searchOutput) {
	c.write("* SEARCH")
	for _, n := range out.found {
		c.write(" " + number(n))
	}
	if out.withModSeq && len(out.found) > 0 {
		c.write(" (MODSEQ " + number(out.highest) + ")")
	}
	c.write("\r\n")
}

func (c *conn) writeESearch(req *request, out *searchOutput) {
	c.write("* ESEARCH (TAG " + string(mail.AppendString(nil, req.tag)) + ")")
	if req.uid {
		c.write(" UID")
	}
	n := len(out.found)
	if out.min && n > 0 {
		c.write(" MIN " + number(out.found[0]))
	}
	if out.max && n > 0 {
		c.write(" MAX " + number(out.found[n-1]))
	}
	if out.count {
		c.write(" COUNT " + number(uint32(n)))
	}
	if out.all && n > 0 {
		var set UIDSet
		for _, f := range out.found {
			set = set.Append(UID(f))
		}
		c.write(" ALL " + set.String())
	}
	if out.withModSeq && n > 0 {
		c.write(" MODSEQ " + number(out.highest))
	}
	c.write("\r\n")
}
