package imap

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// Limits of what a client may send.
const (
	maxLine    = 64 << 10
	maxLiteral = 64 << 10
	maxCommand = 1 << 20
	maxGuest   = 32 << 10 // of a command before login: strangers get little memory
	bufferSize = 4 << 10
)

// Trouble with a command's bytes that ends the connection, since what follows cannot be told
// from data.
var (
	errLineTooLong    = errors.New("command line too long")
	errCommandTooLong = errors.New("command too long")
)

// wireReader reads a connection. It holds a buffer only while there is something to read, so
// that idle connections cost none.
type wireReader struct {
	conn  net.Conn
	pool  *sync.Pool // of *[bufferSize]byte
	buf   *[bufferSize]byte
	r, w  int
	first [1]byte

	budget *budget
	held   int64 // of the budget, by the command that is being read or run
}

// fill reads more; the buffer must be used up. It waits for the first byte without a buffer.
func (r *wireReader) fill() error {
	r.release()
	n, err := r.conn.Read(r.first[:])
	if n == 0 {
		if err == nil {
			err = io.ErrNoProgress
		}
		return &connError{err}
	}
	r.buf = r.pool.Get().(*[bufferSize]byte)
	r.buf[0] = r.first[0]
	r.r, r.w = 0, 1
	return nil
}

// more reads behind the unread bytes, which must be none and the buffer held; it falls back to
// fill, which waits.
func (r *wireReader) more() error {
	if r.buf == nil {
		return r.fill()
	}
	n, err := r.conn.Read(r.buf[:])
	if n == 0 && err == nil {
		err = io.ErrNoProgress
	}
	if n == 0 {
		return &connError{err}
	}
	r.r, r.w = 0, n
	return nil
}

// release gives an empty buffer back.
func (r *wireReader) release() {
	if r.buf != nil && r.r == r.w {
		r.pool.Put(r.buf)
		r.buf, r.r, r.w = nil, 0, 0
	}
}

func (r *wireReader) buffered() int { return r.w - r.r }

// Read gives bytes of a literal.
func (r *wireReader) Read(p []byte) (int, error) {
	if r.r == r.w {
		if err := r.more(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.buf[r.r:r.w])
	r.r += n
	return n, nil
}

// appendLine appends the rest of the line up to LF to dst; the line may have limit bytes. A
// bare LF ends a line too: telnet users send it, and here it cannot smuggle anything.
func (r *wireReader) appendLine(dst []byte, limit int) ([]byte, error) {
	for start := len(dst); ; {
		if r.r == r.w {
			if err := r.more(); err != nil {
				return dst, err
			}
		}
		chunk := r.buf[r.r:r.w]
		i := bytes.IndexByte(chunk, '\n')
		if i >= 0 {
			chunk = chunk[:i+1]
		}
		if len(dst)-start+len(chunk) > limit {
			return dst, errLineTooLong
		}
		if err := r.hold(len(dst) + len(chunk)); err != nil {
			return dst, err
		}
		dst = append(dst, chunk...)
		r.r += len(chunk)
		if i >= 0 {
			return dst, nil
		}
	}
}

// appendLiteral appends n bytes, for which hold has made room.
func (r *wireReader) appendLiteral(dst []byte, n int) ([]byte, error) {
	start := len(dst)
	dst = append(dst, make([]byte, n)...)
	_, err := io.ReadFull(r, dst[start:])
	return dst, err
}

// trailingLiteral finds "{n}" or "{n+}" at the end of a line (RFC 7888).
func trailingLiteral(line []byte) (n int64, nonSync, ok bool) {
	line = bytes.TrimRight(line, "\r\n")
	if len(line) < 3 || line[len(line)-1] != '}' {
		return 0, false, false
	}
	i := bytes.LastIndexByte(line, '{')
	if i < 0 {
		return 0, false, false
	}
	digits := line[i+1 : len(line)-1]
	if digits, ok = bytes.CutSuffix(digits, []byte("+")); ok {
		nonSync = true
	}
	if len(digits) == 0 || len(digits) > 18 {
		return 0, false, false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false, false
		}
	}
	n, err := strconv.ParseInt(string(digits), 10, 64)
	return n, nonSync, err == nil
}

// deadlineWriter sets a time limit on each write, so that a client that does not read cannot
// hold a session for ever.
type deadlineWriter struct {
	conn  net.Conn
	limit time.Duration
}

func (w *deadlineWriter) Write(p []byte) (int, error) {
	if err := w.conn.SetWriteDeadline(time.Now().Add(w.limit)); err != nil {
		return 0, &connError{err}
	}
	n, err := w.conn.Write(p)
	if err != nil {
		err = &connError{err}
	}
	return n, err
}

// buffers are the server's pools.
type buffers struct {
	read, write, copying sync.Pool
}

func newBuffers() *buffers {
	b := new(buffers)
	b.read.New = func() any { return new([bufferSize]byte) }
	b.write.New = func() any { return bufio.NewWriterSize(nil, bufferSize) }
	b.copying.New = func() any { return new([32 << 10]byte) }
	return b
}
