package server

import (
	"pillarbox/protocol/imap"
	"pillarbox/protocol/pop3"
	"pillarbox/protocol/smtp"
	"pillarbox/service/imapd"
	"pillarbox/service/pop3d"
	"pillarbox/service/smtpd"
)

// makeService binds a protocol to the store.
func (s *Server) makeService(v service) protocolServer {
	switch v {
	case serviceSMTP, serviceSubmission, serviceSubmissions:
		return s.smtp(v)
	case servicePOP3, servicePOP3S:
		return pop3d.New(pop3d.Options{
			POP3: pop3.Options{
				Hostname: s.cfg.Hostname, TLS: s.tlsConfig(), ImplicitTLS: v.implicitTLS(),
				PlaintextAuth: s.cfg.plaintextAuth(), Logger: s.logger,
			},
			Directory: s.core.dir, Mailboxes: s.core.store, Logger: s.logger,
		})
	case serviceIMAP, serviceIMAPS:
		return imap.NewServer(imap.Options{
			Backend: imapd.New(s.core.store, s.core.dir, s.logger),
			TLS:     s.tlsConfig(), ImplicitTLS: v.implicitTLS(),
			PlaintextAuth: s.cfg.plaintextAuth(), MaxMessage: s.cfg.MaxMessageBytes,
			// A whole company may sit behind one address, with several connections a person.
			MaxConnsPerIP: 5000,
			Logger:        s.logger,
		})
	}
	h := httpService{Server: s.web(v), tls: v.implicitTLS()}
	if h.tls && browsersRefuse(s.port(serviceHTTP)) {
		h.either = s.cert.tlsConfig
	}
	return h
}

func (s *Server) smtp(v service) *smtp.Server {
	o := smtpd.Options{
		SMTP: smtp.Options{
			Hostname: s.cfg.Hostname, Mode: smtp.Submission, TLS: s.tlsConfig(),
			ImplicitTLS: v.implicitTLS(), PlaintextAuth: s.cfg.plaintextAuth(),
			MaxSize: s.cfg.MaxMessageBytes, Logger: s.logger,
			NormalizeNewlines: s.cfg.BareNewline == "normalize",
		},
		Transport: s.core.queue, Directory: s.core.dir, Mailboxes: s.core.store,
		RejectLocalSender: s.cfg.LocalSender == "reject", Logger: s.logger,
	}
	if v == serviceSMTP {
		o.SMTP.Mode, o.SMTP.Auth = smtp.MX, s.cfg.AuthOn25
	}
	if s.cfg.SenderDNS {
		o.SenderDNS = newResolver(s.cfg.Outbound.Resolver)
	}
	return smtpd.New(o)
}
