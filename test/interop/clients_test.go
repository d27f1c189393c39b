//go:build linux

package interop_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pillarbox/test/program"
)

// TestClients reads some 200 messages with mutt, mbsync and fetchmail, which must agree with what
// was sent, and runs swaks and curl as README has them.
func TestClients(t *testing.T) {
	all := corpora(t)
	var msgs []message
	for i, m := range all {
		if i%16 == 0 && m.barred() == "" && headed(m.text) {
			msgs = append(msgs, m)
		}
	}
	s := newSite(t, 13000)
	s.sendAll("alice", msgs)
	// Every reader is asked for what the server has; TestCorpora proves that this is what was sent.
	want := s.bodies("alice", "INBOX")
	if len(want) != len(msgs) {
		t.Fatalf("%d messages of %d", len(want), len(msgs))
	}
	t.Run("mbsync", func(t *testing.T) { s.mbsync(t, want) })
	t.Run("mutt", func(t *testing.T) { s.mutt(t, want) })
	t.Run("fetchmail", func(t *testing.T) { s.fetchmail(t, want) })
	t.Run("swaks", s.swaks)
	t.Run("curl", s.curl)
	s.stop()
}

var headerLine = regexp.MustCompile(`^([!-9;-~]+:|[ \t]+\S)`)

// headed tells whether the message has a header that is one (RFC 5322 2.2): programs mend a
// broken one, or leave the message out.
func headed(b []byte) bool {
	head, _, ok := bytes.Cut(b, []byte("\r\n\r\n"))
	for l := range bytes.SplitSeq(head, []byte("\r\n")) {
		ok = ok && headerLine.Match(l)
	}
	return ok && head[0] != ' ' && head[0] != '\t'
}

// tool finds a program or skips the test.
func tool(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed", name)
	}
}

// invoke runs a program with its home in dir and fails the test when it fails.
func invoke(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	tool(t, name)
	out, err := program.Run(t, clientTime, client(dir, name, args...))
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, last(out, 3000))
	}
	return out
}

// clientTime is the limit for one run of one mail program; seconds are the rule.
const clientTime = 90 * time.Second

// client is a mail program with its home in dir, whatever the home of the tests is.
func client(dir, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "TERM=dumb", "LC_ALL=C", "SHELL=/bin/sh")
	return cmd
}

func save(t *testing.T, dir, name, text string) string {
	t.Helper()
	p := filepath.Join(dir, name)
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// agree compares messages without regard to order, line ends, and the header fields that the
// program keeps for itself.
func agree(t *testing.T, got, want [][]byte, own string) {
	t.Helper()
	fields := regexp.MustCompile(`(?mi)^(` + own + `):.*\n`)
	plain := func(b []byte) string {
		head, body, _ := strings.Cut(strings.ReplaceAll(string(b), "\r\n", "\n"), "\n\n")
		return fields.ReplaceAllString(head+"\n", "") + "\n" + body
	}
	count := map[string]int{}
	for _, m := range want {
		count[plain(m)]++
	}
	strange := 0
	for _, m := range got {
		k := plain(m)
		if count[k] == 0 {
			if strange++; strange < 4 {
				t.Errorf("a message that was not sent:\n%.600q", k)
			}
		}
		count[k]--
	}
	for k, n := range count {
		if n > 0 && strange < 4 {
			t.Errorf("a message is missing:\n%.600q", k)
		}
	}
	if strange > 0 || len(got) != len(want) {
		t.Errorf("%d messages, %d strange, want %d", len(got), strange, len(want))
	}
}

func (s *site) mbsync(t *testing.T, want [][]byte) {
	tool(t, "mbsync")
	dir := t.TempDir()
	rc := save(t, dir, "mbsyncrc", fmt.Sprintf(`IMAPAccount p
Host localhost
Port %d
User alice
Pass pw
SSLType IMAPS
CertificateFile %s

IMAPStore far
Account p

MaildirStore near
Path %s/mail/
Inbox %s/mail/INBOX
SubFolders Verbatim

Channel c
Far :far:
Near :near:
Patterns INBOX
Sync Pull
Create Near
SyncState *
`, s.base+993, filepath.Join(s.dir, "tls", "ca.crt"), dir, dir))
	if err := os.Mkdir(filepath.Join(dir, "mail"), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second run finds nothing to do
		invoke(t, dir, "mbsync", "-c", rc, "c")
	}
	var got [][]byte
	for _, sub := range []string{"new", "cur"} {
		names, err := filepath.Glob(filepath.Join(dir, "mail", "INBOX", sub, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			b, err := os.ReadFile(n)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, b)
		}
	}
	agree(t, got, want, "X-TUID")
}

// mutt copies the INBOX to a Maildir, which unlike an mbox keeps the bytes.
func (s *site) mutt(t *testing.T, want [][]byte) {
	tool(t, "mutt")
	dir := t.TempDir()
	url := fmt.Sprintf("imap://alice@localhost:%d/INBOX", s.base+143)
	rc := save(t, dir, "muttrc", fmt.Sprintf(`set imap_pass = "pw"
set ssl_starttls = yes
set ssl_force_tls = yes
set certificate_file = "%s"
set ssl_ca_certificates_file = "%s"
set mbox_type = Maildir
set folder = "%s"
set confirmcreate = no
set confirmappend = no
set quit = yes
set move = no
set copy = no
set delete = no
set wait_key = no
set mail_check = 3600
set read_inc = 0
set write_inc = 0
push "<tag-pattern>.<enter><tag-prefix><copy-message>%s/out<enter><exit>"
`, filepath.Join(s.dir, "tls", "ca.crt"), filepath.Join(s.dir, "tls", "ca.crt"), dir, dir))
	said, err := program.RunInTerminal(t, clientTime, client(dir, "mutt", "-n", "-F", rc, "-f", url))
	if err != nil {
		t.Fatalf("mutt: %v\n%q", err, last(said, 3000))
	}
	var got [][]byte
	names, _ := filepath.Glob(filepath.Join(dir, "out", "*", "*"))
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, b)
	}
	agree(t, got, want, "Content-Length|Lines|Status|X-Status")
}

// fetchmail polls by POP3 over TLS. Its delivery program puts each message in a file.
func (s *site) fetchmail(t *testing.T, want [][]byte) {
	tool(t, "fetchmail")
	dir := t.TempDir()
	rc := save(t, dir, "fetchmailrc", fmt.Sprintf(`set no bouncemail
set invisible
poll localhost protocol POP3 port %d
  user "alice" password "pw" is "root" here
  ssl sslcertck sslcertfile "%s"
  keep fetchall no rewrite no mimedecode pass8bits stripcr no dropstatus
  mda "cat > $(mktemp %s/msg.XXXXXXXX)"
`, s.base+995, filepath.Join(s.dir, "tls", "ca.crt"), dir))
	invoke(t, dir, "fetchmail", "-f", rc, "--nodetach", "--nosyslog", "--pidfile",
		filepath.Join(dir, "pid"))
	names, _ := filepath.Glob(filepath.Join(dir, "msg.*"))
	var got [][]byte
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, b)
	}
	agree(t, got, want, "none")
}

// swaks sends by STARTTLS with AUTH, and by implicit TLS.
func (s *site) swaks(t *testing.T) {
	tool(t, "swaks")
	if !strings.Contains(invoke(t, t.TempDir(), "swaks", "--support"), "TLS supported") {
		t.Skip("swaks has no TLS (libnet-ssleay-perl)")
	}
	before := len(s.bodies("bob", "INBOX"))
	ca := filepath.Join(s.dir, "tls", "ca.crt")
	for _, c := range []struct {
		port int
		args []string
	}{
		{587, nil}, // as README has it
		{587, []string{"--tls", "--auth", "PLAIN"}},
		{587, []string{"--tls", "--auth", "LOGIN"}},
		{465, []string{"--tls-on-connect", "--auth", "LOGIN"}},
	} {
		args := append([]string{
			"--server", "127.0.0.1:" + fmt.Sprint(s.base+c.port),
			"--auth-user", "alice", "--auth-password", "pw", "--from", "alice@pillarbox.test",
			"--to", "bob@pillarbox.test", "--tls-ca-path", ca,
		}, c.args...)
		out := invoke(t, t.TempDir(), "swaks", args...)
		if !strings.Contains(out, "queued as") {
			t.Errorf("swaks %v:\n%s", c.args, out)
		}
	}
	if got := len(s.bodies("bob", "INBOX")) - before; got != 4 {
		t.Errorf("%d messages of 4 arrived", got)
	}
}

// curl does what README shows, in clear and with the server's own authority.
func (s *site) curl(t *testing.T) {
	tool(t, "curl")
	dir := t.TempDir()
	save(t, dir, "hello.eml",
		"From: alice@pillarbox.test\nTo: bob@pillarbox.test\nSubject: hello\n\nFirst mail.\n")
	n := len(s.bodies("bob", "INBOX"))
	ca := filepath.Join(s.dir, "tls", "ca.crt")
	for _, at := range []struct {
		scheme string
		smtp   int
		imap   int
		pop3   int
	}{{"", 587, 143, 110}, {"s", 465, 993, 995}} {
		url := func(scheme string, port int, path string) string {
			return fmt.Sprintf("%s%s://localhost:%d%s", scheme, at.scheme, s.base+port, path)
		}
		invoke(t, dir, "curl", "-sS", "--cacert", ca, "--crlf", "--url", url("smtp", at.smtp, ""),
			"--user", "alice:pw", "--mail-from", "alice@pillarbox.test",
			"--mail-rcpt", "bob@pillarbox.test", "-T", "hello.eml")
		n++
		byIMAP := invoke(t, dir, "curl", "-sS", "--cacert", ca, "--user", "bob:pw",
			"--url", url("imap", at.imap, fmt.Sprintf("/INBOX;UID=%d", n)))
		byPOP := invoke(t, dir, "curl", "-sS", "--cacert", ca, "--user", "bob:pw",
			"--url", url("pop3", at.pop3, fmt.Sprintf("/%d", n)))
		if !slices.Equal([]byte(byIMAP), []byte(byPOP)) {
			t.Errorf("IMAP and POP3 differ:\n%q\n%q", byIMAP, byPOP)
		}
		if !strings.HasPrefix(byIMAP, "Return-Path: ") ||
			!strings.Contains(byIMAP, "\r\nSubject: hello\r\n") ||
			!strings.HasSuffix(byIMAP, "\r\n\r\nFirst mail.\r\n") {
			t.Errorf("curl reads %q", byIMAP)
		}
	}
	// Another authority is not trusted.
	if _, err := program.Run(t, clientTime, client(dir, "curl", "-sS", "--user", "bob:pw", "--url",
		fmt.Sprintf("imaps://localhost:%d/INBOX", s.base+993))); err == nil {
		t.Error("curl trusts the server without its authority")
	}
}
