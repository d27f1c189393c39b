package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"pillarbox/directory"
)

// Defaults of quickstart.
const (
	defaultListen   = "127.0.0.1"
	defaultBasePort = 10000
	defaultDomain   = "pillarbox.test"
	mostBasePort    = 60000
	accountsName    = "accounts.txt"
)

// QuickstartOptions are the flags of quickstart. Zero values mean that a flag was not given:
// what the folder holds then counts, else the default.
type QuickstartOptions struct {
	Dir      string // default: data
	Listen   string
	BasePort int
	Domain   string
	// Password of new accounts. Default: random ones.
	Password string
}

// Quickstart makes what is missing in the folder and serves until ctx ends. Flags hold for
// this run and are not written back (mail.md 28).
func Quickstart(ctx context.Context, q QuickstartOptions, o RunOptions) error {
	setString(&q.Dir, "data")
	if q.BasePort < 0 || q.BasePort > mostBasePort {
		return fmt.Errorf("--base-port %d: must be at most %d", q.BasePort, mostBasePort)
	}
	if q.Domain != "" {
		if err := directory.CheckDomain(q.Domain); err != nil {
			return fmt.Errorf("quickstart: %w", err) // before anything is made
		}
	}
	if err := os.MkdirAll(q.Dir, 0o700); err != nil {
		return fmt.Errorf("quickstart: %w", err)
	}
	cfg, err := q.config()
	if err != nil {
		return err
	}
	if err := ensureCertificates(filepath.Dir(cfg.TLS.Cert), leafNames(cfg), time.Now()); err != nil {
		return err
	}
	out := o.Out
	if out == nil {
		out = io.Discard
	}
	o.prepare = func(ctx context.Context, c *Core) error { return q.accounts(ctx, c, out) }
	return Run(ctx, cfg, o)
}

// config reads the folder's config, made when it is missing, and lays the flags over it.
func (q *QuickstartOptions) config() (*Config, error) {
	path := filepath.Join(q.Dir, ConfigName)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		text := configText(configValues{
			Domain: or(q.Domain, defaultDomain), Quickstart: true,
			Listen: standardListen(or(q.Listen, defaultListen), or(q.BasePort, defaultBasePort)),
		})
		if err := writeConfig(path, text); err != nil {
			return nil, err
		}
	}
	cfg, err := LoadConfig(path)
	if err != nil {
		return nil, err
	}
	if q.Domain != "" && !strings.EqualFold(q.Domain, cfg.DefaultDomain) {
		return nil, fmt.Errorf("%s was made for the domain %s: use another --dir for %s",
			q.Dir, cfg.DefaultDomain, q.Domain)
	}
	if cfg.TLS.Cert == "" {
		return nil, &ConfigError{File: path, Reason: "quickstart needs tls.cert: use serve"}
	}
	if q.Listen != "" || q.BasePort != 0 {
		if err := q.override(&cfg.Listen); err != nil {
			return nil, err
		}
	}
	return cfg, nil
}

func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// override changes host and ports of all services for this run.
func (q *QuickstartOptions) override(l *ListenConfig) error {
	host, base := q.Listen, q.BasePort
	if host == "" || base == 0 {
		h, p, err := net.SplitHostPort(l.SMTP)
		if err != nil {
			return fmt.Errorf("listen.smtp: %w", err)
		}
		port, err := net.LookupPort("tcp", p)
		if err != nil {
			return fmt.Errorf("listen.smtp: %w", err)
		}
		host, base = or(host, h), or(base, port-serviceSMTP.port())
	}
	*l = standardListen(host, base)
	return nil
}

// leafNames are the names and addresses that clients may use (mail.md 28).
func leafNames(cfg *Config) []string {
	d := cfg.DefaultDomain
	names := []string{
		d, "mail." + d, "imap." + d, "pop." + d, "smtp." + d, "localhost", "127.0.0.1", "::1",
	}
	add := func(n string) {
		if n != "" && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	add(cfg.Hostname)
	for _, a := range cfg.Listen.services() {
		host, _, err := net.SplitHostPort(a.address)
		if err != nil {
			continue
		}
		ip := net.ParseIP(host)
		if host != "" && (ip == nil || !ip.IsUnspecified()) {
			add(host)
			continue
		}
		addrs, _ := net.InterfaceAddrs() // none known: those of loopback are there
		for _, ia := range addrs {
			if n, ok := ia.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
				add(n.IP.String())
			}
		}
	}
	return names
}

// accounts makes the domain and the accounts that are missing. The file with the passwords is
// written first: whatever a crash leaves, the accounts get the passwords in the file.
func (q *QuickstartOptions) accounts(ctx context.Context, c *Core, out io.Writer) error {
	domain := c.cfg.DefaultDomain
	if err := c.dir.AddDomain(ctx, domain); err != nil && !errors.Is(err, directory.ErrExists) {
		return fmt.Errorf("quickstart: %w", err)
	}
	path := filepath.Join(c.cfg.Dir, accountsName)
	passwords, err := readAccounts(path)
	if err != nil {
		return fmt.Errorf("quickstart: %w", err)
	}
	if passwords == nil {
		if len(c.dir.Users()) > 0 {
			return nil // the operator removed the file
		}
		if passwords, err = q.writeAccounts(path, domain); err != nil {
			return fmt.Errorf("quickstart: %w", err)
		}
	}
	for _, a := range passwords {
		_, err := c.dir.AddUser(ctx, a.address, directory.Secret{Password: a.password})
		if errors.Is(err, directory.ErrExists) {
			continue
		}
		if err != nil {
			return fmt.Errorf("quickstart: %w", err)
		}
		if _, err := fmt.Fprintf(out, "Account %s password %s\n", a.address, a.password); err != nil {
			return fmt.Errorf("quickstart: %w", err)
		}
	}
	return nil
}

type account struct{ address, password string }

func (q *QuickstartOptions) writeAccounts(path, domain string) ([]account, error) {
	var b strings.Builder
	var list []account
	for _, name := range []string{"alice", "bob"} {
		a := account{name + "@" + domain, or(q.Password, randomPassword())}
		list = append(list, a)
		fmt.Fprintf(&b, "%s %s\n", a.address, a.password)
	}
	return list, replaceFile(path, []byte(b.String()), 0o600)
}

// readAccounts returns nil when there is no file.
func readAccounts(path string) ([]account, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list := []account{}
	for line := range strings.Lines(string(b)) {
		address, password, ok := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		if ok {
			list = append(list, account{address, password})
		}
	}
	return list, nil
}
