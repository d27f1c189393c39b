package smtp

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
)

// ready replies and returns false when a message cannot come now.
func (c *conn) ready() *Error {
	switch {
	case !c.inMail:
		return &Error{503, [3]int{5, 5, 1}, "MAIL comes first"}
	case c.rcpts == 0:
		return &Error{554, [3]int{5, 5, 1}, "no valid recipients"} // RFC 5321 3.3
	}
	return nil
}

// data is DATA (RFC 5321 4.1.1.4).
func (c *conn) data(arg string) {
	if !c.greeted() {
		return
	}
	if strings.TrimSpace(arg) != "" {
		c.fail(501, "5.5.4", "DATA takes no parameter")
		return
	}
	if e := c.ready(); e != nil {
		c.errors++
		c.replyError(e)
		return
	}
	c.reply(354, "", "end with CRLF.CRLF")
	c.arm(inData, c.s.o.DataTimeout)
	r := &dataReader{br: c.br, check: c.textCheck()}
	id, err := c.session.Data(c.ctx, r)
	r.drain()
	c.finish(id, err, r.check.err)
}

func (c *conn) textCheck() textCheck {
	return textCheck{limit: c.s.o.MaxSize, normalize: c.s.o.NormalizeNewlines}
}

// finish replies to a message. What the reader found outweighs what the Session says: a message
// that did not arrive as it should is never confirmed.
func (c *conn) finish(id string, err, readErr error) {
	c.arm(inCommand, c.s.o.IdleTimeout)
	switch {
	case readErr != nil && !errors.As(readErr, new(*Error)):
		c.clearMail()
		c.endWith(readErr)
		return
	case readErr != nil:
		c.replyError(replyFor(readErr, errLocal))
	case err != nil:
		c.replyError(replyFor(err, errLocal))
	default:
		c.reply(250, "2.0.0", "ok: queued as "+id)
	}
	c.clearMail()
}

// textCheck counts and judges the bytes of a message. Its err is the first thing wrong.
type textCheck struct {
	limit     int64 // of the size; not positive: none
	normalize bool
	size      int64
	line      int
	err       error
}

func (t *textCheck) fail(err error) {
	if t.err == nil {
		t.err = err
	}
}

// add counts n bytes of a line.
func (t *textCheck) add(n int) {
	t.size += int64(n)
	t.line += n
	if t.limit > 0 && t.size > t.limit {
		t.fail(ErrTooLarge)
	}
	if t.line > maxDataLine {
		t.fail(ErrLongLine)
	}
}

// endLine counts the end of a line.
func (t *textCheck) endLine() {
	t.line = 0
	t.add(2)
	t.line = 0
}

// lost wraps an error of the connection. Its cause is never io.EOF, which tells who reads a
// message that it is whole.
type lost struct{ cause error }

func lose(cause error) *lost {
	if errors.Is(cause, io.EOF) {
		cause = io.ErrUnexpectedEOF
	}
	return &lost{cause}
}

func (e *lost) Error() string   { return ErrDataLost.Error() + ": " + e.cause.Error() }
func (e *lost) Unwrap() []error { return []error{ErrDataLost, e.cause} }

// lineState is where in a line a reader is.
type lineState uint8

const (
	lineStart lineState = iota
	lineMiddle
	lineCR    // behind CR
	lineDot   // behind a dot at the start
	lineDotCR // behind that and CR
	lineEnd   // behind the last CRLF
)

// dataReader reads DATA up to CRLF.CRLF and removes the dots (RFC 5321 4.5.2). After something
// wrong it gives the error, and drain reads on to the end.
type dataReader struct {
	br    *bufio.Reader
	check textCheck
	state lineState
	out   []byte // ready for the caller
	room  [2]byte
}

func (r *dataReader) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if len(r.out) > 0 {
			m := copy(p[n:], r.out)
			n += m
			r.out = r.out[m:]
			continue
		}
		if r.check.err != nil {
			return n, r.check.err
		}
		if r.state == lineEnd {
			return n, io.EOF
		}
		if n > 0 && r.br.Buffered() == 0 {
			break
		}
		m, err := r.advance(p[n:])
		n += m
		if err != nil {
			r.check.fail(err)
		}
	}
	return n, nil
}

// drain reads to the end of the message, or of the connection. What is lost is not waited for again: a
// client that went silent would have twice the time.
func (r *dataReader) drain() {
	if errors.As(r.check.err, new(*lost)) {
		return
	}
	var sink [4096]byte
	for r.state != lineEnd {
		if _, err := r.advance(sink[:]); err != nil {
			// A lost end outweighs all: the connection cannot go on.
			r.check.err = err
			return
		}
		r.out = nil
	}
}

// advance makes one step: it consumes at least one byte, and copies what belongs to the message
// to p or leaves it in out. An error is one of the connection.
func (r *dataReader) advance(p []byte) (int, error) {
	b, err := r.br.Peek(1)
	if err != nil {
		return 0, lose(err)
	}
	switch r.state {
	case lineStart:
		if b[0] == '.' {
			_, _ = r.br.Discard(1)
			r.state = lineDot
		} else {
			r.state = lineMiddle
		}
	case lineDot:
		if b[0] == '\r' {
			_, _ = r.br.Discard(1)
			r.state = lineDotCR
		} else {
			r.state = lineMiddle
		}
	case lineDotCR:
		if b[0] == '\n' {
			_, _ = r.br.Discard(1)
			r.state = lineEnd
			return 0, nil
		}
		// A dot and a bare CR: wrong, and no end of anything. The byte may be another CR.
		r.check.fail(ErrBareNewline)
		r.state = lineMiddle
	case lineCR:
		if b[0] == '\n' {
			_, _ = r.br.Discard(1)
			r.newline(lineStart)
			return 0, nil
		}
		r.check.fail(ErrBareNewline)
		r.state = lineMiddle
	case lineMiddle:
		return r.middle(p), nil
	}
	return 0, nil
}

// middle copies up to the next CR, LF or NUL, or handles that.
func (r *dataReader) middle(p []byte) int {
	b, _ := r.br.Peek(r.br.Buffered())
	b = b[:min(len(b), len(p))]
	if i := indexSpecial(b); i != 0 {
		if i > 0 {
			b = b[:i]
		}
		n := copy(p, b)
		r.check.add(n)
		_, _ = r.br.Discard(n)
		return n
	}
	_, _ = r.br.Discard(1)
	switch b[0] {
	case '\r':
		r.state = lineCR
	case 0:
		r.check.fail(ErrNUL)
	default:
		if r.check.normalize {
			// A dot behind it means nothing: only CRLF begins a line on the wire.
			r.newline(lineMiddle)
		} else {
			r.check.fail(ErrBareNewline)
		}
	}
	return 0
}

func (r *dataReader) newline(next lineState) {
	r.state = next
	r.check.endLine()
	r.room = [2]byte{'\r', '\n'}
	r.out = r.room[:]
}

// indexSpecial returns the index of the first CR, LF or NUL in b, or -1.
func indexSpecial(b []byte) int {
	i := bytes.IndexByte(b, '\n')
	if i >= 0 {
		b = b[:i]
	}
	if j := bytes.IndexByte(b, '\r'); j >= 0 {
		i, b = j, b[:j]
	}
	if j := bytes.IndexByte(b, 0); j >= 0 {
		i = j
	}
	return i
}

// bdat is BDAT (RFC 3030 2). The bytes of a chunk follow the command whatever is wrong with it,
// so they are read in any case.
func (c *conn) bdat(arg string) {
	size, last, ok := parseChunk(arg)
	if !ok {
		// How many bytes follow is not known.
		c.reply(501, "5.5.4", "malformed BDAT, closing")
		c.quit = true
		return
	}
	var e *Error
	switch {
	case c.session == nil:
		e = &Error{503, [3]int{5, 5, 1}, "EHLO comes first"}
	case c.chunkFailed:
		e = &Error{503, [3]int{5, 5, 1}, "an earlier chunk was refused"}
	default:
		e = c.ready()
	}
	r := &chunkReader{c: c, left: size, last: last, check: c.textCheck()}
	c.arm(inData, c.s.o.DataTimeout)
	if e != nil {
		if err := r.skip(); err != nil {
			c.endWith(err)
			return
		}
		c.errors++
		c.chunkFailed = true
		c.replyError(e)
		return
	}
	id, err := c.session.Data(c.ctx, r)
	// A refusal in the middle is the reply to the chunk that is under way.
	if lostErr := r.skip(); lostErr != nil {
		r.check.err = lostErr
	}
	switch {
	case r.aborted:
		// RSET or QUIT between chunks had its reply.
		c.clearMail()
		return
	case err == nil && r.check.err == nil && !r.complete():
		err = errLocal
	}
	failed := err != nil || r.check.err != nil
	partial := failed && !r.last
	c.finish(id, err, r.check.err)
	c.chunkFailed = partial
}

func parseChunk(arg string) (size int64, last, ok bool) {
	fields := strings.Fields(arg)
	if len(fields) == 2 && strings.EqualFold(fields[1], "LAST") {
		last = true
	} else if len(fields) != 1 {
		return 0, false, false
	}
	n, err := strconv.ParseUint(fields[0], 10, 62)
	return int64(n), last, err == nil
}

// chunkReader gives the bytes of one message sent in chunks. At the end of a chunk it replies and
// reads the next command itself, so that Session.Data needs no goroutine.
type chunkReader struct {
	c       *conn
	left    int64 // of the chunk
	last    bool
	check   textCheck
	state   lineState
	out     []byte
	room    [2]byte
	ended   bool // the end of the message was given to the caller
	aborted bool
}

func (r *chunkReader) complete() bool { return r.ended && r.left == 0 && r.last }

func (r *chunkReader) Read(p []byte) (int, error) {
	for len(p) > 0 {
		if len(r.out) > 0 {
			n := copy(p, r.out)
			r.out = r.out[n:]
			return n, nil
		}
		if r.check.err != nil {
			return 0, r.check.err
		}
		if r.ended {
			return 0, io.EOF
		}
		if r.left == 0 {
			if err := r.between(); err != nil {
				r.check.fail(err)
			}
			continue
		}
		n, err := r.advance(p)
		if err != nil {
			r.check.fail(lose(err))
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, nil
}

// between is at the end of a chunk: the end of the message, or the next command.
func (r *chunkReader) between() error {
	if r.last {
		switch r.state {
		case lineCR:
			return ErrBareNewline
		case lineMiddle:
			// POP3 and DATA cannot carry a last line without its end, so it gets one.
			r.newline()
		}
		r.ended = true
		return nil
	}
	r.c.reply(250, "2.0.0", "chunk received")
	for {
		r.c.arm(inCommand, r.c.s.o.IdleTimeout)
		line, err := r.c.readLine(maxCommandLine)
		if err != nil {
			return lose(err)
		}
		verb, arg, _ := strings.Cut(line, " ")
		switch strings.ToUpper(verb) {
		case "BDAT":
			size, last, ok := parseChunk(arg)
			if !ok {
				r.c.reply(501, "5.5.4", "malformed BDAT, closing")
				r.c.quit, r.aborted = true, true
				return ErrDataLost
			}
			r.left, r.last = size, last
			r.c.arm(inData, r.c.s.o.DataTimeout)
			return nil
		case "NOOP":
			r.c.reply(250, "2.0.0", "ok")
		case "RSET", "QUIT", "EHLO", "HELO":
			// These end the message. They run when the Session has let go of it.
			r.aborted = true
			r.c.pending = line
			return ErrDataLost
		default:
			r.c.fail(503, "5.5.1", "only BDAT may follow")
			if r.c.tooManyErrors() {
				r.aborted = true
				return ErrDataLost
			}
		}
	}
}

// advance takes one step in the chunk, which has bytes left.
func (r *chunkReader) advance(p []byte) (int, error) {
	b, err := r.c.br.Peek(1)
	if err != nil {
		return 0, err
	}
	if r.state == lineCR {
		if b[0] != '\n' {
			r.check.fail(ErrBareNewline)
			return 0, nil
		}
		r.discard(1)
		r.newline()
		return 0, nil
	}
	b, _ = r.c.br.Peek(r.c.br.Buffered())
	b = b[:min(int64(len(b)), int64(len(p)), r.left)]
	if i := indexSpecial(b); i != 0 {
		if i > 0 {
			b = b[:i]
		}
		n := copy(p, b)
		r.check.add(n)
		r.discard(n)
		r.state = lineMiddle
		return n, nil
	}
	switch {
	case b[0] == '\r':
		r.discard(1)
		r.state = lineCR
	case b[0] == 0:
		r.check.fail(ErrNUL)
	case r.check.normalize:
		r.discard(1)
		r.newline()
	default:
		r.check.fail(ErrBareNewline)
	}
	return 0, nil
}

func (r *chunkReader) discard(n int) {
	_, _ = r.c.br.Discard(n)
	r.left -= int64(n)
}

func (r *chunkReader) newline() {
	r.state = lineStart
	r.check.endLine()
	r.room = [2]byte{'\r', '\n'}
	r.out = r.room[:]
}

// skip reads the rest of the chunk, unless the connection is lost already.
func (r *chunkReader) skip() error {
	if errors.As(r.check.err, new(*lost)) {
		return r.check.err
	}
	n, err := io.CopyN(io.Discard, r.c.br, r.left)
	r.left -= n
	if err != nil {
		return lose(err)
	}
	return nil
}
