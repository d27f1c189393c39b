package smtp

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"pillarbox/protocol/line"
)

// phase is what a connection waits for; time-outs depend on it.
type phase uint8

const (
	inCommand phase = iota
	inData
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
	ended  time.Time // when SessionTimeout is over
	errors int
	quit   bool

	session Session
	// The transaction: MAIL was accepted, so many RCPT were.
	inMail bool
	rcpts  int
	mail   MailOptions
	// chunkFailed refuses further BDAT until RSET or MAIL (RFC 3030 2).
	chunkFailed bool
	// pending is a command that ended a message sent in chunks, to be run next.
	pending string

	mu       sync.Mutex
	phase    phase
	deadline time.Time // of the command or of the next part of a message
	stopping time.Time // when Shutdown began
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{s: s, raw: nc, ctx: s.Context()}
	c.info = ConnInfo{Remote: nc.RemoteAddr(), Local: nc.LocalAddr(), Mode: s.o.Mode}
	c.ended = time.Now().Add(s.o.SessionTimeout)
	c.attach(nc)
	return c
}

// attach begins to read and write nc, with nothing left over from before.
func (c *conn) attach(nc net.Conn) {
	c.mu.Lock()
	c.nc = nc
	c.mu.Unlock()
	c.br = bufio.NewReaderSize(input{c}, 8192)
	c.bw = bufio.NewWriterSize(output{c}, 4096)
}

// input reads from the connection: replies go out before it waits, and deadlines hold.
type input struct{ c *conn }

func (in input) Read(p []byte) (int, error) {
	c := in.c
	if err := c.bw.Flush(); err != nil {
		return 0, err
	}
	c.mu.Lock()
	inMessage := c.phase == inData
	c.mu.Unlock()
	if inMessage {
		c.arm(inData, c.s.o.DataTimeout)
	}
	return c.nc.Read(p)
}

type output struct{ c *conn }

func (out output) Write(p []byte) (int, error) {
	if err := out.c.nc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return out.c.nc.Write(p)
}

// arm sets the time by which something must have come.
func (c *conn) arm(p phase, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.phase = p
	c.deadline = time.Now().Add(wait)
	if c.ended.Before(c.deadline) {
		c.deadline = c.ended
	}
	c.applyDeadline()
}

// applyDeadline is called with mu held.
func (c *conn) applyDeadline() {
	d := c.deadline
	if !c.stopping.IsZero() {
		limit := c.stopping
		if c.phase == inData {
			limit = limit.Add(c.s.o.ShutdownData)
		}
		if limit.Before(d) {
			d = limit
		}
	}
	_ = c.nc.SetReadDeadline(d)
}

// Stop makes the connection end; called by Shutdown from another goroutine.
func (c *conn) Stop() {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopping = now
	if c.deadline.IsZero() {
		c.deadline = now.Add(time.Minute)
	}
	c.applyDeadline()
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
			c.s.o.Logger.Error("panic in an SMTP session", "panic", p, "stack", string(debug.Stack()))
			c.reply(421, "4.3.0", c.s.o.Hostname+" internal error, closing")
			_ = c.bw.Flush()
		}
		c.dropSession()
		_ = c.nc.Close()
	}()
	if c.s.o.ImplicitTLS && !c.handshake() {
		return
	}
	c.reply(220, "", c.s.o.Hostname+" ESMTP Pillarbox")
	for !c.quit {
		if c.isStopping() {
			c.reply(421, "4.3.2", c.s.o.Hostname+" is shutting down")
			break
		}
		c.arm(inCommand, c.s.o.IdleTimeout)
		command, err := c.nextLine()
		if err != nil {
			c.endWith(err)
			break
		}
		c.command(command)
		if c.tooManyErrors() && !c.quit {
			c.reply(421, "4.7.0", c.s.o.Hostname+" too many errors, closing")
			break
		}
	}
	_ = c.bw.Flush()
}

func (c *conn) tooManyErrors() bool { return c.s.o.MaxErrors > 0 && c.errors >= c.s.o.MaxErrors }

// endWith says why the session ends, when the client can still hear it.
func (c *conn) endWith(err error) {
	switch {
	case errors.Is(err, line.ErrBareLF):
		// What follows may be commands hidden in something else: none of it is run.
		c.reply(500, "5.5.2", "lines must end with CRLF, closing")
	case c.isStopping():
		c.reply(421, "4.3.2", c.s.o.Hostname+" is shutting down")
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.reply(421, "4.4.2", c.s.o.Hostname+" time-out, closing")
	case errors.Is(err, line.ErrSkipped):
		c.reply(421, "4.7.0", c.s.o.Hostname+" line too long, closing")
	}
	c.quit = true
}

// handshake changes to TLS. On failure the connection cannot be used any more.
func (c *conn) handshake() bool {
	cfg := c.s.tlsConfig()
	if cfg == nil {
		return false
	}
	c.arm(inCommand, handshakeLimit)
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

func (c *conn) dropSession() {
	if c.session != nil {
		c.session.Close()
		c.session = nil
	}
	c.clearMail()
}

// clearMail forgets the transaction.
func (c *conn) clearMail() {
	c.inMail, c.rcpts, c.mail, c.chunkFailed = false, 0, MailOptions{}, false
}

// resetMail ends the transaction by RSET, EHLO or an aborted message.
func (c *conn) resetMail() {
	if c.session != nil && c.inMail {
		c.session.Reset()
	}
	c.clearMail()
}

func (c *conn) nextLine() (string, error) {
	if line := c.pending; line != "" {
		c.pending = ""
		return line, nil
	}
	return c.readLine(maxCommandLine)
}

func (c *conn) readLine(limit int) (string, error) {
	return line.Read(c.br, limit, maxSkippedLine)
}

// reply writes one reply; enhanced may be "" (RFC 2034 3: not for greeting, EHLO, 354, 334).
func (c *conn) reply(code int, enhanced, text string) {
	if enhanced != "" {
		enhanced += " "
	}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		sep := "-"
		if i == len(lines)-1 {
			sep = " "
		}
		// An error shows at the next flush before a read.
		_, _ = fmt.Fprintf(c.bw, "%d%s%s%s\r\n", code, sep, enhanced, c.printable(line))
	}
}

func (c *conn) replyError(e *Error) { c.reply(e.Code, e.enhanced(), e.Message) }

// fail replies to a command that was wrong, which counts against the session.
func (c *conn) fail(code int, enhanced, text string) {
	c.errors++
	c.reply(code, enhanced, text)
}

// printable keeps control characters out of replies, and other than ASCII unless the client
// said SMTPUTF8 (RFC 6531 3.7.4.1).
func (c *conn) printable(s string) string {
	const maxReplyText = 400 // RFC 5321 4.5.3.1.5: 512 with code and CRLF
	if len(s) > maxReplyText {
		s = s[:maxReplyText]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r > 0x7e && !c.mail.UTF8 {
			return '?'
		}
		return r
	}, s)
}
