package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"pillarbox/service/webd"
)

// Times of the end: services get drainTime, what is left of endTime is for the storage group.
const (
	drainTime   = 8 * time.Second
	refreshTime = time.Minute
	expiryTime  = 24 * time.Hour
)

// Server is a Core with its listeners.
type Server struct {
	core   *Core
	cfg    *Config
	logger *slog.Logger
	cert   *certificate // nil without TLS
	bound  []*bound
	admin  *http.Server
	adminL net.Listener

	wg sync.WaitGroup // Serve of each listener
}

// protocolServer is what a service's package gives us.
type protocolServer interface {
	Serve(l net.Listener) error
	Shutdown(ctx context.Context) error
}

// bound is a service on its listener.
type bound struct {
	service  service
	listener net.Listener
	server   protocolServer
}

// listen binds all addresses and makes the services; none serves yet.
func listen(core *Core, logger *slog.Logger) (*Server, error) {
	s := &Server{core: core, cfg: core.cfg, logger: logger}
	if err := s.listen(); err != nil {
		return nil, errors.Join(err, s.closeListeners())
	}
	return s, nil
}

func (s *Server) listen() error {
	if s.cfg.TLS.Cert != "" {
		cert, err := openCertificate(s.cfg.TLS.Cert, s.cfg.TLS.Key, s.logger)
		if err != nil {
			return err
		}
		s.cert = cert
	}
	for _, a := range s.cfg.Listen.services() {
		if a.address == "" {
			continue
		}
		l, err := net.Listen("tcp", a.address)
		if err != nil {
			return fmt.Errorf("listen for %s: %w", a.service, err)
		}
		s.bound = append(s.bound, &bound{service: a.service, listener: l})
	}
	if len(s.bound) == 0 {
		return errors.New("the config names no address to listen on: see [listen]")
	}
	for _, b := range s.bound {
		b.server = s.makeService(b.service)
	}
	l, err := listenAdmin(s.cfg.Dir)
	if err != nil {
		return err
	}
	s.adminL = l
	s.admin = &http.Server{
		Handler: adminHandler(s.core, s.logger), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(s.logger.Handler(), slog.LevelWarn),
	}
	return nil
}

func (s *Server) closeListeners() error {
	var errs []error
	for _, b := range s.bound {
		errs = append(errs, b.listener.Close())
	}
	if s.adminL != nil {
		errs = append(errs, s.adminL.Close())
	}
	return errors.Join(errs...)
}

// address is where a service listens, or nil.
func (s *Server) address(want service) *net.TCPAddr {
	for _, b := range s.bound {
		if b.service == want {
			return b.listener.Addr().(*net.TCPAddr)
		}
	}
	return nil
}

func (s *Server) port(want service) int {
	if a := s.address(want); a != nil {
		return a.Port
	}
	return 0
}

// tlsConfig is what the services take: nil where there is no certificate.
func (s *Server) tlsConfig() func() *tls.Config {
	if s.cert == nil {
		return nil
	}
	return s.cert.tlsConfig
}

// web makes the HTTP service.
func (s *Server) web(v service) *http.Server {
	o := webd.Options{
		Setup: webd.Setup{
			Domain: s.cfg.DefaultDomain, Host: s.clientHost(),
			IMAP: s.port(serviceIMAP), IMAPS: s.port(serviceIMAPS), POP3: s.port(servicePOP3),
			POP3S: s.port(servicePOP3S), SMTP: s.port(serviceSMTP),
			Submission: s.port(serviceSubmission), Submissions: s.port(serviceSubmissions),
			HasCA: s.cfg.TLS.CA != "", Plaintext: len(s.cfg.PlaintextAuthFrom) > 0,
		},
		Health: s.core.health, Metrics: s.core.writeMetrics, Logger: s.logger,
	}
	if s.cfg.TLS.CA != "" {
		o.CA = func() ([]byte, error) { return os.ReadFile(s.cfg.TLS.CA) }
	}
	h := &http.Server{
		Handler: webd.New(o), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		ErrorLog: slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug),
	}
	if v.implicitTLS() {
		h.TLSConfig = &tls.Config{
			MinVersion: tls.VersionTLS12,
			GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
				c := s.cert.tlsConfig().Clone()
				c.NextProtos = []string{"h2", "http/1.1"}
				return c, nil
			},
			// Asked for by http.Server although GetConfigForClient answers first.
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
				return &s.cert.tlsConfig().Certificates[0], nil
			},
		}
	}
	return h
}

// clientHost is the server name for the set-up of clients. On loopback only this machine can
// be meant; on all addresses it is the name that the browser came by.
func (s *Server) clientHost() string {
	ip := s.bound[0].listener.Addr().(*net.TCPAddr).IP
	switch {
	case ip.IsLoopback():
		return ip.String()
	case ip.IsUnspecified() && s.cfg.TLS.CA != "":
		return ""
	}
	return s.cfg.Hostname
}

// httpService gives http.Server the shape of the others.
type httpService struct {
	*http.Server
	tls bool
	// either takes HTTP on the HTTPS port too.
	either func() *tls.Config
}

// Serve serves until Shutdown.
func (h httpService) Serve(l net.Listener) error {
	l = &limitedListener{Listener: l, most: mostHTTP}
	switch {
	case h.either != nil:
		return h.Server.Serve(&eitherListener{l, h.either})
	case h.tls:
		return h.ServeTLS(l, "", "")
	}
	return h.Server.Serve(l)
}

// Shutdown waits for requests under way and then cuts what is left.
func (h httpService) Shutdown(ctx context.Context) error {
	if err := h.Server.Shutdown(ctx); err != nil {
		return errors.Join(err, h.Close())
	}
	return nil
}

// serve accepts connections until ctx ends, then drains.
func (s *Server) serve(ctx context.Context) error {
	failed := make(chan error, len(s.bound)+1)
	for _, b := range s.bound {
		s.wg.Go(func() {
			if err := b.server.Serve(b.listener); ctx.Err() == nil {
				failed <- fmt.Errorf("serve %s: %w", b.service, err)
			}
		})
	}
	s.wg.Go(func() {
		if err := s.admin.Serve(s.adminL); ctx.Err() == nil {
			failed <- fmt.Errorf("serve admin socket: %w", err)
		}
	})
	if s.cert != nil {
		watch, stop := context.WithCancel(ctx)
		defer stop()
		s.wg.Go(func() { s.watchCertificate(watch) })
	}
	guard, stopGuard := context.WithCancel(ctx)
	defer stopGuard()
	s.guard(guard)
	var err error
	select {
	case <-ctx.Done():
		s.logger.Info("shutting down")
	case err = <-failed:
		s.logger.Error("shutting down", "err", err)
	}
	s.core.stop()            // a backup under way would hold up the end
	_ = notify("STOPPING=1") // nobody is told that nobody could be told
	s.drain()
	return err
}

// guard keeps archive, schedule of backups and drills, warns, and purges.
func (s *Server) guard(ctx context.Context) {
	c := s.core
	c.work.Go("archives", func() { c.keepArchives(ctx) })
	if to := s.cfg.Backup.To; to != "" {
		c.work.Go("schedule of backups to "+to, func() { c.keepSchedule(ctx) })
	}
	if s.cfg.Backup.DrillEvery.time > 0 {
		c.work.Go("restore drill", func() { c.keepDrilling(ctx) })
	}
	c.work.Go("watch of backups and disks", func() { c.keepWatch(ctx) })
	c.work.Go("purge", func() { c.keepPurging(ctx) })
}

// drain ends all services at once and waits for them (mail.md 30).
func (s *Server) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	var wg sync.WaitGroup
	for _, b := range s.bound {
		wg.Go(func() {
			if err := b.server.Shutdown(ctx); err != nil {
				s.logger.Warn("connections cut", "service", b.service.String(), "err", err)
			}
		})
	}
	wg.Go(func() { _ = httpService{Server: s.admin}.Shutdown(ctx) })
	wg.Wait()
}

// watchCertificate takes new files and warns of the end.
func (s *Server) watchCertificate(ctx context.Context) {
	refresh, expiry := time.NewTicker(refreshTime), time.NewTicker(expiryTime)
	defer refresh.Stop()
	defer expiry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-refresh.C:
			s.cert.refresh()
		case now := <-expiry.C:
			s.cert.warnOfExpiry(now)
		}
	}
}
