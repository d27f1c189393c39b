package imapd_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"pillarbox/directory"
	"pillarbox/ese"
	"pillarbox/ese/esetest"
	"pillarbox/protocol/imap"
	"pillarbox/service/imapd"
	"pillarbox/store"
)

// client is a raw IMAP client that fails the test on what it does not expect.
type client struct {
	t *testing.T
	c net.Conn
	r *bufio.Reader
	n int
}

func start(t *testing.T) (*store.Store, func() *client) {
	s, _, dial := startWith(t)
	return s, dial
}

func startWith(t *testing.T) (*store.Store, *directory.Directory, func() *client) {
	t.Helper()
	g := esetest.Open(t, ese.Options{})
	ctx := context.Background()
	s, err := store.Open(ctx, g.In, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	db := g.Database("priv1.edb")
	dir, err := directory.Open(ctx, g.In, db, directory.Options{DefaultDomain: "x.test", HashMemoryKiB: 1024, HashPasses: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := dir.AddDomain(ctx, "x.test"); err != nil {
		t.Fatal(err)
	}
	if _, err := dir.AddUser(ctx, "alice@x.test", directory.Secret{Password: "secret"}); err != nil {
		t.Fatal(err)
	}
	srv := imap.NewServer(imap.Options{
		Backend: imapd.New(s, dir, nil), PlaintextAuth: func(net.Addr) bool { return true },
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-done; err != nil && !errors.Is(err, net.ErrClosed) {
			t.Logf("serve: %v", err)
		}
		found, err := s.Check(ctx)
		if err != nil || len(found) > 0 {
			t.Errorf("check: %v %v", found, err)
		}
	})
	return s, dir, func() *client {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		cl := &client{t: t, c: c, r: bufio.NewReader(c)}
		cl.line()
		return cl
	}
}

func (c *client) line() string {
	c.t.Helper()
	_ = c.c.SetReadDeadline(time.Now().Add(time.Minute))
	l, err := c.r.ReadString('\n')
	if err != nil {
		c.t.Fatalf("read: %v (got %q)", err, l)
	}
	return strings.TrimRight(l, "\r\n")
}

func (c *client) send(format string, a ...any) {
	c.t.Helper()
	if _, err := fmt.Fprintf(c.c, format, a...); err != nil {
		c.t.Fatal(err)
	}
}

// do sends a command and returns everything up to its tagged OK.
func (c *client) do(format string, a ...any) string {
	c.t.Helper()
	c.n++
	tag := fmt.Sprintf("a%d", c.n)
	c.send(tag+" "+format+"\r\n", a...)
	var all []string
	for {
		l := c.line()
		all = append(all, l)
		if strings.HasPrefix(l, tag+" ") {
			if !strings.HasPrefix(l, tag+" OK") {
				c.t.Fatalf("%s: %s", fmt.Sprintf(format, a...), l)
			}
			return strings.Join(all, "\n")
		}
	}
}

func (c *client) want(got string, parts ...string) {
	c.t.Helper()
	for _, p := range parts {
		if !strings.Contains(got, p) {
			c.t.Errorf("no %q in:\n%s", p, got)
		}
	}
}

func TestMailboxLife(t *testing.T) {
	_, dial := start(t)
	c, d := dial(), dial()
	for _, x := range []*client{c, d} {
		x.do("LOGIN alice secret")
	}
	c.want(c.do(`LIST "" "*"`), "INBOX", `\Sent`, `\Trash`, `\Drafts`)
	d.do("SELECT INBOX")
	d.send("i1 IDLE\r\n")
	d.want(d.line(), "+")

	msg := "From: a@x.test\r\nSubject: hello\r\nMessage-ID: <1@x>\r\n\r\nbody text\r\n"
	c.want(c.do("APPEND INBOX (\\Seen $Label) {%d+}\r\n%s", len(msg), msg), "APPENDUID")
	for !strings.Contains(d.line(), "1 EXISTS") {
	}
	d.send("DONE\r\n")
	for !strings.HasPrefix(d.line(), "i1 OK") {
	}

	c.want(c.do("SELECT INBOX"), "1 EXISTS", "UIDNEXT 2", "HIGHESTMODSEQ", `\*`)
	c.want(c.do("FETCH 1 (UID FLAGS ENVELOPE BODYSTRUCTURE RFC822.SIZE BODY.PEEK[])"),
		`"hello"`, `\Seen`, "$Label", "body text", `"text" "plain"`, fmt.Sprint("RFC822.SIZE ", len(msg)))
	c.want(c.do("STORE 1 +FLAGS (\\Flagged)"), `\Flagged`)
	d.want(d.do("NOOP"), `\Flagged`)
	c.want(c.do("SEARCH FLAGGED SUBJECT hello"), "* SEARCH 1")
	c.want(c.do("CREATE Work/Old"), "OK")
	c.want(c.do("COPY 1 Work/Old"), "COPYUID")
	c.want(c.do("MOVE 1 Trash"), "COPYUID", "1 EXPUNGE")
	d.want(d.do("NOOP"), "1 EXPUNGE")
	c.want(c.do(`STATUS "Work/Old" (MESSAGES UIDNEXT HIGHESTMODSEQ)`), "MESSAGES 1", "UIDNEXT 2")
	c.want(c.do("SELECT Trash"), "1 EXISTS")
	c.do("STORE 1 +FLAGS.SILENT (\\Deleted)")
	c.want(c.do("EXPUNGE"), "1 EXPUNGE")
	c.do("RENAME Work/Old Archive/2026")
	c.do("DELETE Archive/2026")
	c.do("LOGOUT")
}

// Many messages are fetched in batches, each exactly once and in order.
// A user who is disabled is told so and cut off, in IDLE and between commands.
func TestRevoked(t *testing.T) {
	_, dir, dial := startWith(t)
	idle, quiet := dial(), dial()
	for _, c := range []*client{idle, quiet} {
		c.do("LOGIN alice@x.test secret")
		c.do("SELECT INBOX")
	}
	idle.send("i IDLE\r\n")
	if l := idle.line(); !strings.HasPrefix(l, "+") {
		t.Fatal(l)
	}
	if err := dir.SetDisabled(context.Background(), "alice@x.test", true); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*client{idle, quiet} {
		if l := c.line(); !strings.HasPrefix(l, "* BYE The account was changed") {
			t.Error(l)
		}
	}
	late := dial()
	late.send("l LOGIN alice@x.test secret\r\n")
	if l := late.line(); !strings.HasPrefix(l, "l NO ") {
		t.Error(l)
	}
}

func TestFetchBatches(t *testing.T) {
	s, dial := start(t)
	_ = s
	c := dial()
	c.do("LOGIN alice secret")
	const n = 600
	for i := range n {
		m := fmt.Sprintf("Subject: %d\r\n\r\n%d\r\n", i, i)
		c.do("APPEND INBOX {%d+}\r\n%s", len(m), m)
	}
	c.do("SELECT INBOX")
	for _, cmd := range []string{"FETCH 1:* (UID)", "UID FETCH 1:* (BODY.PEEK[TEXT])"} {
		got := strings.Count(c.do("%s", cmd), "FETCH (")
		if got != n {
			t.Errorf("%s: %d of %d", cmd, got, n)
		}
	}
	c.want(c.do("SEARCH BODY 599"), "SEARCH 600")
}
