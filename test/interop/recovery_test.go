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
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"pillarbox/test/program"
)

// ledger is the sender's own list of what the server has taken.
type ledger struct {
	mu    sync.Mutex
	acked map[int]time.Time // when each 250 was read
	begun map[int]time.Time // when each message began to be sent
	next  int
}

func newLedger() *ledger {
	return &ledger{acked: map[int]time.Time{}, begun: map[int]time.Time{}}
}

func numbered(n int) []byte {
	return fmt.Appendf(nil, "Message-ID: <%d@ledger.test>\r\nFrom: s@out.test\r\nSubject: number %d\r\n"+
		"\r\nledger-%06d-body\r\n%s\r\n", n, n, n, strings.Repeat("padding of the message\r\n", n%200))
}

var bodyMark = regexp.MustCompile(`ledger-(\d{6})-body`)

// number is which message a body is of; its header must say the same.
func number(t *testing.T, b []byte) int {
	t.Helper()
	m := bodyMark.FindSubmatch(b)
	if m == nil {
		t.Fatalf("not one of ours: %.200q", b)
	}
	n, _ := strconv.Atoi(string(m[1]))
	if !bytes.Contains(b, fmt.Appendf(nil, "Message-ID: <%d@ledger.test>", n)) {
		t.Fatalf("a body under another message's name: %.300q", b)
	}
	return n
}

// send sends messages to alice over some connections until told to stop.
func (l *ledger) send(s *site, count int) {
	s.t.Helper()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			w, err := s.mx()
			if err != nil {
				s.t.Error(err)
				return
			}
			defer w.close()
			for range count / 4 {
				l.mu.Lock()
				n := l.next
				l.next++
				l.begun[n] = time.Now()
				l.mu.Unlock()
				reply, err := w.deliver("alice", numbered(n))
				if err != nil || !strings.HasPrefix(reply, "250 ") {
					s.t.Errorf("message %d: %q, %v", n, reply, err)
					return
				}
				l.mu.Lock()
				l.acked[n] = time.Now()
				l.mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// judge compares what is there with the list: everything acknowledged before `by`, and nothing
// that began after `until`.
func (l *ledger) judge(t *testing.T, got [][]byte, by, until time.Time) {
	t.Helper()
	have := map[int]bool{}
	for _, b := range got {
		n := number(t, b)
		if have[n] {
			t.Errorf("message %d is there twice", n)
		}
		have[n] = true
		if l.begun[n].After(until) {
			t.Errorf("message %d is there, sent %v later than it could be", n, l.begun[n].Sub(until))
		}
	}
	missing := 0
	for n, at := range l.acked {
		if at.Before(by) && !have[n] {
			missing++
		}
	}
	if missing > 0 {
		t.Errorf("%d of %d acknowledged messages are missing", missing, len(l.acked))
	}
	t.Logf("%d messages are there, %d were acknowledged", len(got), len(l.acked))
}

// verb runs the program on the site's config.
func (s *site) verb(t *testing.T, args ...string) string {
	t.Helper()
	out, err := s.tryVerb(t, args...)
	if err != nil {
		t.Fatalf("pillarbox %v: %v\n%s", args, err, out)
	}
	return out
}

func (s *site) tryVerb(t *testing.T, args ...string) (string, error) {
	t.Helper()
	args = append([]string{"--config", filepath.Join(s.dir, "pillarbox.toml")}, args...)
	return program.Run(t, 2*time.Minute, exec.Command(s.bin, args...))
}

// story is a day as the tests need it: a full backup under load, an incremental one, mail since,
// a moment, and mail after it that a mail program has seen; then a kill.
type story struct {
	*site
	l                      *ledger
	sets                   string
	incBegun, moment, kill time.Time
	atMoment               int
	near                   string // the mail program's folder
}

func tellStory(t *testing.T) *story {
	d := &story{site: newSite(t, 19500), l: newLedger(), sets: filepath.Join(t.TempDir(), "sets")}
	d.stop()
	d.configure(`name = "store"`, "name = \"store\"\ngeneration_bytes = 131072")
	d.mustStart()
	d.l.send(d.site, 120)
	var wg sync.WaitGroup
	wg.Go(func() { d.l.send(d.site, 240) }) // the server goes on serving
	d.verb(t, "backup", "full", "--to", d.sets)
	wg.Wait()
	d.l.send(d.site, 80)
	d.incBegun = time.Now()
	d.verb(t, "backup", "incremental", "--to", d.sets)
	d.l.send(d.site, 120)
	time.Sleep(20 * time.Millisecond) // commit times are kept to the millisecond
	d.moment, d.atMoment = time.Now(), d.l.next
	time.Sleep(20 * time.Millisecond)
	d.l.send(d.site, 120)
	d.pull(t, true)
	d.kill = time.Now()
	d.site.kill()
	return d
}

// pull lets mbsync fetch the INBOX, once.
func (d *story) pull(t *testing.T, must bool) string {
	t.Helper()
	tool(t, "mbsync")
	if d.near == "" {
		d.near = t.TempDir()
		check(t, os.Mkdir(filepath.Join(d.near, "mail"), 0o700))
	}
	rc := save(t, d.near, "mbsyncrc", fmt.Sprintf(`IMAPAccount p
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

Channel c
Far :far:
Near :near:
Patterns INBOX
Sync Pull
Create Near
SyncState *
`, d.base+993, filepath.Join(d.dir, "tls", "ca.crt"), d.near, d.near))
	out, err := program.Run(t, clientTime, client(d.near, "mbsync", "-c", rc, "c"))
	if err != nil && must {
		t.Fatalf("mbsync: %v\n%s", err, last(out, 2000))
	}
	return out
}

// restored is the site as the kill left it, in a folder of its own, with the harm done.
func (d *story) restored(t *testing.T, harm func(store string), args ...string) (*story, string) {
	t.Helper()
	c := *d
	c.site = d.at(t, copyOf(t, d.dir))
	harm(filepath.Join(c.dir, "store"))
	out := c.verb(t, append([]string{"restore", "--from", d.sets}, args...)...)
	t.Log(out)
	c.mustStart()
	return &c, out
}

func removeAll(t *testing.T, patterns ...string) func(string) {
	return func(store string) {
		for _, p := range patterns {
			remove(p)(t, store)
		}
	}
}

// Every acknowledged mail comes back as long as the log is left; without it all up to the last
// backup; and exactly what there was at a moment.
func TestSeedStory(t *testing.T) {
	d := tellStory(t)
	verified := d.verb(t, "backup", "verify", "--from", d.sets)
	if !strings.Contains(verified, "2 backups are whole") {
		t.Errorf("verify: %s", verified)
	}
	t.Run("databases lost", func(t *testing.T) {
		s, out := d.restored(t, removeAll(t, "priv1.*"))
		d.l.judge(t, s.bodies("alice", "INBOX"), d.kill, d.kill)
		if strings.Contains(out, "incarnation") {
			t.Error("a new incarnation although nothing is lost")
		}
		s.pull(t, true)
		s.stop()
	})
	t.Run("databases overwritten", func(t *testing.T) {
		s, _ := d.restored(t, func(store string) {
			zero("priv1.edb", 0, -1)(t, store)
			zero("priv1.stm", 0, -1)(t, store)
		}, "--latest")
		d.l.judge(t, s.bodies("alice", "INBOX"), d.kill, d.kill)
		s.stop()
	})
	t.Run("log lost too", func(t *testing.T) {
		s, out := d.restored(t, removeAll(t, "priv1.*", "E00*"))
		d.l.judge(t, s.bodies("alice", "INBOX"), d.incBegun, d.moment.Add(-time.Millisecond))
		d.exactly(t, s, out)
		s.stop()
	})
	t.Run("a generation lost", func(t *testing.T) {
		c := d.at(t, copyOf(t, d.dir))
		store := filepath.Join(c.dir, "store")
		remove("priv1.*")(t, store)
		check(t, os.Remove(generation(t, store, -1)))
		before := listing(t, store)
		out, err := c.tryVerb(t, "restore", "--from", d.sets)
		if err == nil || !strings.Contains(out, "generation") || !strings.Contains(out, "as it was before") {
			t.Errorf("a gap: %v\n%s", err, out)
		}
		if after := listing(t, store); !slices.Equal(before, after) {
			t.Errorf("a refused restore left %v of %v", after, before)
		}
		c.verb(t, "restore", "--from", d.sets, "--ignore-live-log")
	})
	t.Run("to a moment", func(t *testing.T) { d.toMoment(t) })
}

// exactly compares the moment that restore stated with the list.
func (d *story) exactly(t *testing.T, s *story, out string) {
	t.Helper()
	m := regexp.MustCompile(`reaches the commit of (\S+),`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no moment is stated:\n%s", out)
	}
	at, err := time.Parse(time.RFC3339Nano, m[1])
	check(t, err)
	d.l.judge(t, s.bodies("alice", "INBOX"), at, at.Add(time.Millisecond))
}

func listing(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	check(t, err)
	for _, e := range entries {
		if e.Name() != "restoring.lock" { // stays, as locks do
			names = append(names, e.Name())
		}
	}
	return names
}

// toMoment goes back, and lets new mail take the numbers of the lost one: no client may take one
// for the other.
func (d *story) toMoment(t *testing.T) {
	cached := d.cache(t)
	s, out := d.restored(t, removeAll(t, "priv1.*"),
		"--to-time", d.moment.Format("2006-01-02T15:04:05.000Z07:00"))
	if !strings.Contains(out, "new incarnation") {
		t.Errorf("no word of the new incarnation:\n%s", out)
	}
	got := s.bodies("alice", "INBOX")
	d.l.judge(t, got, d.moment, d.moment)
	if len(got) != d.atMoment {
		t.Errorf("%d messages, at the moment there were %d", len(got), d.atMoment)
	}
	d.l.send(s.site, 120) // more than were lost, of the same UIDs
	now := s.cacheOf(t)
	if now.validity == cached.validity {
		t.Errorf("UIDVALIDITY %d stays: a client shows lost mail for new one", now.validity)
	}
	reused := 0
	for uid, n := range now.messages {
		if old, ok := cached.messages[uid]; ok && old != n {
			reused++
		}
	}
	if reused == 0 {
		t.Error("no UID of the lost time was given again: the test proves nothing")
	}
	said := s.pull(t, false)
	t.Logf("mbsync, which had seen the lost time, said: %s", last(said, 300))
	s.nearIsTrue(t)
	// What mbsync asks people to do then: forget the state and fetch anew.
	check(t, os.RemoveAll(filepath.Join(s.near, "mail")))
	check(t, os.Mkdir(filepath.Join(s.near, "mail"), 0o700))
	s.pull(t, true)
	if n := s.nearIsTrue(t); n != len(now.messages) {
		t.Errorf("mbsync fetched %d of %d messages", n, len(now.messages))
	}
	s.verb(t, "backup", "full", "--to", d.sets)
	s.verb(t, "backup", "incremental", "--to", d.sets)
	s.stop()
	s.checkStore(t)
}

// nearIsTrue looks for bodies under another's name in what mbsync keeps.
func (d *story) nearIsTrue(t *testing.T) (n int) {
	t.Helper()
	for _, sub := range []string{"new", "cur"} {
		names, err := filepath.Glob(filepath.Join(d.near, "mail", "INBOX", sub, "*"))
		check(t, err)
		for _, name := range names {
			b, err := os.ReadFile(name)
			check(t, err)
			number(t, bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")))
			n++
		}
	}
	return n
}

// clientCache is what a client remembers of a folder.
type clientCache struct {
	validity int
	messages map[int]int // by UID
}

// cache is that of the story's end, asked from a copy.
func (d *story) cache(t *testing.T) clientCache {
	t.Helper()
	c := *d
	c.site = d.at(t, copyOf(t, d.dir))
	c.mustStart()
	defer c.stop()
	return c.cacheOf(t)
}

func (d *story) cacheOf(t *testing.T) clientCache {
	t.Helper()
	w := d.login("alice")
	defer w.close()
	c := clientCache{messages: map[int]int{}}
	_, err := w.imap("EXAMINE INBOX", func(l string, _ []byte) {
		if _, rest, ok := strings.Cut(l, "[UIDVALIDITY "); ok {
			c.validity, _ = strconv.Atoi(strings.SplitN(rest, "]", 2)[0])
		}
	})
	check(t, err)
	_, err = w.imap("UID FETCH 1:* (UID BODY.PEEK[])", func(l string, lit []byte) {
		if m := regexp.MustCompile(`\(UID (\d+) `).FindStringSubmatch(l); m != nil {
			uid, _ := strconv.Atoi(m[1])
			c.messages[uid] = number(t, lit)
		}
	})
	check(t, err)
	if c.validity == 0 || len(c.messages) == 0 {
		t.Fatalf("nothing in the INBOX: %+v", c)
	}
	return c
}

// checkStore proves all checksums of the files.
func (d *story) checkStore(t *testing.T) {
	t.Helper()
	out := d.verb(t, "status")
	if !strings.Contains(out, "can be reached") {
		t.Errorf("status: %s", out)
	}
}
