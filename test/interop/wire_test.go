//go:build linux

package interop_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// wire is a connection to the server. Its methods return errors, not fail the test, because
// they run in goroutines too.
type wire struct {
	nc net.Conn
	r  *bufio.Reader
}

func dial(port int) (*wire, error) {
	nc, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Minute)
	if err != nil {
		return nil, err
	}
	_ = nc.SetDeadline(time.Now().Add(3 * time.Minute))
	return &wire{nc, bufio.NewReaderSize(nc, 1<<16)}, nil
}

// open dials and reads the greeting.
func (s *site) open(service int) *wire {
	s.t.Helper()
	w, err := dial(s.base + service)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(w.close)
	if _, err := w.line(); err != nil {
		s.t.Fatalf("greeting: %v", err)
	}
	return w
}

func (w *wire) close() { _ = w.nc.Close() }

func (w *wire) write(text string) error {
	_, err := io.WriteString(w.nc, text)
	return err
}

// line reads one line, without its end.
func (w *wire) line() (string, error) {
	l, err := w.r.ReadString('\n')
	if err != nil {
		return l, err
	}
	if !strings.HasSuffix(l, "\r\n") {
		return l, fmt.Errorf("the line %q does not end in CRLF", l)
	}
	return l[:len(l)-2], nil
}

// smtp writes text and reads one reply, of which the last line is returned.
func (w *wire) smtp(text string) (string, error) {
	if err := w.write(text); err != nil {
		return "", err
	}
	for {
		l, err := w.line()
		if err != nil || len(l) < 4 || l[3] != '-' {
			return l, err
		}
	}
}

// say is smtp (or POP3) with a reply that must begin with want.
func (w *wire) say(want, text string) error {
	l, err := w.smtp(text)
	if err != nil {
		return fmt.Errorf("%.60q: %w", text, err)
	}
	if !strings.HasPrefix(l, want) {
		return fmt.Errorf("%.60q: got %q, want %s", text, l, want)
	}
	return nil
}

// imap writes a command with the tag t and reads up to its completion, which is returned.
// Lines before it go to see, when there is one; literals go with them.
func (w *wire) imap(text string, see func(line string, literal []byte)) (string, error) {
	if err := w.write("t " + text + "\r\n"); err != nil {
		return "", err
	}
	for {
		l, err := w.line()
		if err != nil || strings.HasPrefix(l, "t ") {
			return l, err
		}
		var lit []byte
		if m := literalMark.FindStringSubmatch(l); m != nil {
			n, _ := strconv.Atoi(m[1])
			lit = make([]byte, n)
			if _, err := io.ReadFull(w.r, lit); err != nil {
				return "", err
			}
		}
		if see != nil {
			see(l, lit)
		}
	}
}

var literalMark = regexp.MustCompile(`\{(\d+)\}$`)

// ok is an IMAP command that must succeed.
func (w *wire) ok(text string) error {
	l, err := w.imap(text, nil)
	if err == nil && !strings.HasPrefix(l, "t OK") {
		err = fmt.Errorf("%.60q: %s", text, l)
	}
	return err
}

// login opens an IMAP session of a user.
func (s *site) login(user string) *wire {
	s.t.Helper()
	w := s.open(143)
	if err := w.ok("LOGIN " + user + " pw"); err != nil {
		s.t.Fatal(err)
	}
	return w
}

// bodies fetches every message of a mailbox by IMAP, in order of UID.
func (s *site) bodies(user, mailbox string) [][]byte {
	s.t.Helper()
	w := s.login(user)
	defer w.close()
	if err := w.ok("EXAMINE " + mailbox); err != nil {
		s.t.Fatal(err)
	}
	var out [][]byte
	l, err := w.imap("UID FETCH 1:* (UID BODY.PEEK[])", func(l string, lit []byte) {
		if strings.Contains(l, "FETCH (") {
			out = append(out, lit)
		}
	})
	if err != nil || !strings.HasPrefix(l, "t OK") {
		s.t.Fatalf("FETCH: %q %v", l, err)
	}
	return out
}

// retr fetches every message by POP3.
func (s *site) retr(user string) [][]byte {
	s.t.Helper()
	w := s.open(110)
	defer w.close()
	var n, size int
	if err := w.say("+OK", "USER "+user+"\r\n"); err != nil {
		s.t.Fatal(err)
	}
	if err := w.say("+OK", "PASS pw\r\n"); err != nil {
		s.t.Fatal(err)
	}
	l, err := w.smtp("STAT\r\n")
	if _, serr := fmt.Sscanf(l, "+OK %d %d", &n, &size); err != nil || serr != nil {
		s.t.Fatalf("STAT: %q %v", l, err)
	}
	out := make([][]byte, n)
	for i := range out {
		if err := w.say("+OK", fmt.Sprintf("RETR %d\r\n", i+1)); err != nil {
			s.t.Fatal(err)
		}
		if out[i], err = w.dotted(); err != nil {
			s.t.Fatal(err)
		}
		size -= len(out[i])
	}
	if size != 0 {
		s.t.Errorf("STAT tells %d bytes more than RETR gave", size)
	}
	return out
}

// dotted reads a multi-line POP3 reply (RFC 1939 3).
func (w *wire) dotted() ([]byte, error) {
	var b bytes.Buffer
	for {
		l, err := w.r.ReadSlice('\n')
		if err == bufio.ErrBufferFull {
			b.Write(l)
			for err == bufio.ErrBufferFull {
				l, err = w.r.ReadSlice('\n')
				b.Write(l)
			}
			if err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		if string(l) == ".\r\n" {
			return b.Bytes(), nil
		}
		b.Write(bytes.TrimPrefix(l, []byte(".")))
	}
}

// mx opens an SMTP session on port 25.
func (s *site) mx() (*wire, error) {
	w, err := dial(s.base + 25)
	if err != nil {
		return nil, err
	}
	if err = w.say("220", ""); err == nil {
		err = w.say("250", "EHLO c.test\r\n")
	}
	return w, err
}

// deliver sends one message, lines ended by CRLF, to a user; the reply to it is returned.
func (w *wire) deliver(user string, msg []byte) (string, error) {
	err := w.write("MAIL FROM:<s@out.test>\r\nRCPT TO:<" + user + "@pillarbox.test>\r\nDATA\r\n")
	if err != nil {
		return "", err
	}
	for _, want := range []string{"250", "250", "354"} {
		if err := w.say(want, ""); err != nil {
			return "", err
		}
	}
	return w.smtp(string(stuffed(msg)))
}

// stuffed is a message as DATA has it: dots doubled, the last line ended, CRLF.CRLF.
func stuffed(msg []byte) []byte {
	out := make([]byte, 0, len(msg)+16)
	for l := range bytes.SplitAfterSeq(msg, []byte("\r\n")) {
		if len(l) > 0 && l[0] == '.' {
			out = append(out, '.')
		}
		out = append(out, l...)
	}
	if len(out) > 0 && !bytes.HasSuffix(out, []byte("\r\n")) {
		out = append(out, "\r\n"...)
	}
	return append(out, ".\r\n"...)
}

// secure begins TLS on the connection.
func (w *wire) secure() error {
	// What the certificate says is clients_test.go's business.
	tc := tls.Client(w.nc, &tls.Config{InsecureSkipVerify: true})
	if err := tc.Handshake(); err != nil {
		return err
	}
	w.nc, w.r = tc, bufio.NewReaderSize(tc, 1<<16)
	return nil
}
