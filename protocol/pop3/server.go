package pop3

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Server serves POP3. Its goroutines are its connections; Shutdown waits for them.
type Server struct {
	o Options

	ctx    context.Context // of all sessions
	cancel context.CancelFunc

	mu        sync.Mutex
	closed    bool
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	perIP     map[netip.Addr]int
	wg        sync.WaitGroup
}

// NewServer makes a Server.
func NewServer(o Options) *Server {
	s := &Server{
		o:         o.withDefaults(),
		listeners: make(map[net.Listener]struct{}),
		conns:     make(map[*conn]struct{}),
		perIP:     make(map[netip.Addr]int),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Serve accepts connections until Shutdown, and then returns ErrServerClosed. It closes l.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		_ = l.Close()
		return ErrServerClosed
	}
	s.listeners[l] = struct{}{}
	s.mu.Unlock()
	defer func() {
		_ = l.Close()
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
	}()
	pause := time.Duration(0)
	for {
		nc, err := l.Accept()
		if err == nil {
			pause = 0
			s.accept(nc)
			continue
		}
		if s.ctx.Err() != nil || s.isClosed() {
			return ErrServerClosed
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		// Out of file descriptors, or the client is gone already: others can be served later.
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		s.o.Logger.Warn("accept", "err", err)
		select {
		case <-s.ctx.Done():
		case <-time.After(pause):
		}
	}
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

func (s *Server) accept(nc net.Conn) {
	c, refusal := s.admit(nc)
	if c != nil {
		go func() {
			defer s.wg.Done()
			defer s.forget(c)
			c.serve()
		}()
		return
	}
	if !s.o.ImplicitTLS {
		// Fits into any socket's buffer: the accept loop does not wait for a client.
		_ = nc.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		_, _ = nc.Write([]byte(refusal))
	}
	_ = nc.Close()
}

// ServeConn serves one connection and returns at its end.
func (s *Server) ServeConn(nc net.Conn) {
	c, _ := s.admit(nc)
	if c == nil {
		_ = nc.Close()
		return
	}
	defer s.wg.Done()
	defer s.forget(c)
	c.serve()
}

// admit registers a connection, or says why not.
func (s *Server) admit(nc net.Conn) (*conn, string) {
	ip := addrOf(nc.RemoteAddr())
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, "-ERR [SYS/TEMP] " + s.o.Hostname + " is shutting down\r\n"
	case s.o.MaxConns > 0 && len(s.conns) >= s.o.MaxConns,
		s.o.MaxConnsPerIP > 0 && ip.IsValid() && s.perIP[ip] >= s.o.MaxConnsPerIP:
		return nil, "-ERR [SYS/TEMP] " + s.o.Hostname + " too many connections\r\n"
	}
	c := newConn(s, nc, ip)
	s.conns[c] = struct{}{}
	s.perIP[ip]++
	s.wg.Add(1)
	return c, ""
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if s.perIP[c.ip]--; s.perIP[c.ip] <= 0 {
		delete(s.perIP, c.ip)
	}
}

func addrOf(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// Shutdown stops accepting, tells every client so, and waits for the connections to end. A message
// that is being sent gets Options.ShutdownData. When ctx ends first, connections are cut
// and its error is returned.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	for l := range s.listeners {
		_ = l.Close()
	}
	for c := range s.conns {
		c.stop(time.Now())
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		s.cancel()
		return nil
	case <-ctx.Done():
	}
	s.cancel()
	s.mu.Lock()
	for c := range s.conns {
		_ = c.raw.Close()
	}
	s.mu.Unlock()
	<-done
	return ctx.Err()
}

func (s *Server) tlsConfig() *tls.Config {
	if s.o.TLS == nil {
		return nil
	}
	return s.o.TLS()
}
