package transport

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"pillarbox/mail"
	"pillarbox/mail/address"
	"pillarbox/protocol/smtp"
	"pillarbox/store"
)

func TestAcceptLocal(t *testing.T) {
	w := start(t)
	w.alias["far@here.test"] = "bob@here.test"
	e := envelope("joe@there.test", "alice@here.test", "far@here.test", "Alice@HERE.test")
	id := w.accept(e, text)
	for _, u := range []string{"alice", "bob"} {
		got := w.inbox(u)
		if len(got) != 1 || !strings.HasSuffix(got[0], text) ||
			!strings.HasPrefix(got[0], "Return-Path: <joe@there.test>\r\nReceived: by mx.here.test id "+
				string(id)+";\r\n\t") {
			t.Errorf("%s has %q", u, got)
		}
	}
	if len(w.inbox("carol")) != 0 {
		t.Error("carol got it too")
	}
	w.count("0 messages, 0 recipients")
}

func TestTrace(t *testing.T) {
	now := time.Unix(1700000000, 0).UTC()
	remote := &net.TCPAddr{IP: net.ParseIP("192.0.2.1"), Port: 9}
	v6 := &net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 9}
	tests := []struct {
		name string
		e    Envelope
		want string
	}{
		{"one recipient", Envelope{
			From:       addr("a@b.test"),
			Recipients: []Recipient{{Address: addr("c@d.test")}},
			Trace:      Trace{"peer.test", remote, "ESMTPS"},
		}, "Return-Path: <a@b.test>\r\nReceived: from peer.test ([192.0.2.1])\r\n" +
			"\tby here.test with ESMTPS id q\r\n\tfor <c@d.test>;\r\n\tTue, 14 Nov 2023 22:13:20 +0000\r\n"},
		{"two recipients, forged name", Envelope{
			Recipients: []Recipient{{}, {}},
			Trace:      Trace{"x) by evil (", v6, "SMTP"},
		}, "Return-Path: <>\r\nReceived: from unknown ([IPv6:2001:db8::1])\r\n" +
			"\tby here.test with SMTP id q;\r\n\tTue, 14 Nov 2023 22:13:20 +0000\r\n"},
	}
	for _, tt := range tests {
		got, n := tt.e.block("q", "here.test", now)
		if string(got) != tt.want || n != strings.Index(tt.want, "Received") {
			t.Errorf("%s: %d, %q", tt.name, n, got)
		}
	}
}

func TestHeaderPass(t *testing.T) {
	long := "X: " + strings.Repeat("x", 3*copyBuffer) + "\r\n"
	const add = "Date: D\r\nMessage-ID: I\r\n"
	tests := []struct{ name, in, want string }{
		{
			"nothing missing", "Date: x\r\nMessage-Id: y\r\n\r\nBcc: z\r\n",
			"Date: x\r\nMessage-Id: y\r\n\r\nBcc: z\r\n",
		},
		{"both missing", "From: x\r\n\r\nb\r\n", "From: x\r\n" + add + "\r\nb\r\n"},
		{"bcc folded", "bcc : a,\r\n b\r\n\tc\r\nTo: d\r\n\r\n", "To: d\r\n" + add + "\r\n"},
		{"bcc twice", "Bcc: a\r\nBCC: b\r\n\r\n", add + "\r\n"},
		{"bcc only", "Bcc: a\r\n b\r\n", add},
		{"bccx stays", "Bccx: a\r\n\r\n", "Bccx: a\r\n" + add + "\r\n"},
		{
			"long lines", long + "Bcc: " + long + "Date: x\r\n\r\n" + long,
			long + "Date: x\r\nMessage-ID: I\r\n\r\n" + long,
		},
		{"no header", "just text\r\nBcc: b\r\n", add + "\r\njust text\r\nBcc: b\r\n"},
		{"no header but a body", "\r\nbody\r\n", add + "\r\nbody\r\n"},
		{"empty", "", add},
		{"odd line", "A: b\r\nodd\r\nBcc: c\r\n\r\n", "A: b\r\nodd\r\n" + add + "\r\n"},
	}
	for _, tt := range tests {
		for _, edit := range []bool{true, false} {
			var out bytes.Buffer
			h := &headerPass{edit: edit, date: "D", messageID: "I"}
			err := h.copy(&out, buffered(iotest.HalfReader(strings.NewReader(tt.in))))
			want := tt.want
			if !edit {
				want = tt.in
			}
			if err != nil || out.String() != want {
				t.Errorf("%s, edit %v: %v\ngot  %.200q\nwant %.200q", tt.name, edit, err, out.String(), want)
			}
		}
	}
}

func buffered(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, copyBuffer) }

func FuzzHeaderPass(f *testing.F) {
	f.Add("Bcc: a\r\n b\r\nTo: c\r\n\r\nbody")
	f.Add("x")
	f.Fuzz(func(t *testing.T, in string) {
		var out bytes.Buffer
		h := &headerPass{edit: true, date: "D", messageID: "I"}
		if err := h.copy(&out, buffered(strings.NewReader(in))); err != nil {
			t.Fatal(err)
		}
		err := mail.ScanHeader(bytes.NewReader(out.Bytes()), 100, func(name, _ string) bool {
			if strings.EqualFold(strings.TrimSpace(name), "bcc") {
				t.Errorf("Bcc is left in %q", out.String())
			}
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		out.Reset()
		err = new(headerPass).copy(&out, buffered(strings.NewReader(in)))
		if err != nil || out.String() != in {
			t.Errorf("changed %q to %q (%v)", in, out.String(), err)
		}
	})
}

func TestRefusals(t *testing.T) {
	w := start(t)
	loop := strings.Repeat("Received: x\r\n", maxReceived+1) + text
	refusal := &smtp.Error{Code: 550, Enhanced: [3]int{5, 7, 1}, Message: "not yours"}
	checked := envelope("a@b.test", "alice@here.test")
	checked.CheckFrom = func(string) error { return refusal }
	broken := errors.New("connection lost")
	tests := []struct {
		name string
		e    *Envelope
		r    string
		err  error
		code int
	}{
		{"loop", envelope("a@b.test", "alice@here.test"), loop, nil, 554},
		{"unknown", envelope("a@b.test", "nobody@here.test"), text, nil, 550},
		{"check", checked, text, nil, 550},
		{"lost", envelope("a@b.test", "alice@here.test", "x@there.test"), text, broken, 0},
	}
	for _, tt := range tests {
		var err error
		if tt.err != nil {
			_, err = w.tr.Accept(context.Background(), tt.e, iotest.ErrReader(tt.err))
			if !errors.Is(err, tt.err) {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		_, err = w.tr.Accept(context.Background(), tt.e, strings.NewReader(tt.r))
		var se *smtp.Error
		if !errors.As(err, &se) || se.Code != tt.code {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if w.inbox("alice") != nil {
		t.Error("something was delivered")
	}
	w.count("0 messages, 0 recipients")
	if _, err := w.tr.Accept(context.Background(), envelope("a@b.test", "alice@here.test"),
		strings.NewReader(strings.TrimPrefix(loop, "Received: x\r\n"))); err != nil {
		t.Errorf("%d hops: %v", maxReceived, err)
	}
}

func TestSend(t *testing.T) {
	w := start(t)
	w.mx["there.test"] = []*net.MX{
		{Host: "b.there.test.", Pref: 20}, {Host: "a.there.test.", Pref: 10},
	}
	big := text + strings.Repeat("0123456789\r\n", 20000)
	w.accept(envelope("alice@here.test", "x@there.test", "X@there.test", "y@there.test",
		"bob@here.test", "z@other.test"), big)
	w.count("1 messages, 3 recipients")
	w.step()
	w.count("0 messages, 0 recipients")
	if got := w.inbox("bob"); len(got) != 1 || !strings.HasSuffix(got[0], big) {
		t.Errorf("bob has %d messages", len(got))
	}
	if len(w.got) != 2 {
		t.Fatalf("%d messages were sent", len(w.got))
	}
	for _, r := range w.got {
		if r.from != "alice@here.test" || !strings.HasPrefix(r.text, "Received: by mx.here.test") ||
			!strings.HasSuffix(r.text, big) {
			t.Errorf("%s got from %s %.100q", r.host, r.from, r.text)
		}
		if want := map[string]int{"a.there.test": 2, "other.test": 1}; want[r.host] != len(r.to) {
			t.Errorf("%s got it for %q", r.host, r.to)
		}
	}
}

func TestNextHost(t *testing.T) {
	w := start(t)
	w.mx["there.test"] = []*net.MX{
		{Host: "nowhere.there.test", Pref: 5},
		{Host: "a.there.test", Pref: 10},
		{Host: "b.there.test", Pref: 20},
	}
	w.down["a.there.test"] = true
	w.accept(envelope("alice@here.test", "x@there.test"), text)
	w.step()
	if len(w.got) != 1 || w.got[0].host != "b.there.test" {
		t.Errorf("sent %+v", w.got)
	}
}

// TestFailures has one recipient for each way to fail at once, and reads the DSN.
func TestFailures(t *testing.T) {
	w := start(t)
	w.mx["null.test"] = []*net.MX{{Host: ".", Pref: 0}}
	w.mx["loop.test"] = []*net.MX{{Host: "MX.here.test.", Pref: 1}, {Host: "worse.test", Pref: 2}}
	tests := []struct{ to, status string }{
		{"bad@there.test", "5.1.1"},
		{"x@null.test", "5.1.10"},
		{"x@loop.test", "5.4.6"},
		{"x@nowhere.test", "5.1.2"},
	}
	for i, tt := range tests {
		w.accept(envelope("alice@here.test", tt.to, "good@there.test"), text)
		w.step()
		got := w.inbox("alice")
		if len(got) != i+1 {
			t.Fatalf("%s: alice has %d messages", tt.to, len(got))
		}
		for _, part := range []string{
			"Return-Path: <>\r\n", "multipart/report", "Final-Recipient: rfc822; " + tt.to,
			"Action: failed", "Status: " + tt.status, "Subject: hello",
		} {
			if !strings.Contains(got[i], part) {
				t.Errorf("%s: no %q in %s", tt.to, part, got[i])
			}
		}
	}
	w.count("0 messages, 0 recipients")
	if len(w.got) != len(tests) {
		t.Errorf("%d good ones sent", len(w.got))
	}
}

// TestNullSender never answers a notification.
func TestNullSender(t *testing.T) {
	w := start(t)
	w.accept(envelope("", "bad@there.test"), text)
	w.step()
	w.count("0 messages, 0 recipients")
	if len(w.got) != 0 {
		t.Errorf("sent %+v", w.got)
	}
}

// TestRemoteNotice sends the DSN to a sender elsewhere.
func TestRemoteNotice(t *testing.T) {
	w := start(t)
	w.alias["out@here.test"], w.alias["loop@here.test"] = "bad@there.test", "loop@here.test"
	w.accept(envelope("joe@else.test", "out@here.test", "gone@here.test", "loop@here.test"), text)
	w.step()
	w.count("0 messages, 0 recipients")
	if len(w.got) != 2 {
		t.Fatalf("sent %d", len(w.got))
	}
	n := 0
	for _, r := range w.got {
		if r.from != "" || r.to[0] != "joe@else.test" {
			t.Errorf("sent %+v", r)
		}
		n += strings.Count(r.text, "Status: 5.1.1")
	}
	if n != 3 {
		t.Errorf("%d failures reported, of 3", n)
	}
}

func TestRetryUntilExpiry(t *testing.T) {
	w := start(t)
	w.temp["x"] = true
	w.accept(envelope("alice@here.test", "x@there.test", "y@dns.test"), text)
	var warned int
	begin := w.clock()
	for w.clock().Sub(begin) < 5*24*time.Hour {
		w.step()
		if n := len(w.inbox("alice")); n > 0 && warned == 0 {
			warned = n
			if d := w.clock().Sub(begin); d < 4*time.Hour || d > 9*time.Hour {
				t.Errorf("told of the delay after %v", d)
			}
		}
		w.advance(15 * time.Minute)
	}
	w.count("0 messages, 0 recipients")
	delayed, failed := 0, 0
	for _, m := range w.inbox("alice") {
		delayed += strings.Count(m, "Action: delayed")
		failed += strings.Count(m, "Action: failed")
	}
	if delayed != 2 || failed != 2 {
		t.Errorf("%d delays and %d failures reported, of 2 recipients", delayed, failed)
	}
}

// TestRetrySucceeds shows the pauses and that what was refused for now comes later.
func TestRetrySucceeds(t *testing.T) {
	w := start(t)
	w.temp["x"] = true
	id := w.accept(envelope("alice@here.test", "x@there.test", "y@there.test"), text)
	w.step()
	w.count("1 messages, 1 recipients")
	w.temp["x"] = false
	w.step()
	w.count("1 messages, 1 recipients") // not yet due
	w.advance(59 * time.Second)
	w.step()
	w.count("1 messages, 1 recipients")
	var seen []Entry
	if err := w.tr.List(func(e *Entry) error { seen = append(seen, *e); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 1 || seen[0].ID != id || seen[0].Sender.Local != "alice" ||
		seen[0].Recipients[0].Attempts != 1 || seen[0].Recipients[0].LastReply != "451 4.2.1 later" ||
		seen[0].Recipients[0].LastHost != "there.test" {
		t.Errorf("listed %+v", seen)
	}
	w.advance(time.Second)
	w.step()
	w.count("0 messages, 0 recipients")
	if len(w.got) != 2 {
		t.Errorf("sent %d times", len(w.got))
	}
}

func TestAdmin(t *testing.T) {
	w := newWorld(t)
	w.to.Outbound = Off
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	var ids []QueueID
	for range 3 {
		ids = append(ids, w.accept(envelope("alice@here.test", "x@there.test"), text))
		w.advance(time.Second)
	}
	w.step()
	w.count("3 messages, 3 recipients")
	held := 0
	err := w.tr.List(func(e *Entry) error {
		if e.ID != ids[held] || !e.Recipients[0].Held {
			t.Errorf("listed %+v", e)
		}
		held++
		return nil
	})
	if err != nil || held != 3 {
		t.Errorf("listed %d: %v", held, err)
	}
	ctx := context.Background()
	if err := w.tr.Drop(ctx, ids[1]); err != nil {
		t.Error(err)
	}
	for _, err := range []error{w.tr.Drop(ctx, ids[1]), w.tr.Retry(ctx, "none")} {
		if !errors.Is(err, ErrNotQueued) {
			t.Error(err)
		}
	}
	w.count("2 messages, 2 recipients")
	w.check()
	if err := errors.Join(w.tr.Close(), w.in.Close()); err != nil {
		t.Fatal(err)
	}
	_, err = w.tr.Accept(ctx, envelope("", "x@there.test"), strings.NewReader(text))
	if !errors.Is(err, ErrClosed) {
		t.Errorf("accept when closed: %v", err)
	}

	// The queue is there after a restart, and is sent once there is a way out.
	w.to.Outbound = Direct
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	w.step()
	w.count("0 messages, 0 recipients")
	if len(w.got) != 2 {
		t.Errorf("sent %d", len(w.got))
	}
	w.check()
	if err := errors.Join(w.tr.Close(), w.in.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestFullMailbox delivers later what a mailbox had no room for, or reports it.
func TestFullMailbox(t *testing.T) {
	w := start(t)
	ctx := context.Background()
	bob, err := w.store.OpenMailbox(ctx, w.users["bob@here.test"])
	if err != nil {
		t.Fatal(err)
	}
	if err := bob.SetQuota(ctx, 1, 0); err != nil {
		t.Fatal(err)
	}
	_, err = w.tr.Accept(ctx, envelope("carol@here.test", "bob@here.test"), strings.NewReader(text))
	if !errors.Is(err, store.ErrQuota) {
		t.Errorf("accepted for a full mailbox: %v", err)
	}
	w.accept(envelope("carol@here.test", "bob@here.test", "alice@here.test"), text)
	w.count("1 messages, 1 recipients")
	w.step()
	if err := bob.SetQuota(ctx, 0, 0); err != nil {
		t.Fatal(err)
	}
	w.advance(time.Minute)
	w.step()
	w.count("0 messages, 0 recipients")
	if a, b := w.inbox("alice"), w.inbox("bob"); len(a) != 1 || len(b) != 1 || a[0] != b[0] {
		t.Errorf("alice has %q, bob %q", a, b)
	}
	if err := bob.SetQuota(ctx, 1, 0); err != nil {
		t.Fatal(err)
	}
	w.accept(envelope("carol@here.test", "bob@here.test", "alice@here.test"), text)
	w.advance(100 * time.Hour)
	w.step()
	if got := w.inbox("carol"); len(got) != 1 || !strings.Contains(got[0], "Status: 5.4.7") {
		t.Errorf("carol has %q", got)
	}
}

// TestRunner sends without Step.
func TestRunner(t *testing.T) {
	w := newWorld(t)
	w.to.Manual = false
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	const n = 30
	for range n {
		w.accept(envelope("alice@here.test", "x@there.test", "y@other.test"), text)
	}
	deadline := time.Now().Add(2 * time.Minute)
	for {
		c, err := w.tr.Counts()
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("%+v %v", c, err)
		}
		if c.Messages == 0 && c.Sending == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	w.check()
	if err := errors.Join(w.tr.Close(), w.in.Close()); err != nil {
		t.Error(err)
	}
	if len(w.got) != 2*n {
		t.Errorf("sent %d", len(w.got))
	}
}

// What was sent but cannot be recorded is not given back to the queue, which would send it
// again; the end of the transport ends the wait.
func TestSentButNotRecorded(t *testing.T) {
	w := newWorld(t)
	w.to.Manual = false
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	// From now on nothing can be written. The runner may be reading: then the end is a dirty one.
	if err := w.in.Close(); err != nil {
		t.Logf("close: %v", err)
	}
	m := &message{id: "x", sender: address.Address{Local: "a", Domain: "b.test"}}
	rcpts := []*recipient{{id: "x", n: 1, address: address.Address{Local: "c", Domain: "d.test"}}}
	returned := make(chan error, 1)
	go func() {
		returned <- w.tr.record(t.Context(), m, rcpts, []*outcome{{state: stateSent}}, nil)
	}()
	select {
	case err := <-returned:
		t.Errorf("given back: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	if err := w.tr.Close(); err != nil {
		t.Error(err)
	}
	select {
	case err := <-returned:
		if err == nil {
			t.Error("recorded on a closed store")
		}
	case <-time.After(time.Minute):
		t.Error("not ended with the transport")
	}
}
