package smtp

import (
	"crypto/tls"
	"net"

	"pillarbox/protocol/listener"
)

// Server serves SMTP. Serve, ServeConn and Shutdown are those of its Acceptor: Shutdown tells
// every client 421, and a message that is being received gets Options.ShutdownData.
type Server struct {
	*listener.Acceptor
	o Options
}

// NewServer makes a Server.
func NewServer(o Options) *Server {
	s := &Server{o: o.withDefaults()}
	s.Acceptor = listener.New(listener.Options{
		New:      func(nc net.Conn) listener.Conn { return newConn(s, nc) },
		Refusal:  s.refusal,
		MaxConns: s.o.MaxConns, MaxConnsPerIP: s.o.MaxConnsPerIP, Logger: s.o.Logger,
	})
	return s
}

// refusal is in clear, so a client that begins with a handshake gets none.
func (s *Server) refusal(closing bool) string {
	switch {
	case s.o.ImplicitTLS:
		return ""
	case closing:
		return "421 4.3.2 " + s.o.Hostname + " is shutting down\r\n"
	}
	return "421 4.7.0 " + s.o.Hostname + " too many connections\r\n"
}

func (s *Server) tlsConfig() *tls.Config {
	if s.o.TLS == nil {
		return nil
	}
	return s.o.TLS()
}
