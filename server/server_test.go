package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"pillarbox/directory"
	"pillarbox/ese"
	"pillarbox/storage"
)

// running is a server of a test on ports of the system's choice.
type running struct {
	s      *Server
	cfg    *Config
	reload chan struct{}
	stop   context.CancelFunc
	done   chan error
}

func start(t *testing.T, dir string) *running {
	t.Helper()
	return startWith(t, dir, func(*Config) {})
}

// startWith is start with another config.
func startWith(t *testing.T, dir string, change func(*Config)) *running {
	t.Helper()
	q := QuickstartOptions{Dir: dir, Password: "secret"}
	cfg, err := q.config()
	if err != nil {
		t.Fatal(err)
	}
	if err := ensureCertificates(filepath.Dir(cfg.TLS.Cert), leafNames(cfg), time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*string{
		&cfg.Listen.SMTP, &cfg.Listen.Submission, &cfg.Listen.Submissions, &cfg.Listen.POP3,
		&cfg.Listen.POP3S, &cfg.Listen.IMAP, &cfg.Listen.IMAPS, &cfg.Listen.HTTP, &cfg.Listen.HTTPS,
	} {
		*p = "127.0.0.1:0"
	}
	cfg.Log.File = filepath.Join(dir, "log")
	change(cfg)
	ctx, stop := context.WithCancel(context.Background())
	r := &running{cfg: cfg, reload: make(chan struct{}), stop: stop, done: make(chan error, 1)}
	ready := make(chan *Server, 1)
	go func() {
		r.done <- Run(ctx, cfg, RunOptions{
			Reload:  r.reload,
			prepare: func(ctx context.Context, c *Core) error { return q.accounts(ctx, c, io.Discard) },
			ready:   func(s *Server) { ready <- s },
		})
	}()
	select {
	case r.s = <-ready:
	case err := <-r.done:
		t.Fatalf("not started: %v", err)
	}
	t.Cleanup(func() { stop() })
	return r
}

func (r *running) end(t *testing.T) {
	t.Helper()
	r.stop()
	select {
	case err := <-r.done:
		if err != nil {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("not ended within a minute")
	}
}

func (r *running) dial(t *testing.T, v service) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", r.s.address(v).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	return c, bufio.NewReader(c)
}

// Idle sessions of every protocol are told and do not hold up the end.
func TestEndWithIdleSessions(t *testing.T) {
	r := start(t, t.TempDir())
	type session struct {
		v    service
		want string
	}
	var readers []*bufio.Reader
	sessions := []session{{serviceSMTP, "421"}, {serviceSubmission, "421"}, {serviceIMAP, "* BYE"}}
	for _, s := range sessions {
		_, br := r.dial(t, s.v)
		if _, err := br.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		readers = append(readers, br)
	}
	_, pop := r.dial(t, servicePOP3)
	if _, err := pop.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	r.dial(t, serviceHTTP)
	r.dial(t, serviceIMAPS) // never begins the handshake
	begin := time.Now()
	r.end(t)
	// What does not end by itself is cut after drainTime; then the storage group is closed.
	if took := time.Since(begin); took > drainTime+20*time.Second {
		t.Errorf("took %v", took)
	}
	for i, br := range readers {
		if line, _ := br.ReadString('\n'); !strings.HasPrefix(line, sessions[i].want) {
			t.Errorf("%v was told %q, not %s", sessions[i].v, line, sessions[i].want)
		}
	}
	if _, err := pop.ReadString('\n'); !errors.Is(err, io.EOF) {
		t.Logf("pop3: %v", err)
	}
}

func TestSecondServerIsRefused(t *testing.T) {
	dir := t.TempDir()
	r := start(t, dir)
	if _, err := openCore(t.Context(), r.cfg, coreOptions{}); !errors.Is(err, ese.ErrLocked) {
		t.Errorf("second opening: %v", err)
	}
	r.end(t)
	// The same folder, the same accounts.
	r = start(t, dir)
	if n := len(r.s.core.dir.Users()); n != 2 {
		t.Errorf("%d users after the second start", n)
	}
	r.end(t)
}

func TestCertificateReload(t *testing.T) {
	r := start(t, t.TempDir())
	before := r.leaf(t)
	ca, err := openCA(filepath.Dir(r.cfg.TLS.CA), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.issue([]string{"localhost"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(r.cfg.Log.File, r.cfg.Log.File+".1"); err != nil {
		t.Fatal(err)
	}
	r.reload <- struct{}{}
	for start := time.Now(); r.leaf(t).Equal(before); time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatal("the former certificate is still served")
		}
	}
	if _, err := os.Stat(r.cfg.Log.File); err != nil {
		t.Errorf("log file not opened anew: %v", err)
	}
	r.end(t)
}

// leaf is the certificate that a client of the authority sees.
func (r *running) leaf(t *testing.T) *x509.Certificate {
	t.Helper()
	pem, err := os.ReadFile(r.cfg.TLS.CA)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	c, err := tls.Dial("tcp", r.s.address(serviceIMAPS).String(),
		&tls.Config{RootCAs: roots, ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	return c.ConnectionState().PeerCertificates[0]
}

func TestAdminSocket(t *testing.T) {
	r := start(t, t.TempDir())
	info, err := os.Stat(socketPath(r.cfg.Dir))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("socket has mode %v", info.Mode())
	}
	a, err := OpenAdmin(t.Context(), r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := a.(*adminClient); !ok {
		t.Errorf("the running server was not asked: %T", a)
	}
	var s Status
	if err := a.Do(t.Context(), OpStatus, nil, &s); err != nil || !s.Serving || s.Users != 2 {
		t.Errorf("status %+v, %v", s, err)
	}
	if err := a.Do(t.Context(), "nonsense", nil, nil); err == nil {
		t.Error("an unknown operation was answered")
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	r.end(t)
}

// A folder that another user prepared for the socket is not used, by the server or the verbs.
func TestForeignSocketFolder(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the temporary folder is private there")
	}
	t.Setenv("TMPDIR", t.TempDir())
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	folder := filepath.Dir(socketPath(dir))
	if folder == dir {
		t.Fatalf("%s is short enough", dir)
	}
	l, err := listenAdmin(dir)
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if err := os.Chmod(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	if l, err := listenAdmin(dir); err == nil {
		_ = l.Close()
		t.Error("a folder open to all is taken")
	}
	if _, err := OpenAdmin(t.Context(), &Config{Dir: dir}); err == nil ||
		!strings.Contains(err.Error(), "not a folder of ours") {
		t.Errorf("verbs: %v", err)
	}
}

// A server does not begin an empty database beside the remains of a full one.
func TestLostDatabase(t *testing.T) {
	dir := t.TempDir()
	r := start(t, dir)
	r.end(t)
	g := &r.cfg.Groups[0]
	edb := filepath.Join(g.Dir, "priv1.edb")
	if err := os.Rename(edb, edb+".away"); err != nil {
		t.Fatal(err)
	}
	// groups.json remembers it; without that the stream file tells.
	if err := os.Truncate(filepath.Join(g.Dir, "priv1.stm"), 0); err != nil {
		t.Fatal(err)
	}
	core, err := openCore(t.Context(), r.cfg, coreOptions{
		logger: slog.New(slog.DiscardHandler), still: true,
	})
	if err == nil {
		_ = core.Close()
	}
	if !errors.Is(err, storage.ErrLost) {
		t.Errorf("with groups.json: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, storage.RegistryName)); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(g.Dir, "priv1.stm"), 8192); err != nil {
		t.Fatal(err)
	}
	core, err = openCore(t.Context(), r.cfg, coreOptions{
		logger: slog.New(slog.DiscardHandler), still: true,
	})
	if err == nil {
		_ = core.Close()
	}
	if !errors.Is(err, storage.ErrLost) || !strings.Contains(Advise(err).Error(), "put the file back") {
		t.Errorf("opened: %v", err)
	}
	if _, err := os.Stat(edb); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a new database was made: %v", err)
	}
}

// A domain that cannot be leaves nothing behind.
func TestBadDomainMakesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	_, err := Init(t.Context(), InitOptions{Dir: dir, Domain: "a b"})
	if !errors.Is(err, directory.ErrSyntax) {
		t.Errorf("init: %v", err)
	}
	err = Quickstart(t.Context(), QuickstartOptions{Dir: dir, Domain: "a b"}, RunOptions{})
	if !errors.Is(err, directory.ErrSyntax) {
		t.Errorf("quickstart: %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder was made: %v", err)
	}
}
