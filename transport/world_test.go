package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"pillarbox/directory"
	"pillarbox/ese"
	"pillarbox/ese/vfs"
	"pillarbox/mail/address"
	"pillarbox/protocol/smtp"
	"pillarbox/store"
)

// world is a server with a store on a memory disk, a directory, and mail hosts around it.
type world struct {
	t     *testing.T
	rng   *rand.Rand
	fs    vfs.FS
	opt   ese.Options
	in    *ese.Instance
	store *store.Store
	tr    *Transport
	to    Options

	mu    sync.Mutex
	now   time.Time
	users map[string]store.MailboxID
	alias map[string]string // recipients elsewhere
	mx    map[string][]*net.MX
	down  map[string]bool // hosts that do not answer
	got   []received
	temp  map[string]bool // recipients refused with 4yz
	lose  bool            // the next confirmation of a message is lost
}

type received struct {
	host, from string
	to         []string
	text       string
}

func newWorld(t *testing.T) *world {
	w := &world{
		t: t, rng: rand.New(rand.NewPCG(1, 2)), fs: vfs.NewMem(), now: time.Unix(1700000000, 0),
		users: make(map[string]store.MailboxID), alias: make(map[string]string),
		mx: make(map[string][]*net.MX), down: make(map[string]bool), temp: make(map[string]bool),
	}
	// Its clock leaps by hours, which must not make short transactions look long.
	w.opt = ese.Options{Dir: "/d", CacheBytes: 4 << 20, Now: w.clock, TxLimit: -1}
	w.to = Options{
		Hostname: "mx.here.test", Outbound: Direct, Directory: w, Resolver: w, Dial: w.dial,
		Now: w.clock, Rand: w.random, Manual: true,
	}
	for i, name := range []string{"alice", "bob", "carol"} {
		w.users[name+"@here.test"] = store.MailboxID{15: byte(i + 1)}
	}
	return w
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) random() uint32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rng.Uint32()
}

// open opens everything; close is called by the test's end.
func (w *world) open() error {
	w.opt.FS = w.fs
	in, err := ese.Open(w.opt)
	if err != nil {
		return err
	}
	w.in = in
	if w.store, err = store.Open(context.Background(), in, store.Options{Now: w.clock}); err != nil {
		return err
	}
	db, err := in.OpenDatabase("priv1.edb")
	if err != nil {
		return err
	}
	o := w.to
	o.Instance, o.Database, o.Store = in, db, w.store
	w.tr, err = Open(context.Background(), o)
	return err
}

func start(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.check()
		if err := w.tr.Close(); err != nil {
			t.Error(err)
		}
		if err := w.in.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// check proves the store sound, pending counts and held references included.
func (w *world) check() {
	w.t.Helper()
	found, err := w.store.Check(context.Background())
	if err != nil {
		w.t.Errorf("check: %v", err)
	}
	for _, f := range found {
		w.t.Errorf("check: %s", f)
	}
	err = w.tr.List(func(e *Entry) error {
		m, err := w.tr.load(e.ID)
		if err != nil {
			return err
		}
		if m.pending != len(e.Recipients) || m.pending == 0 {
			w.t.Errorf("message %s: %d pending, %d rows", e.ID, m.pending, len(e.Recipients))
		}
		h, err := w.store.OpenHeld(m.content)
		if err == nil {
			err = h.Close()
		}
		return err
	})
	if err != nil {
		w.t.Errorf("check the queue: %v", err)
	}
}

// Resolve is the directory: here.test is ours.
func (w *world) Resolve(a address.Address) (directory.Recipient, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !strings.EqualFold(a.Domain, "here.test") {
		return directory.Recipient{}, directory.ErrNotLocal
	}
	if id, ok := w.users[a.Key()]; ok {
		return directory.Recipient{Kind: directory.KindUser, ID: directory.GUID(id)}, nil
	}
	if to, ok := w.alias[a.Key()]; ok {
		return directory.Recipient{Kind: directory.KindRemote, Target: to}, nil
	}
	return directory.Recipient{}, directory.ErrNotFound
}

func (w *world) LookupMX(_ context.Context, domain string) ([]*net.MX, error) {
	if domain == "dns.test" {
		return nil, &net.DNSError{Err: "server misbehaving", Name: domain, IsTemporary: true}
	}
	if mx, ok := w.mx[domain]; ok {
		return mx, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: domain, IsNotFound: true}
}

func (w *world) LookupHost(_ context.Context, host string) ([]string, error) {
	if strings.HasPrefix(host, "nowhere") {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return []string{host}, nil // the fake network dials by name
}

func (w *world) dial(_ context.Context, _, addr string) (net.Conn, error) {
	host, _, _ := net.SplitHostPort(addr)
	w.mu.Lock()
	down := w.down[host]
	w.mu.Unlock()
	if down {
		return nil, errors.New("connection refused")
	}
	here, there := net.Pipe()
	srv := smtp.NewServer(smtp.Options{Backend: &peer{w, host}, Hostname: host})
	go srv.ServeConn(there)
	return here, nil
}

// peer is a mail host elsewhere.
type peer struct {
	w    *world
	host string
}

func (p *peer) NewSession(context.Context, *smtp.ConnInfo) (smtp.Session, error) {
	return &peerSession{w: p.w, r: received{host: p.host}}, nil
}

type peerSession struct {
	w *world
	r received
}

func (s *peerSession) Auth(context.Context, string, string) error { return nil }

func (s *peerSession) Mail(_ context.Context, from smtp.Path, _ smtp.MailOptions) error {
	s.r.from, s.r.to = from.String(), nil
	return nil
}

func (s *peerSession) Rcpt(_ context.Context, to smtp.Path, _ smtp.RcptOptions) error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	switch {
	case strings.HasPrefix(to.Local, "bad"):
		return &smtp.Error{Code: 550, Enhanced: [3]int{5, 1, 1}, Message: "unknown here"}
	case s.w.temp[to.Local]:
		return &smtp.Error{Code: 451, Enhanced: [3]int{4, 2, 1}, Message: "later"}
	}
	s.r.to = append(s.r.to, to.String())
	return nil
}

func (s *peerSession) Data(_ context.Context, r io.Reader) (string, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return "", err
	}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.r.text = string(b)
	s.w.got = append(s.w.got, s.r)
	if s.w.lose {
		s.w.lose = false
		return "", &smtp.Error{Code: 451, Message: "lost"}
	}
	return "peer", nil
}

func (s *peerSession) Reset() {}
func (s *peerSession) Close() {}

// addr parses an address; "" is the null path.
func addr(s string) address.Address {
	if s == "" {
		return address.Address{}
	}
	a, err := address.Parse(s)
	if err != nil {
		panic(err)
	}
	return a
}

func envelope(from string, to ...string) *Envelope {
	e := &Envelope{From: addr(from)}
	for _, s := range to {
		e.Recipients = append(e.Recipients, Recipient{Address: addr(s)})
	}
	return e
}

const text = "From: x@y.test\r\nSubject: hello\r\n\r\nbody\r\n"

func (w *world) accept(e *Envelope, msg string) QueueID {
	w.t.Helper()
	id, err := w.tr.Accept(context.Background(), e, strings.NewReader(msg))
	if err != nil {
		w.t.Fatalf("accept: %v", err)
	}
	return id
}

// step runs the queue until nothing is due.
func (w *world) step() {
	w.t.Helper()
	for {
		n, err := w.tr.Step(context.Background())
		if err != nil {
			w.t.Fatal(err)
		}
		if n == 0 {
			return
		}
	}
}

// inbox reads the messages of a user.
func (w *world) inbox(user string) (msgs []string) {
	w.t.Helper()
	m, err := w.store.Mailbox(w.users[user+"@here.test"])
	if errors.Is(err, store.ErrNoMailbox) {
		return nil
	}
	if err != nil {
		w.t.Fatal(err)
	}
	d, err := m.Maildrop()
	if err != nil {
		w.t.Fatal(err)
	}
	defer d.Close()
	for i := range d.Messages() {
		r, err := d.Open(i)
		if err != nil {
			w.t.Fatal(err)
		}
		b, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
		if err != nil {
			w.t.Fatal(err)
		}
		_ = r.Close()
		msgs = append(msgs, string(b))
	}
	return msgs
}

func (w *world) count(want string) {
	w.t.Helper()
	n, err := w.tr.Counts()
	got := fmt.Sprintf("%d messages, %d recipients", n.Messages, n.Recipients)
	if err != nil || got != want {
		w.t.Errorf("queue holds %s (%v), want %s", got, err, want)
	}
}
