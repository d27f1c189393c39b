package smtpd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"

	"pillarbox/directory"
	"pillarbox/ese"
	"pillarbox/ese/vfs"
	"pillarbox/mail/address"
	"pillarbox/protocol/smtp"
	"pillarbox/store"
	"pillarbox/transport"
)

// place is a server without network: a store, a directory, a queue that holds.
type place struct {
	t     *testing.T
	dir   *directory.Directory
	store *store.Store
	tr    *transport.Transport
	log   *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.String()
}

func newPlace(t *testing.T) *place {
	t.Helper()
	ctx := context.Background()
	p := &place{t: t, log: &lockedBuffer{}}
	in, err := ese.Open(ese.Options{Dir: "/d", FS: vfs.NewMem(), CacheBytes: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		found, err := p.store.Check(ctx)
		if err != nil || len(found) > 0 {
			t.Errorf("check: %v %v", found, err)
		}
		if err := errors.Join(p.tr.Close(), in.Close()); err != nil {
			t.Error(err)
		}
	})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	p.store, err = store.Open(ctx, in, store.Options{})
	must(err)
	db, err := in.OpenDatabase("priv1.edb")
	must(err)
	p.dir, err = directory.Open(ctx, in, db, directory.Options{HashMemoryKiB: 64, HashPasses: 1})
	must(err)
	must(p.dir.AddDomain(ctx, "here.test"))
	for _, u := range []string{"alice", "bob"} {
		_, err = p.dir.AddUser(ctx, u+"@here.test", directory.Secret{Password: u + "pw"})
		must(err)
	}
	must(p.dir.AddAlias(ctx, "al@here.test", "alice@here.test"))
	p.tr, err = transport.Open(ctx, transport.Options{
		Instance: in, Database: db, Store: p.store, Directory: p.dir, Hostname: "mx.here.test",
		Manual: true,
	})
	must(err)
	return p
}

// dial connects a client to a new server.
func (p *place) dial(change func(*Options)) *smtp.Client {
	p.t.Helper()
	o := Options{
		SMTP: smtp.Options{
			Hostname: "mx.here.test", Auth: true,
			PlaintextAuth: func(net.Addr) bool { return true },
		},
		Transport: p.tr, Directory: p.dir, Mailboxes: p.store,
		Logger: slog.New(slog.NewTextHandler(p.log, nil)),
	}
	if change != nil {
		change(&o)
	}
	here, there := net.Pipe()
	srv := New(o)
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.ServeConn(there)
	}()
	c, err := smtp.NewClient(context.Background(), here, smtp.ClientOptions{Hostname: "peer.test"})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		_ = c.Close()
		<-done
	})
	return c
}

func path(s string) smtp.Path {
	if s == "" {
		return smtp.Path{}
	}
	a, err := smtp.ParseMailbox(s)
	if err != nil {
		return smtp.Path{Local: s} // postmaster
	}
	return a
}

// send returns the first refusal, as code and enhanced code.
func send(t *testing.T, c *smtp.Client, from, to, msg string) string {
	t.Helper()
	rcpts := []smtp.Rcpt{{To: path(to)}}
	res, err := c.Send(smtp.Envelope{From: path(from)}, rcpts, strings.NewReader(msg))
	if err != nil {
		t.Fatalf("send from %s to %s: %v", from, to, err)
	}
	r := res.Recipients[0]
	return fmt.Sprintf("%d %d.%d.%d", r.Code, r.Enhanced[0], r.Enhanced[1], r.Enhanced[2])
}

const text = "From: joe@there.test\r\nSubject: hello\r\n\r\nbody\r\n"

// inbox reads a user's messages.
func (p *place) inbox(user string) (msgs []string) {
	p.t.Helper()
	r, err := p.dir.Resolve(address.Address{Local: user, Domain: "here.test"})
	if err != nil {
		p.t.Fatal(err)
	}
	m, err := p.store.OpenMailbox(context.Background(), store.MailboxID(r.ID))
	if err != nil {
		p.t.Fatal(err)
	}
	d, err := m.Maildrop()
	if err != nil {
		p.t.Fatal(err)
	}
	defer d.Close()
	for i := range d.Messages() {
		r, err := d.Open(i)
		if err != nil {
			p.t.Fatal(err)
		}
		b, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
		if err != nil {
			p.t.Fatal(err)
		}
		_ = r.Close()
		msgs = append(msgs, string(b))
	}
	return msgs
}

type names map[string]error

func (n names) LookupMX(_ context.Context, domain string) ([]*net.MX, error) {
	if err, ok := n[domain]; ok && err == nil {
		return []*net.MX{{Host: "mx"}}, nil
	} else if ok {
		return nil, err
	}
	return nil, &net.DNSError{IsNotFound: true}
}

func (n names) LookupHost(_ context.Context, host string) ([]string, error) {
	if err, ok := n[host]; ok {
		return nil, err
	}
	return nil, &net.DNSError{IsNotFound: true}
}

func TestMX(t *testing.T) {
	p := newPlace(t)
	reject := func(o *Options) { o.RejectLocalSender = true }
	dns := func(o *Options) { o.SenderDNS = names{"there.test": nil, "slow.test": &net.DNSError{}} }
	tests := []struct {
		name, from, to string
		change         func(*Options)
		want           string
	}{
		{"local", "joe@there.test", "bob@here.test", nil, "250 2.0.0"},
		{"another case", "joe@there.test", "BOB@Here.Test", nil, "250 2.0.0"},
		{"alias", "joe@there.test", "al@here.test", nil, "250 2.0.0"},
		{"postmaster", "joe@there.test", "postmaster", nil, "250 2.0.0"},
		{"postmaster of the domain", "", "PostMaster@here.test", nil, "250 2.0.0"},
		{"unknown", "joe@there.test", "nobody@here.test", nil, "550 5.1.1"},
		{"relay", "joe@there.test", "x@else.test", nil, "550 5.7.1"},
		{"relay by a local sender", "alice@here.test", "x@else.test", nil, "550 5.7.1"},
		{"unknown local sender", "nobody@here.test", "bob@here.test", nil, "550 5.1.7"},
		{"local sender", "alice@here.test", "bob@here.test", nil, "250 2.0.0"},
		{"local sender rejected", "alice@here.test", "bob@here.test", reject, "550 5.7.1"},
		{"sender in DNS", "joe@there.test", "bob@here.test", dns, "250 2.0.0"},
		{"sender not in DNS", "joe@no.test", "bob@here.test", dns, "550 5.1.8"},
		{"no DNS", "joe@slow.test", "bob@here.test", dns, "451 4.4.3"},
	}
	for _, tt := range tests {
		c := p.dial(tt.change)
		if got := send(t, c, tt.from, tt.to, text); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
		_ = c.Quit()
	}
	if a, b := p.inbox("alice"), p.inbox("bob"); len(a) != 3 || len(b) != 4 {
		t.Errorf("alice has %d, bob %d", len(a), len(b))
	} else if !strings.HasSuffix(b[0], text) || !strings.HasPrefix(b[0],
		"Return-Path: <joe@there.test>\r\nReceived: from peer.test\r\n\tby mx.here.test with ESMTP id ") {
		t.Errorf("bob has %q", b[0])
	}
}

func TestSubmission(t *testing.T) {
	p := newPlace(t)
	own := strings.ReplaceAll(text, "joe@there.test", "Alice <alice@here.test>")
	c := p.dial(func(o *Options) { o.SMTP.Mode = smtp.Submission })
	if got := send(t, c, "alice@here.test", "bob@here.test", own); got != "530 5.7.0" {
		t.Errorf("without login: %s", got)
	}
	if err := c.Auth("alice", "wrong"); err == nil || !strings.HasPrefix(err.Error(), "535 5.7.8") {
		t.Errorf("wrong password: %v", err)
	}
	if err := c.Auth("alice", "alicepw"); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, from, to, msg, want string }{
		{"remote", "alice@here.test", "x@else.test", own, "250 2.0.0"},
		{"alias as sender", "al@here.test", "bob@here.test", "Bcc: c@d.test\r\n" + own, "250 2.0.0"},
		{"notification", "", "bob@here.test", own, "250 2.0.0"},
		{"another's sender", "bob@here.test", "bob@here.test", own, "550 5.7.1"},
		{"another's From", "alice@here.test", "bob@here.test", text, "550 5.7.1"},
		{
			"another's From behind ours", "alice@here.test", "bob@here.test",
			"From: alice@here.test\r\n" + text, "550 5.6.0",
		},
		{
			"another's From behind a long name", "alice@here.test", "bob@here.test",
			"From: alice@here.test,\r\n \"" + strings.Repeat("x", 3000) + "\" <joe@there.test>\r\n\r\n",
			"550 5.7.1",
		},
		{
			"many of ours", "alice@here.test", "bob@here.test",
			"From: " + strings.Repeat("alice@here.test,\r\n ", 120) + "joe@there.test\r\n\r\n",
			"550 5.6.0",
		},
		{
			"From of 5 KiB", "alice@here.test", "bob@here.test",
			"From: " + strings.Repeat("(x)", 1700) + "joe@there.test\r\n\r\n", "550 5.6.0",
		},
		{
			"another's From behind full fields", "alice@here.test", "bob@here.test",
			"To: " + strings.Repeat("a@b.test, ", 1700) + "a@b.test\r\nCc: " +
				strings.Repeat("a@b.test, ", 1700) + "a@b.test\r\nReferences: " +
				strings.Repeat("<a@b.test> ", 1700) + "\r\n" + text, "550 5.7.1",
		},
		{"unknown here", "alice@here.test", "nobody@here.test", own, "550 5.1.1"},
	}
	for _, tt := range tests {
		if got := send(t, c, tt.from, tt.to, tt.msg); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	n, err := p.tr.Counts()
	if err != nil || n.Messages != 1 {
		t.Errorf("queue: %+v %v", n, err)
	}
	got := p.inbox("bob")
	if len(got) != 2 {
		t.Fatalf("bob has %d", len(got))
	}
	for _, part := range []string{
		"with ESMTPA id", "\r\nDate: ", "\r\nMessage-ID: <", "for <bob@here.test>",
	} {
		if !strings.Contains(got[0], part) {
			t.Errorf("no %q in %s", part, got[0])
		}
	}
	if strings.Contains(got[0], "Bcc") {
		t.Errorf("Bcc is left in %s", got[0])
	}
	for _, line := range []string{"msg=login peer", "login refused", "sender refused"} {
		if !strings.Contains(p.log.String(), line) {
			t.Errorf("log does not hold %q:\n%s", line, p.log)
		}
	}
	if strings.Contains(p.log.String(), "alicepw") {
		t.Error("log holds a password")
	}
}

func TestFull(t *testing.T) {
	p := newPlace(t)
	r, err := p.dir.Resolve(address.Address{Local: "bob", Domain: "here.test"})
	if err != nil {
		t.Fatal(err)
	}
	m, err := p.store.OpenMailbox(context.Background(), store.MailboxID(r.ID))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.SetQuota(context.Background(), 1000, 0); err != nil {
		t.Fatal(err)
	}
	c := p.dial(nil)
	big := text + strings.Repeat("0123456789\r\n", 100)
	if got := send(t, c, "joe@there.test", "bob@here.test", big); got != "452 4.2.2" {
		t.Error(got)
	}
	if got := send(t, c, "joe@there.test", "bob@here.test", text); got != "250 2.0.0" {
		t.Error(got)
	}
}

// TestAnswer pins the table of errors.
func TestAnswer(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("accept message: %w", err) }
	tests := []struct {
		err  error
		want string
	}{
		{nil, ""},
		{smtp.ErrBareNewline, "554 5.6.0"},
		{directory.ErrNotFound, "550 5.1.1"},
		{directory.ErrNotLocal, "550 5.7.1"},
		{directory.ErrBadLogin, "535 5.7.8"},
		{directory.ErrThrottled, "454 4.7.0"},
		{store.ErrQuota, "452 4.2.2"},
		{transport.ErrClosed, "421 4.3.2"},
		{context.Canceled, "421 4.3.2"},
		{ese.ErrVersionStoreFull, "452 4.3.1"},
		{ese.ErrLogDiskFull, "452 4.3.1"},
		{syscall.ENOSPC, "452 4.3.1"},
		{ese.ErrOutcomeUnknown, "451 4.3.0"},
		{ese.ErrLogDead, "451 4.3.0"},
		{io.ErrShortWrite, "451 4.3.0"},
	}
	for _, tt := range tests {
		err := tt.err
		if err != nil {
			err = wrap(err)
		}
		got := ""
		var e *smtp.Error
		if errors.As(answer(err), &e) {
			got = fmt.Sprintf("%d %d.%d.%d", e.Code, e.Enhanced[0], e.Enhanced[1], e.Enhanced[2])
		}
		if got != tt.want {
			t.Errorf("%v: %q, want %q", tt.err, got, tt.want)
		}
	}
	if err := answer(wrap(smtp.ErrDataLost)); !errors.Is(err, smtp.ErrDataLost) {
		t.Errorf("lost data is answered with %v", err)
	}
}
