package imap

import (
	"crypto/tls"
)

// startTLS is STARTTLS (RFC 3501 6.2.1). Bytes that came behind the command in clear would be
// taken for protected ones, so they end the connection.
func (c *conn) startTLS(req *request) error {
	if err := req.end(); err != nil {
		return err
	}
	switch {
	case c.tls != nil:
		return bad("TLS is already active")
	case c.server.opt.TLS == nil:
		return bad("TLS is not available")
	case c.in.buffered() > 0:
		return &Error{Status: StatusBye, Text: "Data behind STARTTLS"}
	}
	c.write(req.tag + " OK Begin TLS negotiation now\r\n")
	if err := c.flushAndRelease(); err != nil {
		return err
	}
	t := tls.Server(c.rawConn, c.server.opt.TLS)
	if err := c.handshake(t); err != nil {
		return err
	}
	c.conn = t
	c.in.release()
	c.in = &wireReader{conn: t, pool: &c.server.buffers.read}
	return errResponded
}
