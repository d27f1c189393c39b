//go:build linux

package interop_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestBadInput breaks the rules of every protocol on one server. At the end the server serves
// as before, has let go of every session, stayed in its memory, and ends in order.
func TestBadInput(t *testing.T) {
	s := newSite(t, 15000)
	s.serves("before")
	idle := s.files()
	for _, c := range []struct {
		name string
		run  func(*testing.T, *site)
	}{
		{"lines", badLines},
		{"flood", commandFlood},
		{"smuggling", smuggling},
		{"starttls", injection},
		{"passwords", wrongPasswords},
		{"million headers", millionHeaders},
		{"nesting", deepNesting},
		{"literals", literalBombs},
		{"parentheses", manyParentheses},
		{"too large", tooLarge},
		{"bytes", randomBytes},
		{"half open", halfOpen},
		{"slow", slowClient},
	} {
		t.Run(c.name, func(t *testing.T) {
			sub := *s
			sub.t = t
			c.run(t, &sub)
		})
		s.serves("after " + c.name)
		t.Logf("%s: memory at most %d MiB", c.name, s.proc("VmHWM")>>10)
	}
	s.settles(idle)
	s.bounded()
	if text := s.run.Output(); strings.Contains(text, "panic") {
		t.Errorf("the server panicked:\n%s", last(text, 4000))
	}
	endWithSessions(s)
}

// serves delivers a message to bob, and reads it by IMAP and POP3.
func (s *site) serves(when string) {
	s.t.Helper()
	w, err := s.mx()
	if err != nil {
		s.t.Fatalf("%s: %v", when, err)
	}
	defer w.close()
	body := fmt.Sprintf("Subject: serves\r\n\r\n%016x\r\n", rand.Uint64())
	if l, err := w.deliver("bob", []byte(body)); err != nil || !strings.HasPrefix(l, "250") {
		s.t.Fatalf("%s: %q %v", when, l, err)
	}
	for _, all := range [][][]byte{s.bodies("bob", "INBOX"), s.retr("bob")} {
		if len(all) == 0 || !strings.HasSuffix(string(all[len(all)-1]), body) {
			s.t.Fatalf("%s: the message is not in bob's mailbox", when)
		}
	}
}

// settles waits until the server has as many files open as before.
func (s *site) settles(idle int) {
	s.t.Helper()
	const few = 8 // log files prepared ahead, and the like
	for limit := time.Now().Add(time.Minute); s.files() > idle+few; {
		if time.Now().After(limit) {
			s.t.Fatalf("%d files are open, %d at the beginning: sessions leak", s.files(), idle)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// gone reads until the connection ends; more than a minute of it fails the test.
func (w *wire) gone(t *testing.T) string {
	t.Helper()
	_ = w.nc.SetReadDeadline(time.Now().Add(time.Minute))
	b, err := io.ReadAll(w.r)
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		t.Errorf("the session stays open; it said %.200q", b)
	}
	return string(b)
}

// badLines sends lines that are too long, and CR, LF and NUL where they must not be.
func badLines(t *testing.T, s *site) {
	long := strings.Repeat("x", 100_000)
	for _, c := range []struct {
		service   int
		line      string
		want, bye string
	}{
		{25, long, "500", "250"},
		{25, "EHLO " + long, "500", "250"},
		{25, "MAIL FROM:<" + long + "@x.test>", "50", "250"},
		{25, "NOOP\rNOOP", "500", "250"},
		{25, "NO\x00OP", "500", "250"},
		{25, "XYZZY", "500", "250"},
		{110, long, "-ERR", "+OK"},
		{110, "USER " + long, "-ERR", "+OK"},
		{110, "NOOP\rNOOP", "-ERR", "+OK"},
		{110, "XYZZY", "-ERR", "+OK"},
		{143, "t " + long, "t BAD", "t OK"},
		{143, "t LOGIN alice pw" + long, "t NO", "t OK"},
		{143, "t NOOP\rx", "t BAD", "t OK"},
		{143, "t NO\x00OP", "t BAD", "t OK"},
		{143, "t XYZZY", "t BAD", "t OK"},
		{143, long, "", "t OK"},
	} {
		w := s.open(c.service)
		l, err := w.smtp(c.line + "\r\n")
		if err != nil || !strings.HasPrefix(l, c.want) && !strings.HasPrefix(l, "* BYE") &&
			!strings.Contains(l, "BAD") {
			t.Errorf("port %d, %.30q: %q %v", c.service, c.line, l, err)
			continue
		}
		next := map[int]string{25: "NOOP\r\n", 110: "CAPA\r\n", 143: "t NOOP\r\n"}[c.service]
		if l, err = w.smtp(next); err == nil && !strings.HasPrefix(l, c.bye) {
			t.Errorf("port %d behind %.30q: %q", c.service, c.line, l)
		}
		w.close()
	}
	// A bare LF ends no SMTP command: what stands behind it is never run.
	w := s.open(25)
	err := w.write("EHLO a\nMAIL FROM:<a@out.test>\nRCPT TO:<alice@pillarbox.test>\nDATA\n")
	if err != nil {
		t.Fatal(err)
	}
	if text := w.gone(t); !strings.HasPrefix(text, "500") || strings.Contains(text, "354") {
		t.Errorf("commands with a bare LF: %q", text)
	}
}

// commandFlood sends a hundred thousand unknown commands on each port.
func commandFlood(t *testing.T, s *site) {
	for _, service := range []int{25, 587, 110, 143} {
		w := s.open(service)
		go func() { _ = w.write(strings.Repeat("a XYZZY\r\n", 100_000)) }()
		text := w.gone(t)
		if n := strings.Count(text, "\n"); n == 0 || n > 1000 {
			t.Errorf("port %d answered %d times", service, n)
		}
	}
}

// smuggling ends a message in ways that only a careless server takes for its end.
func smuggling(t *testing.T, s *site) {
	inside := "MAIL FROM:<evil@out.test>\r\nRCPT TO:<alice@pillarbox.test>\r\nDATA\r\n" +
		"Subject: smuggled\r\n\r\nx"
	for _, end := range []string{
		"\n.\n", "\r.\r", "\n.\r\n", "\r\n.\n", "\r\n.\r", "\r.\r\n", "\n.\r", "\r.\n",
		"\r\n.\r\r\n", "\n\n.\r\n", "\r\n.\x00\r\n", "\r\n\x00.\r\n", "\r\r\n.\r\r\n",
	} {
		w, err := s.mx()
		if err != nil {
			t.Fatal(err)
		}
		l, err := w.deliver("alice", []byte("Subject: outer\r\n\r\nx"+end+inside))
		if err != nil || !strings.HasPrefix(l, "554") {
			t.Errorf("end %q: %q %v", end, l, err)
		}
		if err := w.say("221", "QUIT\r\n"); err != nil {
			t.Errorf("end %q: %v", end, err)
		}
		if rest := w.gone(t); rest != "" {
			t.Errorf("end %q: then %q", end, rest)
		}
	}
	// BDAT counts bytes: a dot line in it is text.
	w, err := s.mx()
	if err != nil {
		t.Fatal(err)
	}
	body := "Subject: chunk\r\n\r\n.\r\n" + inside + "\r\n"
	for _, c := range [][2]string{
		{"250", "MAIL FROM:<s@out.test>\r\n"},
		{"250", "RCPT TO:<alice@pillarbox.test>\r\n"},
		{"250", fmt.Sprintf("BDAT %d LAST\r\n%s", len(body), body)},
		{"221", "QUIT\r\n"},
	} {
		if err := w.say(c[0], c[1]); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range s.bodies("alice", "INBOX") {
		if !strings.Contains(string(b), "Subject: chunk\r\n\r\n.\r\n"+inside) {
			t.Errorf("smuggled: %q", b)
		}
	}
}

// injection writes commands behind STARTTLS before the handshake: none of them may be run as if
// it had come inside of TLS (CVE-2011-0411).
func injection(t *testing.T, s *site) {
	for _, c := range []struct {
		service             int
		first, start, clean string
		want                string // the one reply to clean, inside of TLS
	}{
		{25, "EHLO a\r\n", "STARTTLS\r\nEHLO injected\r\nRSET\r\n", "MAIL FROM:<a@out.test>\r\n", "503"},
		{587, "EHLO a\r\n", "STARTTLS\r\nEHLO injected\r\n", "NOOP\r\n", "250"},
		{110, "CAPA\r\n", "STLS\r\nUSER alice\r\n", "PASS pw\r\n", "-ERR"},
		{143, "t CAPABILITY\r\n", "t STARTTLS\r\nx LOGIN alice pw\r\n", "y SELECT INBOX\r\n", "y "},
	} {
		w := s.open(c.service)
		if err := w.write(c.first); err != nil {
			t.Fatal(err)
		}
		for end := false; !end; {
			l, err := w.line()
			if err != nil {
				t.Fatal(err)
			}
			end = l == "." || strings.HasPrefix(l, "t OK") || strings.HasPrefix(l, "250 ")
		}
		l, err := w.smtp(c.start)
		if err != nil {
			continue // the session ended: as good
		}
		if !begins(l, "220", "+OK", "t OK") {
			continue // refused
		}
		if err := w.secure(); err != nil {
			continue
		}
		l, err = w.smtp(c.clean)
		if err == nil && (!strings.HasPrefix(l, c.want) || strings.Contains(l, "y OK")) {
			t.Errorf("port %d: inside of TLS the server says %q", c.service, l)
		}
		_ = w.nc.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if l, _ := w.line(); l != "" {
			t.Errorf("port %d: and then %q", c.service, l)
		}
	}
}

// wrongPasswords guesses alice's password over many connections, while bob logs in at once.
func wrongPasswords(t *testing.T, s *site) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var mu sync.Mutex
	tries := 0
	for i := range 16 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				n := guess(t, s, i%3)
				mu.Lock()
				tries += n
				mu.Unlock()
			}
		})
	}
	worst := time.Duration(0)
	for range 5 {
		time.Sleep(300 * time.Millisecond)
		begun := time.Now()
		s.login("bob").close()
		worst = max(worst, time.Since(begun))
	}
	close(stop)
	wg.Wait()
	t.Logf("%d wrong passwords; bob waited %v at most", tries, worst)
	if worst > quick {
		t.Errorf("bob waited %v for his login", worst)
	}
	s.login("alice").close() // on loopback a stranger cannot lock her out
}

// guess tries wrong passwords on one connection until the server ends it.
func guess(t *testing.T, s *site, kind int) int {
	w, err := dial(s.base + []int{143, 110, 587}[kind])
	if err != nil {
		t.Error(err)
		return 0
	}
	defer w.close()
	_ = w.nc.SetDeadline(time.Now().Add(2 * time.Second))
	_, _ = w.line()
	for n := range 10 {
		var l string
		var err error
		switch kind {
		case 0:
			l, err = w.imap("LOGIN alice wrong", nil)
		case 1:
			_, _ = w.smtp("USER alice\r\n")
			l, err = w.smtp("PASS wrong\r\n")
		case 2:
			_, _ = w.smtp("EHLO g.test\r\n")
			l, err = w.smtp("AUTH PLAIN AGFsaWNlAHdyb25n\r\n") // \0alice\0wrong
		}
		if err != nil {
			return n
		}
		if begins(l, "t OK", "+OK", "235") {
			t.Errorf("a wrong password is taken: %q", l)
		}
	}
	return 10
}

// millionHeaders sends a header block of 30 MB with a million fields.
func millionHeaders(t *testing.T, s *site) {
	var b strings.Builder
	b.WriteString("Subject: many\r\n")
	for i := range 1_000_000 {
		fmt.Fprintf(&b, "X-Field-%07d: abcdefghijkl\r\n", i)
	}
	b.WriteString("\r\nbody\r\n")
	judge(t, s, b.String(), "BODY[HEADER.FIELDS (SUBJECT X-FIELD-0999999)]", "many")
	// One field of 30 MB, folded, and one of a million addresses.
	judge(t, s, "Subject: long\r\nX-Long: "+
		strings.Repeat("abcdefghijklmnopqrstuvwxyz\r\n ", 1_000_000)+"x\r\n\r\nbody\r\n",
		"ENVELOPE", "long")
	judge(t, s, "Subject: many\r\nTo: a@b.test"+strings.Repeat(",\r\n a@b.test", 1_000_000)+
		"\r\n\r\nbody\r\n", "ENVELOPE", "many")
}

// deepNesting sends parts within parts, ten thousand deep, and ends none of them.
func deepNesting(t *testing.T, s *site) {
	var multi strings.Builder
	multi.WriteString("Subject: deep\r\nMIME-Version: 1.0\r\n")
	for i := range 10_000 {
		fmt.Fprintf(&multi, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
	}
	judge(t, s, multi.String(), "BODYSTRUCTURE", "")
	var nested strings.Builder
	nested.WriteString("Subject: deep\r\nMIME-Version: 1.0\r\n")
	for range 10_000 {
		nested.WriteString("Content-Type: message/rfc822\r\n\r\n")
	}
	judge(t, s, nested.String(), "BODYSTRUCTURE", "")
	judge(t, s, "Subject: many\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"+
		strings.Repeat("--b\r\n\r\nx\r\n", 100_000), "BODYSTRUCTURE", "")
	judge(t, s, "Content-Type: text/plain; "+strings.Repeat("a=\"\\\"b\"; ", 100_000)+"\r\n\r\n\r\n",
		"BODYSTRUCTURE", "")
	judge(t, s, "Subject: "+strings.Repeat("=?utf-8?q?=", 50_000)+"\r\n\r\n\r\n", "ENVELOPE", "")
	judge(t, s, "To: "+strings.Repeat("(", 100_000)+"\r\nFrom: "+strings.Repeat("a:", 100_000)+
		"\r\nCc: "+strings.Repeat("<", 100_000)+"\r\n\r\n", "ENVELOPE", "")
}

// judge delivers a message to alice, which may be refused for good, and fetches the item and
// then the whole of what was taken, byte for byte, and deletes it.
func judge(t *testing.T, s *site, text, item, has string) {
	t.Helper()
	begun := time.Now()
	w, err := s.mx()
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	l, err := w.deliver("alice", []byte(text))
	if err != nil || !strings.HasPrefix(l, "250") && !strings.HasPrefix(l, "55") {
		t.Fatalf("%.40q: %q %v", text, l, err)
	}
	if !strings.HasPrefix(l, "250") {
		t.Logf("%.40q: %s", text, l)
		return
	}
	im := s.login("alice")
	defer im.close()
	if err := im.ok("SELECT INBOX"); err != nil {
		t.Fatal(err)
	}
	var got, body string
	see := func(l string, lit []byte) { got += l + string(lit) }
	if l, err = im.imap("FETCH * ("+item+")", see); err != nil || !strings.HasPrefix(l, "t OK") ||
		!strings.Contains(got, has) {
		t.Errorf("%.40q: FETCH %s: %.200q %q %v", text, item, got, l, err)
	}
	_, err = im.imap("FETCH * BODY[]", func(_ string, lit []byte) {
		if lit != nil {
			body = string(lit)
		}
	})
	if err != nil || !strings.HasSuffix(body, text) {
		t.Errorf("%.40q: it comes back as other bytes (%d of %d) %v", text, len(body), len(text), err)
	}
	for _, c := range []string{"SEARCH TEXT zzz", "STORE * +FLAGS (\\Deleted)", "EXPUNGE"} {
		if err := im.ok(c); err != nil {
			t.Errorf("%.40q: %v", text, err)
		}
	}
	// Of this size all is done in seconds; what grows with the square of it takes hours.
	if d := time.Since(begun); d > time.Minute {
		t.Errorf("%.40q took %v", text, d)
	}
}

// quick is the limit for what takes a tenth of a second here: beyond all that a busy machine or a disk that
// stalls makes of it, and short of what waits for a client's time-out.
const quick = 20 * time.Second

// literalBombs announces literals that no server can hold.
func literalBombs(t *testing.T, s *site) {
	before := s.proc("VmRSS")
	for _, c := range []string{
		"t LOGIN {9999999999}", "t LOGIN {9999999999+}", "t LOGIN {99999999999999999999999}",
		"t LOGIN {-1}", "t LOGIN {}", "t APPEND INBOX {9999999999}", "t APPEND INBOX {9999999999+}",
	} {
		for _, user := range []string{"", "alice"} {
			w := s.open(143)
			if user != "" {
				if err := w.ok("LOGIN alice pw"); err != nil {
					t.Fatal(err)
				}
			}
			l, err := w.smtp(c + "\r\n")
			if err != nil || !begins(l, "t BAD", "t NO", "* BYE", "* BAD") {
				t.Errorf("%s: %q %v", c, l, err)
			}
			w.close()
		}
	}
	grown := s.proc("VmRSS") - before
	t.Logf("announced literals cost %d KiB", grown)
	if grown > 32<<10 {
		t.Errorf("announced literals cost %d MiB", grown>>10)
	}
}

// manyParentheses nests the arguments of commands a hundred thousand deep.
func manyParentheses(t *testing.T, s *site) {
	const n = 100_000
	for _, c := range []string{
		"SEARCH " + strings.Repeat("(", n) + "ALL" + strings.Repeat(")", n),
		"SEARCH " + strings.Repeat("NOT ", n) + "ALL",
		"SEARCH " + strings.Repeat("OR ALL ", n) + "ALL",
		"FETCH 1 " + strings.Repeat("(", n),
		"FETCH 1 BODY[" + strings.Repeat("1.", n) + "1]",
		"FETCH " + strings.Repeat("1,", n) + "1 UID",
		"LIST \"\" " + strings.Repeat("*%", n),
		"STORE 1 FLAGS (" + strings.Repeat("kw ", n) + "kw)",
		"APPEND INBOX (" + strings.Repeat("(", n),
		"ID (" + strings.Repeat("\"a\" \"b\" ", n) + ")",
	} {
		w := s.login("alice")
		if err := w.ok("SELECT INBOX"); err != nil {
			t.Fatal(err)
		}
		l, err := w.imap(c, nil)
		if err == nil && !begins(l, "t BAD", "t NO", "t OK") {
			t.Errorf("%.20s...: %q", c, l)
		}
		w.close()
	}
	w := s.login("alice")
	defer w.close()
	// A pattern that makes a careless matcher exponential.
	begun := time.Now()
	if _, err := w.imap("LIST \"\" \""+strings.Repeat("*a", 200)+"\"", nil); err != nil {
		t.Error(err)
	}
	if err := w.ok("CREATE " + strings.Repeat("a", 200)); err != nil {
		t.Error(err)
	}
	if _, err := w.imap("LIST \"\" \""+strings.Repeat("*a", 100)+"b\"", nil); err != nil {
		t.Error(err)
	}
	if d := time.Since(begun); d > quick { // a careless one takes longer than the world is old
		t.Errorf("LIST took %v", d)
	}
}

// tooLarge sends messages of more than 50 MiB.
func tooLarge(t *testing.T, s *site) {
	big := strings.Repeat(strings.Repeat("x", 78)+"\r\n", 55<<20/80)
	w, err := s.mx()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.say("552", "MAIL FROM:<s@out.test> SIZE=99999999\r\n"); err != nil {
		t.Error(err)
	}
	if l, err := w.deliver("alice", []byte(big)); err != nil || !strings.HasPrefix(l, "552") {
		t.Errorf("DATA of 55 MiB: %q %v", l, err)
	}
	if err := w.say("250", "NOOP\r\n"); err != nil {
		t.Errorf("behind it: %v", err)
	}
	im := s.login("alice")
	l, err := im.smtp(fmt.Sprintf("t APPEND INBOX {%d}\r\n", len(big)))
	if err != nil || !strings.HasPrefix(l, "t NO [TOOBIG]") && !strings.HasPrefix(l, "t NO [LIMIT]") {
		t.Errorf("APPEND of 55 MiB: %q %v", l, err)
	}
	l, err = im.smtp(fmt.Sprintf("u APPEND INBOX {%d+}\r\n%s\r\n", len(big), big))
	if err != nil || !strings.HasPrefix(l, "u NO") {
		t.Errorf("APPEND of 55 MiB at once: %q %v", l, err)
	}
	l, err = im.imap("APPEND INBOX {3+}\r\na\x00b", nil)
	if err != nil || !strings.HasPrefix(l, "t NO") {
		t.Errorf("APPEND with a NUL: %q %v", l, err)
	}
	if err := im.ok("NOOP"); err != nil {
		t.Errorf("behind it: %v", err)
	}
	if n := len(s.bodies("alice", "INBOX")); n > 1 {
		t.Errorf("%d messages were stored", n)
	}
	im.close()
	w.close()
}

// begins tells whether the line has one of the beginnings.
func begins(l string, with ...string) bool {
	return slices.ContainsFunc(with, func(p string) bool { return strings.HasPrefix(l, p) })
}
