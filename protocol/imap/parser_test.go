package imap

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestUTF7(t *testing.T) {
	for _, tc := range [][2]string{
		{"INBOX", "INBOX"},
		{"a&-b", "a&b"},
		{"&ZeVnLIqe-", "\u65e5\u672c\u8a9e"},
		{"~peter/mail/&U,BTFw-/&ZeVnLIqe-", "~peter/mail/\u53f0\u5317/\u65e5\u672c\u8a9e"},
		{"&2D3eAA-", "\U0001f600"},
		{"Entw&APw-rfe", "Entw\u00fcrfe"},
	} {
		got, err := decodeUTF7(tc[0])
		if err != nil || got != tc[1] {
			t.Errorf("decode %q: %q, %v", tc[0], got, err)
		}
		if got := encodeUTF7(tc[1]); got != tc[0] {
			t.Errorf("encode %q: %q", tc[1], got)
		}
	}
	for _, s := range []string{"&", "&AOT", "&AOTx-", "&AGE-", "\u00fc", "a\x00", "&2D0-", "&/-", "&AAo-"} {
		if got, err := decodeUTF7(s); err == nil {
			t.Errorf("decode %q: %q", s, got)
		}
	}
}

func TestMatchFolder(t *testing.T) {
	for _, tc := range []struct {
		pattern, name string
		want          bool
	}{
		{"*", "a/b", true},
		{"%", "a/b", false},
		{"%", "a", true},
		{"%/%", "a/b", true},
		{"a*b", "a/x/b", true},
		{"a%b", "a/b", false},
		{"*b", "a", false},
		{"", "a", false},
		{"a", "a", true},
		{"a*", "a", true},
		{"%a%", "bac", true},
		{strings.Repeat("*a", 200), strings.Repeat("a", 199), false},
	} {
		if got := MatchFolder(tc.pattern, tc.name); got != tc.want {
			t.Errorf("%q %q: %v", tc.pattern, tc.name, got)
		}
	}
}

func TestUIDSet(t *testing.T) {
	var s UIDSet
	for _, u := range []UID{1, 2, 3, 7, 9, 10} {
		s = s.Append(u)
	}
	if s.String() != "1:3,7,9:10" {
		t.Error(s)
	}
	for u := UID(0); u < 12; u++ {
		if s.Contains(u) != slices.Contains([]UID{1, 2, 3, 7, 9, 10}, u) {
			t.Errorf("contains %d: %v", u, s.Contains(u))
		}
	}
	n := normalize([]UIDRange{{5, 6}, {1, 2}, {3, 3}, {6, 8}, {1<<32 - 1, 1<<32 - 1}})
	if n.String() != "1:3,5:8,4294967295" {
		t.Error(n)
	}
}

func TestResolve(t *testing.T) {
	v := &view{uids: []UID{2, 5, 6, 9}}
	for _, tc := range []struct {
		in    string
		byUID bool
		want  string
	}{
		{"1:*", false, "2:9"},
		{"4,1", false, "2,9"},
		{"*", false, "9"},
		{"3:2", false, "5:6"},
		{"5", false, "error"},
		{"1:*", true, "1:9"},
		{"7:8,100:200", true, "7:8"},
		{"100:*", true, "9"},
		{"*:100", true, "9"},
		{"3,3,4", true, "3:4"},
	} {
		p := parser{b: []byte(tc.in)}
		set, err := p.numbers()
		if err != nil {
			t.Fatal(err)
		}
		uids, err := v.resolve(set, tc.byUID)
		got := uids.String()
		if err != nil {
			got = "error"
		}
		if got != tc.want {
			t.Errorf("%s uid %v: %s, want %s", tc.in, tc.byUID, got, tc.want)
		}
	}
	if set, err := (&view{}).resolve(numSet{{1, star}}, false); err != nil || len(set) != 0 {
		t.Errorf("empty folder: %v, %v", set, err)
	}
	var sizes []string
	_ = v.chunks(UIDSet{{1, 5}, {6, 9}}, 3, func(s UIDSet) error {
		sizes = append(sizes, s.String())
		return nil
	})
	if got := strings.Join(sizes, " "); got != "2:5,6 9" && got != "2:5,6:6 9" {
		t.Errorf("chunks %s", got)
	}
}

func TestStreamContains(t *testing.T) {
	for _, at := range []int{0, 1, 16<<10 - 3, 16 << 10, 40000} {
		text := strings.Repeat("\u00e4", at) + "NEEDLE\u00dc"
		if !streamContains(strings.NewReader(text), "needle\u00fc") {
			t.Errorf("not found at %d", at)
		}
		if streamContains(strings.NewReader(text), "needles") {
			t.Errorf("found at %d", at)
		}
	}
}

// TestViewModel lets a second session change a folder at random and holds what the client
// concludes from the responses against the store.
func TestViewModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)
	s := startServer(t, loaded(), Options{})
	c := s.dial(t)
	c.login()
	c.do("s", "SELECT INBOX")
	known := 3
	ctx := context.Background()
	for i := range 400 {
		m, data, err := (&memSession{s.mem}).Select(ctx, "INBOX", SelectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		set := UIDSet{}
		for _, u := range data.UIDs {
			if rng.IntN(4) == 0 {
				set = set.Append(u)
			}
		}
		switch rng.IntN(3) {
		case 0:
			s.mem.deliver("INBOX", nil, "Subject: x\r\n\r\n")
		case 1:
			_, err = m.Store(ctx, set, StoreChange{Mode: StoreMode(rng.IntN(3)), Flags: []Flag{Flagged}})
		case 2:
			if _, err = m.Store(ctx, set, StoreChange{Mode: StoreAdd, Flags: []Flag{Deleted}}); err == nil {
				err = m.Expunge(ctx, set)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		cmd := []string{"NOOP", "UID SEARCH ALL", "SEARCH ALL", "CHECK", "UID FETCH 1:* FLAGS"}[rng.IntN(5)]
		known = follow(t, c.do(fmt.Sprint("a", i), cmd), cmd, known)
	}
	known = follow(t, c.do("n", "NOOP"), "NOOP", known)
	want := "* SEARCH"
	d, _ := (&memSession{s.mem}).Status(ctx, "INBOX")
	for _, x := range s.mem.folders["INBOX"].msgs {
		want += " " + number(x.UID)
	}
	if got := c.do("u", "UID SEARCH ALL"); !strings.HasPrefix(got, want+"\n") || known != int(d.Messages) {
		t.Errorf("client knows %d messages, store has %d\n%s\n%s", known, d.Messages, got, want)
	}
}

// follow counts messages as a client does and checks that no number is out of range.
func follow(t *testing.T, responses, cmd string, known int) int {
	t.Helper()
	for _, l := range strings.Split(responses, "\n") {
		var n int
		var what string
		if _, err := fmt.Sscanf(l, "* %d %s", &n, &what); err != nil {
			continue
		}
		switch what {
		case "EXISTS":
			if n < known {
				t.Fatalf("EXISTS %d after %d", n, known)
			}
			known = n
		case "EXPUNGE":
			if n < 1 || n > known || cmd == "SEARCH ALL" {
				t.Fatalf("EXPUNGE %d of %d in %s", n, known, cmd)
			}
			known--
		case "FETCH":
			if n < 1 || n > known {
				t.Fatalf("FETCH %d of %d", n, known)
			}
		}
	}
	return known
}

func FuzzUTF7(f *testing.F) {
	f.Add("&ZeVnLIqe-")
	f.Add("&2D3eAA-&-")
	f.Fuzz(func(t *testing.T, s string) {
		name, err := decodeUTF7(s)
		if err != nil {
			return
		}
		if again, err := decodeUTF7(encodeUTF7(name)); err != nil || again != name {
			t.Fatalf("%q -> %q -> %q, %v", s, name, again, err)
		}
	})
}

// panicWatch fails the test when a session had to be saved from a bug.
type panicWatch struct {
	slog.Handler
	t *testing.T
}

func (p panicWatch) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "panic") {
		r.Attrs(func(a slog.Attr) bool {
			p.t.Error(a)
			return true
		})
	}
	return nil
}

func (p panicWatch) Enabled(context.Context, slog.Level) bool { return true }
func (p panicWatch) WithAttrs([]slog.Attr) slog.Handler       { return p }

// FuzzServer sends bytes in each state of a session.
func FuzzServer(f *testing.F) {
	for state := range byte(3) {
		f.Add(state, []byte("a NOOP\r\nb LOGIN {1+}\r\nx {1+}\r\ny\r\n"))
		f.Add(state, []byte("a FETCH 1:* (ENVELOPE BODY[1.HEADER.FIELDS (a \"b\")]<1.2> FULL)\r\n"))
		f.Add(state, []byte("a UID SEARCH RETURN (MIN) OR (NOT ALL) 1:3 BODY \"x\" MODSEQ 1\r\n"))
		f.Add(state, []byte("a APPEND INBOX (\\Seen) \" 2-Jan-2006 15:04:05 +0000\" {3+}\r\nabc\r\n"))
		f.Add(state, []byte("a LIST (SUBSCRIBED) \"\" (% *) RETURN (STATUS (SIZE))\r\nb IDLE\r\nDONE\r\n"))
		f.Add(state, []byte("a STORE 1 (UNCHANGEDSINCE 1) +FLAGS.SILENT \\Seen\r\nb MOVE 1:2 Sent\r\n"))
		f.Add(state, []byte("a AUTHENTICATE PLAIN =\r\nb ID (\"a\" NIL)\r\nc CREATE x (USE (\\Sent))\r\n"))
	}
	f.Fuzz(func(t *testing.T, state byte, data []byte) {
		s := NewServer(Options{
			Backend: loaded(), PlaintextAuth: func(net.Addr) bool { return true },
			Logger: slog.New(panicWatch{t: t}), MaxMessage: 1 << 16,
			IdleTimeout: time.Second, LoginTimeout: time.Second,
		})
		here, there := net.Pipe()
		go s.ServeConn(there)
		read := make(chan []byte)
		go func() {
			var b bytes.Buffer
			_, _ = b.ReadFrom(here)
			read <- b.Bytes()
		}()
		prefix := []string{"", "l LOGIN alice secret\r\n", "l LOGIN alice secret\r\ns SELECT INBOX\r\n"}
		in := append([]byte(prefix[state%3]), data...)
		_, _ = here.Write(append(in, "\r\nz LOGOUT\r\n"...))
		_ = here.SetReadDeadline(time.Now().Add(2 * time.Millisecond))
		out := <-read
		_ = here.Close()
		stop(s)
		if bytes.Contains(out, []byte("\n\r")) && !bytes.Contains(out, []byte("{")) {
			t.Fatalf("empty line in %q", out)
		}
	})
}
