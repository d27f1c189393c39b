package listener

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// echo is a connection that answers until it is stopped; a stubborn one until it is cut.
type echo struct {
	net.Conn
	stubborn bool
}

func (e *echo) Serve() {
	defer e.Cut()
	_, _ = io.Copy(e.Conn, e.Conn)
}

func (e *echo) Stop() {
	if !e.stubborn {
		_ = e.SetReadDeadline(time.Unix(1, 0))
	}
}

func (e *echo) Cut() { _ = e.Close() }

func serve(t *testing.T, o Options, stubborn bool) (a *Acceptor, addr string, end func() error) {
	t.Helper()
	o.New = func(nc net.Conn) Conn { return &echo{nc, stubborn} }
	o.Refusal = func(closing bool) string {
		if closing {
			return "closing"
		}
		return "full"
	}
	o.Logger = slog.New(slog.DiscardHandler)
	a = New(o)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var served error
	wg.Go(func() { served = a.Serve(l) })
	return a, l.Addr().String(), func() error { wg.Wait(); return served }
}

// dial connects and says one word, which must come back as want.
func dial(t *testing.T, addr, want string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	_, _ = io.WriteString(c, "here")
	b := make([]byte, 4)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("%q %v, want %q", b, err, want)
	}
	return c
}

func TestLimits(t *testing.T) {
	for name, o := range map[string]Options{"all": {MaxConns: 2}, "one address": {MaxConnsPerIP: 2}} {
		t.Run(name, func(t *testing.T) {
			a, addr, end := serve(t, o, false)
			first := dial(t, addr, "here")
			dial(t, addr, "here")
			dial(t, addr, "full")
			_ = first.Close() // its place is free soon
			for range 3000 {
				if a.connections() < 2 {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			dial(t, addr, "here")
			if err := a.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			if err := end(); !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
		})
	}
}

func (a *Acceptor) connections() int { return len(a.current()) }

// Shutdown ends those that listen to it, cuts the others when its time is over, and admits
// none behind it.
func TestShutdown(t *testing.T) {
	for _, stubborn := range []bool{false, true} {
		a, addr, end := serve(t, Options{}, stubborn)
		c := dial(t, addr, "here")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if stubborn {
			ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
		}
		if err := a.Shutdown(ctx); (err != nil) != stubborn {
			t.Errorf("stubborn %v: %v", stubborn, err)
		}
		cancel()
		if n := a.connections(); n != 0 {
			t.Errorf("stubborn %v: %d connections are left", stubborn, n)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("stubborn %v: the client reads %v", stubborn, err)
		}
		if err := end(); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		if a.Context().Err() == nil {
			t.Error("the context has not ended")
		}
		ours, theirs := net.Pipe()
		a.ServeConn(theirs)
		if _, err := ours.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("a connection behind the end: %v", err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Serve(l); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	}
}

// failing is a listener that has no descriptor at first.
type failing struct {
	net.Listener
	left int
}

func (f *failing) Accept() (net.Conn, error) {
	if f.left--; f.left >= 0 {
		return nil, errors.New("too many open files")
	}
	return f.Listener.Accept()
}

func TestAcceptFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := New(Options{
		New:    func(nc net.Conn) Conn { return &echo{Conn: nc} },
		Logger: slog.New(slog.DiscardHandler),
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := a.Serve(&failing{l, 3}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the listener was closed: %v", err)
		}
	})
	dial(t, l.Addr().String(), "here")
	_ = l.Close()
	wg.Wait()
	if err := a.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}
