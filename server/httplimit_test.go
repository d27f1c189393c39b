package server

import (
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

func TestHTTPConnectionLimit(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := httpService{Server: &http.Server{
		Handler:           http.NotFoundHandler(),
		ReadHeaderTimeout: time.Minute,
	}}
	served := make(chan error, 1)
	limited := &limitedListener{Listener: l, most: 2}
	go func() { served <- h.Server.Serve(limited) }()
	dial := func() net.Conn {
		nc, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() })
		_ = nc.SetDeadline(time.Now().Add(time.Minute))
		return nc
	}
	a, b := dial(), dial()
	if n, err := dial().Read(make([]byte, 1)); n != 0 || err == nil {
		t.Error("a connection beyond the limit is kept")
	}
	_ = a.Close()
	for start := time.Now(); limited.open.Load() > 1; time.Sleep(time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatal("the place of a closed connection is not free")
		}
	}
	for _, nc := range []net.Conn{b, dial()} {
		if _, err := io.WriteString(nc, "GET / HTTP/1.0\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if answer, err := io.ReadAll(nc); err != nil || len(answer) == 0 {
			t.Errorf("%q, %v", answer, err)
		}
	}
	if err := h.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}
