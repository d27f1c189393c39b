package pop3d

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"

	"pillarbox/directory"
	"pillarbox/ese"
	"pillarbox/protocol/pop3"
	"pillarbox/store"
)

// Directory checks logins. *directory.Directory is one.
type Directory interface {
	Authenticate(ctx context.Context, l directory.Login) (directory.Recipient, error)
	Valid(r *directory.Recipient) error
}

// Mailboxes opens mailboxes. *store.Store is one.
type Mailboxes interface {
	OpenMailbox(ctx context.Context, id store.MailboxID) (*store.Mailbox, error)
}

var (
	_ Directory = (*directory.Directory)(nil)
	_ Mailboxes = (*store.Store)(nil)
)

// Options configures the server of one port. Directory, Mailboxes and POP3.Hostname must be set.
type Options struct {
	// POP3 configures the protocol: TLS, limits. Backend is set by New.
	POP3      pop3.Options
	Directory Directory
	Mailboxes Mailboxes
	// Logger gets a line for each login and trouble. Default: discard.
	Logger *slog.Logger
}

// New makes a server. Its Serve and Shutdown are the caller's.
func New(o Options) *pop3.Server {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	po := o.POP3
	po.Backend = &backend{o}
	return pop3.NewServer(po)
}

// backend opens maildrops.
type backend struct{ o Options }

var _ pop3.Backend = (*backend)(nil)

// Login checks a password and locks the maildrop.
func (b *backend) Login(
	ctx context.Context, user, password string, info *pop3.ConnInfo,
) (pop3.Maildrop, error) {
	log := b.o.Logger.With("peer", info.Remote.String(), "service", "pop3", "user", user)
	l := directory.Login{Name: user, Password: password}
	if ap, err := netip.ParseAddrPort(info.Remote.String()); err == nil {
		l.Remote = ap.Addr().Unmap()
	}
	if info.TLS != nil {
		l.ServerName = info.TLS.ServerName
	}
	r, err := b.o.Directory.Authenticate(ctx, l)
	if err != nil {
		return nil, refuse(log, "login refused", err)
	}
	m, err := b.o.Mailboxes.OpenMailbox(ctx, store.MailboxID(r.ID))
	if err != nil {
		return nil, refuse(log, "mailbox not opened", err)
	}
	d, err := m.Maildrop()
	if err != nil {
		return nil, refuse(log, "maildrop not opened", err)
	}
	log.Info("login", "tls", info.TLS != nil, "messages", len(d.Messages()))
	valid := func() error { return b.o.Directory.Valid(&r) }
	return &maildrop{d: d, log: log, valid: valid}, nil
}

// refuse logs an error and makes its reply.
func refuse(log *slog.Logger, what string, err error) error {
	e := answer(err)
	if e.Code == "AUTH" || e.Code == "IN-USE" {
		log.Info(what, "reason", e.Message)
	} else {
		log.Warn(what, "error", err)
	}
	return e
}

// answer is the one table from errors to replies (mail.md 8, RFC 3206).
func answer(err error) *pop3.Error {
	temporary := func(message string) *pop3.Error {
		return &pop3.Error{Code: "SYS/TEMP", Message: message}
	}
	switch {
	case errors.Is(err, directory.ErrBadLogin):
		return pop3.ErrAuth
	case errors.Is(err, directory.ErrThrottled):
		return temporary("too many failed logins, try again later")
	case errors.Is(err, store.ErrInUse):
		return pop3.ErrInUse
	case errors.Is(err, store.ErrNoMessage):
		return &pop3.Error{Message: "another session has removed the message"}
	case errors.Is(err, store.ErrUnmounted), errors.Is(err, ese.ErrDetached):
		return temporary("the database of this mailbox is not mounted, try again later")
	case errors.Is(err, store.ErrMoved), errors.Is(err, store.ErrElsewhere):
		return temporary("the mailbox has moved, connect again")
	case errors.Is(err, ese.ErrLogDead), errors.Is(err, ese.ErrClosed):
		return temporary("the store is not available, try again later")
	}
	return temporary("local trouble, try again later")
}

// maildrop is a store.Maildrop as the protocol wants it.
type maildrop struct {
	d     *store.Maildrop
	log   *slog.Logger
	valid func() error // the login may be good no more
}

var _ pop3.Maildrop = (*maildrop)(nil)

func (m *maildrop) Messages() []pop3.Info {
	msgs := m.d.Messages()
	infos := make([]pop3.Info, len(msgs))
	for i, msg := range msgs {
		infos[i] = pop3.Info{Size: msg.Size, UIDL: msg.UIDL}
	}
	return infos
}

// stream reads a content from its beginning.
type stream struct {
	io.Reader
	io.Closer
}

func (m *maildrop) Open(i int) (io.ReadCloser, error) {
	err := m.valid()
	if err != nil {
		return nil, refuse(m.log, "message refused", err)
	}
	r, err := m.d.Open(i)
	if err != nil {
		return nil, refuse(m.log, "message not opened", err)
	}
	return stream{io.NewSectionReader(r, 0, r.Size()), r}, nil
}

func (m *maildrop) Remove(ctx context.Context, idx []int) error {
	err := m.valid()
	if err == nil {
		err = m.d.Remove(ctx, idx)
	}
	if err != nil {
		return refuse(m.log, "messages not removed", err)
	}
	if len(idx) > 0 {
		m.log.Info("removed", "messages", len(idx))
	}
	return nil
}

func (m *maildrop) Close() { m.d.Close() }
