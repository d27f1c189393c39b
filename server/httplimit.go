package server

import (
	"net"
	"sync"
	"sync/atomic"
)

// mostHTTP bounds the connections of an HTTP port; the other services have limits of their own.
const mostHTTP = 2000

// limitedListener closes connections beyond a number at once, so that a flood costs neither
// memory nor file descriptors.
type limitedListener struct {
	net.Listener
	most int64
	open atomic.Int64
}

// Accept returns the next connection within the limit.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= l.most {
			return &limitedConn{Conn: nc, l: l}, nil
		}
		l.open.Add(-1)
		_ = nc.Close()
	}
}

// limitedConn gives its place back once.
type limitedConn struct {
	net.Conn
	l    *limitedListener
	done sync.Once
}

// Close closes the connection.
func (c *limitedConn) Close() error {
	c.done.Do(func() { c.l.open.Add(-1) })
	return c.Conn.Close()
}
