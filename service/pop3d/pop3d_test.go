package pop3d

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"pillarbox/directory"
	"pillarbox/ese"
	"pillarbox/ese/vfs"
	"pillarbox/protocol/pop3"
	"pillarbox/store"
)

type place struct {
	t     *testing.T
	o     Options
	store *store.Store
	bob   store.MailboxID
}

func newPlace(t *testing.T) *place {
	t.Helper()
	ctx := context.Background()
	in, err := ese.Open(ese.Options{Dir: "/d", FS: vfs.NewMem(), CacheBytes: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	p := &place{t: t}
	p.store, err = store.Open(ctx, in, store.Options{})
	must(err)
	t.Cleanup(func() {
		found, err := p.store.Check(ctx)
		if err != nil || len(found) > 0 {
			t.Errorf("check: %v %v", found, err)
		}
		must(in.Close())
	})
	db, err := in.OpenDatabase("priv1.edb")
	must(err)
	dir, err := directory.Open(ctx, in, db, directory.Options{HashMemoryKiB: 64, HashPasses: 1})
	must(err)
	must(dir.AddDomain(ctx, "here.test"))
	r, err := dir.AddUser(ctx, "bob@here.test", directory.Secret{Password: "bobpw"})
	must(err)
	p.bob = store.MailboxID(r.ID)
	p.o = Options{
		POP3: pop3.Options{
			Hostname: "mx.here.test", PlaintextAuth: func(net.Addr) bool { return true },
		},
		Directory: dir, Mailboxes: p.store,
	}
	return p
}

func (p *place) deliver(msg string) {
	p.t.Helper()
	w, err := p.store.NewContent(p.bob)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := io.WriteString(w, msg); err != nil {
		p.t.Fatal(err)
	}
	c, err := w.Finish()
	if err != nil {
		p.t.Fatal(err)
	}
	_, err = p.store.Deliver(context.Background(), &store.DeliverRequest{
		Content: c, Recipients: []store.Recipient{{Mailbox: p.bob}},
	})
	if err != nil {
		p.t.Fatal(err)
	}
}

// dialog connects and checks what the server says: lines "C: " are sent, "S: " expected, by
// prefix.
func (p *place) dialog(script string) net.Conn {
	p.t.Helper()
	here, there := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		New(p.o).ServeConn(there)
	}()
	p.t.Cleanup(func() {
		_ = here.Close()
		<-done
	})
	br := bufio.NewReader(here)
	for line := range strings.SplitSeq(strings.TrimSpace(script), "\n") {
		what, rest, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if what == "C" {
			if _, err := io.WriteString(here, rest+"\r\n"); err != nil {
				p.t.Fatal(err)
			}
			continue
		}
		got, err := br.ReadString('\n')
		if err != nil || !strings.HasPrefix(got, rest) {
			p.t.Fatalf("%q: got %q (%v)", line, got, err)
		}
	}
	return here
}

func TestSession(t *testing.T) {
	p := newPlace(t)
	p.deliver("Subject: one\r\n\r\n.dot\r\n")
	p.deliver("Subject: two\r\n\r\n" + strings.Repeat("0123456789\r\n", 10000))
	held := p.dialog(`
		S: +OK
		C: USER bob
		S: +OK
		C: PASS bobpw
		S: +OK
		C: STAT
		S: +OK 2 120038
		C: RETR 1
		S: +OK
		S: Subject: one
		S: 
		S: ..dot
		S: .
		C: TOP 2 1
		S: +OK
		S: Subject: two
		S: 
		S: 0123456789
		S: .
		C: DELE 1
		S: +OK`)
	p.dialog(`
		S: +OK
		C: USER bob@here.test
		S: +OK
		C: PASS bobpw
		S: -ERR [IN-USE]
		C: USER bob
		S: +OK
		C: PASS wrong
		S: -ERR [AUTH]`)
	// A lost connection removes nothing (RFC 1939 6); QUIT does.
	_ = held.Close()
	for range 3000 {
		if m, err := p.store.OpenMailbox(context.Background(), p.bob); err != nil {
			t.Fatal(err)
		} else if d, err := m.Maildrop(); err == nil {
			d.Close()
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, want := range []string{"2 120038", "1 120016"} {
		p.dialog(fmt.Sprintf(`
			S: +OK
			C: USER bob
			S: +OK
			C: PASS bobpw
			S: +OK
			C: STAT
			S: +OK %s
			C: DELE 1
			S: +OK
			C: QUIT
			S: +OK`, want))
	}
}

func TestAnswer(t *testing.T) {
	tests := []struct {
		err  error
		code string
	}{
		{directory.ErrBadLogin, "AUTH"},
		{directory.ErrThrottled, "SYS/TEMP"},
		{store.ErrInUse, "IN-USE"},
		{store.ErrNoMessage, ""},
		{ese.ErrLogDead, "SYS/TEMP"},
		{errors.New("anything"), "SYS/TEMP"},
	}
	for _, tt := range tests {
		if got := answer(fmt.Errorf("login: %w", tt.err)); got.Code != tt.code {
			t.Errorf("%v: [%s], want [%s]", tt.err, got.Code, tt.code)
		}
	}
}
