package imap

import (
	"strings"

	"pillarbox/mail"
)

// status is STATUS (RFC 3501 6.3.10).
func (c *conn) status(req *request) error {
	if err := req.space(); err != nil {
		return err
	}
	name, err := req.mailbox()
	if err != nil {
		return err
	}
	if err = req.space(); err != nil {
		return err
	}
	items, err := c.statusItems(&req.parser)
	if err != nil {
		return err
	}
	if err = req.end(); err != nil {
		return err
	}
	return c.writeStatus(name, items)
}

// statusItems reads "(MESSAGES UNSEEN ...)".
func (c *conn) statusItems(p *parser) ([]string, error) {
	var items []string
	err := p.list(func() error {
		item, err := p.keyword()
		if err != nil {
			return err
		}
		switch item {
		case "MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "DELETED", "SIZE",
			"APPENDLIMIT":
		case "HIGHESTMODSEQ":
			c.enableCondstore() // RFC 7162 3.1
		default:
			return bad("unknown status item")
		}
		if len(items) > 20 {
			return bad("too many status items")
		}
		items = append(items, item)
		return nil
	})
	return items, err
}

func (c *conn) writeStatus(name string, items []string) error {
	data, err := c.session.Status(c.ctx, name)
	if err != nil {
		return err
	}
	values := make([]string, len(items))
	for i, item := range items {
		values[i] = item + " " + c.statusValue(data, item)
	}
	line := mail.AppendString([]byte("* STATUS "), encodeUTF7(name))
	c.write(string(line) + " (" + strings.Join(values, " ") + ")\r\n")
	return nil
}

func (c *conn) statusValue(d *StatusData, item string) string {
	switch item {
	case "MESSAGES":
		return number(d.Messages)
	case "UIDNEXT":
		return number(d.UIDNext)
	case "UIDVALIDITY":
		return number(d.UIDValidity)
	case "UNSEEN":
		return number(d.Unseen)
	case "DELETED":
		return number(d.Deleted)
	case "SIZE": // RFC 8438
		return number(d.Size)
	case "HIGHESTMODSEQ":
		return number(d.HighestModSeq)
	case "APPENDLIMIT": // RFC 7889
		return number(c.server.opt.MaxMessage)
	}
	return "0" // RECENT
}
