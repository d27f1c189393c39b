package smtp

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
)

func (c *conn) authOffered() bool { return c.s.o.Mode == Submission || c.s.o.Auth }

// passwordsAllowed reports whether a password may be sent over this connection.
func (c *conn) passwordsAllowed() bool {
	return c.info.TLS != nil || c.s.o.PlaintextAuth != nil && c.s.o.PlaintextAuth(c.info.Remote)
}

var errAuthAborted = errors.New("authentication exchange ended")

// auth is AUTH (RFC 4954), with PLAIN (RFC 4616) and LOGIN.
func (c *conn) auth(arg string) {
	if !c.greeted() {
		return
	}
	mech, initial, _ := strings.Cut(arg, " ")
	switch {
	case !c.authOffered():
		c.fail(502, "5.5.1", "AUTH is not offered here")
		return
	case c.info.User != "" || c.inMail:
		c.fail(503, "5.5.1", "not now") // RFC 4954 4
		return
	case !c.passwordsAllowed():
		c.fail(538, "5.7.11", "encryption is required for this mechanism")
		return
	}
	var user, password string
	var err error
	switch strings.ToUpper(mech) {
	case "PLAIN":
		user, password, err = c.authPlain(initial)
	case "LOGIN":
		user, password, err = c.authLogin(initial)
	default:
		c.fail(504, "5.5.4", "mechanism not known")
		return
	}
	if err != nil {
		return
	}
	if user == "" {
		err = &Error{535, [3]int{5, 7, 8}, "authentication failed"}
	} else {
		err = c.session.Auth(c.ctx, user, password)
	}
	if err != nil {
		c.errors += 2 // a guesser gets half the tries of a clumsy client
		c.replyError(replyFor(err, &Error{454, [3]int{4, 7, 0}, "temporary authentication failure"}))
		return
	}
	c.info.User = user
	c.reply(235, "2.7.0", "authenticated")
}

// authPlain reads authzid NUL authcid NUL password. Acting for another user is not offered.
func (c *conn) authPlain(initial string) (user, password string, err error) {
	b, err := c.authResponse(initial, "")
	if err != nil {
		return "", "", err
	}
	parts := bytes.Split(b, []byte{0})
	if len(parts) != 3 {
		c.fail(501, "5.5.2", "malformed credentials")
		return "", "", errAuthAborted
	}
	if len(parts[0]) > 0 && !bytes.Equal(parts[0], parts[1]) {
		return "", "", nil
	}
	return string(parts[1]), string(parts[2]), nil
}

// authLogin prompts for both, in the words that clients look for.
func (c *conn) authLogin(initial string) (user, password string, err error) {
	u, err := c.authResponse(initial, "VXNlcm5hbWU6") // "Username:"
	if err != nil {
		return "", "", err
	}
	p, err := c.authResponse("", "UGFzc3dvcmQ6") // "Password:"
	return string(u), string(p), err
}

// authResponse decodes the initial response, or asks for one. On an error it has replied.
func (c *conn) authResponse(initial, prompt string) ([]byte, error) {
	text := initial
	if text == "" {
		c.reply(334, "", prompt)
		line, err := c.readLine(maxAuthLine)
		if err != nil {
			c.endWith(err)
			return nil, errAuthAborted
		}
		text = line
	} else if text == "=" {
		text = "" // RFC 4954 4: an empty initial response
	}
	if text == "*" {
		c.fail(501, "5.7.0", "authentication cancelled")
		return nil, errAuthAborted
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		c.fail(501, "5.5.2", "malformed base64")
		return nil, errAuthAborted
	}
	return b, nil
}
