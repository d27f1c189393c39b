package imap

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"
)

// Options configures a Server. Backend must be set; the rest works as zero.
type Options struct {
	Backend Backend
	// Greeting is the name shown in the greeting. Default: "Pillarbox".
	Greeting string
	// TLS returns the configuration for a new handshake; nil means no STARTTLS.
	TLS func() *tls.Config
	// ImplicitTLS begins each connection with the handshake (port 993, RFC 8314).
	ImplicitTLS bool
	// PlaintextAuth tells from which addresses passwords are taken without TLS. Default: none.
	PlaintextAuth func(net.Addr) bool
	// MaxMessage bounds the message of APPEND, in bytes. Default: 50 MiB.
	MaxMessage int64
	// MaxConns and MaxConnsPerIP limit connections. Default: 10,000 and 1,000; negative: no
	// limit.
	MaxConns, MaxConnsPerIP int
	// IdleTimeout ends a connection that says nothing (RFC 3501 5.4). Default: 30 minutes.
	IdleTimeout time.Duration
	// LoginTimeout is the same before login. Default: 3 minutes.
	LoginTimeout time.Duration
	// WriteTimeout bounds one write. Default: 2 minutes.
	WriteTimeout time.Duration
	// MaxErrors ends a connection after so many commands that were no IMAP. Default: 20.
	MaxErrors int
	// ID is what the ID command tells (RFC 2971). Default: the name alone.
	ID map[string]string
	// Logger receives trouble: failed commands, unreadable messages, panics. Default: discard.
	Logger *slog.Logger
}

func (o Options) withDefaults() Options {
	setDefault(&o.Greeting, "Pillarbox")
	setDefault(&o.MaxMessage, 50<<20)
	setDefault(&o.MaxConns, 10_000)
	setDefault(&o.MaxConnsPerIP, 1_000)
	setDefault(&o.IdleTimeout, 30*time.Minute)
	setDefault(&o.LoginTimeout, 3*time.Minute)
	setDefault(&o.WriteTimeout, 2*time.Minute)
	setDefault(&o.MaxErrors, 20)
	if o.PlaintextAuth == nil {
		o.PlaintextAuth = func(net.Addr) bool { return false }
	}
	if o.ID == nil {
		o.ID = map[string]string{"name": o.Greeting}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// ErrServerClosed is returned by Serve after Shutdown or Close.
var ErrServerClosed = errors.New("imap: server closed")

// Server speaks IMAP with many clients.
type Server struct {
	opt      Options
	commands map[string]command
	buffers  *buffers

	ctx    context.Context // ends when connections must
	cancel context.CancelFunc
	wg     sync.WaitGroup // of connections

	mu        sync.Mutex
	closed    bool
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	perIP     map[string]int
}

// NewServer makes a Server.
func NewServer(o Options) *Server {
	s := &Server{
		opt:       o.withDefaults(),
		commands:  commandTable(),
		buffers:   newBuffers(),
		listeners: make(map[net.Listener]struct{}),
		conns:     make(map[*conn]struct{}),
		perIP:     make(map[string]int),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Serve accepts connections until Shutdown, and then returns ErrServerClosed. It closes l.
func (s *Server) Serve(l net.Listener) error {
	defer func() { _ = l.Close() }()
	if !s.addListener(l) {
		return ErrServerClosed
	}
	defer s.removeListener(l)
	for pause := time.Duration(0); ; {
		nc, err := l.Accept()
		if err != nil {
			if s.isClosed() {
				return ErrServerClosed
			}
			if !isTemporary(err) {
				return err
			}
			// Out of file descriptors and the like: others will go.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.opt.Logger.Warn("accept failed", "err", err)
			select {
			case <-time.After(pause):
			case <-s.ctx.Done():
				return ErrServerClosed
			}
			continue
		}
		pause = 0
		s.start(nc)
	}
}

func isTemporary(err error) bool {
	var ne net.Error
	return !errors.Is(err, net.ErrClosed) && errors.As(err, &ne)
}

func (s *Server) start(nc net.Conn) {
	c := newConn(s, nc)
	ip := ipOf(nc.RemoteAddr())
	if !s.admit(c, ip) {
		// TLS clients get no words: a handshake would cost what is short.
		if !s.opt.ImplicitTLS {
			_ = nc.SetWriteDeadline(time.Now().Add(time.Second))
			_, _ = nc.Write([]byte("* BYE [UNAVAILABLE] Too many connections\r\n"))
		}
		_ = nc.Close()
		return
	}
	go func() {
		defer s.wg.Done()
		defer s.forget(c, ip)
		c.serve()
	}()
}

func (s *Server) admit(c *conn, ip string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed,
		s.opt.MaxConns > 0 && len(s.conns) >= s.opt.MaxConns,
		s.opt.MaxConnsPerIP > 0 && s.perIP[ip] >= s.opt.MaxConnsPerIP:
		return false
	}
	s.conns[c] = struct{}{}
	s.perIP[ip]++
	s.wg.Add(1)
	return true
}

func (s *Server) forget(c *conn, ip string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if s.perIP[ip]--; s.perIP[ip] == 0 {
		delete(s.perIP, ip)
	}
}

func ipOf(a net.Addr) string {
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return host
}

// tlsConfig is nil when there is none, or none at the moment.
func (s *Server) tlsConfig() *tls.Config {
	if s.opt.TLS == nil {
		return nil
	}
	return s.opt.TLS()
}

func (s *Server) addListener(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.listeners[l] = struct{}{}
	return true
}

func (s *Server) removeListener(l net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// Shutdown closes the listeners, says BYE to all clients, those in the middle of a command
// after it, and waits for them. When ctx ends first the rest is cut off.
func (s *Server) Shutdown(ctx context.Context) error {
	for _, c := range s.stopAccepting() {
		c.askToEnd()
	}
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
	s.cut()
	<-done
	return ctx.Err()
}

func (s *Server) stopAccepting() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for l := range s.listeners {
		_ = l.Close()
	}
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	return conns
}

func (s *Server) cut() {
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.rawConn.Close()
	}
}
