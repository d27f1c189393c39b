package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"pillarbox/directory"
)

// InitOptions are the flags of init.
type InitOptions struct {
	Dir string
	// Config is where the config file goes. Default: in Dir.
	Config   string
	Hostname string
	Domain   string
}

// Init makes a config file with the standard ports, certificates of a local authority, and a
// storage group that knows one domain. What is there stays. It returns the config's path.
func Init(ctx context.Context, o InitOptions) (string, error) {
	if err := directory.CheckDomain(o.Domain); err != nil {
		return "", fmt.Errorf("init: %w", err) // before anything is made
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return "", fmt.Errorf("init: %w", err)
	}
	path := or(o.Config, filepath.Join(o.Dir, ConfigName))
	text := configText(configValues{
		Hostname: o.Hostname, Domain: o.Domain, Listen: standardListen("", 0),
	})
	if o.Config != "" {
		abs, err := filepath.Abs(o.Dir)
		if err != nil {
			return "", fmt.Errorf("init: %w", err)
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return "", fmt.Errorf("init: %w", err)
		}
		text = fmt.Sprintf("dir = %q\n", abs) + text
	}
	if err := writeConfig(path, text); err != nil {
		return "", err
	}
	cfg, err := LoadConfig(path)
	if err != nil {
		return "", err
	}
	if cfg.DefaultDomain != o.Domain {
		return "", &ConfigError{File: path, Reason: "is there already, for the domain " +
			cfg.DefaultDomain}
	}
	if cfg.TLS.CA != "" {
		err := ensureCertificates(filepath.Dir(cfg.TLS.CA), leafNames(cfg), time.Now())
		if err != nil {
			return "", err
		}
	}
	core, err := openCore(ctx, cfg, coreOptions{
		logger: slog.New(slog.DiscardHandler), still: true,
	})
	if err != nil {
		return "", err
	}
	err = core.dir.AddDomain(ctx, o.Domain)
	if errors.Is(err, directory.ErrExists) {
		err = nil
	}
	return path, errors.Join(err, core.Close())
}
