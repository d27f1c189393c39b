//go:build linux

package interop_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pillarbox/test/program"
)

// TestMoveAndMbsync moves a mailbox to another storage group and back between two runs of mbsync,
// which then fetches what is new and no body again.
func TestMoveAndMbsync(t *testing.T) {
	tool(t, "mbsync")
	s := newSite(t, 21000)
	var msgs []message
	for i := range 40 {
		text := fmt.Sprintf("From: a@b.test\r\nSubject: %d\r\nMessage-ID: <%d@b.test>\r\n\r\n%s\r\n", i, i,
			strings.Repeat("text ", i*20))
		msgs = append(msgs, message{name: fmt.Sprint(i), text: []byte(text)})
	}
	s.appendAll("alice", msgs)
	d := &story{site: s}
	d.pull(t, true)
	before := nearFiles(t, d.near)
	if len(before) != len(msgs) {
		t.Fatalf("mbsync fetched %d of %d messages", len(before), len(msgs))
	}
	s.verb(t, "group", "create", "second", "--dir", filepath.Join(t.TempDir(), "second"))
	s.verb(t, "mailbox", "move", "alice@pillarbox.test", "--to", "second/priv1")
	sync := func() string {
		out, err := program.Run(t, clientTime,
			client(d.near, "mbsync", "-Dn", "-c", filepath.Join(d.near, "mbsyncrc"), "c"))
		if err != nil {
			t.Fatalf("mbsync: %v\n%s", err, last(out, 2000))
		}
		return out
	}
	if out := sync(); strings.Contains(out, "BODY.PEEK[]") {
		t.Errorf("a body was fetched again:\n%s", last(out, 2000))
	}
	s.verb(t, "mailbox", "move", "alice@pillarbox.test", "--to", "store/priv1")
	w := s.login("alice")
	text := "Subject: new\r\n\r\nnew\r\n"
	if l, err := w.imap(fmt.Sprintf("APPEND INBOX {%d+}\r\n%s", len(text), text), nil); err != nil ||
		!strings.HasPrefix(l, "t OK") {
		t.Fatalf("APPEND: %q %v", l, err)
	}
	w.close()
	if n := strings.Count(sync(), "BODY.PEEK[]"); n != 1 {
		t.Errorf("%d bodies were fetched, not the new one", n)
	}
	after := nearFiles(t, d.near)
	for _, name := range before {
		if !slices.Contains(after, name) {
			t.Errorf("%s is another file now", name)
		}
	}
	if len(after) != len(before)+1 {
		t.Errorf("%d messages, not %d", len(after), len(before)+1)
	}
	s.stop()
}

// nearFiles are the messages that mbsync has, by name and time.
func nearFiles(t *testing.T, near string) (list []string) {
	t.Helper()
	for _, sub := range []string{"new", "cur"} {
		names := must(filepath.Glob(filepath.Join(near, "mail", "INBOX", sub, "*")))(t)
		for _, n := range names {
			info := must(os.Stat(n))(t)
			list = append(list, fmt.Sprint(filepath.Base(n), " ", info.ModTime().UnixNano()))
		}
	}
	return list
}
