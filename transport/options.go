package transport

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"time"

	"pillarbox/directory"
	"pillarbox/ese"
	"pillarbox/mail/address"
	"pillarbox/store"
)

// Deliverer keeps messages and places them in mailboxes. *store.Store is one.
type Deliverer interface {
	NewContent(home store.MailboxID) (*store.ContentWriter, error)
	Deliver(ctx context.Context, req *store.DeliverRequest) (*store.Delivered, error)
	Release(tx *ese.Tx, id store.ContentID) error
	OpenHeld(id store.ContentID) (*store.Held, error)
}

var _ Deliverer = (*store.Store)(nil)

// Mailboxes tells which storage group has a mailbox.
type Mailboxes interface {
	// Holder is the store in which a mailbox lives. An error says that it cannot be reached now:
	// its mail waits.
	Holder(id store.MailboxID) (Deliverer, error)
}

// Directory tells what addresses lead to. *directory.Directory is one.
type Directory interface {
	// Resolve returns directory.ErrNotLocal for other domains, directory.ErrNotFound when nobody
	// here has the address.
	Resolve(a address.Address) (directory.Recipient, error)
}

var _ Directory = (*directory.Directory)(nil)

// Resolver finds mail hosts. *net.Resolver is one.
type Resolver interface {
	LookupMX(ctx context.Context, domain string) ([]*net.MX, error)
	LookupHost(ctx context.Context, host string) ([]string, error)
}

var _ Resolver = (*net.Resolver)(nil)

// Outbound says where mail for other domains goes.
type Outbound uint8

// Ways out.
const (
	// Off holds it in the queue.
	Off Outbound = iota
	// Direct sends to the hosts that DNS names.
	Direct
	// ViaSmarthost sends all to one host.
	ViaSmarthost
)

// TLSMode is how a connection to the smarthost is protected.
type TLSMode uint8

// Modes of TLS.
const (
	// StartTLS demands STARTTLS and a valid certificate.
	StartTLS TLSMode = iota
	// ImplicitTLS begins with the handshake (RFC 8314).
	ImplicitTLS
	// NoTLS is for hosts in one's own network.
	NoTLS
)

// Smarthost is the host that takes all outgoing mail.
type Smarthost struct {
	Host string
	// Port. Default: 587, or 465 with ImplicitTLS.
	Port int
	TLS  TLSMode
	// User and Password log in when User is not empty.
	User, Password string
}

// Options configures a Transport. Instance, Database, Store, Directory and Hostname must be set.
type Options struct {
	Instance *ese.Instance
	// Database holds the queue's tables.
	Database  *ese.Database
	Store     Deliverer
	Directory Directory
	// Mailboxes finds the mailboxes of other storage groups. Default: all live in Store.
	Mailboxes Mailboxes
	// Hostname is the name in Received, EHLO and notifications.
	Hostname string

	// Outbound. Default: Off.
	Outbound  Outbound
	Smarthost Smarthost
	// MXPort is the port of mail hosts. Default: 25.
	MXPort int
	// Resolver. Default: the system's.
	Resolver Resolver
	// Dial connects. Default: a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	// Retry holds the pauses after each attempt; the last one repeats.
	// Default: 1, 5, 15, 30 minutes, 1, 2, 4 hours.
	Retry []time.Duration
	// Expire is how long a message is tried. Default: 4 days (RFC 5321 4.5.4.1).
	Expire time.Duration
	// DelayNotice is when the sender is told of a delay. Default: 4 hours.
	DelayNotice time.Duration
	// MaxSending and MaxPerDestination limit jobs at a time. Default: 20 and 4.
	MaxSending, MaxPerDestination int
	// ConnectTimeout is for each address of a host. Default: 30 s.
	ConnectTimeout time.Duration
	// Timeout is the longest wait for a host's reply. Default: 5 minutes (RFC 5321 4.5.3.2).
	Timeout time.Duration

	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Rand makes the random part of queue ids. Default: crypto/rand.
	Rand func() uint32
	// Logger gets one line for each acceptance, sending, delay and failure. Default: discard.
	Logger *slog.Logger
	// Manual starts no goroutine: the owner calls Step. For simulation.
	Manual bool
}

func (o *Options) setDefaults() {
	orDefault(&o.MXPort, 25)
	orDefault(&o.Expire, 4*24*time.Hour)
	orDefault(&o.DelayNotice, 4*time.Hour)
	orDefault(&o.MaxSending, 20)
	orDefault(&o.MaxPerDestination, 4)
	orDefault(&o.ConnectTimeout, 30*time.Second)
	orDefault(&o.Timeout, 5*time.Minute)
	port := 587
	if o.Smarthost.TLS == ImplicitTLS {
		port = 465
	}
	orDefault(&o.Smarthost.Port, port)
	if len(o.Retry) == 0 {
		const m, h = time.Minute, time.Hour
		o.Retry = []time.Duration{m, 5 * m, 15 * m, 30 * m, h, 2 * h, 4 * h}
	}
	if o.Resolver == nil {
		o.Resolver = net.DefaultResolver
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = func() uint32 {
			var b [4]byte
			_, _ = rand.Read(b[:]) // never fails
			return binary.BigEndian.Uint32(b[:])
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// here tells whether a mailbox lives in the transport's own store, and can be reached.
func (t *Transport) here(id store.MailboxID) bool {
	if t.o.Mailboxes == nil {
		return true
	}
	s, err := t.o.Mailboxes.Holder(id)
	return err == nil && s == t.o.Store
}

// reachable tells whether a mailbox can be delivered to now.
func (t *Transport) reachable(id store.MailboxID) bool {
	if t.o.Mailboxes == nil {
		return true
	}
	_, err := t.o.Mailboxes.Holder(id)
	return err == nil
}

func orDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// Errors that callers act on. Refusals of a message are *smtp.Error.
var (
	// ErrNotQueued: no message with this queue id.
	ErrNotQueued = errors.New("no such message in the queue")
	// ErrClosed: the transport is closed.
	ErrClosed = errors.New("transport is closed")
)
