package transport

import (
	"net"
	"strings"
	"time"

	"pillarbox/mail/address"
)

// Trace is what Received says of where a message came from.
type Trace struct {
	// Helo is the name the client gave; empty for a message made here.
	Helo   string
	Remote net.Addr
	// With is the protocol (RFC 3848).
	With string
}

// block makes the Return-Path and Received lines (RFC 5321 4.4). It is the same for all
// recipients, so that they share the content (mail.md 3).
func (e *Envelope) block(
	id QueueID, hostname string, now time.Time,
) (block []byte, returnPathLen int) {
	b := appendPath([]byte("Return-Path: "), e.From)
	b = append(b, "\r\n"...)
	n := len(b)
	b = append(b, "Received: "...)
	if e.Trace.Helo != "" {
		b = append(b, "from "...)
		b = append(b, heloName(e.Trace.Helo)...)
		if ip := remoteIP(e.Trace.Remote); ip != "" {
			b = append(b, " (["...)
			b = append(b, ip...)
			b = append(b, "])"...)
		}
		b = append(b, "\r\n\t"...)
	}
	b = append(b, "by "...)
	b = append(b, hostname...)
	if e.Trace.With != "" {
		b = append(b, " with "...)
		b = append(b, e.Trace.With...)
	}
	b = append(b, " id "...)
	b = append(b, id...)
	// With more recipients a for clause would show some of them to the others (RFC 5321 7.6).
	if len(e.Recipients) == 1 {
		b = append(b, "\r\n\tfor "...)
		b = appendPath(b, e.Recipients[0].Address)
	}
	b = append(b, ";\r\n\t"...)
	b = now.AppendFormat(b, "Mon, 2 Jan 2006 15:04:05 -0700")
	return append(b, "\r\n"...), n
}

func appendPath(b []byte, a address.Address) []byte {
	b = append(b, '<')
	if !a.IsZero() {
		b = append(b, a.String()...)
	}
	return append(b, '>')
}

// heloName is a name from the peer as Received may hold it: it must not look like another
// clause or a comment.
func heloName(s string) string {
	const longest = 255
	if len(s) > longest {
		return "unknown"
	}
	for _, c := range s {
		if c <= ' ' || c == 0x7f || strings.ContainsRune(`()<>@,;\"`, c) {
			return "unknown"
		}
	}
	return s
}

// remoteIP is the address of the peer as a TCP-info (RFC 5321 4.4).
func remoteIP(a net.Addr) string {
	if a == nil {
		return ""
	}
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return ""
	}
	host, _, _ = strings.Cut(host, "%")
	if ip := net.ParseIP(host); ip == nil {
		return ""
	} else if ip.To4() == nil {
		return "IPv6:" + host
	}
	return host
}
