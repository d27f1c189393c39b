package pop3

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// transaction is the state after login (RFC 1939 5).
func (c *conn) transaction(verb, arg string) {
	switch verb {
	case "STAT":
		c.ok(fmt.Sprintf("%d %d", c.left, c.octets()))
	case "LIST":
		c.list(arg, func(i int) string { return strconv.FormatInt(c.messages[i].Size, 10) })
	case "UIDL":
		c.list(arg, func(i int) string { return c.messages[i].UIDL })
	case "RETR":
		if i, ok := c.number(arg); ok {
			c.send(i, -1)
		}
	case "TOP":
		c.top(arg)
	case "DELE":
		if i, ok := c.number(arg); ok {
			c.deleted[i] = true
			c.left--
			c.ok("message deleted")
		}
	case "RSET":
		clear(c.deleted)
		c.left = len(c.messages)
		c.ok(fmt.Sprintf("%d messages", c.left))
	case "NOOP":
		c.ok("")
	case "QUIT":
		c.update()
	case "USER", "PASS", "AUTH", "STLS", "UTF8":
		c.fail("logged in already")
	default:
		c.fail("unknown command")
	}
}

func (c *conn) octets() int64 {
	var n int64
	for i, m := range c.messages {
		if !c.deleted[i] {
			n += m.Size
		}
	}
	return n
}

// number reads a message number. When it is none it replies and returns false.
func (c *conn) number(arg string) (i int, ok bool) {
	n, err := strconv.ParseUint(arg, 10, 31)
	switch {
	case err != nil:
		c.fail("a message number is needed")
	case n == 0 || n > uint64(len(c.messages)):
		c.fail("no such message")
	case c.deleted[n-1]:
		c.fail("message is deleted")
	default:
		return int(n) - 1, true
	}
	return 0, false
}

// list is LIST and UIDL, of one message or of all.
func (c *conn) list(arg string, value func(i int) string) {
	if arg != "" {
		if i, ok := c.number(arg); ok {
			c.ok(arg + " " + value(i))
		}
		return
	}
	c.ok(fmt.Sprintf("%d messages", c.left))
	for i := range c.messages {
		if !c.deleted[i] {
			c.writeLine(strconv.Itoa(i+1) + " " + value(i))
		}
	}
	c.writeLine(".")
}

// top is TOP (RFC 1939 7): the header and so many lines of the body.
func (c *conn) top(arg string) {
	first, second, _ := strings.Cut(arg, " ")
	lines, err := strconv.ParseUint(strings.TrimSpace(second), 10, 31)
	if err != nil {
		c.fail("a message number and a number of lines are needed")
		return
	}
	if i, ok := c.number(first); ok {
		c.send(i, int(lines))
	}
}

// send sends a message, or with lines >= 0 its beginning.
func (c *conn) send(i, lines int) {
	r, err := c.drop.Open(i)
	if err != nil {
		c.err(replyFor(err))
		return
	}
	defer func() { _ = r.Close() }()
	if lines < 0 {
		c.ok(strconv.FormatInt(c.messages[i].Size, 10) + " octets")
	} else {
		c.ok("top of the message follows")
	}
	if err := sendText(c.bw, r, lines); err != nil {
		// There is no way to say it: the connection is cut with the message open.
		c.s.o.Logger.Warn("message not sent in full", "peer", c.info.Remote, "err", err)
		c.quit = true
		_ = c.raw.Close()
	}
}

// sendText copies r with dots doubled at line starts and the final dot (RFC 1939 3). A bare LF
// counts as a line end here, because many clients take it for one: a dot behind it must not look
// like the end. With lines >= 0 it stops after the header and so many lines.
func sendText(w *bufio.Writer, r io.Reader, lines int) error {
	br := bufio.NewReaderSize(r, 16<<10)
	start, header, empty := true, true, true
	var last [2]byte
	for {
		frag, err := br.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read message: %w", err)
		}
		if start && !header && lines >= 0 && len(frag) > 0 {
			if lines == 0 {
				break
			}
			lines--
		}
		if start && len(frag) > 0 && frag[0] == '.' {
			if werr := w.WriteByte('.'); werr != nil {
				return werr
			}
		}
		if _, werr := w.Write(frag); werr != nil {
			return werr
		}
		empty = empty && len(frag) == 0
		if len(frag) >= 2 {
			last = [2]byte{frag[len(frag)-2], frag[len(frag)-1]}
		} else if len(frag) == 1 {
			last = [2]byte{last[1], frag[0]}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if start && (string(frag) == "\r\n" || string(frag) == "\n") {
			header = false
		}
		start = err == nil
	}
	if !empty && last != [2]byte{'\r', '\n'} {
		if _, err := w.WriteString("\r\n"); err != nil {
			return err
		}
	}
	_, err := w.WriteString(".\r\n")
	return err
}

// update is QUIT in the TRANSACTION state (RFC 1939 6).
func (c *conn) update() {
	c.quit = true
	var idx []int
	for i, gone := range c.deleted {
		if gone {
			idx = append(idx, i)
		}
	}
	var err error
	if len(idx) > 0 {
		err = c.drop.Remove(c.ctx, idx)
	}
	// Free before the reply: who has read it may log in again at once.
	c.release()
	if err != nil {
		e := replyFor(err)
		c.err(&Error{e.Code, "some deleted messages were not removed: " + e.Message})
		return
	}
	c.ok("closing")
}

// release gives the maildrop free, once.
func (c *conn) release() {
	if c.drop != nil {
		c.drop.Close()
		c.drop = nil
	}
}
