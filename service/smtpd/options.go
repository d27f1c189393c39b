package smtpd

import (
	"context"
	"io"
	"log/slog"
	"net"

	"pillarbox/directory"
	"pillarbox/mail/address"
	"pillarbox/protocol/smtp"
	"pillarbox/store"
	"pillarbox/transport"
)

// Transport takes messages. *transport.Transport is one.
type Transport interface {
	Accept(ctx context.Context, e *transport.Envelope, r io.Reader) (transport.QueueID, error)
}

// Directory knows users and addresses. *directory.Directory is one.
type Directory interface {
	Resolve(a address.Address) (directory.Recipient, error)
	IsLocal(domain string) bool
	Owns(id directory.GUID, a address.Address) bool
	Authenticate(ctx context.Context, l directory.Login) (directory.Recipient, error)
	Valid(r *directory.Recipient) error
}

// Mailboxes tells whether a mailbox has room. *store.Store is one.
type Mailboxes interface {
	Mailbox(id store.MailboxID) (*store.Mailbox, error)
}

// Resolver looks up the domains of senders. *net.Resolver is one.
type Resolver interface {
	LookupMX(ctx context.Context, domain string) ([]*net.MX, error)
	LookupHost(ctx context.Context, host string) ([]string, error)
}

var (
	_ Transport = (*transport.Transport)(nil)
	_ Directory = (*directory.Directory)(nil)
	_ Mailboxes = (*store.Store)(nil)
	_ Resolver  = (*net.Resolver)(nil)
)

// Options configures the server of one port. Transport, Directory, Mailboxes and SMTP.Hostname
// must be set.
type Options struct {
	// SMTP configures the protocol: mode, TLS, limits. Backend and DSN are set by New.
	SMTP      smtp.Options
	Transport Transport
	Directory Directory
	Mailboxes Mailboxes
	// RejectLocalSender refuses senders of our domains who did not log in. Default: they are
	// accepted and marked (mail.md 5).
	RejectLocalSender bool
	// SenderDNS refuses senders whose domain has no MX, A or AAAA. Default: no look-up.
	SenderDNS Resolver
	// Logger gets a line for each login and refusal. Default: discard.
	Logger *slog.Logger
}

// New makes a server. Its Serve and Shutdown are the caller's.
func New(o Options) *smtp.Server {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	so := o.SMTP
	so.Backend = &backend{o: o}
	so.DSN = false // the transport sends no success notifications (RFC 3461 6.2)
	return smtp.NewServer(so)
}

// backend makes sessions.
type backend struct{ o Options }

var _ smtp.Backend = (*backend)(nil)

func (b *backend) NewSession(_ context.Context, info *smtp.ConnInfo) (smtp.Session, error) {
	return &session{o: &b.o, info: info, log: b.o.Logger.With("peer", info.Remote.String())}, nil
}
