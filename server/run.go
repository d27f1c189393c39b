package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
)

// RunOptions configures Run. The zero value is usable.
type RunOptions struct {
	// Out gets the ready line and, from quickstart, the new accounts. Default: nothing is said.
	Out io.Writer
	// Reload makes the server read its certificate again and reopen its log file.
	Reload <-chan struct{}

	// prepare works on the opened storage group before anything listens.
	prepare func(ctx context.Context, c *Core) error
	// ready is called when all services are bound.
	ready func(*Server)
}

// Run serves what the config says until ctx ends, and comes back after Clean Shutdown.
func Run(ctx context.Context, cfg *Config, o RunOptions) (err error) {
	if o.Out == nil {
		o.Out = io.Discard
	}
	logger, output, err := openLog(cfg.Log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, output.Close()) }()

	core, err := openCore(ctx, cfg, coreOptions{logger: logger})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeCore(core, logger)) }()
	if o.prepare != nil {
		if err := o.prepare(ctx, core); err != nil {
			return err
		}
	}
	s, err := listen(core, logger)
	if err != nil {
		return err
	}
	stop := make(chan struct{})
	s.wg.Go(func() { s.reloads(o.Reload, output, stop) })
	if _, err := fmt.Fprintln(o.Out, s.readyLine()); err != nil {
		logger.Warn("ready line not written", "err", err)
	}
	logger.Info("serving", "hostname", cfg.Hostname, "dir", cfg.Dir, "services", len(s.bound))
	if err := notify("READY=1"); err != nil {
		logger.Warn("service manager not told", "err", err)
	}
	if o.ready != nil {
		o.ready(s)
	}
	err = s.serve(ctx)
	close(stop)
	s.wg.Wait()
	return err
}

// reloads answers SIGHUP.
func (s *Server) reloads(reload <-chan struct{}, output *logOutput, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-reload:
		}
		if err := output.reopen(); err != nil {
			s.logger.Error("log file not reopened", "err", err)
		}
		if s.cert != nil {
			if err := s.cert.reload(); err != nil {
				s.logger.Error("certificate not reloaded: the former one stays in use", "err", err)
			}
		}
		s.logger.Info("reloaded")
	}
}

// readyLine says in one line how to connect.
func (s *Server) readyLine() string {
	var parts []string
	for _, b := range s.bound {
		parts = append(parts, fmt.Sprintf("%s %s", b.service, b.listener.Addr()))
	}
	line := "Pillarbox is ready: " + strings.Join(parts, ", ")
	if page := s.startPage(); page != "" {
		line += "; set up your mail program: " + page
	}
	return line
}

// startPage is the address to open in a browser: that of the HTTP port, or where browsers
// refuse that one, of the HTTPS port, which then takes HTTP too.
func (s *Server) startPage() string {
	a := s.address(serviceHTTP)
	if a == nil {
		return ""
	}
	if tls := s.address(serviceHTTPS); tls != nil && browsersRefuse(a.Port) {
		a = tls
	}
	host := a.IP.String()
	if a.IP.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, fmt.Sprint(a.Port)) + "/"
}
