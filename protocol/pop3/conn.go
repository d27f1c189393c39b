package pop3

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"pillarbox/protocol/line"
)

// conn is one connection. Its goroutine owns everything but what mu guards.
type conn struct {
	s      *Server
	raw    net.Conn
	nc     net.Conn // raw, or the TLS connection on it
	br     *bufio.Reader
	bw     *bufio.Writer
	ctx    context.Context
	info   ConnInfo
	errors int
	quit   bool

	user string // given by USER, for PASS

	// TRANSACTION state: drop is not nil.
	drop     Maildrop
	messages []Info
	deleted  []bool
	left     int // messages not deleted

	mu       sync.Mutex
	stopping time.Time // when Shutdown began
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{s: s, raw: nc, ctx: s.Context()}
	c.info = ConnInfo{Remote: nc.RemoteAddr(), Local: nc.LocalAddr()}
	c.attach(nc)
	return c
}

// attach begins to read and write nc, with nothing left over from before.
func (c *conn) attach(nc net.Conn) {
	c.mu.Lock()
	c.nc = nc
	c.mu.Unlock()
	c.br = bufio.NewReaderSize(input{c}, 4096)
	c.bw = bufio.NewWriterSize(output{c}, 4096)
}

// input reads from the connection: replies go out before it waits.
type input struct{ c *conn }

func (in input) Read(p []byte) (int, error) {
	if err := in.c.bw.Flush(); err != nil {
		return 0, err
	}
	return in.c.nc.Read(p)
}

type output struct{ c *conn }

func (out output) Write(p []byte) (int, error) {
	out.c.armWrite()
	return out.c.nc.Write(p)
}

// armRead sets the time by which a whole command must have come.
func (c *conn) armRead(wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := time.Now().Add(wait)
	if !c.stopping.IsZero() {
		d = c.stopping
	}
	_ = c.nc.SetReadDeadline(d)
}

func (c *conn) armWrite() {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := time.Now().Add(c.s.o.WriteTimeout)
	if !c.stopping.IsZero() {
		d = c.stopping.Add(c.s.o.ShutdownData)
	}
	_ = c.nc.SetWriteDeadline(d)
}

// Stop makes the connection end; called by Shutdown from another goroutine.
func (c *conn) Stop() {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopping = now
	_ = c.nc.SetReadDeadline(now)
	_ = c.nc.SetWriteDeadline(now.Add(c.s.o.ShutdownData))
}

func (c *conn) isStopping() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.stopping.IsZero()
}

// Cut ends the connection now.
func (c *conn) Cut() { _ = c.raw.Close() }

// Serve runs the connection to its end.
func (c *conn) Serve() {
	ctx, cancel := context.WithCancel(c.s.Context())
	c.ctx = ctx
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			c.s.o.Logger.Error("panic in a POP3 session", "panic", p, "stack", string(debug.Stack()))
		}
		c.release()
		_ = c.nc.Close()
	}()
	if c.s.o.ImplicitTLS && !c.handshake() {
		return
	}
	c.ok(c.s.o.Hostname + " POP3 Pillarbox")
	for !c.quit {
		if c.isStopping() {
			c.err(&Error{"SYS/TEMP", "the server is shutting down"})
			break
		}
		c.armRead(c.s.o.IdleTimeout)
		command, err := c.readLine(maxCommandLine)
		if err != nil {
			c.endWith(err)
			break
		}
		c.command(command)
		if c.s.o.MaxErrors > 0 && c.errors >= c.s.o.MaxErrors && !c.quit {
			c.err(&Error{"", "too many errors, closing"})
			break
		}
	}
	_ = c.bw.Flush()
}

// endWith says why the session ends, when the client can still hear it.
func (c *conn) endWith(err error) {
	switch {
	case errors.Is(err, line.ErrBareLF), errors.Is(err, line.ErrSkipped):
		c.err(&Error{"", err.Error() + ", closing"})
	case c.isStopping():
		c.err(&Error{"SYS/TEMP", "the server is shutting down"})
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.err(&Error{"", "time-out, closing"})
	}
	c.quit = true
}

// handshake changes to TLS. On failure the connection cannot be used any more.
func (c *conn) handshake() bool {
	cfg := c.s.tlsConfig()
	if cfg == nil {
		return false
	}
	c.armRead(handshakeLimit)
	tc := tls.Server(c.nc, cfg)
	ctx, cancel := context.WithTimeout(c.ctx, handshakeLimit)
	defer cancel()
	if err := tc.HandshakeContext(ctx); err != nil {
		c.s.o.Logger.Debug("TLS handshake", "peer", c.info.Remote, "err", err)
		return false
	}
	c.attach(tc)
	state := tc.ConnectionState()
	c.info.TLS = &state
	return true
}

func (c *conn) readLine(limit int) (string, error) {
	return line.Read(c.br, limit, maxSkippedLine)
}

// ok and err write replies; an error of writing shows at the next flush before a read.
func (c *conn) ok(text string) { c.writeLine("+OK " + text) }

func (c *conn) err(e *Error) {
	c.writeLine("-ERR " + strings.Map(printable, e.Error()))
}

// fail replies to a command that was wrong, which counts against the session.
func (c *conn) fail(text string) {
	c.errors++
	c.err(&Error{"", text})
}

func (c *conn) writeLine(s string) {
	_, _ = c.bw.WriteString(s)
	_, _ = c.bw.WriteString("\r\n")
}

func printable(r rune) rune {
	if r < ' ' || r > 0x7e {
		return '?'
	}
	return r
}
