package pop3

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"time"

	"pillarbox/protocol/listener"
)

// Options configures a Server. Backend and Hostname must be set; the rest works as zero.
type Options struct {
	Backend  Backend
	Hostname string
	// TLS returns the configuration for a new handshake; nil means no STLS.
	TLS func() *tls.Config
	// ImplicitTLS begins each connection with the handshake (port 995, RFC 8314).
	ImplicitTLS bool
	// PlaintextAuth tells from which addresses passwords are taken without TLS. Default: none.
	PlaintextAuth func(net.Addr) bool

	// MaxConns and MaxConnsPerIP limit connections. Default: 2000 and 200; negative: no limit.
	MaxConns, MaxConnsPerIP int
	// MaxErrors is the number of bad commands that end a session; a failed login counts as
	// four. Default: 20; negative: no limit.
	MaxErrors int
	// IdleTimeout is the longest wait for a command. Default: 10 minutes, the least that RFC 1939 3
	// allows.
	IdleTimeout time.Duration
	// WriteTimeout is the longest wait for the client to take some of a reply. Default: 5 minutes.
	WriteTimeout time.Duration
	// ShutdownData is what a message that is being sent gets at Shutdown. Default: 5 s.
	ShutdownData time.Duration
	// Logger receives what concerns no mailbox: lost connections, panics. Default: discard.
	Logger *slog.Logger
}

const (
	maxCommandLine = 4096  // RFC 2449 4 asks for 255
	maxAuthLine    = 12288 // RFC 4954 4.3 has the figure; RFC 5034 gives none
	maxSkippedLine = 1 << 20
	handshakeLimit = time.Minute
)

func (o Options) withDefaults() Options {
	setDefault(&o.MaxConns, 2000)
	setDefault(&o.MaxConnsPerIP, 200)
	setDefault(&o.MaxErrors, 20)
	setDefault(&o.IdleTimeout, 10*time.Minute)
	setDefault(&o.WriteTimeout, 5*time.Minute)
	setDefault(&o.ShutdownData, 5*time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// Backend is what a Server serves.
type Backend interface {
	// Login checks a password and opens the maildrop. An *Error becomes the reply; for any
	// other error the client is told [SYS/TEMP].
	Login(ctx context.Context, user, password string, info *ConnInfo) (Maildrop, error)
}

// Maildrop is one mailbox as it was at login. It is used by one goroutine, and Close is the last
// call.
type Maildrop interface {
	// Messages lists what is there. The server keeps the slice and does not change it.
	Messages() []Info
	// Open reads message i of Messages.
	Open(i int) (io.ReadCloser, error)
	// Remove removes these messages of Messages, ascending, at the end of a session.
	Remove(ctx context.Context, idx []int) error
	Close()
}

// Info is one message.
type Info struct {
	Size int64  // in bytes, lines ended by CRLF
	UIDL string // 1 to 70 characters from 0x21 to 0x7E (RFC 1939 7)
}

// ConnInfo is what is known of a connection.
type ConnInfo struct {
	Remote net.Addr
	Local  net.Addr
	TLS    *tls.ConnectionState
}

// Error is a negative reply with its response code (RFC 2449 8, RFC 3206), if any.
type Error struct {
	Code    string // "AUTH", "IN-USE", "SYS/TEMP", "SYS/PERM", "LOGIN-DELAY", or ""
	Message string
}

func (e *Error) Error() string {
	if e.Code == "" {
		return e.Message
	}
	return "[" + e.Code + "] " + e.Message
}

// Errors that a Backend will want.
var (
	ErrAuth  = &Error{"AUTH", "authentication failed"}
	ErrInUse = &Error{"IN-USE", "the mailbox is in use"}
)

// ErrServerClosed is returned by Serve after Shutdown.
var ErrServerClosed = listener.ErrClosed

// errLocal is the reply to an error of the Backend that is no Error.
var errLocal = &Error{"SYS/TEMP", "local error, try again later"}

func replyFor(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return errLocal
}
