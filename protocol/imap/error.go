package imap

import (
	"errors"
	"fmt"
)

// Status is the first word of a status response.
type Status string

// Statuses of an Error.
const (
	StatusNo  Status = "NO"
	StatusBad Status = "BAD"
	StatusBye Status = "BYE"
)

// Response codes (RFC 3501 7.1, RFC 5530, RFC 7889).
const (
	CodeAlreadyExists        = "ALREADYEXISTS"
	CodeAuthenticationFailed = "AUTHENTICATIONFAILED"
	CodeCannot               = "CANNOT"
	CodeInUse                = "INUSE"
	CodeLimit                = "LIMIT"
	CodeNoPerm               = "NOPERM"
	CodeNonExistent          = "NONEXISTENT"
	CodeOverQuota            = "OVERQUOTA"
	CodePrivacyRequired      = "PRIVACYREQUIRED"
	CodeReadOnly             = "READ-ONLY"
	CodeServerBug            = "SERVERBUG"
	CodeTooBig               = "TOOBIG"
	CodeTryCreate            = "TRYCREATE"
	CodeUnavailable          = "UNAVAILABLE"
)

// Error is a refusal that the client is told.
type Error struct {
	// Status is NO if empty.
	Status Status
	// Code is a response code without brackets, may be "".
	Code string
	Text string
}

func (e *Error) Error() string {
	if e.Code == "" {
		return fmt.Sprintf("%s %s", e.status(), e.Text)
	}
	return fmt.Sprintf("%s [%s] %s", e.status(), e.Code, e.Text)
}

func (e *Error) status() Status {
	if e.Status == "" {
		return StatusNo
	}
	return e.Status
}

func no(code, text string) error { return &Error{Status: StatusNo, Code: code, Text: text} }

func bad(format string, args ...any) error {
	return &Error{Status: StatusBad, Text: fmt.Sprintf(format, args...)}
}

// errClose ends a connection without another word.
var errClose = errors.New("connection ends")

// connError is trouble with the connection itself.
type connError struct{ err error }

func (e *connError) Error() string { return "connection: " + e.err.Error() }
func (e *connError) Unwrap() error { return e.err }

// errResponded tells that a command has sent its tagged response itself.
var errResponded = errors.New("response is sent")
