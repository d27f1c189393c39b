package imap

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
)

// maxBadLogins ends a connection that tries passwords.
const maxBadLogins = 5

// login is LOGIN (RFC 3501 6.2.3).
func (c *conn) login(req *request) error {
	if err := req.space(); err != nil {
		return err
	}
	user, err := req.astring()
	if err != nil {
		return err
	}
	if err = req.space(); err != nil {
		return err
	}
	password, err := req.astring()
	if err != nil {
		return err
	}
	if err = req.end(); err != nil {
		return err
	}
	return c.enter(req, user, password)
}

// authenticate is AUTHENTICATE with PLAIN (RFC 4616) and LOGIN, with or without an initial
// response (RFC 4959).
func (c *conn) authenticate(req *request) error {
	if err := req.space(); err != nil {
		return err
	}
	mechanism, err := req.keyword()
	if err != nil {
		return err
	}
	if mechanism != "PLAIN" && mechanism != "LOGIN" {
		return no(CodeCannot, "Unsupported authentication mechanism")
	}
	if !c.mayLogin() {
		return no(CodePrivacyRequired, "Use TLS first")
	}
	var initial *string
	if req.take(' ') {
		s := string(req.b[req.pos:])
		req.pos = len(req.b)
		if s == "=" {
			s = "" // RFC 4959 3
		}
		initial = &s
	}
	if mechanism == "PLAIN" {
		response, err := c.challenge(initial, "")
		if err != nil {
			return err
		}
		return c.enterPlain(req, response)
	}
	user, err := c.challenge(initial, "Username:")
	if err != nil {
		return err
	}
	password, err := c.challenge(nil, "Password:")
	if err != nil {
		return err
	}
	return c.enter(req, user, password)
}

// enterPlain takes "authzid NUL authcid NUL password". Acting for somebody else is not offered.
func (c *conn) enterPlain(req *request, response string) error {
	parts := strings.Split(response, "\x00")
	if len(parts) != 3 {
		return bad("bad PLAIN response")
	}
	if parts[0] != "" && parts[0] != parts[1] {
		return no(CodeAuthenticationFailed, "Acting for another user is not possible")
	}
	return c.enter(req, parts[1], parts[2])
}

// challenge asks for one response, unless it came with the command.
func (c *conn) challenge(initial *string, prompt string) (string, error) {
	var line []byte
	if initial != nil {
		line = []byte(*initial)
	} else {
		err := c.continuation(base64.StdEncoding.EncodeToString([]byte(prompt)))
		if err != nil {
			return "", err
		}
		if line, err = c.in.appendLine(nil, maxLine); err != nil {
			return "", err
		}
		line = bytes.TrimRight(line, "\r\n")
	}
	if string(line) == "*" {
		return "", bad("authentication cancelled") // RFC 3501 6.2.2
	}
	out, err := base64.StdEncoding.DecodeString(string(line))
	if err != nil {
		return "", bad("response is no base64")
	}
	return string(out), nil
}

// enter logs in.
func (c *conn) enter(req *request, user, password string) error {
	if !c.mayLogin() {
		return no(CodePrivacyRequired, "Use TLS first")
	}
	if user == "" || password == "" || strings.IndexByte(user+password, 0) >= 0 {
		return no(CodeAuthenticationFailed, "Authentication failed")
	}
	info := ConnInfo{
		Remote: c.rawConn.RemoteAddr(), Local: c.rawConn.LocalAddr(), TLS: c.tls, End: c.revoke,
	}
	session, err := c.server.opt.Backend.Login(c.ctx, user, password, info)
	var e *Error
	if errors.As(err, &e) && e.Code == CodeAuthenticationFailed {
		if c.badLogins++; c.badLogins >= maxBadLogins {
			c.write(req.tag + " NO " + statusText(e.Code, e.Text) + "\r\n")
			return &Error{Status: StatusBye, Text: "Too many failed logins"}
		}
	}
	if err != nil {
		return err
	}
	c.session, c.state = session, stateAuthenticated
	req.okCode = "CAPABILITY " + c.capabilities()
	return nil
}
