package pop3

import (
	"bytes"
	"encoding/base64"
	"strings"

	"pillarbox/protocol/line"
)

// command runs one command line.
func (c *conn) command(text string) {
	switch text {
	case line.TooLong:
		c.fail("line too long")
		return
	case line.HasControls:
		c.fail("bare CR or NUL in a command")
		return
	}
	verb, arg, _ := strings.Cut(text, " ")
	verb = strings.ToUpper(verb)
	switch {
	case verb == "CAPA":
		c.capa()
	case c.drop != nil:
		c.transaction(verb, strings.TrimSpace(arg))
	default:
		c.authorization(verb, arg)
	}
}

// authorization is the state before login (RFC 1939 4).
func (c *conn) authorization(verb, arg string) {
	user := c.user
	c.user = "" // PASS must follow USER (RFC 1939 7)
	switch verb {
	case "USER":
		switch {
		case arg == "":
			c.fail("a name is needed")
		case !c.passwordsAllowed():
			c.refusePlain()
		default:
			// Always positive, so that names cannot be guessed (RFC 1939 13).
			c.user = arg
			c.ok("send PASS")
		}
	case "PASS":
		if user == "" {
			c.fail("USER comes first")
			return
		}
		// All behind the first space is the password, other spaces included.
		c.login(user, arg)
	case "AUTH":
		c.auth(arg)
	case "STLS":
		c.startTLS()
	case "UTF8":
		// RFC 6856 2: messages are kept and sent in UTF-8 anyway.
		c.ok("UTF8 enabled")
	case "QUIT":
		c.ok("closing")
		c.quit = true
	case "GET", "POST", "PUT", "CONNECT", "OPTIONS":
		// A browser was made to speak to us: what follows is not its user's command.
		c.fail("this is POP3, closing")
		c.quit = true
	case "STAT", "LIST", "UIDL", "RETR", "TOP", "DELE", "RSET", "NOOP":
		c.fail("log in first")
	default:
		c.fail("unknown command")
	}
}

// capa is CAPA (RFC 2449 5).
func (c *conn) capa() {
	c.ok("capabilities follow")
	list := []string{
		"TOP", "UIDL", "PIPELINING", "RESP-CODES", "AUTH-RESP-CODE", "EXPIRE NEVER", "UTF8",
	}
	if c.drop == nil {
		if c.passwordsAllowed() {
			list = append(list, "USER", "SASL PLAIN")
		}
		if c.s.o.TLS != nil && c.info.TLS == nil {
			list = append(list, "STLS")
		}
	}
	for _, capability := range append(list, "IMPLEMENTATION Pillarbox", ".") {
		c.writeLine(capability)
	}
}

// passwordsAllowed reports whether a password may be sent over this connection.
func (c *conn) passwordsAllowed() bool {
	return c.info.TLS != nil || c.s.o.PlaintextAuth != nil && c.s.o.PlaintextAuth(c.info.Remote)
}

func (c *conn) refusePlain() {
	c.errors++
	c.err(&Error{"AUTH", "passwords are taken under TLS only, use STLS"})
}

// login enters the TRANSACTION state.
func (c *conn) login(user, password string) {
	drop, err := c.s.o.Backend.Login(c.ctx, user, password, &c.info)
	if err != nil {
		e := replyFor(err)
		if e.Code == "AUTH" {
			c.errors += 4
		}
		c.err(e)
		return
	}
	c.drop = drop
	c.messages = drop.Messages()
	c.deleted = make([]bool, len(c.messages))
	c.left = len(c.messages)
	c.ok("logged in")
}

// auth is AUTH (RFC 5034) with PLAIN (RFC 4616). Without an argument it lists the mechanisms, as
// clients older than CAPA ask.
func (c *conn) auth(arg string) {
	mech, initial, _ := strings.Cut(arg, " ")
	switch {
	case mech == "" && c.passwordsAllowed():
		c.ok("mechanisms follow")
		c.writeLine("PLAIN")
		c.writeLine(".")
		return
	case !c.passwordsAllowed():
		c.refusePlain()
		return
	case !strings.EqualFold(mech, "PLAIN"):
		c.fail("mechanism not known")
		return
	}
	if initial == "" {
		c.writeLine("+ ")
		line, err := c.readLine(maxAuthLine)
		if err != nil {
			c.endWith(err)
			return
		}
		initial = line
	} else if initial == "=" {
		initial = ""
	}
	if initial == "*" {
		c.fail("authentication cancelled")
		return
	}
	b, err := base64.StdEncoding.DecodeString(initial)
	parts := bytes.Split(b, []byte{0})
	if err != nil || len(parts) != 3 {
		c.fail("malformed credentials")
		return
	}
	// Acting for another user is not offered.
	if len(parts[0]) > 0 && !bytes.Equal(parts[0], parts[1]) || len(parts[1]) == 0 {
		c.errors += 4
		c.err(ErrAuth)
		return
	}
	c.login(string(parts[1]), string(parts[2]))
}

// startTLS is STLS (RFC 2595 4).
func (c *conn) startTLS() {
	switch {
	case c.info.TLS != nil:
		c.fail("TLS is active already")
	case c.s.o.TLS == nil:
		c.fail("TLS is not available")
	case c.br.Buffered() > 0:
		// Somebody put commands behind STLS to have them taken for the client's own behind the
		// handshake. They are dropped, and so is the connection.
		_, _ = c.br.Discard(c.br.Buffered())
		c.fail("nothing may follow STLS before the handshake, closing")
		c.quit = true
	default:
		c.ok("begin TLS")
		c.quit = c.bw.Flush() != nil || !c.handshake()
	}
}
