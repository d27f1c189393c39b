package server

import (
	"crypto/tls"
	"net"
	"slices"
	"sync"
)

// browsersRefuse tells of ports to which no browser connects, whatever listens there: another
// protocol had them once (WHATWG Fetch, "bad port"). The HTTP port of quickstart's default,
// 10080, is one of them.
func browsersRefuse(port int) bool {
	switch port {
	case 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95,
		101, 102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179,
		389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601,
		636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566,
		6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080:
		return true
	}
	return false
}

// eitherListener takes HTTP and HTTPS on one port, told apart by the first byte. It serves the
// HTTPS port where browsers refuse the HTTP port, so that the start page, which is there to
// make the certificate trusted, can be opened without trusting it.
type eitherListener struct {
	net.Listener
	config func() *tls.Config
}

// Accept does not wait for the first byte.
func (l *eitherListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &eitherConn{Conn: nc, config: l.config}, nil
}

// eitherConn decides at the first Read. Deadlines are those of the connection below.
type eitherConn struct {
	net.Conn
	config func() *tls.Config

	mu    sync.Mutex // guards inner; never held while waiting for the peer
	inner net.Conn   // nil before the first byte
}

const tlsHandshakeRecord = 22 // RFC 8446 5.1

func (c *eitherConn) decided() net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inner
}

// Read reads what the client sends, after TLS if it speaks that.
func (c *eitherConn) Read(p []byte) (int, error) {
	if inner := c.decided(); inner != nil {
		return inner.Read(p)
	}
	first := make([]byte, 1)
	if n, err := c.Conn.Read(first); n == 0 {
		return 0, err
	}
	var inner net.Conn = &replayConn{Conn: c.Conn, first: first}
	if first[0] == tlsHandshakeRecord {
		config := c.config().Clone()
		config.NextProtos = []string{"http/1.1"}
		inner = tls.Server(inner, config)
	}
	c.mu.Lock()
	c.inner = inner
	c.mu.Unlock()
	return inner.Read(p)
}

// Write writes; http.Server writes nothing before it has read.
func (c *eitherConn) Write(p []byte) (int, error) {
	if inner := c.decided(); inner != nil {
		return inner.Write(p)
	}
	return c.Conn.Write(p)
}

// Close closes the connection, after the alert that ends TLS.
func (c *eitherConn) Close() error {
	if inner := c.decided(); inner != nil {
		return inner.Close()
	}
	return c.Conn.Close()
}

// replayConn reads first once more.
type replayConn struct {
	net.Conn
	first []byte
}

// Read is called by one goroutine at a time.
func (c *replayConn) Read(p []byte) (int, error) {
	if len(c.first) > 0 {
		n := copy(p, c.first)
		c.first = slices.Delete(c.first, 0, n)
		return n, nil
	}
	return c.Conn.Read(p)
}
