package listener

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// ErrClosed is returned by Serve after Shutdown.
var ErrClosed = errors.New("server is closed")

// Conn is a connection of the protocol.
type Conn interface {
	Serve() // to its end
	Stop()  // asks it to end soon
	Cut()   // ends it now
}

// Options configures an Acceptor. New, Refusal and Logger must be set.
type Options struct {
	New func(nc net.Conn) Conn
	// Refusal is what a client is told that is not admitted; "" is nothing.
	Refusal func(closing bool) string
	// MaxConns and MaxConnsPerIP limit connections; 0 or below is no limit.
	MaxConns, MaxConnsPerIP int
	Logger                  *slog.Logger
}

// Acceptor accepts and ends connections. Its goroutines are its connections; Shutdown waits
// for them.
type Acceptor struct {
	o Options

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup // of connections

	mu        sync.Mutex
	closed    bool
	listeners map[net.Listener]struct{}
	conns     map[Conn]struct{}
	perIP     map[netip.Addr]int
}

// New makes an Acceptor.
func New(o Options) *Acceptor {
	a := &Acceptor{
		o: o, listeners: make(map[net.Listener]struct{}), conns: make(map[Conn]struct{}),
		perIP: make(map[netip.Addr]int),
	}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	return a
}

// Context ends when Shutdown has ended, or is about to cut what is left.
func (a *Acceptor) Context() context.Context { return a.ctx }

// Serve accepts connections until Shutdown, and then returns ErrClosed. It closes l.
func (a *Acceptor) Serve(l net.Listener) error {
	defer func() { _ = l.Close() }()
	if !a.add(l) {
		return ErrClosed
	}
	defer a.remove(l)
	for pause := time.Duration(0); ; {
		nc, err := l.Accept()
		if err == nil {
			pause = 0
			a.accept(nc)
			continue
		}
		if a.isClosed() {
			return ErrClosed
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		// Out of file descriptors, or the client is gone already: others can be served later.
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		a.o.Logger.Warn("accept", "err", err)
		select {
		case <-a.ctx.Done():
		case <-time.After(pause):
		}
	}
}

func (a *Acceptor) add(l net.Listener) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed {
		a.listeners[l] = struct{}{}
	}
	return !a.closed
}

func (a *Acceptor) remove(l net.Listener) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.listeners, l)
}

func (a *Acceptor) isClosed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.closed
}

func (a *Acceptor) accept(nc net.Conn) {
	ip := addrOf(nc.RemoteAddr())
	c, refusal := a.admit(nc, ip)
	if c != nil {
		go a.serve(c, ip)
		return
	}
	if refusal != "" {
		// Fits into any socket's buffer: the accept loop does not wait for a client. The limit is for the
		// case that it does not, and long, since a machine that is busy may pass it before the write begins.
		_ = nc.SetWriteDeadline(time.Now().Add(5 * time.Second))
		_, _ = nc.Write([]byte(refusal))
	}
	_ = nc.Close()
}

// ServeConn serves one connection and returns at its end.
func (a *Acceptor) ServeConn(nc net.Conn) {
	ip := addrOf(nc.RemoteAddr())
	if c, _ := a.admit(nc, ip); c != nil {
		a.serve(c, ip)
		return
	}
	_ = nc.Close()
}

// admit makes and registers a connection, or says why not.
func (a *Acceptor) admit(nc net.Conn, ip netip.Addr) (Conn, string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || a.o.MaxConns > 0 && len(a.conns) >= a.o.MaxConns ||
		a.o.MaxConnsPerIP > 0 && ip.IsValid() && a.perIP[ip] >= a.o.MaxConnsPerIP {
		return nil, a.o.Refusal(a.closed)
	}
	c := a.o.New(nc)
	a.conns[c] = struct{}{}
	a.perIP[ip]++
	a.wg.Add(1)
	return c, ""
}

func (a *Acceptor) serve(c Conn, ip netip.Addr) {
	defer a.wg.Done()
	defer a.forget(c, ip)
	c.Serve()
}

func (a *Acceptor) forget(c Conn, ip netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.conns, c)
	if a.perIP[ip]--; a.perIP[ip] <= 0 {
		delete(a.perIP, ip)
	}
}

// addrOf is the client's address; not valid for what has none, such as a pipe.
func addrOf(addr net.Addr) netip.Addr {
	if t, ok := addr.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// Shutdown stops accepting, stops every connection, and waits for them to end. When ctx ends
// first, they are cut and its error is returned.
func (a *Acceptor) Shutdown(ctx context.Context) error {
	for _, c := range a.close() {
		c.Stop()
	}
	done := make(chan struct{})
	go func() {
		a.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		a.cancel()
		return nil
	case <-ctx.Done():
	}
	a.cancel()
	for _, c := range a.current() {
		c.Cut()
	}
	<-done
	return ctx.Err()
}

// close closes the listeners and returns the connections that are there.
func (a *Acceptor) close() []Conn {
	a.mu.Lock()
	a.closed = true
	for l := range a.listeners {
		_ = l.Close()
	}
	a.mu.Unlock()
	return a.current()
}

func (a *Acceptor) current() []Conn {
	a.mu.Lock()
	defer a.mu.Unlock()
	conns := make([]Conn, 0, len(a.conns))
	for c := range a.conns {
		conns = append(conns, c)
	}
	return conns
}
