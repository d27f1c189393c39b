package server

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func writeTemp(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), ConfigName)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConfigErrors(t *testing.T) {
	tests := []struct {
		name, text string
		line       int
		want       string
	}{
		{"unknown key", "hostname = \"a\"\n\ncolour = 1\n", 3, "unknown key colour"},
		{"unknown nested key", "[listen]\nsmpt = \":25\"\n", 2, "unknown key listen.smpt"},
		{"wrong type", "hostname = \"a\"\nmax_message_bytes = \"big\"\n", 2, ""},
		{"syntax", "hostname = \"a\"\nhostname\n", 2, ""},
		{"choice", "bare_newline = \"maybe\"\n", 0, "must be one of reject, normalize"},
		{"network", "plaintext_auth_from = [\"10.0.0.0/40\"]\n", 0, "plaintext_auth_from"},
		{"half a certificate", "[tls]\ncert = \"a\"\n", 0, "belong together"},
		{"tls port without tls", "[listen]\nimaps = \":993\"\n", 0, "needs tls.cert"},
		{"no port", "[listen]\nimap = \"localhost\"\n", 0, "listen.imap"},
		{"smarthost without host", "[outbound]\nmode = \"smarthost\"\n", 0, "outbound.smarthost"},
		{"time to keep", "[store]\nkeep_deleted = \"soon\"\n", 2, "not a time such as 14d"},
		{"negative rate", "[store]\npurge_rate = -1\n", 0, "purge_rate"},
		{"groups of one name", "[[group]]\nname=\"a\"\n[[group]]\nname=\"a\"\n", 0, "two [[group]]"},
		{"groups in one folder", "[[group]]\nname=\"a\"\ndir=\"x\"\n[[group]]\nname=\"b\"\ndir=\"x\"\n", 0, "share the folder"},
		{"databases of one name", "[[group]]\ndatabases=[\"p.edb\", \"/d/p.edb\"]\n", 0, "two databases"},
		{"no place", "new_mailboxes = \"priv1\"\n", 0, "GROUP/DATABASE"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := LoadConfig(writeTemp(t, tt.text))
			var ce *ConfigError
			if !errors.As(err, &ce) {
				t.Fatalf("got %v", err)
			}
			if ce.Line != tt.line || !strings.Contains(ce.Reason, tt.want) {
				t.Errorf("got line %d: %s", ce.Line, ce.Reason)
			}
		})
	}
}

// What init and quickstart write is read back as it was meant.
func TestConfigText(t *testing.T) {
	path := writeTemp(t, configText(configValues{
		Domain: "pillarbox.test", Quickstart: true, Listen: standardListen("127.0.0.1", 10000),
	}))
	c, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	home := filepath.Dir(path)
	if c.Hostname != "mail.pillarbox.test" || c.Dir != home || c.Listen.IMAPS != "127.0.0.1:10993" ||
		c.TLS.Cert != filepath.Join(home, "tls", "server.crt") ||
		c.Groups[0].Dir != filepath.Join(home, "store") || c.MaxMessageBytes != 50<<20 {
		t.Errorf("got %+v", c)
	}
	plain := c.plaintextAuth()
	for addr, want := range map[string]bool{
		"127.0.0.1": true, "::1": true, "::ffff:127.0.0.1": true, "192.0.2.1": false,
	} {
		if got := plain(&net.TCPAddr{IP: net.ParseIP(addr), Port: 1}); got != want {
			t.Errorf("plaintext from %s: %v", addr, got)
		}
	}
}

func TestQuickstartFlagsHoldForOneRun(t *testing.T) {
	dir := t.TempDir()
	steps := []struct {
		q    QuickstartOptions
		smtp string
		err  string
	}{
		{QuickstartOptions{Dir: dir, BasePort: 20000}, "127.0.0.1:20025", ""},
		{QuickstartOptions{Dir: dir, Listen: "0.0.0.0"}, "0.0.0.0:20025", ""},
		{QuickstartOptions{Dir: dir, BasePort: 30000}, "127.0.0.1:30025", ""},
		{QuickstartOptions{Dir: dir}, "127.0.0.1:20025", ""},
		{QuickstartOptions{Dir: dir, Domain: "Pillarbox.Test"}, "127.0.0.1:20025", ""},
		{QuickstartOptions{Dir: dir, Domain: "other.test"}, "", "made for the domain"},
	}
	for i, s := range steps {
		cfg, err := s.q.config()
		switch {
		case s.err != "":
			if err == nil || !strings.Contains(err.Error(), s.err) {
				t.Errorf("step %d: %v", i, err)
			}
		case err != nil:
			t.Errorf("step %d: %v", i, err)
		case cfg.Listen.SMTP != s.smtp:
			t.Errorf("step %d: smtp on %s", i, cfg.Listen.SMTP)
		}
	}
}

func TestLocalCA(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	ensure := func(now time.Time, names ...string) (ca, leaf string) {
		t.Helper()
		if err := ensureCertificates(dir, names, now); err != nil {
			t.Fatal(err)
		}
		return read("ca.crt"), read("server.crt")
	}
	ca, leaf := ensure(now, "pillarbox.test", "127.0.0.1")
	if c, l := ensure(now, "pillarbox.test", "127.0.0.1"); c != ca || l != leaf {
		t.Error("certificates were made again for nothing")
	}
	c, l := ensure(now, "pillarbox.test", "127.0.0.1", "192.0.2.7")
	if c != ca || l == leaf {
		t.Error("a new name needs a new leaf of the same authority")
	}
	if c, l2 := ensure(now.Add(leafLife), "pillarbox.test"); c != ca || l2 == l {
		t.Error("an old leaf needs a new one of the same authority")
	}
	info, err := os.Stat(filepath.Join(dir, "ca.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("ca.key: %v, %v", info, err)
	}
}
