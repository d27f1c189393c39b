package smtp

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"pillarbox/mail/address"
	"pillarbox/protocol/line"
)

// command runs one command line.
func (c *conn) command(text string) {
	switch text {
	case line.TooLong:
		c.fail(500, "5.5.2", "line too long")
		return
	case line.HasControls:
		c.fail(500, "5.5.2", "bare CR or NUL in a command")
		return
	}
	verb, arg, _ := strings.Cut(text, " ")
	switch strings.ToUpper(verb) {
	case "EHLO":
		c.hello(arg, true)
	case "HELO":
		c.hello(arg, false)
	case "MAIL":
		c.mailFrom(arg)
	case "RCPT":
		c.rcptTo(arg)
	case "DATA":
		c.data(arg)
	case "BDAT":
		c.bdat(arg)
	case "RSET":
		c.resetMail()
		c.reply(250, "2.0.0", "flushed")
	case "NOOP":
		c.reply(250, "2.0.0", "ok")
	case "QUIT":
		c.reply(221, "2.0.0", c.s.o.Hostname+" closing")
		c.quit = true
	case "STARTTLS":
		c.startTLS(arg)
	case "AUTH":
		c.auth(arg)
	case "VRFY":
		// RFC 5321 3.5.3: neither confirmed nor denied.
		c.reply(252, "2.5.2", "cannot verify, send some mail and see")
	case "EXPN":
		c.fail(502, "5.5.1", "EXPN is not implemented")
	case "HELP":
		c.reply(214, "2.0.0", "EHLO HELO MAIL RCPT DATA BDAT RSET NOOP QUIT STARTTLS AUTH VRFY HELP")
	case "GET", "POST", "PUT", "CONNECT", "OPTIONS":
		// A browser was made to speak to us: what follows is not its user's mail.
		c.reply(421, "4.7.0", "this is SMTP, closing")
		c.quit = true
	default:
		c.fail(500, "5.5.1", "unknown command")
	}
}

// hello is EHLO and HELO (RFC 5321 4.1.1.1).
func (c *conn) hello(arg string, esmtp bool) {
	name := strings.TrimSpace(arg)
	if name == "" || len(name) > maxHostName || strings.ContainsAny(name, " \t") ||
		!utf8.ValidString(name) {
		c.fail(501, "5.5.4", "a host name or address literal is needed")
		return
	}
	c.resetMail()
	c.info.Helo, c.info.ESMTP = name, esmtp
	if c.session == nil {
		session, err := c.s.o.Backend.NewSession(c.ctx, &c.info)
		if err != nil {
			e := replyFor(err, &Error{421, [3]int{4, 3, 2}, "not available now"})
			c.replyError(e)
			c.quit = c.quit || e.Code == 421
			return
		}
		c.session = session
	}
	if !esmtp {
		c.reply(250, "", c.s.o.Hostname)
		return
	}
	c.reply(250, "", strings.Join(c.extensions(), "\n"))
}

func (c *conn) extensions() []string {
	list := []string{c.s.o.Hostname + " greets " + c.info.Helo, "PIPELINING"}
	size := "SIZE"
	if c.s.o.MaxSize > 0 {
		size += " " + strconv.FormatInt(c.s.o.MaxSize, 10)
	}
	list = append(list, size)
	if c.s.o.TLS != nil && c.info.TLS == nil {
		list = append(list, "STARTTLS")
	}
	if c.authOffered() && c.passwordsAllowed() {
		list = append(list, "AUTH PLAIN LOGIN")
	}
	if c.s.o.DSN {
		list = append(list, "DSN")
	}
	return append(list, "ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8", "CHUNKING", "HELP")
}

// startTLS is RFC 3207.
func (c *conn) startTLS(arg string) {
	switch {
	case arg != "":
		c.fail(501, "5.5.4", "STARTTLS takes no parameter")
		return
	case c.info.TLS != nil:
		c.fail(503, "5.5.1", "TLS is active already")
		return
	case c.s.o.TLS == nil:
		c.fail(502, "5.5.1", "TLS is not available")
		return
	case c.br.Buffered() > 0:
		// Somebody put commands behind STARTTLS to have them taken for the client's own behind
		// the handshake. They are dropped, and so is the connection.
		_, _ = c.br.Discard(c.br.Buffered())
		c.reply(501, "5.5.1", "nothing may follow STARTTLS before the handshake, closing")
		c.quit = true
		return
	}
	c.reply(220, "2.0.0", "ready to start TLS")
	if c.bw.Flush() != nil || !c.handshake() {
		c.quit = true
		return
	}
	// RFC 3207 4.2: what was learned before the handshake is forgotten.
	c.dropSession()
	c.info.Helo, c.info.ESMTP, c.info.User = "", false, ""
}

// greeted replies and returns false when EHLO is still to come.
func (c *conn) greeted() bool {
	if c.session == nil {
		c.fail(503, "5.5.1", "EHLO comes first")
		return false
	}
	return true
}

// mailFrom is MAIL (RFC 5321 4.1.1.2).
func (c *conn) mailFrom(arg string) {
	if !c.greeted() {
		return
	}
	if c.inMail {
		c.fail(503, "5.5.1", "MAIL was given already")
		return
	}
	if c.s.o.Mode == Submission && c.info.User == "" {
		text := "authentication required"
		if !c.passwordsAllowed() {
			text = "STARTTLS and authentication required"
		}
		c.fail(530, "5.7.0", text)
		return
	}
	arg, ok := cutPrefixFold(strings.TrimLeft(arg, " "), "FROM:")
	if !ok {
		c.fail(501, "5.5.4", "MAIL FROM:<address> is the form")
		return
	}
	// Some clients put a space behind the colon; RFC 5321 3.3 forbids it, and nothing is lost.
	from, rest, err := address.ParsePath(strings.TrimLeft(arg, " "))
	if err != nil || !from.IsZero() && from.Domain == "" || rest != "" && rest[0] != ' ' {
		c.fail(501, "5.1.7", "malformed sender address")
		return
	}
	opts, e := c.mailOptions(rest)
	if e == nil && !opts.UTF8 && !from.IsASCII() {
		e = &Error{553, [3]int{5, 6, 7}, "address needs SMTPUTF8"} // RFC 6531 3.5
	}
	if e == nil && c.s.o.MaxSize > 0 && opts.Size > c.s.o.MaxSize {
		e = ErrTooLarge // RFC 1870 6.1
	}
	if e != nil {
		c.errors++
		c.replyError(e)
		return
	}
	if err := c.session.Mail(c.ctx, from, opts); err != nil {
		c.refuseAddress(err)
		return
	}
	c.clearMail()
	c.inMail, c.mail = true, opts
	c.reply(250, "2.1.0", "sender ok")
}

// errLocal is the reply to an error of the Backend that is no Error.
var errLocal = &Error{451, [3]int{4, 3, 0}, "local error, try again later"}

// rcptTo is RCPT (RFC 5321 4.1.1.3).
func (c *conn) rcptTo(arg string) {
	if !c.greeted() {
		return
	}
	if !c.inMail {
		c.fail(503, "5.5.1", "MAIL comes first")
		return
	}
	arg, ok := cutPrefixFold(strings.TrimLeft(arg, " "), "TO:")
	if !ok {
		c.fail(501, "5.5.4", "RCPT TO:<address> is the form")
		return
	}
	to, rest, err := address.ParsePath(strings.TrimLeft(arg, " "))
	if err != nil || to.IsZero() || rest != "" && rest[0] != ' ' {
		c.fail(501, "5.1.3", "malformed recipient address")
		return
	}
	opts, e := c.rcptOptions(rest)
	if e == nil && !c.mail.UTF8 && !to.IsASCII() {
		e = &Error{553, [3]int{5, 6, 7}, "address needs SMTPUTF8"}
	}
	if e != nil {
		c.errors++
		c.replyError(e)
		return
	}
	if c.rcpts >= c.s.o.MaxRecipients {
		c.reply(452, "4.5.3", "too many recipients") // RFC 5321 4.5.3.1.10
		return
	}
	if err := c.session.Rcpt(c.ctx, to, opts); err != nil {
		c.refuseAddress(err)
		return
	}
	c.rcpts++
	c.reply(250, "2.1.5", "recipient ok")
}

// refuseAddress replies to an address that the Session does not take. From strangers it counts
// as an error, so that nobody tries out a dictionary of names in one session.
func (c *conn) refuseAddress(err error) {
	e := replyFor(err, errLocal)
	if e.Code/100 == 5 && c.info.User == "" {
		c.errors++
	}
	c.replyError(e)
}
