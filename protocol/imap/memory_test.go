package imap

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// All connections together have one budget for large commands; small ones need none of it.
func TestCommandMemory(t *testing.T) {
	s := startServer(t, loaded(), Options{CommandMemory: 100 << 10})
	login := func() *client {
		c := s.dial(t)
		c.until("* OK")
		c.send("l LOGIN alice secret\r\n")
		c.until("l OK")
		return c
	}
	// ends reads up to the end, which the server may bring while more is on its way to it.
	ends := func(c *client) {
		said, err := io.ReadAll(c.r)
		if err == nil && !strings.HasPrefix(string(said), "* BYE [UNAVAILABLE]") ||
			errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q %v", said, err)
		}
	}
	holder, other, line := login(), login(), login()
	holder.send("a CREATE {60000}\r\n")
	holder.until("+")

	other.send("a CREATE {60000}\r\n")
	if r := other.until("a "); !strings.HasPrefix(r, "a NO [LIMIT]") {
		t.Errorf("a second large literal: %q", r)
	}
	other.send("b NOOP\r\n")
	other.until("b OK") // the connection goes on
	line.send("a NOOP " + strings.Repeat("x", 60_000) + "\r\n")
	ends(line) // a line cannot be refused before it comes
	nonSync := login()
	nonSync.send("a CREATE {60000+}\r\n")
	ends(nonSync)

	holder.send(strings.Repeat("x", 60_000) + "\r\n")
	holder.until("a ")
	for range 3000 {
		if s.budget.used.Load() == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n := s.budget.used.Load(); n != 0 {
		t.Errorf("%d bytes are held by nobody", n)
	}
	other.send("c CREATE {60000}\r\n")
	other.until("+")
	_ = other.conn.Close() // one that goes in the middle gives back what it held
	for range 3000 {
		if s.budget.used.Load() == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d bytes are held by a connection that is gone", s.budget.used.Load())
}

// A connection that is cut while a command begins to wait ends as one that is lost: IDLE holds
// no buffer then to say anything.
func TestCutBeforeWait(t *testing.T) {
	s := NewServer(Options{Backend: loaded()})
	here, there := net.Pipe()
	_ = here.Close()
	c := newConn(s, there)
	c.Cut()
	var lost *connError
	if err := c.beginWait(true); !errors.As(err, &lost) {
		t.Errorf("a closed connection: %v", err)
	}
	if err := c.finish(&request{tag: "a", name: "IDLE"}, nil); err != nil || c.out == nil {
		t.Errorf("the end of a command without a buffer: %v", err)
	}
	c.close()
}
