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

// Options configures a Server. The zero value works, without TLS and without passwords in clear.
type Options struct {
	// Greeting is the name shown in the greeting. Default: "Pillarbox".
	Greeting string
	// TLS allows STARTTLS. Default: none. Implicit TLS is a matter of the listener.
	TLS *tls.Config
	// AllowPlaintext tells whether a peer may send its password without TLS. Default: nobody.
	AllowPlaintext func(remote net.Addr) bool
	// MaxMessage bounds the message of APPEND, in bytes. Default: 50 MiB.
	MaxMessage int64
	// MaxConnections bounds the connections at one time. Default: 10,000.
	MaxConnections int
	// IdleTimeout ends a connection that says nothing (RFC 3501 5.4). Default: 30 minutes.
	IdleTimeout time.Duration
	// LoginTimeout is the same before login. Default: 3 minutes.
	LoginTimeout time.Duration
	// WriteTimeout bounds one write. Default: 2 minutes.
	WriteTimeout time.Duration
	// MaxBadCommands ends a connection after so many commands that were no IMAP. Default: 20.
	MaxBadCommands int
	// ID is what the ID command tells (RFC 2971). Default: the name alone.
	ID map[string]string
	// Logger receives connections, logins and trouble. Default: discard.
	Logger *slog.Logger
}

func (o *Options) setDefaults() {
	setDefault(&o.Greeting, "Pillarbox")
	setDefault(&o.MaxMessage, 50<<20)
	setDefault(&o.MaxConnections, 10_000)
	setDefault(&o.IdleTimeout, 30*time.Minute)
	setDefault(&o.LoginTimeout, 3*time.Minute)
	setDefault(&o.WriteTimeout, 2*time.Minute)
	setDefault(&o.MaxBadCommands, 20)
	if o.AllowPlaintext == nil {
		o.AllowPlaintext = func(net.Addr) bool { return false }
	}
	if o.ID == nil {
		o.ID = map[string]string{"name": o.Greeting}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
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
	backend  Backend
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
}

// New returns a Server that asks backend.
func New(backend Backend, options Options) *Server {
	options.setDefaults()
	s := &Server{
		backend:   backend,
		opt:       options,
		commands:  commandTable(),
		buffers:   newBuffers(),
		listeners: make(map[net.Listener]struct{}),
		conns:     make(map[*conn]struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Serve accepts connections until the listener fails or the server is closed. Connections of
// type *tls.Conn are taken as IMAPS. Serve closes the listener.
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
	s.mu.Lock()
	full := len(s.conns) >= s.opt.MaxConnections
	if s.closed || full {
		s.mu.Unlock()
		// TLS clients get no words: a handshake would cost what is short.
		if _, isTLS := nc.(*tls.Conn); !isTLS {
			_ = nc.SetWriteDeadline(time.Now().Add(time.Second))
			_, _ = nc.Write([]byte("* BYE [UNAVAILABLE] Too many connections\r\n"))
		}
		_ = nc.Close()
		return
	}
	s.conns[c] = struct{}{}
	s.wg.Add(1)
	s.mu.Unlock()
	go func() {
		defer s.wg.Done()
		c.serve()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
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

// Close cuts all connections off and waits for their ends.
func (s *Server) Close() error {
	s.stopAccepting()
	s.cut()
	s.wg.Wait()
	return nil
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

// Connections tells how many clients there are.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}
