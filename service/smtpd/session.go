package smtpd

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"

	"pillarbox/directory"
	"pillarbox/mail/address"
	"pillarbox/protocol/smtp"
	"pillarbox/store"
	"pillarbox/transport"
)

// session is one client's conversation.
type session struct {
	o    *Options
	info *smtp.ConnInfo
	log  *slog.Logger

	user     *directory.Recipient // who logged in
	envelope transport.Envelope
	size     int64 // declared by MAIL
}

var _ smtp.Session = (*session)(nil)

// refuse logs a refusal and makes its reply.
func (s *session) refuse(what string, err error, args ...any) error {
	out := answer(err)
	log := s.log.With(args...)
	var e *smtp.Error
	switch {
	case errors.Is(err, smtp.ErrDataLost):
		log.Info(what, "reason", err)
	case errors.As(out, &e) && e.Code/100 == 5:
		log.Info(what, "reason", e.Error())
	default:
		log.Warn(what, "reason", out, "error", err)
	}
	return out
}

// Auth checks a login.
func (s *session) Auth(ctx context.Context, user, password string) error {
	l := directory.Login{Name: user, Password: password, Remote: remoteAddr(s.info.Remote)}
	if s.info.TLS != nil {
		l.ServerName = s.info.TLS.ServerName
	}
	r, err := s.o.Directory.Authenticate(ctx, l)
	if err != nil {
		return s.refuse("login refused", err, "service", "smtp", "user", user)
	}
	s.user = &r
	s.log = s.log.With("user", r.Address)
	s.log.Info("login", "service", "smtp", "tls", s.info.TLS != nil)
	return nil
}

// remoteAddr is the peer's IP address, invalid when the connection has none.
func remoteAddr(a net.Addr) netip.Addr {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

// Mail judges the sender (mail.md 4, 5).
func (s *session) Mail(ctx context.Context, from smtp.Path, opts smtp.MailOptions) error {
	s.Reset()
	unverified, err := s.sender(ctx, from)
	if err != nil {
		return s.refuse("sender refused", err, "from", from.String())
	}
	s.size = opts.Size
	s.envelope = transport.Envelope{
		From: from, UTF8: opts.UTF8, Submission: s.user != nil, Unverified: unverified,
		HeadersOnly: opts.Return == "HDRS", EnvelopeID: opts.EnvelopeID,
		Trace: transport.Trace{
			Helo: s.info.Helo, Remote: s.info.Remote, With: s.info.With(opts.UTF8),
		},
	}
	if s.user != nil {
		s.envelope.CheckFrom = s.checkFrom
	}
	return nil
}

// sender tells whether a sender may send, and whether it only claims to be one of ours.
func (s *session) sender(ctx context.Context, a address.Address) (unverified bool, err error) {
	switch {
	case a.IsZero():
		return false, nil // notifications; users' programs send them too (RFC 8098 3)
	case s.user != nil:
		if err := s.o.Directory.Valid(s.user); err != nil {
			return false, err
		}
		if !s.o.Directory.Owns(s.user.ID, a) {
			return false, reply(550, [3]int{5, 7, 1}, "this sender is not an address of yours")
		}
		return false, nil
	case s.o.Directory.IsLocal(a.Domain):
		if _, err := s.o.Directory.Resolve(a); errors.Is(err, directory.ErrNotFound) {
			return false, reply(550, [3]int{5, 1, 7}, "no such sender here")
		} else if err != nil {
			return false, err
		}
		if s.o.RejectLocalSender {
			return false, reply(550, [3]int{5, 7, 1}, "log in to send as a user of this server")
		}
		return true, nil
	case s.o.SenderDNS != nil:
		return false, s.lookUp(ctx, a.Domain)
	}
	return false, nil
}

// lookUp refuses a domain to which no answer could be sent.
func (s *session) lookUp(ctx context.Context, domain string) error {
	if domain == "" || domain[0] == '[' {
		return nil
	}
	domain = address.DomainKey(domain)
	mx, err := s.o.SenderDNS.LookupMX(ctx, domain)
	if len(mx) > 0 {
		return nil
	}
	if notFound(err) || err == nil {
		_, err = s.o.SenderDNS.LookupHost(ctx, domain)
	}
	switch {
	case err == nil:
		return nil
	case notFound(err):
		return reply(550, [3]int{5, 1, 8}, "the sender's domain does not exist")
	}
	return reply(451, [3]int{4, 4, 3}, "the sender's domain cannot be looked up now")
}

func notFound(err error) bool {
	var e *net.DNSError
	return errors.As(err, &e) && e.IsNotFound
}

// Rcpt judges a recipient (mail.md 5).
func (s *session) Rcpt(_ context.Context, to smtp.Path, opts smtp.RcptOptions) error {
	if err := s.recipient(to); err != nil {
		return s.refuse("recipient refused", err, "from", s.envelope.From.String(), "to", to.String())
	}
	s.envelope.Recipients = append(s.envelope.Recipients, transport.Recipient{
		Address: to, Original: opts.Original,
		Never:   slices.Contains(opts.Notify, "NEVER"),
		NoDelay: len(opts.Notify) > 0 && !slices.Contains(opts.Notify, "DELAY"),
	})
	return nil
}

func (s *session) recipient(a address.Address) error {
	r, err := s.o.Directory.Resolve(a)
	if errors.Is(err, directory.ErrNotLocal) && s.user != nil {
		return nil
	}
	if err != nil || r.Kind != directory.KindUser {
		return err
	}
	m, err := s.o.Mailboxes.Mailbox(store.MailboxID(r.ID))
	if errors.Is(err, store.ErrNoMailbox) {
		return nil // made when it is first used
	}
	if err == nil {
		err = m.Room(s.size)
	}
	if store.Unavailable(err) {
		return nil // its mail waits in the queue
	}
	return err
}

// checkFrom refuses a header From that is not the user's (mail.md 4).
func (s *session) checkFrom(from string) error {
	const most = 100
	list := address.ParseList(from, most)
	if len(list) == most {
		return reply(550, [3]int{5, 6, 0}, "the From of the message has too many addresses")
	}
	for _, e := range list {
		if e.Kind == address.Mailbox && !s.o.Directory.Owns(s.user.ID, e.Address) {
			return reply(550, [3]int{5, 7, 1}, "the From of the message is not an address of yours")
		}
	}
	return nil
}

// Data hands the message over.
func (s *session) Data(ctx context.Context, r io.Reader) (string, error) {
	defer s.Reset()
	e := s.envelope
	id, err := s.o.Transport.Accept(ctx, &e, r)
	if err != nil {
		return "", s.refuse("message refused", err,
			"from", e.From.String(), "recipients", len(e.Recipients))
	}
	return string(id), nil
}

// Reset forgets the transaction.
func (s *session) Reset() { s.envelope, s.size = transport.Envelope{}, 0 }

// Close ends the session.
func (s *session) Close() {}
