package dsn

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"pillarbox/mail"
	"pillarbox/mail/address"
)

func report() *Report {
	return &Report{
		ReportingMTA: "mx.example",
		To:           address.Address{Local: "alice", Domain: "a.example"},
		EnvelopeID:   "QQ314159",
		Arrival:      time.Unix(1e9, 0).UTC(),
		Now:          time.Unix(1e9+60, 0).UTC(),
		Recipients: []Recipient{{
			Final:      address.Address{Local: "bob", Domain: "b.example"},
			Original:   "rfc822;bob@b.example",
			Action:     Failed,
			Status:     "5.1.1",
			RemoteMTA:  "mx.b.example",
			Diagnostic: "550 5.1.1 no such user\r\nBcc: evil@x.example\r\n\r\n--x",
		}},
		Original: strings.NewReader("Subject: hi\r\nFrom: alice@a.example\r\n\r\nbody\r\n"),
	}
}

func write(t *testing.T, r *Report) (string, *mail.Structure) {
	t.Helper()
	var b bytes.Buffer
	n, err := r.WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("wrote %d of %d: %v", n, b.Len(), err)
	}
	for _, line := range strings.Split(strings.TrimSuffix(b.String(), "\r\n"), "\r\n") {
		if len(line) > 998 || strings.ContainsAny(line, "\r\n\x00") {
			t.Errorf("line %q", line)
		}
	}
	s, err := mail.Index(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if s.Root.Subtype != "report" || s.Root.Param("report-type") != "delivery-status" {
		t.Fatalf("type %s/%s", s.Root.Type, s.Root.Subtype)
	}
	if (s.Header8Bit || s.Body8Bit) && !r.Needs8Bit() {
		t.Error("holds 8-bit bytes but says it does not")
	}
	return b.String(), s
}

func body(msg string, s *mail.Structure, path ...int) string {
	off, n, ok := s.Section(path, mail.SectionAll)
	if !ok {
		return "missing"
	}
	return msg[off : off+n]
}

func TestFailed(t *testing.T) {
	r := report()
	msg, s := write(t, r)
	if len(s.Root.Children) != 3 || r.NeedsUTF8() || r.Needs8Bit() {
		t.Fatalf("%d parts, utf8 %v, 8bit %v", len(s.Root.Children), r.NeedsUTF8(), r.Needs8Bit())
	}
	want := "Original-Envelope-Id: QQ314159\r\nReporting-MTA: dns; mx.example\r\n" +
		"Arrival-Date: Sun, 09 Sep 2001 01:46:40 +0000\r\n\r\n" +
		"Original-Recipient: rfc822;bob@b.example\r\nFinal-Recipient: rfc822; bob@b.example\r\n" +
		"Action: failed\r\nStatus: 5.1.1\r\nRemote-MTA: dns; mx.b.example\r\n" +
		"Diagnostic-Code: smtp; 550 5.1.1 no such user  Bcc: evil@x.example    --x\r\n"
	if got := body(msg, s, 2); got != want {
		t.Errorf("status\n got %q\nwant %q", got, want)
	}
	if got := body(msg, s, 3); got != "Subject: hi\r\nFrom: alice@a.example\r\n\r\nbody\r\n" {
		t.Errorf("original %q", got)
	}
	if s.Root.Children[2].Subtype != "rfc822" || s.Root.Children[1].Subtype != "delivery-status" {
		t.Errorf("types %+v", s.Root.Children[1:])
	}
	if !strings.Contains(body(msg, s, 1), "<bob@b.example>: host mx.b.example said:") {
		t.Errorf("text %q", body(msg, s, 1))
	}
	if !strings.Contains(s.Root.Envelope.Subject, "Undelivered") {
		t.Errorf("subject %q", s.Root.Envelope.Subject)
	}
}

func TestDelayedHeadersOnly(t *testing.T) {
	r := report()
	r.HeadersOnly, r.Body8Bit = true, true
	r.Recipients[0].Action, r.Recipients[0].Status = Delayed, ""
	r.Recipients[0].WillRetryUntil = time.Unix(1e9+86400, 0).UTC()
	msg, s := write(t, r)
	if got := body(msg, s, 3); got != "Subject: hi\r\nFrom: alice@a.example\r\n" {
		t.Errorf("original %q", got)
	}
	if s.Root.Children[2].Subtype != "rfc822-headers" || r.Needs8Bit() {
		t.Errorf("type %s, 8bit %v", s.Root.Children[2].Subtype, r.Needs8Bit())
	}
	status := body(msg, s, 2)
	if !strings.Contains(status, "Status: 4.0.0\r\n") ||
		!strings.Contains(status, "Will-Retry-Until: Mon, 10 Sep 2001") {
		t.Errorf("status %q", status)
	}
}

func TestUTF8(t *testing.T) {
	r := report()
	r.Header8Bit = true
	r.Recipients[0].Final.Local = "\u7528\u6237"
	r.Recipients[0].Diagnostic = strings.Repeat("\u7528", 2000) + "\xff"
	r.Original = strings.NewReader("Subject: \u00fc\r\n\r\nx\r\n")
	msg, s := write(t, r)
	if !r.NeedsUTF8() || s.Root.Children[1].Subtype != "global-delivery-status" ||
		s.Root.Children[2].Subtype != "global" || s.Root.Encoding != "8bit" {
		t.Errorf("types %s %s", s.Root.Children[1].Subtype, s.Root.Children[2].Subtype)
	}
	if !strings.Contains(body(msg, s, 2), "Final-Recipient: utf-8; \u7528\u6237@b.example\r\n") {
		t.Errorf("status %q", body(msg, s, 2)[:300])
	}
}

func TestRefused(t *testing.T) {
	r := report()
	r.To = address.Address{}
	if _, err := r.WriteTo(&bytes.Buffer{}); !errors.Is(err, ErrReport) {
		t.Errorf("a report to <>: %v", err)
	}
	r = report()
	r.Original = failingReader{}
	if _, err := r.WriteTo(&bytes.Buffer{}); !errors.Is(err, errBroken) {
		t.Errorf("broken original: %v", err)
	}
}

var errBroken = errors.New("broken")

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errBroken }
