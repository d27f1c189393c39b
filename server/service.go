package server

import "fmt"

// service is one of the nine that a server has.
type service uint8

const (
	serviceSMTP service = iota
	serviceSubmission
	serviceSubmissions
	servicePOP3
	servicePOP3S
	serviceIMAP
	serviceIMAPS
	serviceHTTP
	serviceHTTPS
)

// String is the service's key in [listen].
func (s service) String() string {
	switch s {
	case serviceSMTP:
		return "smtp"
	case serviceSubmission:
		return "submission"
	case serviceSubmissions:
		return "submissions"
	case servicePOP3:
		return "pop3"
	case servicePOP3S:
		return "pop3s"
	case serviceIMAP:
		return "imap"
	case serviceIMAPS:
		return "imaps"
	case serviceHTTP:
		return "http"
	case serviceHTTPS:
		return "https"
	}
	return fmt.Sprintf("service %d", uint8(s))
}

// port is the port that IANA gave the service.
func (s service) port() int {
	switch s {
	case serviceSMTP:
		return 25
	case serviceSubmission:
		return 587
	case serviceSubmissions:
		return 465
	case servicePOP3:
		return 110
	case servicePOP3S:
		return 995
	case serviceIMAP:
		return 143
	case serviceIMAPS:
		return 993
	case serviceHTTP:
		return 80
	}
	return 443
}

// implicitTLS tells that connections begin with the handshake (RFC 8314).
func (s service) implicitTLS() bool {
	switch s {
	case serviceSubmissions, servicePOP3S, serviceIMAPS, serviceHTTPS:
		return true
	}
	return false
}
