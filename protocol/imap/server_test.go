package imap

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

type testServer struct {
	*Server
	addr string
	mem  *memBackend
}

func startServer(t testing.TB, mem *memBackend, o Options) *testServer {
	t.Helper()
	if o.PlaintextAuth == nil {
		o.PlaintextAuth = func(net.Addr) bool { return true }
	}
	o.Backend = mem
	s := NewServer(o)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		stop(s)
		if err := <-done; !errors.Is(err, ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
	return &testServer{s, l.Addr().String(), mem}
}

// stop cuts all connections off.
func stop(s *Server) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.Shutdown(ctx)
}

// client speaks line by line.
type client struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

func (s *testServer) dial(t testing.TB) *client {
	t.Helper()
	nc, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(2 * time.Minute))
	c := &client{t, nc, bufio.NewReader(nc)}
	return c
}

func (s *testServer) dialTLS(t testing.TB) *client {
	t.Helper()
	nc, err := tls.Dial("tcp", s.addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(2 * time.Minute))
	return &client{t, nc, bufio.NewReaderSize(nc, 16)}
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, s); err != nil {
		c.t.Fatalf("send %q: %v", s, err)
	}
}

func (c *client) line() string {
	c.t.Helper()
	s, err := c.r.ReadString('\n')
	if err != nil {
		c.t.Fatalf("read: %v (%q)", err, s)
	}
	if !strings.HasSuffix(s, "\r\n") {
		c.t.Fatalf("line without CR: %q", s)
	}
	return strings.TrimSuffix(s, "\r\n")
}

// until reads to the line with a prefix and returns all.
func (c *client) until(prefix string) string {
	c.t.Helper()
	var all []string
	for {
		l := c.line()
		all = append(all, l)
		if strings.HasPrefix(l, prefix) {
			return strings.Join(all, "\n")
		}
	}
}

func (c *client) do(tag, cmd string) string {
	c.t.Helper()
	c.send(tag + " " + cmd + "\r\n")
	return c.until(tag + " ")
}

func (c *client) login() {
	c.t.Helper()
	c.line()
	if r := c.do("l", "LOGIN alice secret"); !strings.Contains(r, "l OK") {
		c.t.Fatal(r)
	}
}

func (c *client) closed() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.r); err != nil || len(rest) > 0 {
		c.t.Fatalf("connection is open: %q, %v", rest, err)
	}
}

// TestTranscripts plays testdata/*.txt: "C: " is sent, "S: " is what must come, "S~ " a regular
// expression; "@" begins a step of the test itself.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := startServer(t, loaded(), Options{})
			c := s.dial(t)
			for i, line := range strings.Split(strings.TrimRight(string(data), "\n"), "\n") {
				play(t, s, c, i+1, line)
			}
		})
	}
}

func play(t *testing.T, s *testServer, c *client, n int, line string) {
	t.Helper()
	kind, text := line[:min(3, len(line))], line[min(3, len(line)):]
	switch {
	case line == "" || strings.HasPrefix(line, "#"):
	case kind == "C: " || line == "C:":
		c.send(text + "\r\n")
	case kind == "S: " || line == "S:":
		if got := c.line(); got != text {
			t.Fatalf("line %d:\n got %q\nwant %q", n, got, text)
		}
	case kind == "S~ ":
		if got := c.line(); !regexp.MustCompile("^" + text + "$").MatchString(got) {
			t.Fatalf("line %d:\n got %q\nwant %q", n, got, text)
		}
	case strings.HasPrefix(line, "@"):
		step(t, s, c, strings.Fields(line[1:]))
	default:
		t.Fatalf("line %d: %q", n, line)
	}
}

// step is what happens outside of the session under test.
func step(t *testing.T, s *testServer, c *client, f []string) {
	t.Helper()
	ctx := context.Background()
	other := func(name string) Mailbox {
		m, _, err := (&memSession{s.mem}).Select(ctx, name, SelectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	switch f[0] {
	case "login":
		c.login()
	case "select":
		if r := c.do("s", "SELECT "+f[1]); !strings.Contains(r, "s OK") {
			t.Fatal(r)
		}
	case "deliver":
		s.mem.deliver(f[1], nil, "Subject: New\r\n\r\nnew\r\n")
	case "flag", "remove":
		var uid UID
		for _, d := range f[2] {
			uid = uid*10 + UID(d-'0')
		}
		m := other(f[1])
		flag := Deleted
		if f[0] == "flag" {
			flag = Flag(f[3])
		}
		set := UIDSet{{uid, uid}}
		if _, err := m.Store(ctx, set, StoreChange{Mode: StoreAdd, Flags: []Flag{flag}}); err != nil {
			t.Fatal(err)
		}
		if f[0] == "remove" {
			if err := m.Expunge(ctx, set); err != nil {
				t.Fatal(err)
			}
		}
	default:
		t.Fatalf("step %q", f)
	}
}

func testTLS(t testing.TB) func() *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	}
	return func() *tls.Config { return config }
}

func TestStartTLS(t *testing.T) {
	s := startServer(t, loaded(), Options{
		TLS: testTLS(t), PlaintextAuth: func(net.Addr) bool { return false },
	})
	c := s.dial(t)
	if g := c.line(); !strings.Contains(g, "STARTTLS") || !strings.Contains(g, "LOGINDISABLED") {
		t.Fatal(g)
	}
	if r := c.do("a", "LOGIN alice secret"); !strings.Contains(r, "a NO [PRIVACYREQUIRED]") {
		t.Fatal(r)
	}
	if r := c.do("b", "AUTHENTICATE PLAIN AGFsaWNlAHNlY3JldA=="); !strings.Contains(r, "b NO [PRIVACY") {
		t.Fatal(r)
	}
	if r := c.do("c", "STARTTLS"); !strings.HasPrefix(r, "c OK") {
		t.Fatal(r)
	}
	tc := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true})
	c.conn, c.r = tc, bufio.NewReader(tc)
	if r := c.do("d", "CAPABILITY"); strings.Contains(r, "STARTTLS") || !strings.Contains(r, "AUTH=PLAIN") {
		t.Fatal(r)
	}
	if r := c.do("e", "LOGIN alice secret"); !strings.Contains(r, "e OK [CAPABILITY") {
		t.Fatal(r)
	}
}

func TestStartTLSInjection(t *testing.T) {
	s := startServer(t, loaded(), Options{TLS: testTLS(t)})
	c := s.dial(t)
	c.line()
	c.send("a STARTTLS\r\nb LOGIN alice secret\r\n")
	if r := c.line(); !strings.HasPrefix(r, "* BYE") {
		t.Fatal(r)
	}
	c.closed()
}

func TestLimits(t *testing.T) {
	for _, tc := range []struct{ name, send, want string }{
		{"long line", "a " + strings.Repeat("x", maxGuest+1) + "\r\n", "* BYE Command too long"},
		{
			"many literals", "a LOGIN " + strings.Repeat("{4000+}\r\n"+strings.Repeat("x", 4000)+" ", 9),
			"* BYE Command too long",
		},
		{"big literal", "a LOGIN {5000}\r\n", "a BAD [TOOBIG]"},
		{"big literal+", "a LOGIN {5000+}\r\n", "* BYE Command too long"},
		{"huge literal", "a LOGIN {999999999999999999}\r\n", "a BAD [TOOBIG]"},
		{"no number", "a LOGIN {x}\r\n", "a BAD"},
		{"no command", "x\r\n", "* BAD"},
		{"empty line", "\r\n", "* BAD"},
		{"unknown", "a FROB\r\n", "a BAD unknown command"},
		{"state", "a FETCH 1 FLAGS\r\n", "a BAD not allowed"},
		{"many bad", strings.Repeat("a x\r\n", 20), "* BYE Too many bad"},
		{"bad logins", strings.Repeat("a LOGIN alice x\r\n", 5), "* BYE Too many failed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := startServer(t, loaded(), Options{})
			c := s.dial(t)
			c.line()
			c.send(tc.send)
			c.until(tc.want)
		})
	}
}

func TestShutdownSaysBye(t *testing.T) {
	t.Run("clear", func(t *testing.T) {
		s := startServer(t, loaded(), Options{})
		shutdown(t, s, s.dial(t), s.dial(t))
	})
	t.Run("TLS", func(t *testing.T) {
		s := startServer(t, loaded(), Options{TLS: testTLS(t), ImplicitTLS: true})
		shutdown(t, s, s.dialTLS(t), s.dialTLS(t))
	})
}

func shutdown(t *testing.T, s *testServer, idle, waiting *client) {
	t.Helper()
	idle.login()
	waiting.login()
	idle.do("s", "SELECT INBOX")
	idle.send("i IDLE\r\n")
	idle.until("+ ")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*client{idle, waiting} {
		if l := c.line(); !strings.HasPrefix(l, "* BYE") {
			t.Error(l)
		}
		c.closed()
	}
}

func TestShutdownCutsOff(t *testing.T) {
	s := startServer(t, loaded(), Options{})
	c := s.dial(t)
	c.login()
	c.send("a APPEND INBOX {100}\r\n")
	c.until("+ ")
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if d, _ := (&memSession{s.mem}).Status(ctx, "INBOX"); d.Messages != 3 {
		t.Errorf("%d messages", d.Messages)
	}
}

func TestIdleTimeout(t *testing.T) {
	s := startServer(t, loaded(), Options{LoginTimeout: 50 * time.Millisecond})
	c := s.dial(t)
	c.line()
	if l := c.line(); !strings.HasPrefix(l, "* BYE Autologout") {
		t.Error(l)
	}
	c.closed()
}

func TestAppendLimits(t *testing.T) {
	s := startServer(t, loaded(), Options{MaxMessage: 1000})
	c := s.dial(t)
	c.login()
	if r := c.do("a", "APPEND INBOX {1001}"); !strings.HasPrefix(r, "a NO [TOOBIG]") {
		t.Error(r)
	}
	c.send("b APPEND INBOX {1001+}\r\n" + strings.Repeat("x", 1001) + "\r\n")
	if r := c.until("b "); !strings.HasPrefix(r, "b NO [TOOBIG]") {
		t.Error(r)
	}
	c.send("c APPEND INBOX {3+}\r\na\x00b\r\n")
	if r := c.until("c "); !strings.HasPrefix(r, "c NO [CANNOT]") {
		t.Error(r)
	}
	c.send("d APPEND INBOX {3+}\r\nabc)\r\n")
	if r := c.until("d "); !strings.HasPrefix(r, "d BAD") {
		t.Error(r)
	}
	c.send("e APPEND {5+}\r\nINBOX (\\Seen) {1000+}\r\n" + strings.Repeat("x", 1000) + "\r\n")
	if r := c.until("e "); !strings.HasPrefix(r, "e OK [APPENDUID 1000 4]") {
		t.Error(r)
	}
	c.send("f APPEND INBOX {9999+}\r\n")
	c.until("* BYE [TOOBIG]")
}

func TestUnreadableMessage(t *testing.T) {
	s := startServer(t, loaded(), Options{})
	s.mem.broken = errMem
	c := s.dial(t)
	c.login()
	c.do("s", "SELECT INBOX")
	if r := c.do("a", "FETCH 1:3 (FLAGS BODY.PEEK[])"); r != "a NO [UNAVAILABLE] Some messages could not be read" {
		t.Error(r)
	}
	if r := c.do("b", "FETCH 1 FLAGS"); !strings.Contains(r, "b OK") {
		t.Error(r)
	}
	if r := c.do("c", "SEARCH BODY x"); !strings.Contains(r, "c NO [SERVERBUG]") {
		t.Error(r)
	}
}

// TestLargeMessage checks that a message is streamed in and out.
func TestLargeMessage(t *testing.T) {
	s := startServer(t, newMem(), Options{})
	c := s.dial(t)
	c.login()
	body := "Subject: big\r\n\r\n" + strings.Repeat("0123456789abcdef\r\n", 100_000)
	c.send("a APPEND INBOX {" + number(int64(len(body))) + "+}\r\n" + body + "\r\n")
	c.until("a OK")
	c.do("s", "SELECT INBOX")
	c.send("b FETCH 1 BODY[]\r\n")
	head := c.line()
	if want := "* 1 FETCH (BODY[] {" + number(int64(len(body))) + "}"; head != want {
		t.Fatal(head)
	}
	got := make([]byte, len(body))
	if _, err := io.ReadFull(c.r, got); err != nil || string(got) != body {
		t.Fatalf("body differs, %v", err)
	}
	c.until("b OK")
}

// TestIdleMemory holds many idle sessions against the promise of issue 3 (100 MB for 1,000).
func TestIdleMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("many connections")
	}
	const n = 200
	s := startServer(t, loaded(), Options{TLS: testTLS(t), ImplicitTLS: true})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range n {
		c := s.dialTLS(t)
		c.login()
		c.do("s", "SELECT INBOX")
		c.send("i IDLE\r\n")
		c.until("+ ")
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	used := int64(after.HeapInuse+after.StackInuse) - int64(before.HeapInuse+before.StackInuse)
	// The clients live in this process too.
	if each := used / n; each > 100_000 {
		t.Errorf("%d bytes for each connection and its client", each)
	} else {
		t.Logf("%d bytes for each connection and its client", each)
	}
}
