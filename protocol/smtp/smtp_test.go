package smtp

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pillarbox/test/program"
)

// recorder is a Backend that keeps what it was given.
type recorder struct {
	mu       sync.Mutex
	messages []string
	opens    int
	closes   int
}

type recorderSession struct {
	b     *recorder
	info  *ConnInfo
	from  Path
	rcpts []Path
	early bool
}

func (b *recorder) NewSession(_ context.Context, info *ConnInfo) (Session, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opens++
	return &recorderSession{b: b, info: info}, nil
}

func (s *recorderSession) Auth(_ context.Context, user, password string) error {
	if user == "alice" && password == "secret" {
		return nil
	}
	return &Error{535, [3]int{5, 7, 8}, "authentication failed"}
}

func (s *recorderSession) Mail(_ context.Context, from Path, _ MailOptions) error {
	s.from, s.rcpts, s.early = from, nil, false
	return nil
}

func (s *recorderSession) Rcpt(_ context.Context, to Path, _ RcptOptions) error {
	switch to.Local {
	case "unknown":
		return &Error{550, [3]int{5, 1, 1}, "no such user"}
	case "broken":
		return errors.New("disk on fire")
	case "panic":
		panic("planted")
	case "early":
		s.early = true
	}
	s.rcpts = append(s.rcpts, to)
	return nil
}

func (s *recorderSession) Data(_ context.Context, r io.Reader) (string, error) {
	if s.early {
		return "", &Error{550, [3]int{5, 7, 1}, "not today"}
	}
	body, err := io.ReadAll(r)
	if err != nil {
		return "", fmt.Errorf("receive: %w", err)
	}
	var to []string
	for _, p := range s.rcpts {
		to = append(to, p.String())
	}
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.b.messages = append(s.b.messages,
		fmt.Sprintf("%s %s %q", s.from, strings.Join(to, ","), body))
	return fmt.Sprintf("Q%d", len(s.b.messages)), nil
}

func (s *recorderSession) Reset() { s.from, s.rcpts = Path{}, nil }

func (s *recorderSession) Close() {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.b.closes++
}

func testTLS(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"mx.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

func testServer(t testing.TB, change func(*Options)) (*Server, *recorder) {
	t.Helper()
	b := &recorder{}
	o := Options{Backend: b, Hostname: "mx.test", MaxSize: 100000}
	if change != nil {
		change(&o)
	}
	s := NewServer(o)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.opens != b.closes {
			t.Errorf("%d sessions opened, %d closed", b.opens, b.closes)
		}
	})
	return s, b
}

// listen serves on a loopback port.
func listen(t testing.TB, s *Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve(l) }()
	return l.Addr().String()
}

func dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(2 * time.Minute))
	return nc
}

// pipe is a connection to the server without a network. In a bubble of synctest time-outs of the server come
// when everybody waits, however busy the machine is.
func pipe(t *testing.T, s *Server) (net.Conn, *bufio.Reader) {
	t.Helper()
	here, there := net.Pipe()
	go s.ServeConn(there)
	t.Cleanup(func() { _ = here.Close() })
	return here, bufio.NewReader(here)
}

func scriptOptions(t *testing.T, words string) func(*Options) {
	return func(o *Options) {
		for _, w := range strings.Fields(words) {
			key, value, _ := strings.Cut(w, "=")
			n, _ := strconv.Atoi(value)
			switch key {
			case "submission":
				o.Mode = Submission
			case "plaintext":
				o.PlaintextAuth = func(net.Addr) bool { return true }
			case "tls":
				cfg := testTLS(t)
				o.TLS = func() *tls.Config { return cfg }
			case "normalize":
				o.NormalizeNewlines = true
			case "dsn":
				o.DSN = true
			case "size":
				o.MaxSize = int64(n)
			case "recipients":
				o.MaxRecipients = n
			case "errors":
				o.MaxErrors = n
			default:
				t.Fatalf("option %q", w)
			}
		}
	}
}

// unescape turns a C line into bytes: Go escapes, CRLF at the end unless it ends in \c.
func unescape(t *testing.T, s string) string {
	s, open := strings.CutSuffix(s, `\c`)
	var b strings.Builder
	for s != "" {
		if s[0] != '\\' {
			b.WriteByte(s[0])
			s = s[1:]
			continue
		}
		if strings.HasPrefix(s, `\"`) {
			b.WriteString(`\"`)
			s = s[2:]
			continue
		}
		r, _, rest, err := strconv.UnquoteChar(s, 0)
		if err != nil {
			t.Fatalf("line %q: %v", s, err)
		}
		b.WriteByte(byte(r))
		s = rest
	}
	if !open {
		b.WriteString("\r\n")
	}
	return b.String()
}

// TestTranscripts plays the conversations in testdata. Consecutive C lines are one write, S lines
// are what comes back, M lines the messages received.
func TestTranscripts(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(names) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			playTranscript(t, string(text))
		})
	}
}

func playTranscript(t *testing.T, text string) {
	lines := strings.Split(text, "\n")
	options := ""
	if w, ok := strings.CutPrefix(lines[0], "options:"); ok {
		options = w
	}
	s, b := testServer(t, scriptOptions(t, options))
	nc := dial(t, listen(t, s))
	br := bufio.NewReader(nc)
	send := ""
	seen := 0
	for i, line := range lines {
		if c, ok := strings.CutPrefix(line, "C: "); ok {
			send += unescape(t, c)
			continue
		}
		if line == "C:" {
			send += "\r\n"
			continue
		}
		if send != "" && !strings.HasPrefix(line, "#") {
			if _, err := io.WriteString(nc, send); err != nil {
				t.Fatalf("line %d: %v", i, err)
			}
			send = ""
		}
		if want, ok := strings.CutPrefix(line, "S: "); ok {
			got, err := br.ReadString('\n')
			switch {
			case want == "EOF" && err != nil && got == "":
			case err != nil || got != want+"\r\n":
				t.Fatalf("line %d: got %q, %v, want %q", i+1, got, err, want)
			}
		}
		if want, ok := strings.CutPrefix(line, "M: "); ok {
			b.mu.Lock()
			if seen >= len(b.messages) || b.messages[seen] != want {
				t.Errorf("line %d: messages %q, want %s", i+1, b.messages[seen:], want)
			}
			b.mu.Unlock()
			seen++
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.messages {
		if strings.Contains(m, "evil@") && strings.HasPrefix(m, "evil@") {
			t.Errorf("smuggled: %s", m)
		}
	}
}

func expect(t *testing.T, br *bufio.Reader, prefix string) string {
	t.Helper()
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			t.Fatalf("waiting for %q: %v", prefix, err)
		}
		if len(line) > 3 && line[3] == '-' {
			continue
		}
		if !strings.HasPrefix(line, prefix) {
			t.Fatalf("got %q, want %q", line, prefix)
		}
		return line
	}
}

func command(t *testing.T, nc net.Conn, br *bufio.Reader, cmd, prefix string) {
	t.Helper()
	if _, err := io.WriteString(nc, cmd+"\r\n"); err != nil {
		t.Fatal(err)
	}
	expect(t, br, prefix)
}

func beginMail(t *testing.T, nc net.Conn, br *bufio.Reader) {
	t.Helper()
	expect(t, br, "220")
	command(t, nc, br, "EHLO c.test", "250")
	command(t, nc, br, "MAIL FROM:<a@c.test>", "250")
	command(t, nc, br, "RCPT TO:<bob@mx.test>", "250")
}

func beginData(t *testing.T, nc net.Conn, br *bufio.Reader) {
	t.Helper()
	beginMail(t, nc, br)
	command(t, nc, br, "DATA", "354")
}

func expectEOF(t *testing.T, br *bufio.Reader) {
	t.Helper()
	if b, err := io.ReadAll(br); err != nil && !errors.Is(err, net.ErrClosed) || len(b) > 0 {
		t.Errorf("after the end: %q, %v", b, err)
	}
}

func TestTimeouts(t *testing.T) {
	const idle, data = 50 * time.Millisecond, 80 * time.Millisecond
	run := func(name string, want time.Duration, fn func(*testing.T, net.Conn, *bufio.Reader)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, b := testServer(t, func(o *Options) { o.IdleTimeout, o.DataTimeout = idle, data })
				nc, br := pipe(t, s)
				begun := time.Now()
				fn(t, nc, br)
				expect(t, br, "421 4.4.2")
				if took := time.Since(begun); took != want {
					t.Errorf("it ends after %v, not %v", took, want)
				}
				expectEOF(t, br)
				// What comes late is not run.
				_, _ = io.WriteString(nc, ".\r\nMAIL FROM:<evil@c.test>\r\n")
				if len(b.messages) != 0 {
					t.Errorf("messages %q", b.messages)
				}
			})
		})
	}
	run("command", idle, func(t *testing.T, nc net.Conn, br *bufio.Reader) {
		expect(t, br, "220")
		_, _ = io.WriteString(nc, "NOO")
	})
	run("data", data, func(t *testing.T, nc net.Conn, br *bufio.Reader) {
		beginData(t, nc, br)
		_, _ = io.WriteString(nc, "half a message\r\n")
	})
	run("chunk", data, func(t *testing.T, nc net.Conn, br *bufio.Reader) {
		beginMail(t, nc, br)
		_, _ = io.WriteString(nc, "BDAT 100 LAST\r\nhalf a message\r\n")
	})
	run("slow", idle, func(t *testing.T, nc net.Conn, br *bufio.Reader) {
		expect(t, br, "220")
		var wg sync.WaitGroup
		wg.Go(func() { // a byte now and then does not keep a command alive
			for range 40 {
				if _, err := nc.Write([]byte("x")); err != nil {
					return
				}
				time.Sleep(idle / 5)
			}
		})
		t.Cleanup(wg.Wait)
	})
}

func TestLongLines(t *testing.T) {
	s, b := testServer(t, func(o *Options) { o.MaxSize = 8 << 20 })
	nc := dial(t, listen(t, s))
	br := bufio.NewReader(nc)
	expect(t, br, "220")
	command(t, nc, br, "NOOP "+strings.Repeat("x", 100000), "500 5.5.2 line too long")
	command(t, nc, br, "NOOP "+strings.Repeat("x", 4096-5), "250")
	command(t, nc, br, "NOOP "+strings.Repeat("x", 4097-5), "500")
	command(t, nc, br, "HELO c.test", "250")
	for _, n := range []int{1 << 20, 1<<20 + 1} {
		command(t, nc, br, "MAIL FROM:<a@c.test>", "250")
		command(t, nc, br, "RCPT TO:<bob@mx.test>", "250")
		command(t, nc, br, "DATA", "354")
		want := "250"
		if n > 1<<20 {
			want = "554 5.6.0"
		}
		command(t, nc, br, strings.Repeat("y", n)+"\r\n.", want)
	}
	if len(b.messages) != 1 {
		t.Errorf("%d messages", len(b.messages))
	}
}

func TestShutdown(t *testing.T) {
	const limit = 300 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		s, b := testServer(t, func(o *Options) { o.ShutdownData = limit })
		_, ibr := pipe(t, s)
		busy, bbr := pipe(t, s)
		stuck, sbr := pipe(t, s)
		expect(t, ibr, "220")
		beginData(t, busy, bbr)
		beginData(t, stuck, sbr)
		_, _ = io.WriteString(busy, "begun\r\n")
		done := make(chan error, 1)
		start := time.Now()
		go func() { done <- s.Shutdown(context.Background()) }()
		expect(t, ibr, "421 4.3.2")
		expectEOF(t, ibr)
		_, _ = io.WriteString(busy, "ended\r\n.\r\n")
		expect(t, bbr, "250")
		expect(t, bbr, "421 4.3.2")
		expect(t, sbr, "421 4.3.2")
		if err := <-done; err != nil || time.Since(start) != limit {
			t.Errorf("shutdown: %v after %v", err, time.Since(start))
		}
		if len(b.messages) != 1 {
			t.Errorf("messages %q", b.messages)
		}
	})
	s, _ := testServer(t, nil)
	addr := listen(t, s)
	expect(t, bufio.NewReader(dial(t, addr)), "220")
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("still listening")
	}
}

func TestLimitsAndPanic(t *testing.T) {
	s, _ := testServer(t, func(o *Options) { o.MaxConnsPerIP = 2 })
	addr := listen(t, s)
	a, b := dial(t, addr), dial(t, addr)
	abr, bbr := bufio.NewReader(a), bufio.NewReader(b)
	expect(t, abr, "220")
	expect(t, bbr, "220")
	cbr := bufio.NewReader(dial(t, addr))
	expect(t, cbr, "421 4.7.0")
	command(t, a, abr, "HELO c.test", "250")
	command(t, a, abr, "MAIL FROM:<a@c.test>", "250")
	command(t, a, abr, "RCPT TO:<panic@mx.test>", "421 4.3.0")
	expectEOF(t, abr)
	// The other connection lives, and there is room for a new one.
	command(t, b, bbr, "NOOP", "250")
	for range 3000 {
		line, _ := bufio.NewReader(dial(t, addr)).ReadString('\n')
		if strings.HasPrefix(line, "220") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the place of an ended connection is not free")
}

// Who tries out names is sent away; a user with an old address book is not.
func TestRefusedAddressesCount(t *testing.T) {
	for _, user := range []bool{false, true} {
		s, _ := testServer(t, func(o *Options) {
			o.MaxErrors, o.Auth = 5, true
			o.PlaintextAuth = func(net.Addr) bool { return true }
		})
		nc := dial(t, listen(t, s))
		br := bufio.NewReader(nc)
		expect(t, br, "220")
		command(t, nc, br, "HELO c.test", "250")
		if user {
			command(t, nc, br, "AUTH PLAIN AGFsaWNlAHNlY3JldA==", "235")
		}
		command(t, nc, br, "MAIL FROM:<a@c.test>", "250")
		for range 5 {
			command(t, nc, br, "RCPT TO:<unknown@mx.test>", "550 5.1.1")
		}
		if user {
			command(t, nc, br, "RCPT TO:<bob@mx.test>", "250")
			continue
		}
		expect(t, br, "421 4.7.0")
		expectEOF(t, br)
	}
}

func newTestClient(t *testing.T, addr string) *Client {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(t.Context(), nc, ClientOptions{Hostname: "client.test"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func rcpts(names ...string) []Rcpt {
	var out []Rcpt
	for _, n := range names {
		p, err := ParseMailbox(n)
		if err != nil {
			panic(err)
		}
		out = append(out, Rcpt{To: p})
	}
	return out
}

func TestClientAndServer(t *testing.T) {
	cfg := testTLS(t)
	s, b := testServer(t, func(o *Options) {
		o.Mode = Submission
		o.TLS = func() *tls.Config { return cfg }
	})
	c := newTestClient(t, listen(t, s))
	if err := c.Auth("alice", "secret"); err == nil {
		t.Error("a password was sent in clear")
	}
	if err := c.StartTLS(&tls.Config{InsecureSkipVerify: true}); err != nil {
		t.Fatal(err)
	}
	if state, ok := c.TLS(); !ok || !state.HandshakeComplete {
		t.Error("no TLS")
	}
	var e *Error
	if err := c.Auth("alice", "wrong"); !errors.As(err, &e) || e.Code != 535 || e.Enhanced != [3]int{5, 7, 8} {
		t.Errorf("wrong password: %v", err)
	}
	if err := c.Auth("alice", "secret"); err != nil {
		t.Fatal(err)
	}
	from := Path{Local: "alice", Domain: "mx.test"}
	for _, text := range []struct{ in, want string }{
		{"a\r\n.b\r\n..\r\n", "a\r\n.b\r\n..\r\n"},
		{".", ".\r\n"},
		{"", ""},
		{"x\n.\ny\rz\r", "x\r\n.\r\ny\r\nz\r\n"},
		{strings.Repeat("long line ", 20000/10) + "\r\n", strings.Repeat("long line ", 20000/10) + "\r\n"},
	} {
		for _, size := range []int{1, 3, 1 << 20} {
			res, err := c.Send(Envelope{From: from, EightBit: true, Size: int64(len(text.in))},
				rcpts("bob@mx.test", "unknown@mx.test", "broken@mx.test"),
				&slowReader{strings.NewReader(text.in), size})
			if err != nil {
				t.Fatal(err)
			}
			r := res.Recipients
			if !r[0].OK() || r[1].Code != 550 || r[1].Enhanced != [3]int{5, 1, 1} || r[2].Code != 451 {
				t.Errorf("result %+v", r)
			}
			if want := fmt.Sprintf("alice@mx.test bob@mx.test %q", text.want); b.messages[len(b.messages)-1] != want {
				t.Errorf("%q arrived as %s", text.in, b.messages[len(b.messages)-1])
			}
		}
	}
	n := len(b.messages)
	for _, c2 := range []struct {
		env  Envelope
		to   string
		code int
	}{
		{Envelope{From: from, Size: 1 << 30}, "bob@mx.test", 552},
		{Envelope{From: from}, "unknown@mx.test", 550},
		{Envelope{From: from}, "early@mx.test", 550},
	} {
		res, err := c.Send(c2.env, rcpts(c2.to), strings.NewReader("x\r\n"))
		if err != nil || res.Recipients[0].Code != c2.code || res.Recipients[0].Err() == nil {
			t.Errorf("%s: %+v, %v", c2.to, res, err)
		}
	}
	many := make([]string, 950)
	for i := range many {
		many[i] = fmt.Sprintf("user%d@mx.test", i)
	}
	if res, err := c.Send(Envelope{From: from}, rcpts(many...), strings.NewReader("x\r\n")); err != nil || !res.Recipients[949].OK() {
		t.Errorf("many recipients: %v", err)
	}
	if len(b.messages) != n+1 {
		t.Errorf("%d messages more", len(b.messages)-n)
	}
	bad := []Rcpt{{To: Path{Local: "x\r\nRSET", Domain: "mx.test"}}}
	if res, err := c.Send(Envelope{From: from}, bad, strings.NewReader("x")); err == nil {
		t.Errorf("a line break in a recipient: %+v", res)
	}
	_ = c.Close()
}

type slowReader struct {
	r io.Reader
	n int
}

func (s *slowReader) Read(p []byte) (int, error) { return s.r.Read(p[:min(len(p), s.n)]) }

// TestClientOutcome plays servers that fail at one moment or other.
func TestClientOutcome(t *testing.T) {
	brokenText := io.MultiReader(strings.NewReader("half"), &failingReader{})
	for _, c := range []struct {
		name    string
		script  []string // replies; the connection is cut behind the last
		text    io.Reader
		unknown bool
		code    int
		wantErr bool
	}{
		{"cut at MAIL", []string{"220 x", "502 no", "250 x"}, nil, false, 0, true},
		{"MAIL refused", []string{"220 x", "502 no", "250 x", "451 4.7.1 later", "250 ok"}, nil, false, 451, false},
		{"cut at DATA", []string{"220 x", "502 no", "250 x", "250 ok", "250 ok"}, nil, false, 0, true},
		{"DATA refused", []string{"220 x", "502 no", "250 x", "250 ok", "250 ok", "554 no", "250 ok"}, nil, false, 554, false},
		{"cut after the dot", []string{"220 x", "502 no", "250 x", "250 ok", "250 ok", "354 go"}, nil, true, 0, true},
		{"text fails", []string{"220 x", "502 no", "250 x", "250 ok", "250 ok", "354 go"}, brokenText, false, 0, true},
		{"refused after the dot", []string{"220 x", "502 no", "250 x", "250 ok", "250 ok", "354 go", "550-5.7.1 spam\r\n550 5.7.1 ham"}, nil, false, 550, false},
		{"garbage", []string{"220 x", "502 no", "250 x", "banana"}, nil, false, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			go func() {
				defer func() { _ = theirs.Close() }()
				br := bufio.NewReader(theirs)
				inText := false
				for i, reply := range c.script {
					for i > 0 {
						line, err := br.ReadString('\n')
						if err != nil {
							return
						}
						if !inText || line == ".\r\n" {
							break
						}
					}
					inText = strings.HasPrefix(reply, "354")
					if _, err := io.WriteString(theirs, reply+"\r\n"); err != nil {
						return
					}
				}
				for inText {
					line, err := br.ReadString('\n')
					inText = err == nil && line != ".\r\n"
				}
			}()
			cl, err := NewClient(t.Context(), ours, ClientOptions{Timeout: time.Minute, FinalTimeout: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = cl.Close() }()
			text := c.text
			if text == nil {
				text = strings.NewReader("text\r\n")
			}
			res, err := cl.Send(Envelope{}, rcpts("a@b.test"), text)
			if (err != nil) != c.wantErr || res.Unknown != c.unknown || res.Recipients[0].Code != c.code {
				t.Errorf("result %+v, %v", res, err)
			}
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	ours, theirs := net.Pipe()
	defer func() { _ = theirs.Close() }()
	if _, err := NewClient(ctx, ours, ClientOptions{}); err == nil {
		t.Error("a silent server was waited for longer than the context")
	}
}

type failingReader struct{}

func (*failingReader) Read([]byte) (int, error) { return 0, errors.New("disk on fire") }

func TestWith(t *testing.T) {
	state := &tls.ConnectionState{}
	for _, c := range []struct {
		info ConnInfo
		utf8 bool
		want string
	}{
		{ConnInfo{}, false, "SMTP"},
		{ConnInfo{ESMTP: true}, false, "ESMTP"},
		{ConnInfo{ESMTP: true, TLS: state, User: "u"}, false, "ESMTPSA"},
		{ConnInfo{ESMTP: true, TLS: state}, true, "UTF8SMTPS"},
	} {
		if got := c.info.With(c.utf8); got != c.want {
			t.Errorf("%+v: %s", c.info, got)
		}
	}
}

// FuzzServer feeds arbitrary bytes to the server in each state; it must end the session when
// the input ends, and confirm no message but those it was given whole.
func FuzzServer(f *testing.F) {
	states := []string{
		"",
		"EHLO x\r\n",
		"EHLO x\r\nMAIL FROM:<a@b.test>\r\n",
		"EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<b@b.test>\r\n",
		"EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<b@b.test>\r\nDATA\r\n",
		"EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<b@b.test>\r\nBDAT 4\r\n",
		"EHLO x\r\nAUTH LOGIN\r\n",
	}
	f.Add(0, []byte("HELO x\r\nQUIT\r\n"))
	f.Add(4, []byte("x\r\n.\r\n"))
	f.Add(4, []byte("x\n.\r\n.\r"))
	f.Add(5, []byte("abcdBDAT 3 LAST\r\nx\r\nRSET\r\n"))
	f.Add(6, []byte("YWxpY2U=\r\n*\r\n"))
	f.Fuzz(func(t *testing.T, state int, in []byte) {
		b := &recorder{}
		s := NewServer(Options{
			Backend: b, Hostname: "mx.test", Auth: true,
			PlaintextAuth: func(net.Addr) bool { return true },
		})
		ours, theirs := net.Pipe()
		go func() {
			_, _ = io.WriteString(ours, states[uint(state)%uint(len(states))])
			_, _ = ours.Write(in)
			time.Sleep(time.Millisecond)
			_ = ours.Close()
		}()
		go func() { _, _ = io.Copy(io.Discard, ours) }()
		s.ServeConn(theirs)
		if b.opens != b.closes {
			t.Error("a session was not closed")
		}
		for _, m := range b.messages {
			if strings.Contains(m, `\x00`) && !strings.Contains(m, `\\x00`) {
				t.Errorf("a NUL was accepted: %s", m)
			}
		}
	})
}

// FuzzDataReader compares the reader with a plain reading of RFC 5321.
func FuzzDataReader(f *testing.F) {
	f.Add([]byte("a\r\n..b\r\n.\r\nrest"), 1)
	f.Add([]byte(".\r\n"), 7)
	f.Add([]byte("a\r\r\n.\r\n"), 3)
	f.Add([]byte("a\n.\r\n\r\n.\r\n"), 100)
	f.Fuzz(func(t *testing.T, in []byte, size int) {
		end := -1
		text := "\r\n" + string(in)
		if i := strings.Index(text, "\r\n.\r\n"); i >= 0 {
			end = i + 5 - 2
		}
		br := bufio.NewReaderSize(strings.NewReader(string(in)), 16)
		r := &dataReader{br: br}
		got, err := io.ReadAll(&slowReader{r, 1 + int(uint(size)%50)})
		r.drain()
		if end < 0 {
			if r.check.err == nil || !errors.Is(r.check.err, ErrDataLost) {
				t.Fatalf("no end, but %v", r.check.err)
			}
			return
		}
		rest, _ := io.ReadAll(br)
		if string(rest) != string(in[end:]) {
			t.Fatalf("%q: ended before %q, want %q", in, rest, in[end:])
		}
		body := text[2 : end+2-3]
		clean := strings.ReplaceAll(body, "\r\n", "")
		if strings.ContainsAny(clean, "\r\n\x00") {
			if err == nil {
				t.Fatalf("%q was accepted as %q", in, got)
			}
			return
		}
		want := strings.ReplaceAll("\r\n"+body, "\r\n.", "\r\n")[2:]
		if err != nil || string(got) != want {
			t.Fatalf("%q: %q, %v, want %q", in, got, err, want)
		}
	})
}

func TestSwaks(t *testing.T) {
	swaks, err := exec.LookPath("swaks")
	if err != nil {
		t.Skip("swaks is not installed")
	}
	said, err := program.Run(t, time.Minute, exec.Command(swaks, "--support"))
	if err != nil || !strings.Contains(said, "TLS supported") {
		t.Skipf("swaks has no TLS (libnet-ssleay-perl): %v", err)
	}
	cfg := testTLS(t)
	s, b := testServer(t, func(o *Options) {
		o.Mode = Submission
		o.TLS = func() *tls.Config { return cfg }
	})
	out, err := program.Run(t, time.Minute, exec.Command(swaks, "--server", listen(t, s), "--tls",
		"--auth-user", "alice", "--auth-password", "secret", "--from", "alice@mx.test",
		"--to", "bob@mx.test"))
	if err != nil || len(b.messages) != 1 {
		t.Errorf("%v\n%s", err, out)
	}
}

func BenchmarkData(b *testing.B) {
	text := strings.Repeat(strings.Repeat("x", 70)+"\r\n", 10000) + ".\r\n"
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		r := &dataReader{br: bufio.NewReaderSize(strings.NewReader(text), 8192)}
		if _, err := io.Copy(io.Discard, r); err != nil {
			b.Fatal(err)
		}
	}
}

// A lost connection is never io.EOF, however the error is asked: that would end a message.
func TestLostIsNoEnd(t *testing.T) {
	const half = "Subject: half\r\n\r\nhalf a li"
	for _, command := range []string{"DATA\r\n", "BDAT 1000 LAST\r\n", "BDAT 25\r\nBDAT 9 LAST\r\n"} {
		b := &recorder{}
		var asked error
		s := NewServer(Options{Backend: eofBackend{b, &asked}, Hostname: "mx.test"})
		nc := dial(t, listen(t, s))
		_, _ = io.WriteString(nc, "EHLO c.test\r\nMAIL FROM:<a@c.test>\r\nRCPT TO:<bob@mx.test>\r\n"+command+half)
		_ = nc.(*net.TCPConn).CloseWrite()
		text, err := io.ReadAll(nc)
		if err != nil || strings.Contains(string(text), "queued") {
			t.Errorf("%q: %q %v", command, text, err)
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if asked == nil || errors.Is(asked, io.EOF) || !errors.Is(asked, ErrDataLost) {
			t.Errorf("%q: the Session reads %v", command, asked)
		}
	}
}

// eofBackend notes the error that ends a message.
type eofBackend struct {
	*recorder
	asked *error
}

type eofSession struct {
	Session
	asked *error
}

func (b eofBackend) NewSession(ctx context.Context, info *ConnInfo) (Session, error) {
	s, err := b.recorder.NewSession(ctx, info)
	return eofSession{s, b.asked}, err
}

func (s eofSession) Data(_ context.Context, r io.Reader) (string, error) {
	_, err := io.Copy(io.Discard, r)
	*s.asked = err
	return "Q", err
}
