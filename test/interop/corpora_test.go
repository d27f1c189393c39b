//go:build linux

package interop_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

const corporaDir = "../../../shared/corpora"

// message is one of the corpora, lines ended by CRLF.
type message struct {
	name string
	text []byte
}

// barred tells why SMTP must refuse a message (RFC 5321 2.3.8, 4.5.2), "" when it must not.
func (m message) barred() string {
	switch {
	case bytes.IndexByte(m.text, 0) >= 0:
		return "NUL"
	case bytes.Count(m.text, []byte("\r")) != bytes.Count(m.text, []byte("\r\n")):
		return "bare CR"
	}
	return ""
}

// whole is the message as it is stored: the last line ended.
func (m message) whole() []byte {
	if len(m.text) > 0 && !bytes.HasSuffix(m.text, []byte("\r\n")) {
		return append(slices.Clip(m.text), "\r\n"...)
	}
	return m.text
}

var isMessage = regexp.MustCompile(`\.eml$|\.msg$|cpython-test-email/msg_.*\.txt$`)

// corpora reads every message of the archives.
func corpora(t *testing.T) []message {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(corporaDir, "*.tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	if len(names) == 0 {
		t.Skipf("no corpora in %s", corporaDir)
	}
	var out []message
	for _, name := range names {
		msgs, err := archive(name)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out = append(out, msgs...)
	}
	return out
}

func archive(name string) ([]message, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	var out []message
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		mbox := strings.HasSuffix(h.Name, ".mbox")
		if h.Typeflag != tar.TypeReg || !mbox && !isMessage.MatchString(h.Name) {
			continue
		}
		b, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		parts := [][]byte{b}
		if mbox {
			parts = splitMbox(b)
		}
		for i, p := range parts {
			out = append(out, message{fmt.Sprintf("%s[%d]", h.Name, i), normalize(p)})
		}
	}
}

var fromLine = regexp.MustCompile(`(?m)^From .*\r?\n`)

func splitMbox(b []byte) [][]byte {
	var out [][]byte
	at := fromLine.FindAllIndex(b, -1)
	for i, p := range at {
		end := len(b)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		out = append(out, b[p[0]:end])
	}
	return out
}

// normalize cuts the From line of an mbox and makes CRLF of a lone LF.
func normalize(b []byte) []byte {
	if at := fromLine.FindIndex(b); at != nil && at[0] == 0 {
		b = b[at[1]:]
	}
	b = bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))
	return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n"))
}

// TestCorpora sends every message by SMTP and finds it by IMAP and POP3 byte for byte behind the
// trace block. What SMTP must refuse goes in by APPEND, where IMAP allows it.
func TestCorpora(t *testing.T) {
	msgs := corpora(t)
	if testing.Short() {
		var some []message
		for i, m := range msgs {
			if i%10 == 0 || m.barred() != "" {
				some = append(some, m)
			}
		}
		msgs = some
	}
	s := newSite(t, 11000)
	want := newMultiset()
	var barred []message
	for _, m := range msgs {
		if m.barred() != "" {
			barred = append(barred, m)
		} else {
			want.add(m)
		}
	}
	s.sendAll("alice", msgs)
	t.Logf("%d messages, %d of them refused by SMTP", len(msgs), len(barred))
	for _, m := range barred {
		t.Logf("refused: %s (%s)", m.name, m.barred())
	}
	byIMAP := s.bodies("alice", "INBOX")
	want.compare(t, "IMAP", byIMAP)
	byPOP := s.retr("alice")
	want.compare(t, "POP3", byPOP)
	s.appendAll("bob", barred)
	s.bounded()
	s.stop()
}

// sendAll sends messages over eight connections and checks each reply.
func (s *site) sendAll(user string, msgs []message) {
	s.t.Helper()
	var wg sync.WaitGroup
	const lanes = 8
	for lane := range lanes {
		wg.Go(func() {
			w, err := s.mx()
			if err != nil {
				s.t.Error(err)
				return
			}
			defer w.close()
			for i := lane; i < len(msgs); i += lanes {
				want := "250 2.0.0"
				if msgs[i].barred() != "" {
					want = "554 "
				}
				l, err := w.deliver(user, msgs[i].text)
				if err != nil {
					s.t.Errorf("%s: %v", msgs[i].name, err)
					return
				}
				if !strings.HasPrefix(l, want) {
					s.t.Errorf("%s: got %q, want %s", msgs[i].name, l, want)
				}
			}
		})
	}
	wg.Wait()
}

// appendAll stores messages by APPEND: a bare CR is kept as it is, a NUL is refused, since a
// literal has CHAR8 only (RFC 3501 9).
func (s *site) appendAll(user string, msgs []message) {
	s.t.Helper()
	w := s.login(user)
	defer w.close()
	var want [][]byte
	for _, m := range msgs {
		l, err := w.imap(fmt.Sprintf("APPEND INBOX {%d+}\r\n%s", len(m.text), m.text), nil)
		if err != nil {
			s.t.Fatalf("APPEND %s: %v", m.name, err)
		}
		if stored := strings.HasPrefix(l, "t OK"); stored != (m.barred() != "NUL") {
			s.t.Errorf("APPEND %s (%s): %s", m.name, m.barred(), l)
		}
		if strings.HasPrefix(l, "t OK") {
			want = append(want, m.text)
		}
	}
	if len(want) == 0 {
		return
	}
	got := s.bodies(user, "INBOX")
	if !slices.EqualFunc(got, want, bytes.Equal) {
		s.t.Errorf("%d messages by APPEND do not come back as they went in (%d)", len(want), len(got))
	}
}

// multiset is a bag of messages, for each text how many times and where from.
type multiset struct {
	names map[[32]byte][]string
	n     int
}

func newMultiset() *multiset { return &multiset{names: map[[32]byte][]string{}} }

func (s *multiset) add(m message) {
	k := sha256.Sum256(m.whole())
	s.names[k] = append(s.names[k], m.name)
	s.n++
}

// compare reports what is missing, and what is there but was not sent.
func (s *multiset) compare(t *testing.T, by string, got [][]byte) {
	t.Helper()
	count := map[[32]byte]int{}
	for _, b := range got {
		k, ok := s.behindTrace(b)
		if !ok {
			t.Errorf("%s gives a message that was not sent: %.300q", by, b)
			continue
		}
		count[k]++
	}
	for k, names := range s.names {
		if count[k] != len(names) {
			t.Errorf("%s gives %s %d times, not %d", by, names[0], count[k], len(names))
		}
	}
	if len(got) != s.n {
		t.Errorf("%s gives %d messages, not %d", by, len(got), s.n)
	}
}

var traceBlock = regexp.MustCompile(`\AReturn-Path: <s@out\.test>\r\nReceived: from [^\r]*\r\n`)

// behindTrace is the key of what stands behind Return-Path and Received. A message may itself
// begin with a folded line, so each end that the Received field can have is tried.
func (s *multiset) behindTrace(b []byte) ([32]byte, bool) {
	at := traceBlock.FindIndex(b)
	if at == nil {
		return [32]byte{}, false
	}
	for rest := b[at[1]:]; ; {
		k := sha256.Sum256(rest)
		if s.names[k] != nil {
			return k, true
		}
		if len(rest) == 0 || rest[0] != ' ' && rest[0] != '\t' {
			return k, false
		}
		_, rest, _ = bytes.Cut(rest, []byte("\r\n"))
	}
}
