package server

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// One port answers HTTP and HTTPS, and a client that says nothing holds up nobody.
func TestEitherListener(t *testing.T) {
	dir := t.TempDir()
	if err := ensureCertificates(dir, []string{"localhost", "127.0.0.1"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	cert, err := openCertificate(filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key"),
		slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := httpService{
		Server: &http.Server{
			Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, strings.Repeat("page ", 10_000))
			}),
			ReadHeaderTimeout: 5 * time.Second,
		},
		tls: true, either: cert.tlsConfig,
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve(l) }()
	silent, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()

	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
	for _, scheme := range []string{"http", "https", "http"} {
		for range 3 {
			res, err := client.Get(scheme + "://" + l.Addr().String() + "/")
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if err != nil || len(b) != 50_000 {
				t.Fatalf("%s: %d bytes, %v", scheme, len(b), err)
			}
		}
	}
	client.CloseIdleConnections()
	_ = silent.Close()
	if err := h.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

// The page that quickstart names can be opened by a browser.
func TestStartPageAddress(t *testing.T) {
	at := func(v service, addr string) *bound {
		a, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		return &bound{service: v, listener: fixedListener{addr: a}}
	}
	for _, c := range []struct{ http, https, want string }{
		{"127.0.0.1:10080", "127.0.0.1:10443", "http://127.0.0.1:10443/"},
		{"0.0.0.0:20080", "0.0.0.0:20443", "http://localhost:20080/"},
		{"[::1]:80", "[::1]:443", "http://[::1]:80/"},
		{"127.0.0.1:10080", "", "http://127.0.0.1:10080/"},
		{"", "127.0.0.1:443", ""},
	} {
		s := &Server{}
		if c.http != "" {
			s.bound = append(s.bound, at(serviceHTTP, c.http))
		}
		if c.https != "" {
			s.bound = append(s.bound, at(serviceHTTPS, c.https))
		}
		if got := s.startPage(); got != c.want {
			t.Errorf("%s, %s: %q, not %q", c.http, c.https, got, c.want)
		}
	}
}

type fixedListener struct {
	net.Listener
	addr *net.TCPAddr
}

func (l fixedListener) Addr() net.Addr { return l.addr }
