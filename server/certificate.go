package server

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// certificate is the server's certificate as the files have it now. It is safe for concurrent
// use.
type certificate struct {
	certFile, keyFile string
	logger            *slog.Logger
	current           atomic.Pointer[loadedCertificate]
}

type loadedCertificate struct {
	config   *tls.Config
	notAfter time.Time
	stamp    string // of the files, to see changes
}

func openCertificate(certFile, keyFile string, logger *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, logger: logger}
	return c, c.reload()
}

// reload reads the files. On error what was loaded before stays in use.
func (c *certificate) reload() error {
	stamp := c.stamp()
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("load certificate %s: %w", c.certFile, err)
	}
	c.current.Store(&loadedCertificate{
		config: &tls.Config{
			Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12,
		},
		notAfter: pair.Leaf.NotAfter, stamp: stamp,
	})
	c.warnOfExpiry(time.Now())
	return nil
}

// refresh reloads when the files have changed.
func (c *certificate) refresh() {
	if c.stamp() == c.current.Load().stamp {
		return
	}
	if err := c.reload(); err != nil {
		c.logger.Error("certificate not reloaded: the former one stays in use", "err", err)
		return
	}
	c.logger.Info("certificate reloaded", "cert", c.certFile)
}

func (c *certificate) stamp() string {
	s := ""
	for _, name := range []string{c.certFile, c.keyFile} {
		if info, err := os.Stat(name); err == nil {
			s += fmt.Sprint(info.ModTime().UnixNano(), info.Size(), " ")
		}
	}
	return s
}

func (c *certificate) warnOfExpiry(now time.Time) {
	end := c.current.Load().notAfter
	if now.Add(renewAhead).After(end) {
		c.logger.Warn("certificate expires soon", "cert", c.certFile, "not_after", end)
	}
}

// tlsConfig is for a new handshake.
func (c *certificate) tlsConfig() *tls.Config { return c.current.Load().config }
