//go:build unix

package kill_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pillarbox/ese/esetest"
	"pillarbox/ese/vfs"
	"pillarbox/test/program"
)

var rounds = flag.Int("rounds", 6, "how often the server is killed")

// TestKill sends mail over eight connections, kills the server at a random moment, starts it
// again, and finds every acknowledged message once and whole, with the right counters and no
// UID given twice. Every second round runs with a tiny cache and log files of 64 KiB.
func TestKill(t *testing.T) {
	bin := build(t)
	var sites []*site
	for i, tiny := range []bool{false, true} {
		sites = append(sites, newSite(t, bin, 22500+1200*i, tiny))
	}
	for r := range *rounds {
		s := sites[r%2]
		s.round(time.Duration(50+rand.IntN(400)) * time.Millisecond)
		if t.Failed() {
			t.Fatalf("round %d", r)
		}
	}
	for i, s := range sites {
		s.finish()
		t.Logf("site %d: %d acknowledged, %d more in the mailbox", i, len(s.acked), s.extra)
		if *rounds >= 6 && len(s.acked) < 20 {
			t.Errorf("only %d messages: the test proves nothing", len(s.acked))
		}
	}
}

func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "pillarbox")
	out, err := program.Run(t, 4*time.Minute,
		exec.Command("go", "build", "-o", bin, "pillarbox/cmd/pillarbox"))
	if err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return bin
}

// site is a server's folder and what its users were promised.
type site struct {
	t    *testing.T
	bin  string
	dir  string
	base int
	tiny bool
	run  *program.Program

	mu    sync.Mutex
	n     int
	sent  map[string]bool     // message ids tried
	acked map[string]bool     // message ids that got 250
	uids  map[string][]string // message ids by UID, as first seen; one user
	extra int
}

func newSite(t *testing.T, bin string, base int, tiny bool) *site {
	s := &site{
		t: t, bin: bin, dir: t.TempDir(), base: base, tiny: tiny,
		sent: map[string]bool{}, acked: map[string]bool{}, uids: map[string][]string{},
	}
	s.start()
	s.stop()
	if tiny {
		s.configure()
	}
	return s
}

// configure gives the group a tiny cache and tiny log files.
func (s *site) configure() {
	s.t.Helper()
	name := filepath.Join(s.dir, "pillarbox.toml")
	b, err := os.ReadFile(name)
	if err != nil {
		s.t.Fatal(err)
	}
	text := strings.Replace(string(b), "[[group]]",
		"[[group]]\ncache_bytes = 262144\ngeneration_bytes = 65536\ncheckpoint_depth_bytes = 262144\nlog_keep_bytes = 131072", 1)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// start runs the server and waits for its ready line. Ports that another program has taken meanwhile make
// it try other ones.
func (s *site) start() {
	s.t.Helper()
	err := s.startOnce()
	for tries := 0; err != nil && tries < 20 && strings.Contains(err.Error(), "address already in use"); tries++ {
		s.base += 7
		err = s.startOnce()
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) startOnce() error {
	run, err := program.Start(program.Lifetime(s.t), exec.Command(s.bin, "quickstart", "--dir", s.dir,
		"--base-port", strconv.Itoa(s.base), "--password", "pw"))
	if err != nil {
		return err
	}
	s.run = run
	s.t.Cleanup(func() { _ = run.Kill() })
	for limit := time.Now().Add(time.Minute); !strings.Contains(run.Output(), "is ready"); {
		select {
		case <-run.Done():
			return fmt.Errorf("the server ended: %v\n%s", run.Wait(), run.Output())
		case <-time.After(5 * time.Millisecond):
			if time.Now().After(limit) {
				return fmt.Errorf("not ready after a minute: %w", run.End(syscall.SIGQUIT, time.Minute))
			}
		}
	}
	return nil
}

// stop ends the server by SIGTERM, which must give status 0 within 15 s.
func (s *site) stop() {
	s.t.Helper()
	if err := s.run.End(syscall.SIGTERM, 15*time.Second); err != nil {
		s.t.Fatalf("SIGTERM: %v\n%s", err, s.run.Output())
	}
}

func (s *site) kill() {
	s.t.Helper()
	if err := s.run.Kill(); errors.Is(err, program.ErrDeadline) {
		s.t.Fatal(err)
	}
}

// enough messages of a round are acknowledged before the kill, however slow the machine is.
const enough = 7

// round checks what the last kill left, sends mail, and kills.
func (s *site) round(d time.Duration) {
	s.start()
	s.verify()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	before := s.acknowledged()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { s.sender(ctx) })
	}
	time.Sleep(d)
	for limit := time.Now().Add(time.Minute); s.acknowledged() < before+enough && time.Now().Before(limit); {
		time.Sleep(time.Millisecond)
	}
	s.kill()
	cancel()
	wg.Wait()
}

func (s *site) acknowledged() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.acked)
}

// finish checks once more, ends the server properly, and checks the database.
func (s *site) finish() {
	s.start()
	s.verify()
	s.stop()
	esetest.Check(s.t, vfs.OS(), filepath.Join(s.dir, "store", "priv1.edb"))
}

// sender sends messages until the connection ends.
func (s *site) sender(ctx context.Context) {
	c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", s.base+25), time.Minute)
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	r := bufio.NewReader(c)
	say := func(want, format string, a ...any) bool {
		if format != "" {
			if _, err := fmt.Fprintf(c, format+"\r\n", a...); err != nil {
				return false
			}
		}
		for {
			l, err := r.ReadString('\n')
			if err != nil || !strings.HasPrefix(l, want) {
				return false
			}
			if len(l) > 3 && l[3] == ' ' {
				return true
			}
		}
	}
	if !say("220", "") || !say("250", "EHLO k.test") {
		return
	}
	for ctx.Err() == nil {
		id, text := s.message()
		both := rand.IntN(3) == 0
		if !say("250", "MAIL FROM:<s@out.test>") || !say("250", "RCPT TO:<alice@pillarbox.test>") ||
			(both && !say("250", "RCPT TO:<bob@pillarbox.test>")) || !say("354", "DATA") {
			return
		}
		s.mu.Lock()
		s.sent[id] = true
		s.mu.Unlock()
		if !say("250", "%s\r\n.", text) {
			return
		}
		s.mu.Lock()
		s.acked[id] = true
		s.mu.Unlock()
	}
}

// message makes a message whose body proves itself: its hash is in the Message-ID.
func (s *site) message() (id, text string) {
	s.mu.Lock()
	s.n++
	n := s.n
	s.mu.Unlock()
	size := []int{200, 4000, 20_000, 150_000}[rand.IntN(4)]
	var b strings.Builder
	for b.Len() < size {
		fmt.Fprintf(&b, "%d %016x%016x\r\n", n, rand.Uint64(), rand.Uint64())
	}
	body := b.String()
	id = fmt.Sprintf("%d.%x@k.test", n, sha256.Sum256([]byte(body)))
	return id, "From: s@out.test\r\nMessage-ID: <" + id + ">\r\nSubject: kill\r\n\r\n" + strings.TrimSuffix(body, "\r\n")
}

var (
	fetchLine = regexp.MustCompile(`^\* \d+ FETCH \(.*?UID (\d+)`)
	literal   = regexp.MustCompile(`\{(\d+)\}$`)
	idLine    = regexp.MustCompile(`(?i)^Message-ID: <(.*)>`)
	counters  = regexp.MustCompile(`MESSAGES (\d+).*UIDNEXT (\d+).*UNSEEN (\d+)`)
)

// verify reads alice's INBOX and holds it against what she was promised.
func (s *site) verify() {
	s.t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.base+143))
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	r := bufio.NewReaderSize(c, 1<<16)
	if _, err := fmt.Fprintf(c, "a LOGIN alice pw\r\nb STATUS INBOX (MESSAGES UIDNEXT UNSEEN)\r\nc EXAMINE INBOX\r\n"+
		"d UID FETCH 1:* (UID BODY.PEEK[])\r\ne LOGOUT\r\n"); err != nil {
		s.t.Fatal(err)
	}
	seen := map[string]string{} // message id -> uid
	var messages, unseen, last int
	for {
		l, err := r.ReadString('\n')
		if err != nil {
			s.t.Fatalf("IMAP: %v", err)
		}
		l = strings.TrimRight(l, "\r\n")
		if strings.HasPrefix(l, "d OK") {
			break
		}
		if m := counters.FindStringSubmatch(l); m != nil {
			messages, _ = strconv.Atoi(m[1])
			unseen, _ = strconv.Atoi(m[3])
		}
		f, n := fetchLine.FindStringSubmatch(l), literal.FindStringSubmatch(l)
		if f == nil || n == nil {
			if strings.Contains(l, " NO ") || strings.Contains(l, " BAD ") {
				s.t.Fatalf("IMAP: %s", l)
			}
			continue
		}
		size, _ := strconv.Atoi(n[1])
		uid, _ := strconv.Atoi(f[1])
		b := make([]byte, size)
		if _, err := io.ReadFull(r, b); err != nil {
			s.t.Fatal(err)
		}
		if uid <= last {
			s.t.Errorf("UID %d after %d", uid, last)
		}
		last = uid
		if err := s.judge(f[1], string(b), seen); err != nil {
			s.t.Errorf("UID %d: %v", uid, err)
		}
	}
	for id := range s.acked {
		if seen[id] == "" {
			s.t.Errorf("acknowledged message %.20s... is lost", id)
		}
	}
	if messages != len(seen) || unseen != len(seen) {
		s.t.Errorf("STATUS says %d messages, %d unseen; there are %d", messages, unseen, len(seen))
	}
	s.extra = len(seen) - len(s.acked)
}

// judge checks one message of the mailbox.
func (s *site) judge(uid, msg string, seen map[string]string) error {
	head, body, ok := strings.Cut(msg, "\r\n\r\n")
	if !ok {
		return errors.New("no end of the header")
	}
	id := ""
	for _, l := range strings.Split(head, "\r\n") {
		if m := idLine.FindStringSubmatch(l); m != nil {
			id = m[1]
		}
	}
	switch {
	case !s.sent[id]:
		return fmt.Errorf("message %q was never sent", id)
	case seen[id] != "":
		return fmt.Errorf("message %.20s... is there twice, also as %s", id, seen[id])
	case !strings.Contains(id, fmt.Sprintf(".%x@", sha256.Sum256([]byte(body)))):
		return fmt.Errorf("message %.20s... has another body", id)
	}
	if was := s.uids[uid]; was != nil && was[0] != id {
		return fmt.Errorf("the UID was that of %.20s...", was[0])
	}
	s.uids[uid] = []string{id}
	seen[id] = uid
	return nil
}
