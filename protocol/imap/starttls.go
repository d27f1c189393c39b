package imap

// startTLS is STARTTLS (RFC 3501 6.2.1). Bytes that came behind the command in clear would be
// taken for protected ones, so they end the connection.
func (c *conn) startTLS(req *request) error {
	if err := req.end(); err != nil {
		return err
	}
	config := c.server.tlsConfig()
	switch {
	case c.tls != nil:
		return bad("TLS is already active")
	case config == nil:
		return bad("TLS is not available")
	case c.in.buffered() > 0:
		return &Error{Status: StatusBye, Text: "Data behind STARTTLS"}
	}
	c.write(req.tag + " OK Begin TLS negotiation now\r\n")
	if err := c.flushAndRelease(); err != nil {
		return err
	}
	c.in.release()
	if err := c.handshake(config); err != nil {
		return err
	}
	return errResponded
}
