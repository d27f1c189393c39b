package imap

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"
)

// isMessageNext tells whether the literal at the end of the text is the message of APPEND
// rather than the name of a folder.
func (r *request) isMessageNext() bool {
	_, _, err := r.parseAppend()
	here := r.pos
	r.pos = min(r.args, len(r.b))
	return err == nil && here < len(r.b) && r.b[here] == '{' &&
		bytes.IndexByte(r.b[here:], '\n') == len(r.b)-here-1
}

// parseAppend reads " mailbox [flags] [date-time] " up to the literal.
func (r *request) parseAppend() (name string, options AppendOptions, err error) {
	if err = r.space(); err != nil {
		return "", options, err
	}
	if name, err = r.astring(); err != nil {
		return "", options, err
	}
	if err = r.space(); err != nil {
		return "", options, err
	}
	if r.peek() == '(' {
		if options.Flags, err = r.flags(false); err != nil {
			return "", options, err
		}
		if err = r.space(); err != nil {
			return "", options, err
		}
	}
	if r.peek() == '"' {
		if options.Date, err = r.dateTime(); err != nil {
			return "", options, err
		}
		err = r.space()
	}
	return name, options, err
}

// appendMessage is APPEND (RFC 3501 6.3.11). The message goes to the backend while it comes in.
func (c *conn) appendMessage(req *request) error {
	name, options, err := req.parseAppend()
	if err != nil {
		return err
	}
	if !req.hasLiteral {
		return bad("expected a literal")
	}
	limit := c.server.opt.MaxMessage
	name, err = mailboxName(name)
	switch {
	case err != nil:
	case req.literal > limit:
		err = no(CodeTooBig, fmt.Sprintf("Messages may have %d bytes", limit))
	case req.literal == 0:
		err = bad("empty message") // RFC 3502 1: cancels
	case !req.nonSync:
		// A folder that is missing is told before the bytes are sent.
		_, err = c.session.Status(c.ctx, name)
		err = tryCreate(err)
	}
	if err != nil {
		return c.refuseLiteral(req, err)
	}
	if !req.nonSync {
		if err = c.continuation("Ready for message"); err != nil {
			return err
		}
	}
	options.Size = req.literal
	message := &messageReader{conn: c, left: req.literal}
	result, err := c.session.Append(c.ctx, name, options, message)
	if drainErr := message.drain(); drainErr != nil {
		return drainErr
	}
	if err != nil {
		return tryCreate(err)
	}
	req.okCode = fmt.Sprintf("APPENDUID %d %d", result.UIDValidity, result.UID)
	return nil
}

// tryCreate tells the client that making the folder would help (RFC 3501 7.1).
func tryCreate(err error) error {
	var e *Error
	if errors.As(err, &e) && e.Code == CodeNonExistent {
		return no(CodeTryCreate, e.Text)
	}
	return err
}

func isFatal(err error) bool {
	var ce *connError
	return errors.As(err, &ce) || errors.Is(err, errLineTooLong) || errors.Is(err, errNoMemory)
}

// refuseLiteral answers before a message. What a client sends without waiting must be read
// over; a peer that sends more than four times what is allowed is cut off.
func (c *conn) refuseLiteral(req *request, err error) error {
	if !req.nonSync {
		return err
	}
	if req.literal > 4*c.server.opt.MaxMessage {
		c.write(req.tag + " NO [" + CodeTooBig + "] Message is too big\r\n")
		return &Error{Status: StatusBye, Code: CodeTooBig, Text: "Message is too big"}
	}
	message := &messageReader{conn: c, left: req.literal}
	if drainErr := message.drain(); drainErr != nil {
		return drainErr
	}
	return err
}

// messageReader yields the literal of APPEND. It gives io.EOF only when the end of the command
// was seen too, so that the backend never commits what is answered with BAD.
type messageReader struct {
	conn     *conn
	left     int64
	lineRead bool  // the end of the command was read
	err      error // final
}

func (m *messageReader) Read(p []byte) (int, error) {
	switch {
	case m.err != nil:
		return 0, m.err
	case m.left == 0:
		m.err = m.readEnd()
		return 0, m.err
	}
	n, err := m.read(p)
	if err == nil && bytes.IndexByte(p[:n], 0) >= 0 {
		// RFC 3501 9: a literal holds no NUL; BINARY (RFC 3516) is not offered.
		err = no(CodeCannot, "Message holds a NUL")
	}
	if err != nil {
		m.err = err
		return 0, err
	}
	return n, nil
}

func (m *messageReader) read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if m.conn.in.buffered() == 0 {
		if err := m.conn.beginWait(false); err != nil {
			return 0, &connError{err}
		}
	}
	n, err := m.conn.in.Read(p[:min(int64(len(p)), m.left)])
	m.left -= int64(n)
	return n, err
}

// readEnd reads what is behind the literal, which must be the line end.
func (m *messageReader) readEnd() error {
	m.lineRead = true
	line, err := m.conn.in.appendLine(nil, maxLine)
	if err != nil {
		return err
	}
	if len(bytes.Trim(line, " \r\n")) > 0 {
		return bad("unexpected text behind the message")
	}
	return io.EOF
}

// drain reads over what the backend left. Only trouble with the connection is returned.
func (m *messageReader) drain() error {
	buf := make([]byte, bufferSize)
	for m.left > 0 && !isFatal(m.err) {
		if _, err := m.read(buf); err != nil {
			m.err = err
		}
	}
	if !m.lineRead && !isFatal(m.err) {
		m.err = m.readEnd()
	}
	if isFatal(m.err) {
		return m.err
	}
	return nil
}

// internalDate writes an INTERNALDATE (RFC 3501 9, date-time).
func internalDate(t time.Time) string { return t.Format(`"_2-Jan-2006 15:04:05 -0700"`) }
