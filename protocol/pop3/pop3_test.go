package pop3

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
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var testMessages = []string{
	"Subject: one\r\n\r\nline\r\n.dot\r\n...\r\nlast\r\n",
	"Subject: no line end\r\n\r\nx",
	"",
	"Subject: broken\r\n\r\nhalf of it",
}

// mailbox is a Backend with one maildrop.
type mailbox struct {
	mu      sync.Mutex
	removed []string
	opens   int
	closes  int
}

type drop struct {
	b    *mailbox
	user string
}

func (b *mailbox) Login(_ context.Context, user, password string, _ *ConnInfo) (Maildrop, error) {
	switch {
	case user == "busy":
		return nil, ErrInUse
	case user == "broken":
		return nil, errors.New("disk on fire")
	case user == "panic":
		panic("planted")
	case password != "se cret":
		return nil, fmt.Errorf("login: %w", ErrAuth)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.opens++
	return &drop{b, user}, nil
}

func (d *drop) Messages() []Info {
	var out []Info
	sizes := []int64{40, 31, 0, 31}
	for i := range testMessages {
		out = append(out, Info{sizes[i], "u" + strconv.Itoa(i+1)})
	}
	return out
}

func (d *drop) Open(i int) (io.ReadCloser, error) {
	r := io.Reader(strings.NewReader(testMessages[i]))
	if i == 3 {
		r = io.MultiReader(r, failing{})
	}
	return io.NopCloser(r), nil
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("bad sector") }

func (d *drop) Remove(_ context.Context, idx []int) error {
	if d.user == "readonly" {
		return errors.New("read-only")
	}
	d.b.mu.Lock()
	defer d.b.mu.Unlock()
	d.b.removed = append(d.b.removed, fmt.Sprint(idx))
	return nil
}

func (d *drop) Close() {
	d.b.mu.Lock()
	defer d.b.mu.Unlock()
	d.b.closes++
}

func testTLS(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"pop.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

func testServer(t testing.TB, change func(*Options)) (*Server, *mailbox, string) {
	t.Helper()
	b := &mailbox{}
	o := Options{Backend: b, Hostname: "pop.test"}
	if change != nil {
		change(&o)
	}
	s := NewServer(o)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.opens != b.closes {
			t.Errorf("%d maildrops opened, %d closed", b.opens, b.closes)
		}
	})
	return s, b, l.Addr().String()
}

func dial(t testing.TB, addr string) (net.Conn, *bufio.Reader) {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(2 * time.Minute))
	return nc, bufio.NewReader(nc)
}

func plaintext(o *Options) { o.PlaintextAuth = func(net.Addr) bool { return true } }

// TestTranscripts plays the conversations in testdata. Consecutive C lines are one write, S lines
// are what comes back, the R line is what was removed.
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
			playTranscript(t, strings.Split(string(text), "\n"))
		})
	}
}

func playTranscript(t *testing.T, lines []string) {
	_, b, addr := testServer(t, func(o *Options) {
		if strings.Contains(lines[0], "plaintext") {
			plaintext(o)
		}
		if strings.Contains(lines[0], "tls") {
			cfg := testTLS(t)
			o.TLS = func() *tls.Config { return cfg }
		}
	})
	nc, br := dial(t, addr)
	send := ""
	for i, line := range lines {
		if c, ok := strings.CutPrefix(line, "C: "); ok {
			s, err := strconv.Unquote(`"` + c + `"`)
			if err != nil {
				t.Fatal(err)
			}
			send += s + "\r\n"
			continue
		}
		if send != "" && !strings.HasPrefix(line, "#") {
			if _, err := io.WriteString(nc, send); err != nil {
				t.Fatal(err)
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
		if want, ok := strings.CutPrefix(line, "R:"); ok {
			if got := strings.Join(b.removed, " "); got != strings.TrimSpace(want) {
				t.Errorf("removed %s, want %s", got, want)
			}
		}
	}
}

func command(t *testing.T, nc net.Conn, br *bufio.Reader, cmd, prefix string) {
	t.Helper()
	if cmd != "" {
		if _, err := io.WriteString(nc, cmd+"\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	line, err := br.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, prefix) {
		t.Fatalf("%q: got %q, %v, want %q", cmd, line, err, prefix)
	}
}

func login(t *testing.T, nc net.Conn, br *bufio.Reader) {
	t.Helper()
	command(t, nc, br, "", "+OK")
	command(t, nc, br, "USER alice", "+OK")
	command(t, nc, br, "PASS se cret", "+OK")
}

// TestBrokenMessage shows that half a message is not ended like a whole one.
func TestBrokenMessage(t *testing.T) {
	_, _, addr := testServer(t, plaintext)
	nc, br := dial(t, addr)
	login(t, nc, br)
	_, _ = io.WriteString(nc, "RETR 4\r\n")
	rest, _ := io.ReadAll(br)
	if strings.Contains(string(rest), "\r\n.\r\n") {
		t.Errorf("half a message was ended: %q", rest)
	}
}

func TestSTLS(t *testing.T) {
	cfg := testTLS(t)
	_, b, addr := testServer(t, func(o *Options) { o.TLS = func() *tls.Config { return cfg } })
	nc, br := dial(t, addr)
	command(t, nc, br, "", "+OK")
	command(t, nc, br, "STLS", "+OK")
	tc := tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
	br = bufio.NewReader(tc)
	command(t, tc, br, "STLS", "-ERR TLS is active")
	command(t, tc, br, "USER alice", "+OK")
	command(t, tc, br, "PASS se cret", "+OK")
	command(t, tc, br, "DELE 1", "+OK")
	command(t, tc, br, "QUIT", "+OK")
	if len(b.removed) != 1 {
		t.Errorf("removed %v", b.removed)
	}
}

func TestImplicitTLS(t *testing.T) {
	cfg := testTLS(t)
	_, _, addr := testServer(t, func(o *Options) {
		o.TLS = func() *tls.Config { return cfg }
		o.ImplicitTLS = true
	})
	tc, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tc.Close() }()
	br := bufio.NewReader(tc)
	command(t, tc, br, "", "+OK")
	command(t, tc, br, "QUIT", "+OK")
}

// TestNothingRemoved shows that only QUIT removes.
func TestNothingRemoved(t *testing.T) {
	// In a bubble the time-out comes when everybody waits, however busy the machine is.
	synctest.Test(t, func(t *testing.T) {
		b := &mailbox{}
		o := Options{Backend: b, Hostname: "pop.test", IdleTimeout: 60 * time.Millisecond}
		plaintext(&o)
		s := NewServer(o)
		begin := func() (net.Conn, *bufio.Reader) {
			here, there := net.Pipe()
			go s.ServeConn(there)
			br := bufio.NewReader(here)
			login(t, here, br)
			command(t, here, br, "DELE 1", "+OK")
			return here, br
		}
		lost, _ := begin()
		_ = lost.Close()
		idle, ibr := begin()
		begun := time.Now()
		command(t, idle, ibr, "", "-ERR time-out")
		if took := time.Since(begun); took != o.IdleTimeout {
			t.Errorf("the time-out came after %v", took)
		}
		_ = idle.Close()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if b.opens != 2 || b.closes != 2 || len(b.removed) != 0 {
			t.Errorf("%d opened, %d closed, removed %v", b.opens, b.closes, b.removed)
		}
	})
	s, b, addr := testServer(t, plaintext)
	open, obr := dial(t, addr)
	login(t, open, obr)
	command(t, open, obr, "DELE 1", "+OK")
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	command(t, open, obr, "", "-ERR [SYS/TEMP] the server is shutting down")
	if len(b.removed) != 0 {
		t.Errorf("removed %v", b.removed)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(l); !errors.Is(err, ErrServerClosed) {
		t.Error(err)
	}
}

func TestGuessing(t *testing.T) {
	_, _, addr := testServer(t, plaintext)
	nc, br := dial(t, addr)
	command(t, nc, br, "", "+OK")
	for range 5 {
		command(t, nc, br, "USER alice", "+OK")
		command(t, nc, br, "PASS guess", "-ERR [AUTH]")
	}
	command(t, nc, br, "", "-ERR too many errors")
}

func TestLimitsAndPanic(t *testing.T) {
	_, _, addr := testServer(t, func(o *Options) {
		plaintext(o)
		o.MaxConns = 2
	})
	a, abr := dial(t, addr)
	b, bbr := dial(t, addr)
	command(t, a, abr, "", "+OK")
	command(t, b, bbr, "", "+OK")
	c, cbr := dial(t, addr)
	command(t, c, cbr, "", "-ERR [SYS/TEMP]")
	command(t, b, bbr, "NOOP "+strings.Repeat("x", 100000), "-ERR line too long")
	command(t, a, abr, "USER panic", "+OK")
	_, _ = io.WriteString(a, "PASS x\r\n")
	if rest, err := io.ReadAll(abr); err != nil || len(rest) != 0 {
		t.Errorf("after a panic: %q, %v", rest, err)
	}
	command(t, b, bbr, "CAPA", "+OK")
}

func FuzzSendText(f *testing.F) {
	f.Add("a: b\r\n\r\n.x\r\n", 0)
	f.Add("\n.\r\n", -1)
	f.Fuzz(func(t *testing.T, text string, lines int) {
		var out strings.Builder
		w := bufio.NewWriter(&out)
		if err := sendText(w, strings.NewReader(text), lines); err != nil {
			t.Fatal(err)
		}
		_ = w.Flush()
		body, ok := strings.CutSuffix(out.String(), ".\r\n")
		if !ok || body != "" && !strings.HasSuffix(body, "\r\n") || strings.HasPrefix(body, ".\r") ||
			strings.Contains(body, "\n.\r\n") || strings.Contains(body, "\n.\n") {
			t.Fatalf("%q sent as %q", text, out.String())
		}
		if lines >= 0 {
			return
		}
		plain := strings.ReplaceAll("\n"+body, "\n.", "\n")[1:]
		if plain != text && plain != text+"\r\n" {
			t.Fatalf("%q sent as %q", text, body)
		}
	})
}

func FuzzServer(f *testing.F) {
	f.Add(false, []byte("USER a\r\nPASS se cret\r\nQUIT\r\n"))
	f.Add(true, []byte("TOP 1 1\r\nDELE 1\r\nLIST\r\nRETR 2\r\nRETR 4\r\n"))
	f.Add(false, []byte("AUTH PLAIN\r\n*\r\n"))
	f.Fuzz(func(t *testing.T, in bool, data []byte) {
		b := &mailbox{}
		o := Options{Backend: b, Hostname: "pop.test"}
		plaintext(&o)
		s := NewServer(o)
		ours, theirs := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, ours) }()
		go func() {
			if in {
				_, _ = io.WriteString(ours, "USER a\r\nPASS se cret\r\n")
			}
			_, _ = ours.Write(data)
			_ = ours.Close()
		}()
		s.ServeConn(theirs)
		if b.opens != b.closes {
			t.Error("a maildrop was not closed")
		}
	})
}
