package dsn

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"pillarbox/mail/address"
)

// Action is what became of a recipient (RFC 3464 2.3.3).
type Action string

// Actions.
const (
	Failed  Action = "failed"
	Delayed Action = "delayed"
)

// Recipient is the fate of one recipient.
type Recipient struct {
	// Final is the address that delivery was tried for.
	Final address.Address
	// Original is ORCPT as the sender gave it, "type;address", "" when absent (RFC 3461 4.2).
	Original string
	Action   Action
	// Status is the enhanced code, such as "5.1.1"; "" gives 5.0.0 or 4.0.0.
	Status string
	// RemoteMTA is the host that gave the reply, "" when there was none.
	RemoteMTA string
	// Diagnostic is the reply of that host, or our own words when RemoteMTA is "".
	Diagnostic string
	// LastAttempt and WillRetryUntil are left out when zero.
	LastAttempt, WillRetryUntil time.Time
}

// Report is one notification.
type Report struct {
	// ReportingMTA is the name of this server.
	ReportingMTA string
	// To is the sender of the original.
	To address.Address
	// EnvelopeID is ENVID of the original, "" when absent (RFC 3461 4.4).
	EnvelopeID string
	// Arrival is when the original came.
	Arrival time.Time
	// Now is the date of the notification. Default: the current time.
	Now time.Time
	// MessageID is without brackets. Default: a random one at ReportingMTA.
	MessageID  string
	Recipients []Recipient

	// Original yields the original message, or its header alone. It may be nil.
	Original io.Reader
	// HeadersOnly returns only the header of Original (RET=HDRS).
	HeadersOnly bool
	// Header8Bit and Body8Bit tell what the original holds.
	Header8Bit, Body8Bit bool
}

// ErrReport tells that a Report cannot be sent.
var ErrReport = errors.New("no notification possible")

// NeedsUTF8 tells whether the notification must be sent with SMTPUTF8.
func (r *Report) NeedsUTF8() bool {
	return !r.To.IsASCII() || r.Original != nil && r.Header8Bit
}

// Needs8Bit tells whether the notification must be sent with 8BITMIME.
func (r *Report) Needs8Bit() bool {
	return r.NeedsUTF8() || r.globalStatus() || r.textIs8Bit() ||
		r.Original != nil && r.Body8Bit && !r.HeadersOnly
}

// globalStatus tells whether the fields of the recipients need RFC 6533.
func (r *Report) globalStatus() bool {
	for _, rc := range r.Recipients {
		if !rc.Final.IsASCII() || !isASCII(rc.Original) || !isASCII(rc.Diagnostic) {
			return true
		}
	}
	return false
}

func (r *Report) textIs8Bit() bool { return !r.To.IsASCII() || r.globalStatus() }

// WriteTo writes the notification. It may be called once, since it reads Original.
func (r *Report) WriteTo(w io.Writer) (int64, error) {
	if r.To.IsZero() || len(r.Recipients) == 0 || r.ReportingMTA == "" {
		return 0, fmt.Errorf("%w: sender, recipient or host is missing", ErrReport)
	}
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	p := &printer{w: bufio.NewWriter(w), boundary: "=_" + hex.EncodeToString(id[:])}
	now := r.Now
	if now.IsZero() {
		now = time.Now()
	}
	messageID := r.MessageID
	if messageID == "" {
		messageID = hex.EncodeToString(id[:8]) + ".dsn@" + r.ReportingMTA
	}
	r.writeHeader(p, now, messageID)
	r.writeText(p)
	r.writeStatus(p)
	if r.Original != nil {
		r.writeOriginal(p)
	}
	p.line("--" + p.boundary + "--")
	p.keep(p.w.Flush())
	if p.err != nil {
		return p.n, fmt.Errorf("write notification: %w", p.err)
	}
	return p.n, nil
}

func (r *Report) delayed() bool {
	for _, rc := range r.Recipients {
		if rc.Action != Delayed {
			return false
		}
	}
	return true
}

func (r *Report) writeHeader(p *printer, now time.Time, messageID string) {
	subject := "Undelivered Mail Returned to Sender"
	if r.delayed() {
		subject = "Delayed Mail (still being retried)"
	}
	p.field("Date", now.Format(time.RFC1123Z))
	p.field("From", "Mail Delivery System <MAILER-DAEMON@"+r.ReportingMTA+">")
	p.field("To", "<"+r.To.String()+">")
	p.field("Subject", subject)
	p.field("Message-ID", "<"+messageID+">")
	p.field("Auto-Submitted", "auto-replied") // RFC 3834 5
	p.field("MIME-Version", "1.0")
	p.line("Content-Type: multipart/report; report-type=delivery-status;")
	p.line("\tboundary=\"" + p.boundary + "\"")
	p.encoding(r.Needs8Bit())
	p.line("")
	p.line("This is a MIME-encapsulated message.")
	p.line("")
}

func (r *Report) writeText(p *printer) {
	p.line("--" + p.boundary)
	p.field("Content-Description", "Notification")
	if r.textIs8Bit() {
		p.field("Content-Type", "text/plain; charset=utf-8")
	} else {
		p.field("Content-Type", "text/plain; charset=us-ascii")
	}
	p.encoding(r.textIs8Bit())
	p.line("")
	p.line("This is the mail system at host " + clean(r.ReportingMTA) + ".")
	p.line("")
	if r.delayed() {
		p.line("Your message could not be delivered yet. It will be tried again;")
		p.line("you do not need to send it again.")
	} else {
		p.line("Your message could not be delivered to one or more recipients.")
		p.line("The reasons are given below.")
	}
	for _, rc := range r.Recipients {
		p.line("")
		p.wrapped("<" + rc.Final.String() + ">: " + rc.reason())
		if !rc.WillRetryUntil.IsZero() && rc.Action == Delayed {
			p.line("    will be tried until " + rc.WillRetryUntil.Format(time.RFC1123Z))
		}
	}
	p.line("")
}

// reason is the diagnostic for a person.
func (rc *Recipient) reason() string {
	switch {
	case rc.Diagnostic == "":
		return "status " + rc.status()
	case rc.RemoteMTA != "":
		return "host " + rc.RemoteMTA + " said: " + rc.Diagnostic
	}
	return rc.Diagnostic
}

func (rc *Recipient) status() string {
	switch {
	case rc.Status != "":
		return rc.Status
	case rc.Action == Delayed:
		return "4.0.0"
	}
	return "5.0.0"
}

func (r *Report) writeStatus(p *printer) {
	p.line("--" + p.boundary)
	p.field("Content-Description", "Delivery report")
	global := r.globalStatus()
	if global {
		p.field("Content-Type", "message/global-delivery-status; charset=utf-8")
	} else {
		p.field("Content-Type", "message/delivery-status")
	}
	p.encoding(global)
	p.line("")
	if r.EnvelopeID != "" {
		p.field("Original-Envelope-Id", r.EnvelopeID)
	}
	p.field("Reporting-MTA", "dns; "+r.ReportingMTA)
	if !r.Arrival.IsZero() {
		p.field("Arrival-Date", r.Arrival.Format(time.RFC1123Z))
	}
	for i := range r.Recipients {
		p.line("")
		r.Recipients[i].writeFields(p)
	}
	p.line("")
}

func (rc *Recipient) writeFields(p *printer) {
	if rc.Original != "" {
		p.field("Original-Recipient", rc.Original)
	}
	kind := "rfc822; "
	if !rc.Final.IsASCII() {
		kind = "utf-8; " // RFC 6533 3
	}
	p.field("Final-Recipient", kind+rc.Final.String())
	p.field("Action", string(rc.Action))
	p.field("Status", rc.status())
	if rc.RemoteMTA != "" {
		p.field("Remote-MTA", "dns; "+rc.RemoteMTA)
	}
	if rc.Diagnostic != "" {
		kind = "x-pillarbox; "
		if rc.RemoteMTA != "" {
			kind = "smtp; "
		}
		p.field("Diagnostic-Code", kind+rc.Diagnostic)
	}
	if !rc.LastAttempt.IsZero() {
		p.field("Last-Attempt-Date", rc.LastAttempt.Format(time.RFC1123Z))
	}
	if !rc.WillRetryUntil.IsZero() && rc.Action == Delayed {
		p.field("Will-Retry-Until", rc.WillRetryUntil.Format(time.RFC1123Z))
	}
}

func (r *Report) writeOriginal(p *printer) {
	kind := "message/rfc822"
	switch {
	case r.HeadersOnly && r.Header8Bit:
		kind = "message/global-headers"
	case r.HeadersOnly:
		kind = "text/rfc822-headers"
	case r.Header8Bit:
		kind = "message/global"
	}
	p.line("--" + p.boundary)
	p.field("Content-Description", "Undelivered Message")
	p.field("Content-Type", kind)
	p.encoding(r.Header8Bit || r.Body8Bit && !r.HeadersOnly)
	p.line("")
	if r.HeadersOnly {
		p.copyHeader(r.Original)
	} else {
		p.copy(r.Original)
	}
	p.line("")
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// clean makes text of a peer harmless: no control characters, valid UTF-8, one line.
func clean(s string) string {
	s = strings.ToValidUTF8(s, "?")
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029 {
			return ' '
		}
		return r
	}, s)
}
