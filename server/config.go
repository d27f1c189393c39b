package server

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"pillarbox/archive"
	"pillarbox/storage"
)

// ConfigName is the name of the config file in its folder.
const ConfigName = "pillarbox.toml"

// Config is the config file (docs/operating.md describes each key). Paths in it are relative
// to its folder until Load makes them absolute.
type Config struct {
	// Hostname is the name the server gives itself in greetings and Received lines.
	Hostname string `toml:"hostname"`
	// DefaultDomain completes login names without @.
	DefaultDomain string `toml:"default_domain"`
	// Dir holds all data. Default: the folder of the config file.
	Dir string `toml:"dir"`

	MaxMessageBytes   int64    `toml:"max_message_bytes"`
	PlaintextAuthFrom []string `toml:"plaintext_auth_from"`
	AuthOn25          bool     `toml:"auth_on_25"`
	// LocalSender is what becomes of unauthenticated mail that has a sender of a local domain:
	// mark or reject.
	LocalSender string `toml:"local_sender"`
	SenderDNS   bool   `toml:"sender_dns"`
	// NewMailboxes is where mailboxes of new accounts go: GROUP/DATABASE, or least-full.
	NewMailboxes string `toml:"new_mailboxes"`
	// LogWarnPercent is how full the disk of a log may be before it is warned of.
	LogWarnPercent int `toml:"log_warn_percent"`
	// BareNewline is what becomes of a bare LF in DATA: reject or normalize.
	BareNewline string `toml:"bare_newline"`

	Listen   ListenConfig   `toml:"listen"`
	TLS      TLSConfig      `toml:"tls"`
	Outbound OutboundConfig `toml:"outbound"`
	Log      LogConfig      `toml:"log"`
	Backup   BackupConfig   `toml:"backup"`
	Store    StoreConfig    `toml:"store"`
	S3       S3Config       `toml:"s3"`
	Groups   []GroupConfig  `toml:"group"`

	path string
}

// ListenConfig has the address of each service; an empty one is not served.
type ListenConfig struct {
	SMTP        string `toml:"smtp"`
	Submission  string `toml:"submission"`
	Submissions string `toml:"submissions"`
	POP3        string `toml:"pop3"`
	POP3S       string `toml:"pop3s"`
	IMAP        string `toml:"imap"`
	IMAPS       string `toml:"imaps"`
	HTTP        string `toml:"http"`
	HTTPS       string `toml:"https"`
}

// TLSConfig names the certificate files (PEM). CA is offered on the start page.
type TLSConfig struct {
	Cert string `toml:"cert"`
	Key  string `toml:"key"`
	CA   string `toml:"ca"`
}

// OutboundConfig says how mail for other domains leaves.
type OutboundConfig struct {
	// Mode is off (the queue holds), direct or smarthost.
	Mode string `toml:"mode"`
	// Smarthost is a host name; SmarthostTLS is starttls, tls or none.
	Smarthost         string `toml:"smarthost"`
	SmarthostPort     int    `toml:"smarthost_port"`
	SmarthostTLS      string `toml:"smarthost_tls"`
	SmarthostUser     string `toml:"smarthost_user"`
	SmarthostPassword string `toml:"smarthost_password"`
	// Resolver is the DNS server, host:port. Default: the system's.
	Resolver string `toml:"resolver"`
	MXPort   int    `toml:"mx_port"`
}

// LogConfig says where events go.
type LogConfig struct {
	Format string `toml:"format"` // text or json
	File   string `toml:"file"`   // default: standard error
	Level  string `toml:"level"`  // debug, info, warn or error
}

// GroupConfig is a storage group.
type GroupConfig struct {
	Name string `toml:"name"`
	// Dir holds the databases, the checkpoint and the lock; LogDir the log files. Default: Dir.
	Dir       string   `toml:"dir"`
	LogDir    string   `toml:"log_dir"`
	Databases []string `toml:"databases"`
	// Archive is a folder or s3://BUCKET/PREFIX to which the log is copied, ArchiveEvery how often the
	// current one, ArchiveKeep how much log stays here while the archive does not take it.
	Archive      string      `toml:"archive"`
	ArchiveEvery Duration    `toml:"archive_every"`
	ArchiveKeep  ArchiveKeep `toml:"archive_keep"`

	CacheBytes           int64 `toml:"cache_bytes"`
	StreamBytes          int64 `toml:"stream_bytes"`
	VersionBytes         int64 `toml:"version_bytes"`
	CheckpointDepthBytes int64 `toml:"checkpoint_depth_bytes"`
	GenerationBytes      int64 `toml:"generation_bytes"`
	LogKeepBytes         int64 `toml:"log_keep_bytes"`
	Circular             bool  `toml:"circular"`

	paths map[string]string // where databases lie that were moved (storage.Layout)
}

// layout is the config with what groups.json adds to it: groups and databases made at run time,
// and where databases lie. It is for those who work on groups while no server runs.
func (c *Config) layout() (*Config, error) {
	list, err := storage.Layout(c.Dir)
	if err != nil {
		return nil, err
	}
	all := *c
	all.Groups = slices.Clone(c.Groups)
	for _, l := range list {
		i := slices.IndexFunc(all.Groups, func(g GroupConfig) bool { return g.Name == l.Name })
		if i < 0 && !l.Made {
			continue // the config has dropped it
		}
		if i < 0 {
			i, all.Groups = len(all.Groups), append(all.Groups, c.madeGroup(l.GroupRecord))
		}
		g := &all.Groups[i]
		g.paths = l.Paths
		g.Databases = slices.Clone(g.Databases)
		for _, db := range l.Databases {
			if !slices.Contains(g.Databases, db) {
				g.Databases = append(g.Databases, db)
			}
		}
	}
	return &all, nil
}

// group finds a group by name; empty is the first one.
func (c *Config) group(name string) (*GroupConfig, error) {
	var names []string
	for i := range c.Groups {
		if name == "" || c.Groups[i].Name == name {
			return &c.Groups[i], nil
		}
		names = append(names, c.Groups[i].Name)
	}
	return nil, fmt.Errorf("there is no storage group %q: there are %q", name, names)
}

// path is where a database of the group lies.
func (g *GroupConfig) path(name string) string {
	return absolute(g.Dir, or(g.paths[name], name), "")
}

// ConfigError is trouble with a place in the config file.
type ConfigError struct {
	File   string
	Line   int // 0 when the whole file is meant
	Reason string
}

func (e *ConfigError) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Reason
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Reason)
}

// FindConfig returns the config file that verbs use when none was named.
func FindConfig() (string, error) {
	places := []string{filepath.Join("data", ConfigName), systemConfig()}
	for _, p := range places {
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf(
		"no config file in %s: name one with --config, or make one with init or quickstart",
		strings.Join(places, " or "))
}

// LoadConfig reads a config file strictly: a key that is not known is an error.
func LoadConfig(path string) (*Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	c := &Config{}
	d := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields()
	if err := d.Decode(c); err != nil {
		return nil, configError(path, err)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	c.path = abs
	c.setDefaults()
	if err := c.check(); err != nil {
		return nil, &ConfigError{File: path, Reason: err.Error()}
	}
	return c, nil
}

// configError finds the line in what the decoder says.
func configError(path string, err error) error {
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) && len(strict.Errors) > 0 {
		first := strict.Errors[0]
		row, _ := first.Position()
		return &ConfigError{path, row, "unknown key " + strings.Join(first.Key(), ".")}
	}
	var dec *toml.DecodeError
	if errors.As(err, &dec) {
		row, _ := dec.Position()
		return &ConfigError{path, row, strings.TrimPrefix(dec.Error(), "toml: ")}
	}
	return &ConfigError{path, 0, err.Error()}
}

func (c *Config) setDefaults() {
	home := filepath.Dir(c.path)
	if c.Hostname == "" {
		c.Hostname, _ = os.Hostname()
	}
	c.Dir = absolute(home, c.Dir, ".")
	if c.MaxMessageBytes == 0 {
		c.MaxMessageBytes = 50 << 20
	}
	c.Store.setDefaults()
	setString(&c.LocalSender, "mark")
	setString(&c.BareNewline, "reject")
	setString(&c.Outbound.Mode, "off")
	setString(&c.Outbound.SmarthostTLS, "starttls")
	setString(&c.Log.Format, "text")
	setString(&c.Log.Level, "info")
	if c.NewMailboxes == leastFull {
		c.NewMailboxes = ""
	}
	if c.LogWarnPercent == 0 {
		c.LogWarnPercent = 80
	}
	if c.Outbound.MXPort == 0 {
		c.Outbound.MXPort = 25
	}
	for _, p := range []*string{
		&c.TLS.Cert, &c.TLS.Key, &c.TLS.CA, &c.Log.File, &c.Backup.To,
		&c.Backup.DrillIdentity, &c.S3.Credentials, &c.S3.CA,
	} {
		*p = absolute(home, *p, "")
	}
	c.Backup.DrillScratch = absolute(home, c.Backup.DrillScratch, c.Dir)
	c.Backup.WarnAfter.setDefault(7 * 24 * time.Hour)
	if len(c.Groups) == 0 {
		c.Groups = []GroupConfig{{}}
	}
	for i := range c.Groups {
		g := &c.Groups[i]
		setString(&g.Name, "store")
		g.Dir = absolute(c.Dir, g.Dir, g.Name)
		g.LogDir = absolute(c.Dir, g.LogDir, g.Dir)
		if !archive.IsBucket(g.Archive) {
			g.Archive = absolute(c.Dir, g.Archive, "")
		}
		if g.ArchiveEvery == 0 {
			g.ArchiveEvery = Duration(30 * time.Second)
		}
		if len(g.Databases) == 0 {
			g.Databases = []string{"priv1.edb"}
		}
	}
}

func setString(p *string, v string) {
	if *p == "" {
		*p = v
	}
}

// absolute resolves p, or def when p is empty; with both empty it stays empty.
func absolute(home, p, def string) string {
	setString(&p, def)
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(home, p)
}

func (c *Config) check() error {
	if c.Hostname == "" {
		return errors.New("hostname is missing")
	}
	if err := oneOf("local_sender", c.LocalSender, "mark", "reject"); err != nil {
		return err
	}
	if err := oneOf("bare_newline", c.BareNewline, "reject", "normalize"); err != nil {
		return err
	}
	if err := oneOf("outbound.mode", c.Outbound.Mode, "off", "direct", "smarthost"); err != nil {
		return err
	}
	if err := oneOf("outbound.smarthost_tls", c.Outbound.SmarthostTLS, "starttls", "tls",
		"none"); err != nil {
		return err
	}
	if err := oneOf("log.format", c.Log.Format, "text", "json"); err != nil {
		return err
	}
	if err := oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error"); err != nil {
		return err
	}
	if c.Outbound.Mode == "smarthost" && c.Outbound.Smarthost == "" {
		return errors.New("outbound.smarthost is missing")
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		return errors.New("tls.cert and tls.key belong together")
	}
	if err := c.checkGroups(); err != nil {
		return err
	}
	if _, err := c.plaintextNetworks(); err != nil {
		return err
	}
	if err := errors.Join(c.checkBackup(), c.Store.check(), c.S3.check()); err != nil {
		return err
	}
	return c.Listen.check(c.TLS.Cert != "")
}

// leastFull is the policy for new mailboxes that names no database.
const leastFull = "least-full"

// checkGroups refuses groups and databases that could not be told from each other, or that would
// share a folder.
func (c *Config) checkGroups() error {
	if c.NewMailboxes != "" {
		p, err := storage.ParsePlace(c.NewMailboxes)
		if err != nil {
			return fmt.Errorf("new_mailboxes: %w, or %s", err, leastFull)
		}
		c.NewMailboxes = string(p)
	}
	if c.LogWarnPercent < 1 || c.LogWarnPercent > 100 {
		return errors.New("log_warn_percent is a share from 1 to 100")
	}
	names, dirs := make(map[string]bool), make(map[string]string)
	for i := range c.Groups {
		g := &c.Groups[i]
		if names[g.Name] {
			return fmt.Errorf("two [[group]] are called %q: name each", g.Name)
		}
		names[g.Name] = true
		if err := storage.CheckName(g.Name); err != nil {
			return fmt.Errorf("group.name: %w", err)
		}
		for _, dir := range slices.Compact([]string{g.Dir, g.LogDir}) {
			if other, ok := dirs[dir]; ok && other != g.Name {
				return fmt.Errorf("the groups %s and %s share the folder %s: give each its own",
					other, g.Name, dir)
			}
			dirs[dir] = g.Name
		}
		places := make(map[storage.Place]bool)
		for _, db := range g.Databases {
			p := storage.MakePlace(g.Name, db)
			if places[p] {
				return fmt.Errorf("two databases of the group %s are called %s", g.Name, p.Database())
			}
			places[p] = true
		}
	}
	return nil
}

func oneOf(key, v string, allowed ...string) error {
	for _, a := range allowed {
		if v == a {
			return nil
		}
	}
	return fmt.Errorf("%s = %q: must be one of %s", key, v, strings.Join(allowed, ", "))
}

// services lists the addresses by service, in the order of the ready line.
func (l *ListenConfig) services() []listenAddress {
	return []listenAddress{
		{serviceSMTP, l.SMTP},
		{serviceSubmission, l.Submission},
		{serviceSubmissions, l.Submissions},
		{servicePOP3, l.POP3},
		{servicePOP3S, l.POP3S},
		{serviceIMAP, l.IMAP},
		{serviceIMAPS, l.IMAPS},
		{serviceHTTP, l.HTTP},
		{serviceHTTPS, l.HTTPS},
	}
}

type listenAddress struct {
	service service
	address string
}

func (l *ListenConfig) check(hasTLS bool) error {
	for _, a := range l.services() {
		if a.address == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(a.address); err != nil {
			return fmt.Errorf("listen.%s: %w", a.service, err)
		}
		if a.service.implicitTLS() && !hasTLS {
			return fmt.Errorf("listen.%s needs tls.cert and tls.key", a.service)
		}
	}
	return nil
}

// standardListen is every service on its own port plus base.
func standardListen(host string, base int) ListenConfig {
	at := func(s service) string {
		return net.JoinHostPort(host, fmt.Sprint(base+s.port()))
	}
	return ListenConfig{
		SMTP: at(serviceSMTP), Submission: at(serviceSubmission),
		Submissions: at(serviceSubmissions), POP3: at(servicePOP3), POP3S: at(servicePOP3S),
		IMAP: at(serviceIMAP), IMAPS: at(serviceIMAPS), HTTP: at(serviceHTTP),
		HTTPS: at(serviceHTTPS),
	}
}

func (c *Config) plaintextNetworks() ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range c.PlaintextAuthFrom {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			a, aerr := netip.ParseAddr(s)
			if aerr != nil {
				return nil, fmt.Errorf("plaintext_auth_from: %w", err)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// plaintextAuth tells from which addresses passwords are taken in clear (mail.md 10).
func (c *Config) plaintextAuth() func(net.Addr) bool {
	nets, _ := c.plaintextNetworks() // checked when the file was read
	return func(a net.Addr) bool {
		ap, err := netip.ParseAddrPort(a.String())
		if err != nil {
			return false
		}
		ip := ap.Addr().Unmap()
		for _, p := range nets {
			if p.Contains(ip) {
				return true
			}
		}
		return false
	}
}

// writeConfig writes a new config file, whole or not at all; an existing one is left alone.
func writeConfig(path, text string) error {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = replaceFile(path, []byte(text), 0o600)
	}
	if err != nil {
		return fmt.Errorf("write config: %w", err)
	}
	return nil
}
