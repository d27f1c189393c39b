package imap

import (
	"crypto/tls"
	"log/slog"
	"net"
	"time"

	"pillarbox/protocol/listener"
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
	// CommandMemory bounds what the unfinished commands of all connections hold in memory
	// together, beyond 4 KiB of each. Default: 64 MiB.
	CommandMemory int64
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
	setDefault(&o.CommandMemory, 64<<20)
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

// ErrServerClosed is returned by Serve after Shutdown.
var ErrServerClosed = listener.ErrClosed

// Server speaks IMAP with many clients. Serve and Shutdown are those of its Acceptor: Shutdown
// says BYE to all clients, those in the middle of a command after it.
type Server struct {
	*listener.Acceptor
	opt      Options
	commands map[string]command
	buffers  *buffers
	budget   budget
}

// NewServer makes a Server.
func NewServer(o Options) *Server {
	s := &Server{opt: o.withDefaults(), commands: commandTable(), buffers: newBuffers()}
	s.budget.max = s.opt.CommandMemory
	s.Acceptor = listener.New(listener.Options{
		New:      func(nc net.Conn) listener.Conn { return newConn(s, nc) },
		Refusal:  s.refusal,
		MaxConns: s.opt.MaxConns, MaxConnsPerIP: s.opt.MaxConnsPerIP, Logger: s.opt.Logger,
	})
	return s
}

// refusal has no words for TLS clients: a handshake would cost what is short.
func (s *Server) refusal(closing bool) string {
	switch {
	case s.opt.ImplicitTLS:
		return ""
	case closing:
		return "* BYE [UNAVAILABLE] Shutting down\r\n"
	}
	return "* BYE [UNAVAILABLE] Too many connections\r\n"
}

// tlsConfig is nil when there is none, or none at the moment.
func (s *Server) tlsConfig() *tls.Config {
	if s.opt.TLS == nil {
		return nil
	}
	return s.opt.TLS()
}
