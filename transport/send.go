package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"

	"pillarbox/protocol/smtp"
	"pillarbox/store"
)

// state is what became of an attempt for one recipient.
type state uint8

const (
	stateDeferred state = iota
	stateSent
	stateFailed
)

// outcome is the result of an attempt for one recipient.
type outcome struct {
	state  state
	status string // enhanced code
	text   string
	host   string // that gave the reply; empty for our own words
}

func deferred(status, text string) *outcome { return &outcome{stateDeferred, status, text, ""} }
func failed(status, text string) *outcome   { return &outcome{stateFailed, status, text, ""} }

// replied is the outcome that a reply of a host means.
func replied(host string, r smtp.Reply) *outcome {
	o := &outcome{state: stateDeferred, host: host}
	switch r.Code / 100 {
	case 2:
		o.state = stateSent
	case 5:
		o.state = stateFailed
	}
	enh := r.Enhanced
	if enh == [3]int{} {
		enh[0] = r.Code / 100
	}
	o.status = fmt.Sprintf("%d.%d.%d", enh[0], enh[1], enh[2])
	o.text = strconv.Itoa(r.Code) + " "
	if r.Enhanced != [3]int{} {
		o.text += o.status + " "
	}
	o.text += strings.ReplaceAll(r.Text, "\n", " ")
	return o
}

// do attempts a job and records what came of it.
func (t *Transport) do(ctx context.Context, j *job) error {
	m, err := t.load(j.id)
	if errors.Is(err, ErrNotQueued) {
		return nil // dropped meanwhile
	}
	if err != nil {
		return err
	}
	held, err := t.o.Store.OpenHeld(m.content)
	if err != nil {
		return fmt.Errorf("open queued message: %w", err)
	}
	defer func() { _ = held.Close() }()
	if j.destination == toMailboxes {
		return t.fill(ctx, m, j, held)
	}
	out := t.send(ctx, m, j, held)
	if ctx.Err() != nil && !slices.ContainsFunc(out, func(o *outcome) bool {
		return o.state == stateSent
	}) {
		return nil // stopped, not failed: nothing is counted
	}
	return t.record(context.WithoutCancel(ctx), m, j.rcpts, out, held)
}

// send tries the hosts of the destination until one has answered for each recipient.
func (t *Transport) send(ctx context.Context, m *message, j *job, held *store.Held) []*outcome {
	out := make([]*outcome, len(j.rcpts))
	hosts, whole := []string{t.o.Smarthost.Host}, (*outcome)(nil)
	if j.destination != viaSmarthost {
		hosts, whole = t.hosts(ctx, j.destination)
	}
	gone := 0
	for _, host := range hosts {
		addrs, none, err := t.addresses(ctx, host)
		if err != nil || none {
			if none {
				gone++
			}
			whole = deferred("4.4.3", fmt.Sprintf("DNS lookup of %s failed", host))
			continue
		}
		for _, addr := range addrs {
			var answered bool
			if answered, whole = t.sendTo(ctx, host, addr, m, j.rcpts, held, out); answered {
				return out
			}
		}
	}
	if len(hosts) > 0 && gone == len(hosts) && j.destination != viaSmarthost {
		whole = failed("5.1.2", "no host of "+j.destination+" exists")
	}
	for i := range out {
		out[i] = whole
	}
	return out
}

// sendTo sends over one connection. answered tells that the host has decided about the
// message, or may have it (its outcome is unknown): then out is full and no other host is
// tried. Else why says what was wrong.
func (t *Transport) sendTo(
	ctx context.Context, host, addr string, m *message, rcpts []*recipient, held *store.Held,
	out []*outcome,
) (answered bool, why *outcome) {
	c, err := t.connect(ctx, host, addr)
	if err != nil {
		return false, connectionOutcome(host, err)
	}
	defer func() { _ = c.Close() }()
	env := smtp.Envelope{
		From: m.sender, Size: m.size - int64(held.ReturnPathLen),
		EightBit: m.bits&msgEightBit != 0, UTF8: m.bits&msgUTF8 != 0,
		EnvelopeID: m.envelopeID,
	}
	if m.bits&msgHeadersOnly != 0 {
		env.Return = "HDRS"
	}
	to := make([]smtp.Rcpt, len(rcpts))
	for i, r := range rcpts {
		to[i].To = r.address
		to[i].Original = r.original
		if r.bits&rcptNever != 0 {
			to[i].Notify = []string{"NEVER"}
		}
	}
	// The message goes out from behind Return-Path, which only the last server writes (RFC 5321
	// 4.4).
	from := int64(held.ReturnPathLen)
	body := io.NewSectionReader(held, from, m.size-from)
	res, err := c.Send(env, to, body)
	undecided := func(r smtp.Reply) bool { return r.Code == 0 }
	if err != nil && !res.Unknown && slices.ContainsFunc(res.Recipients, undecided) {
		return false, connectionOutcome(host, err)
	}
	for i, r := range res.Recipients {
		switch {
		case r.Code != 0:
			out[i] = replied(host, r)
		default:
			out[i] = deferred("4.4.2", "connection to "+host+" lost before the message was confirmed")
		}
	}
	if err == nil {
		_ = c.Quit() // the message is confirmed; how the session ends changes nothing
	}
	return true, nil
}

// connectionOutcome tells why a host could not be used. A host that refuses the session with
// 5yz says nothing of the message: others are tried, then it is tried again (RFC 5321 4.2.1).
func connectionOutcome(host string, err error) *outcome {
	var e *smtp.Error
	if errors.As(err, &e) {
		o := replied(host, smtp.Reply{Code: e.Code, Enhanced: e.Enhanced, Text: e.Message})
		o.state = stateDeferred
		return o
	}
	return deferred("4.4.1", "connection to "+host+" failed: "+err.Error())
}

// connect opens a session, protected where that can be.
func (t *Transport) connect(ctx context.Context, host, addr string) (*smtp.Client, error) {
	if t.o.Outbound == ViaSmarthost {
		return t.connectSmarthost(ctx, addr)
	}
	c, err := t.dial(ctx, addr, t.o.MXPort, nil)
	if err != nil {
		return nil, err
	}
	if _, ok := c.Extension("STARTTLS"); !ok {
		return c, nil
	}
	// Opportunistic: MX names come from DNS, so a certificate would prove nothing more, and
	// without TLS it would go in clear (RFC 7435 3).
	err = c.StartTLS(&tls.Config{ServerName: host, InsecureSkipVerify: true}) //nolint:gosec
	if err == nil {
		return c, nil
	}
	_ = c.Close()
	t.o.Logger.Warn("sending without TLS", "host", host, "error", err)
	return t.dial(ctx, addr, t.o.MXPort, nil)
}

func (t *Transport) connectSmarthost(ctx context.Context, addr string) (*smtp.Client, error) {
	s := &t.o.Smarthost
	cfg := &tls.Config{ServerName: s.Host, MinVersion: tls.VersionTLS12}
	var implicit *tls.Config
	if s.TLS == ImplicitTLS {
		implicit = cfg
	}
	c, err := t.dial(ctx, addr, s.Port, implicit)
	if err != nil {
		return nil, err
	}
	if s.TLS == StartTLS {
		err = c.StartTLS(cfg)
	}
	if err == nil && s.User != "" {
		err = c.Auth(s.User, s.Password)
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// dial connects and greets.
func (t *Transport) dial(
	ctx context.Context, addr string, port int, cfg *tls.Config,
) (*smtp.Client, error) {
	dctx, cancel := context.WithTimeout(ctx, t.o.ConnectTimeout)
	defer cancel()
	conn, err := t.o.Dial(dctx, "tcp", net.JoinHostPort(addr, strconv.Itoa(port)))
	if err != nil {
		return nil, err
	}
	if cfg != nil {
		tc := tls.Client(conn, cfg)
		if err := tc.HandshakeContext(dctx); err != nil {
			_ = conn.Close()
			return nil, fmt.Errorf("TLS handshake: %w", err)
		}
		conn = tc
	}
	return smtp.NewClient(ctx, conn, smtp.ClientOptions{
		Hostname: t.o.Hostname, Timeout: t.o.Timeout,
	})
}
