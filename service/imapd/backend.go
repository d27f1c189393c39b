package imapd

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"

	"pillarbox/directory"
	"pillarbox/protocol/imap"
	"pillarbox/store"
)

// Directory is what logins are checked with.
type Directory interface {
	Authenticate(ctx context.Context, l directory.Login) (directory.Recipient, error)
	Watch(r *directory.Recipient, ended func()) (stop func(), err error)
}

// Mailboxes opens mailboxes. *store.Store is one.
type Mailboxes interface {
	OpenMailbox(ctx context.Context, id store.MailboxID) (*store.Mailbox, error)
}

var _ Mailboxes = (*store.Store)(nil)

// Backend is the imap.Backend on a store.
type Backend struct {
	store Mailboxes
	dir   Directory
	log   *slog.Logger
}

var _ imap.Backend = (*Backend)(nil)

// New makes a Backend; a nil logger discards.
func New(s Mailboxes, dir Directory, log *slog.Logger) *Backend {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Backend{store: s, dir: dir, log: log}
}

// Login opens a session for a user.
func (b *Backend) Login(ctx context.Context, user, password string, info imap.ConnInfo) (imap.Session, error) {
	l := directory.Login{Name: user, Password: password, Remote: remoteAddr(info.Remote)}
	if info.TLS != nil {
		l.ServerName = info.TLS.ServerName
	}
	r, err := b.dir.Authenticate(ctx, l)
	if err != nil {
		b.log.Info("login failed", "service", "imap", "user", user, "peer", l.Remote.String(), "reason", err.Error())
		return nil, loginError(err)
	}
	box, err := b.store.OpenMailbox(ctx, store.MailboxID(r.ID))
	if errors.Is(err, store.ErrUnmounted) {
		b.log.Warn("mailbox not opened", "service", "imap", "user", r.Address, "error", err.Error())
		return nil, &imap.Error{
			Code: imap.CodeUnavailable, Text: "the database of this mailbox is not mounted, try again later",
		}
	}
	if err != nil {
		return nil, b.translate(err)
	}
	stop, err := b.dir.Watch(&r, info.End)
	if err != nil {
		return nil, loginError(err)
	}
	b.log.Info("login", "service", "imap", "user", r.Address, "peer", l.Remote.String(), "tls", info.TLS != nil)
	return &session{b: b, box: box, stop: stop}, nil
}

func remoteAddr(a net.Addr) netip.Addr {
	if a == nil {
		return netip.Addr{}
	}
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}
