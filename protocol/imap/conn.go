package imap

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"strconv"
	"sync"
	"time"
)

// state is where a session stands (RFC 3501 3). They are bits, so that a command can name all
// states it is allowed in.
type state uint8

const (
	stateNotAuthenticated state = 1 << iota
	stateAuthenticated
	stateSelected
	stateLogout
)

// conn is one client.
type conn struct {
	server  *Server
	rawConn net.Conn // as accepted; closing it ends everything
	conn    net.Conn // rawConn or TLS on it
	tls     *tls.ConnectionState
	ctx     context.Context

	in  *wireReader
	out *bufio.Writer // held while there is something to say

	state       state
	session     Session
	mailbox     Mailbox
	view        *view
	readOnly    bool
	condstore   bool // the client has shown that it knows MODSEQ (RFC 7162 3.1)
	badCommands int
	badLogins   int

	mu      sync.Mutex
	waiting bool // in a read between commands, or in IDLE
	ending  bool // Shutdown asked
	revoked bool // the login is good no more
}

func newConn(s *Server, nc net.Conn) *conn {
	return &conn{
		server: s, rawConn: nc, conn: nc, ctx: s.Context(), state: stateNotAuthenticated,
		in: &wireReader{conn: nc, pool: &s.buffers.read, budget: &s.budget},
	}
}

// Cut ends the connection now.
func (c *conn) Cut() { _ = c.rawConn.Close() }

// Serve speaks with the client to the end.
func (c *conn) Serve() {
	defer c.close()
	log := c.server.opt.Logger.With("remote", c.rawConn.RemoteAddr().String())
	defer c.survive()
	if c.server.opt.ImplicitTLS {
		if err := c.handshake(c.server.tlsConfig()); err != nil {
			log.Debug("TLS handshake failed", "err", err)
			return
		}
	}
	c.acquireOut()
	c.write("* OK [CAPABILITY " + c.capabilities() + "] " + c.server.opt.Greeting + " ready\r\n")
	for c.state != stateLogout {
		err := c.flushAndRelease()
		if err == nil {
			err = c.step()
		}
		if err != nil {
			c.farewell(err)
			log.Debug("connection ended", "err", err)
			return
		}
	}
	_ = c.flushAndRelease()
}

// survive is deferred by both goroutines: a bug must cost one session, not the server.
func (c *conn) survive() {
	if v := recover(); v != nil {
		c.server.opt.Logger.Error("session panic", "remote", c.rawConn.RemoteAddr().String(),
			"panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		_ = c.rawConn.Close()
	}
}

// farewell says BYE where that still has a meaning.
func (c *conn) farewell(err error) {
	var text string
	var ne net.Error
	switch {
	case c.isRevoked():
		text = "The account was changed; log in again"
	case c.isEnding():
		text = "Server is shutting down"
	case errors.Is(err, errLineTooLong), errors.Is(err, errCommandTooLong):
		text = "Command too long"
	case errors.Is(err, errNoMemory):
		text = "[UNAVAILABLE] Too many large commands at the moment"
	case errors.As(err, &ne) && ne.Timeout():
		text = "Autologout; idle for too long"
	default:
		return
	}
	c.acquireOut()
	c.write("* BYE " + text + "\r\n")
	_ = c.flushAndRelease()
}

func (c *conn) close() {
	c.deselect()
	if c.session != nil {
		_ = c.session.Close()
	}
	_ = c.conn.Close()
	if c.out != nil {
		c.out.Reset(nil)
		c.server.buffers.write.Put(c.out)
		c.out = nil
	}
	c.in.r = c.in.w
	c.in.release()
}

// handshake puts TLS on the connection.
func (c *conn) handshake(config *tls.Config) error {
	if config == nil {
		return &connError{errors.New("no TLS configuration")}
	}
	t := tls.Server(c.rawConn, config)
	if err := c.beginWait(true); err != nil {
		return err
	}
	defer c.endWait()
	_ = t.SetWriteDeadline(time.Now().Add(c.server.opt.WriteTimeout))
	if err := t.HandshakeContext(c.ctx); err != nil {
		return &connError{err}
	}
	cs := t.ConnectionState()
	c.conn, c.tls = t, &cs
	c.in = &wireReader{conn: t, pool: &c.server.buffers.read, budget: c.in.budget}
	return nil
}

func (c *conn) acquireOut() {
	if c.out == nil {
		c.out = c.server.buffers.write.Get().(*bufio.Writer)
		c.out.Reset(&deadlineWriter{c.conn, c.server.opt.WriteTimeout})
	}
}

// flushAndRelease sends what was written. Errors of earlier writes show here.
func (c *conn) flushAndRelease() error {
	if c.out == nil {
		return nil
	}
	err := c.out.Flush()
	c.out.Reset(nil)
	c.server.buffers.write.Put(c.out)
	c.out = nil
	return err
}

// write appends to the output; its error shows at the next flush.
func (c *conn) write(s string) { _, _ = c.out.WriteString(s) }

func (c *conn) untagged(format string, args ...any) {
	_, _ = fmt.Fprintf(c.out, "* "+format+"\r\n", args...)
}

// Stop is called by Shutdown: a read between commands is interrupted.
func (c *conn) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ending = true
	if c.waiting {
		_ = c.rawConn.SetReadDeadline(time.Unix(1, 0))
	}
}

// revoke ends the connection of a user who may not go on.
func (c *conn) revoke() {
	c.mu.Lock()
	c.revoked = true
	c.mu.Unlock()
	c.Stop()
}

func (c *conn) isRevoked() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.revoked
}

func (c *conn) isEnding() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending
}

// beginWait sets the time limit of the next read. between tells that no command is under way,
// so that Shutdown may interrupt it.
func (c *conn) beginWait(between bool) error {
	limit := c.server.opt.IdleTimeout
	if c.state == stateNotAuthenticated {
		limit = c.server.opt.LoginTimeout
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if between && c.ending {
		return errClose
	}
	c.waiting = between
	if err := c.conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return &connError{err} // closed meanwhile
	}
	return nil
}

func (c *conn) endWait() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = false
}

// step reads and runs one command.
func (c *conn) step() error {
	if c.in.buffered() == 0 {
		if err := c.beginWait(true); err != nil {
			return err
		}
		err := c.in.fill()
		c.endWait()
		if err != nil {
			return err
		}
	}
	if err := c.beginWait(false); err != nil {
		return err
	}
	c.acquireOut()
	defer c.in.letGo()
	cmd, err := c.readCommand()
	if err != nil {
		return c.finish(cmd, err)
	}
	return c.run(cmd)
}

// readCommand reads a line and the literals in it. For APPEND it stops in front of the message,
// whose length stands in cmd.literal.
func (c *conn) readCommand() (*request, error) {
	cmd := &request{tag: "*"}
	longest := maxLine
	if c.state == stateNotAuthenticated {
		longest = maxGuest
	}
	var buf []byte
	for {
		start := len(buf)
		var err error
		if buf, err = c.in.appendLine(buf, longest); err != nil {
			return cmd, err
		}
		line := buf[start:]
		if start == 0 {
			cmd.parseHead(line)
		}
		n, nonSync, ok := trailingLiteral(line)
		if !ok {
			cmd.setText(bytes.TrimRight(buf, "\r\n"))
			return cmd, nil
		}
		if cmd.name == "APPEND" && c.state&(stateAuthenticated|stateSelected) != 0 {
			cmd.setText(buf)
			if cmd.isMessageNext() {
				cmd.hasLiteral, cmd.literal, cmd.nonSync = true, n, nonSync
				return cmd, nil
			}
		}
		if buf, err = c.readLiteral(buf, n, nonSync); err != nil {
			return cmd, err
		}
	}
}

func (c *conn) readLiteral(buf []byte, n int64, nonSync bool) ([]byte, error) {
	limit, whole := int64(maxLiteral), int64(maxCommand)
	if c.state == stateNotAuthenticated {
		limit, whole = bufferSize, maxGuest // names and passwords need no more
	}
	if n > limit || int64(len(buf))+n > whole {
		if nonSync {
			return buf, errCommandTooLong
		}
		// The client waits for the continuation and will not send it now.
		return buf, &Error{Status: StatusBad, Code: CodeTooBig, Text: "literal too big"}
	}
	if err := c.in.hold(len(buf) + int(n)); err != nil {
		if nonSync {
			return buf, err
		}
		return buf, no(CodeLimit, "Too many large commands at the moment, try again")
	}
	if !nonSync {
		if err := c.continuation("Ready for literal data"); err != nil {
			return buf, err
		}
	}
	return c.in.appendLiteral(buf, int(n))
}

// continuation asks the client to go on (RFC 3501 7.5).
func (c *conn) continuation(text string) error {
	c.write("+ " + text + "\r\n")
	return c.out.Flush()
}

// run checks and runs a command.
func (c *conn) run(req *request) error {
	if req.name == "" {
		return c.finish(req, bad("expected a tag and a command"))
	}
	cmd, ok := c.server.commands[req.name]
	switch {
	case !ok:
		return c.finish(req, bad("unknown command"))
	case cmd.states&c.state == 0:
		return c.finish(req, &Error{Status: StatusBad, Text: "not allowed in this state"})
	}
	req.cond = cmd
	return c.finish(req, cmd.run(c, req))
}

// finish ends a command: news of the folder, then the tagged response. Only trouble that ends
// the connection is returned.
func (c *conn) finish(req *request, err error) error {
	var e *Error
	var ce *connError
	switch {
	case err == nil:
	case errors.Is(err, errResponded):
		return nil
	case errors.As(err, &ce), errors.Is(err, errClose), errors.Is(err, errLineTooLong),
		errors.Is(err, errCommandTooLong), errors.Is(err, errNoMemory),
		errors.Is(err, context.Canceled) && c.ctx.Err() != nil:
		return err
	case errors.As(err, &e):
	default:
		c.server.opt.Logger.Error("command failed", "command", req.name, "err", err)
		e = &Error{Code: CodeServerBug, Text: "Internal error"}
	}
	c.acquireOut() // IDLE has let it go
	if e != nil && e.Status == StatusBye {
		c.untagged("BYE %s", statusText(e.Code, e.Text))
		c.state = stateLogout
		return nil
	}
	if c.state == stateSelected && req.cond.poll != pollNever {
		if perr := c.poll(pollOptions{expunge: req.cond.poll == pollAll || req.uid}); perr != nil {
			return c.finish(req, c.lostMailbox(perr))
		}
	}
	if e == nil {
		c.write(req.tag + " OK " + statusText(req.okCode, req.name+" completed") + "\r\n")
		return nil
	}
	c.write(req.tag + " " + string(e.status()) + " " + statusText(e.Code, e.Text) + "\r\n")
	if e.Status == StatusBad {
		if c.badCommands++; c.badCommands >= c.server.opt.MaxErrors {
			c.untagged("BYE Too many bad commands")
			c.state = stateLogout
		}
	}
	return nil
}

// lostMailbox ends a session whose folder can no longer be read: the client must begin anew.
func (c *conn) lostMailbox(err error) error {
	var ce *connError
	if errors.As(err, &ce) || c.ctx.Err() != nil {
		return err
	}
	c.server.opt.Logger.Error("changes of the folder cannot be read", "err", err)
	return &Error{Status: StatusBye, Code: CodeUnavailable, Text: "Folder cannot be read"}
}

func statusText(code, text string) string {
	if text == "" {
		text = "-"
	}
	text = oneLine(text)
	if code == "" {
		return text
	}
	return "[" + oneLine(code) + "] " + text
}

// oneLine keeps texts of the backend from breaking the protocol.
func oneLine(s string) string {
	return string(bytes.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f {
			return '?'
		}
		return r
	}, []byte(s)))
}

// deselect closes the folder, if one is selected.
func (c *conn) deselect() {
	if c.mailbox != nil {
		_ = c.mailbox.Close()
	}
	c.mailbox, c.view, c.readOnly = nil, nil, false
	if c.state == stateSelected {
		c.state = stateAuthenticated
	}
}

// number formats for the many places that write one.
func number[T ~uint32 | ~uint64 | ~int64](n T) string { return strconv.FormatUint(uint64(n), 10) }
