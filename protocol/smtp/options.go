package smtp

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"time"
)

// Mode says whom a Server serves.
type Mode uint8

// The modes.
const (
	// MX takes mail from other servers (port 25). AUTH is not offered unless Options.Auth says so.
	MX Mode = iota
	// Submission takes mail from users (ports 587 and 465); MAIL needs AUTH (RFC 6409 4.3).
	Submission
)

// Options configures a Server. Backend and Hostname must be set; the rest works as zero.
type Options struct {
	Backend  Backend
	Hostname string
	Mode     Mode
	// Auth offers AUTH in mode MX too.
	Auth bool
	// TLS returns the configuration for a new handshake; nil means no STARTTLS.
	TLS func() *tls.Config
	// ImplicitTLS begins each connection with the handshake (port 465, RFC 8314).
	ImplicitTLS bool
	// PlaintextAuth tells from which addresses passwords are taken without TLS. Default: none.
	PlaintextAuth func(net.Addr) bool
	// NormalizeNewlines makes CRLF of a bare LF in DATA, instead of refusing the message.
	NormalizeNewlines bool
	// DSN offers the parameters of RFC 3461.
	DSN bool

	// MaxSize of a message in bytes. Default: 50 MiB; negative: no limit.
	MaxSize int64
	// MaxRecipients of a message. Default: 1000.
	MaxRecipients int
	// MaxConns and MaxConnsPerIP limit connections. Default: 2000 and 200; negative: no limit.
	MaxConns, MaxConnsPerIP int
	// MaxErrors is the number of bad commands and failed logins that end a session. Default: 20;
	// negative: no limit.
	MaxErrors int
	// IdleTimeout is the longest wait for a command. Default: 5 minutes (RFC 5321 4.5.3.2.7).
	IdleTimeout time.Duration
	// DataTimeout is the longest wait for more of a message. Default: 10 minutes.
	DataTimeout time.Duration
	// SessionTimeout ends a session however busy it is. Default: 4 hours.
	SessionTimeout time.Duration
	// ShutdownData is what a message that is being received gets at Shutdown. Default: 5 s.
	ShutdownData time.Duration
	// Logger receives what concerns no message: lost connections, panics. Default: discard.
	Logger *slog.Logger
}

const (
	maxCommandLine = 4096     // RFC 5321 4.5.3.1.4 asks for 512, extensions add to it
	maxAuthLine    = 12288    // RFC 4954 4.3
	maxHostName    = 255      // RFC 5321 4.5.3.1.2
	maxDataLine    = 1 << 20  // RFC 5321 4.5.3.1.6 asks for 1000
	maxSkippedLine = 16 << 20 // of a command line that is too long, before the session ends
	writeTimeout   = time.Minute
	handshakeLimit = time.Minute
)

func (o Options) withDefaults() Options {
	setDefault(&o.MaxSize, 50<<20)
	setDefault(&o.MaxRecipients, 1000)
	setDefault(&o.MaxConns, 2000)
	setDefault(&o.MaxConnsPerIP, 200)
	setDefault(&o.MaxErrors, 20)
	setDefault(&o.IdleTimeout, 5*time.Minute)
	setDefault(&o.DataTimeout, 10*time.Minute)
	setDefault(&o.SessionTimeout, 4*time.Hour)
	setDefault(&o.ShutdownData, 5*time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func setDefault[T int | int64 | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// Backend is what a Server serves.
type Backend interface {
	// NewSession is called at the first EHLO or HELO, and again at the one behind STARTTLS.
	// info belongs to the connection and stays up to date (another EHLO, AUTH).
	NewSession(ctx context.Context, info *ConnInfo) (Session, error)
}

// Session is one client's conversation. An *Error becomes the reply; for any other error the
// client is told 451 4.3.0.
type Session interface {
	// Auth checks a password. nil is a login.
	Auth(ctx context.Context, user, password string) error
	Mail(ctx context.Context, from Path, opts MailOptions) error
	Rcpt(ctx context.Context, to Path, opts RcptOptions) error
	// Data takes the message: lines end in CRLF, dots are removed, the last line is ended. It must
	// read to io.EOF, and accept nothing when r gives another error. The queue id is told to
	// the client. After it the transaction is over, accepted or not.
	Data(ctx context.Context, r io.Reader) (queueID string, err error)
	// Reset ends a transaction that did not come to Data.
	Reset()
	Close()
}

// ConnInfo is what is known of a connection.
type ConnInfo struct {
	Remote net.Addr
	Local  net.Addr
	Helo   string // as the client gave it
	ESMTP  bool   // EHLO, not HELO
	TLS    *tls.ConnectionState
	// User is the name given to AUTH once that succeeded.
	User string
	Mode Mode
}

// With is the protocol for the Received line (RFC 3848, RFC 6531 4.3).
func (c *ConnInfo) With(utf8 bool) string {
	s := "SMTP"
	switch {
	case utf8:
		s = "UTF8SMTP"
	case c.ESMTP:
		s = "ESMTP"
	default:
		return s
	}
	if c.TLS != nil {
		s += "S"
	}
	if c.User != "" {
		s += "A"
	}
	return s
}

// MailOptions are the parameters of MAIL.
type MailOptions struct {
	Size       int64  // declared; 0 when not (RFC 1870)
	EightBit   bool   // BODY=8BITMIME (RFC 6152)
	UTF8       bool   // SMTPUTF8 (RFC 6531)
	Auth       string // AUTH=, decoded (RFC 4954 5)
	Return     string // RET=, "FULL" or "HDRS" (RFC 3461 4.3)
	EnvelopeID string // ENVID=, decoded (RFC 3461 4.4)
}

// RcptOptions are the parameters of RCPT (RFC 3461 4.1, 4.2).
type RcptOptions struct {
	Notify   []string // "NEVER", or some of "SUCCESS", "FAILURE", "DELAY"
	Original string   // ORCPT=, "type;address", decoded
}
