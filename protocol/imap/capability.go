package imap

import "strings"

// capabilities lists what the server can do (RFC 3501 7.2.1). Before login the same is listed
// as after it, since some clients never ask again.
func (c *conn) capabilities() string {
	list := []string{"IMAP4rev1", "LITERAL+", "SASL-IR", "ID", "ENABLE"}
	if c.state == stateNotAuthenticated {
		if c.tls == nil && c.server.tlsConfig() != nil {
			list = append(list, "STARTTLS")
		}
		if c.mayLogin() {
			list = append(list, "AUTH=PLAIN", "AUTH=LOGIN")
		} else {
			list = append(list, "LOGINDISABLED")
		}
	}
	list = append(list,
		"IDLE", "UIDPLUS", "NAMESPACE", "SPECIAL-USE", "CREATE-SPECIAL-USE", "LIST-EXTENDED",
		"LIST-STATUS", "CHILDREN", "UNSELECT", "MOVE", "ESEARCH", "CONDSTORE", "STATUS=SIZE",
		"APPENDLIMIT="+number(c.server.opt.MaxMessage))
	return strings.Join(list, " ")
}

// mayLogin tells whether a password may be sent here (RFC 3501 11.1).
func (c *conn) mayLogin() bool {
	return c.tls != nil || c.server.opt.PlaintextAuth(c.rawConn.RemoteAddr())
}

// capability is CAPABILITY (RFC 3501 6.1.1).
func (c *conn) capability(req *request) error {
	if err := req.end(); err != nil {
		return err
	}
	c.untagged("CAPABILITY %s", c.capabilities())
	return nil
}

// noop is NOOP and CHECK (RFC 3501 6.1.2, 6.4.1): the news come with the end of the command.
func (c *conn) noop(req *request) error { return req.end() }

// logout is LOGOUT (RFC 3501 6.1.3).
func (c *conn) logout(req *request) error {
	if err := req.end(); err != nil {
		return err
	}
	c.untagged("BYE Logging out")
	c.deselect()
	c.state = stateLogout
	return nil
}
