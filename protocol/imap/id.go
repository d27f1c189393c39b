package imap

import (
	"maps"
	"slices"

	"pillarbox/mail"
)

// maxIDFields bounds what a client may tell of itself (RFC 2971 3.3).
const maxIDFields = 30

// id is ID (RFC 2971).
func (c *conn) id(req *request) error {
	if err := req.space(); err != nil {
		return err
	}
	var attrs []any
	if !req.word("NIL") {
		err := req.list(func() error {
			key, err := req.str()
			if err != nil {
				return err
			}
			if err = req.space(); err != nil {
				return err
			}
			value, err := req.nstring()
			if len(attrs) >= 2*maxIDFields || len(key) > 30 || len(value) > 1024 {
				return bad("too many or too long fields")
			}
			attrs = append(attrs, key, value)
			return err
		})
		if err != nil {
			return err
		}
	}
	if err := req.end(); err != nil {
		return err
	}
	c.server.opt.Logger.Debug("client id", "remote", c.rawConn.RemoteAddr().String(), "id", attrs)
	b := []byte("* ID (")
	for i, key := range slices.Sorted(maps.Keys(c.server.opt.ID)) {
		if i > 0 {
			b = append(b, ' ')
		}
		b = mail.AppendString(b, key)
		b = append(b, ' ')
		b = mail.AppendString(b, c.server.opt.ID[key])
	}
	c.write(string(b) + ")\r\n")
	return nil
}

// enable is ENABLE (RFC 5161). Unknown names are passed over.
func (c *conn) enable(req *request) error {
	enabled := ""
	for first := true; first || !req.done(); first = false {
		if err := req.space(); err != nil {
			return err
		}
		name, err := req.keyword()
		if err != nil {
			return err
		}
		if name == "CONDSTORE" && enabled == "" {
			enabled = " CONDSTORE"
			c.enableCondstore()
		}
	}
	c.write("* ENABLED" + enabled + "\r\n")
	return nil
}

// enableCondstore is called by whatever shows that the client knows MODSEQ (RFC 7162 3.1); in a
// selected folder it is told the present number once.
func (c *conn) enableCondstore() {
	if !c.condstore && c.state == stateSelected {
		c.untagged("OK [HIGHESTMODSEQ %d] CONDSTORE is on", c.view.modseq)
	}
	c.condstore = true
}

// namespace is NAMESPACE (RFC 2342).
func (c *conn) namespace(req *request) error {
	if err := req.end(); err != nil {
		return err
	}
	var others, shared []string
	if s, ok := c.session.(NamespaceSession); ok {
		var err error
		if others, shared, err = s.Namespaces(c.ctx); err != nil {
			return err
		}
	}
	b := []byte(`* NAMESPACE (("" "/")) `)
	b = appendNamespace(b, others)
	b = append(b, ' ')
	b = appendNamespace(b, shared)
	c.write(string(b) + "\r\n")
	return nil
}

func appendNamespace(b []byte, prefixes []string) []byte {
	if len(prefixes) == 0 {
		return append(b, "NIL"...)
	}
	b = append(b, '(')
	for _, p := range prefixes {
		b = append(b, '(')
		b = mail.AppendString(b, encodeUTF7(p))
		b = append(b, ` "/")`...)
	}
	return append(b, ')')
}
