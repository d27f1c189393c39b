package imap

import "slices"

// selectFolder is SELECT (RFC 3501 6.3.1).
func (c *conn) selectFolder(req *request) error { return c.open(req, false) }

// examine is EXAMINE (RFC 3501 6.3.2).
func (c *conn) examine(req *request) error { return c.open(req, true) }

func (c *conn) open(req *request, readOnly bool) error {
	if err := req.space(); err != nil {
		return err
	}
	name, err := req.mailbox()
	if err != nil {
		return err
	}
	if req.take(' ') {
		if err = c.selectParams(req); err != nil {
			return err
		}
	}
	if err = req.end(); err != nil {
		return err
	}
	// A folder that was selected is closed even if the new one cannot be opened.
	if c.state == stateSelected {
		c.deselect()
		c.untagged("OK [CLOSED] Previous folder is closed") // RFC 7162 3.2.11
	}
	mailbox, data, err := c.session.Select(c.ctx, name, SelectOptions{ReadOnly: readOnly})
	if err != nil {
		return err
	}
	c.mailbox, c.state = mailbox, stateSelected
	c.view = &view{uids: data.UIDs, modseq: data.HighestModSeq}
	c.readOnly = readOnly || data.ReadOnly
	c.describe(data)
	req.okCode = "READ-WRITE"
	if c.readOnly {
		req.okCode = "READ-ONLY"
	}
	return nil
}

// selectParams reads "(CONDSTORE)" (RFC 4466, RFC 7162 3.1.8).
func (c *conn) selectParams(req *request) error {
	condstore := false
	err := req.list(func() error {
		if !req.word("CONDSTORE") {
			return bad("unknown parameter")
		}
		condstore = true
		return nil
	})
	c.condstore = c.condstore || condstore && err == nil
	return err
}

// describe sends the untagged responses of SELECT.
func (c *conn) describe(data *SelectData) {
	flags := data.Flags
	for _, f := range systemFlags() {
		if !slices.Contains(flags, f) {
			flags = append(flags[:len(flags):len(flags)], f)
		}
	}
	c.untagged("FLAGS (%s)", joinFlags(flags))
	permanent := data.PermanentFlags
	if c.readOnly {
		permanent = nil
	}
	c.untagged("OK [PERMANENTFLAGS (%s)] Flags that can be kept", joinFlags(permanent))
	c.untagged("%d EXISTS", c.view.exists())
	c.untagged("0 RECENT")
	if seq := c.view.seq(data.FirstUnseen); seq != 0 {
		c.untagged("OK [UNSEEN %d] First unseen message", seq)
	}
	c.untagged("OK [UIDVALIDITY %d] UIDs are valid", data.UIDValidity)
	c.untagged("OK [UIDNEXT %d] Next UID", data.UIDNext)
	if data.HighestModSeq == 0 {
		c.untagged("OK [NOMODSEQ] No change numbers") // RFC 7162 3.1.2.2
	} else {
		c.untagged("OK [HIGHESTMODSEQ %d] Highest change number", data.HighestModSeq)
	}
}

// closeFolder is CLOSE (RFC 3501 6.4.2): expunges without a word.
func (c *conn) closeFolder(req *request) error {
	if err := req.end(); err != nil {
		return err
	}
	defer c.deselect()
	if c.readOnly {
		return nil
	}
	return c.mailbox.Expunge(c.ctx, nil)
}

// unselect is UNSELECT (RFC 3691).
func (c *conn) unselect(req *request) error {
	if err := req.end(); err != nil {
		return err
	}
	c.deselect()
	return nil
}
