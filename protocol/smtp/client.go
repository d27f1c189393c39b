package smtp

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// ClientOptions configures a Client.
type ClientOptions struct {
	// Hostname is the name given to EHLO. Default: localhost.
	Hostname string
	// Timeout of a command, and Timeout of the reply to the final dot. Default: 5 and 10 minutes
	// (RFC 5321 4.5.3.2).
	Timeout, FinalTimeout time.Duration
}

const (
	blockTimeout  = 3 * time.Minute // RFC 5321 4.5.3.2.5
	maxReplyLine  = 4096
	maxReplyLines = 200
	// rcptBatch bounds the commands sent before their replies are read, so that neither side
	// fills the other's buffers and both wait.
	rcptBatch = 100
)

// Client speaks SMTP over one connection. It is used by one goroutine.
type Client struct {
	o      ClientOptions
	conn   net.Conn
	br     *bufio.Reader
	bw     *bufio.Writer
	ext    map[string]string
	esmtp  bool
	unhook func() bool
	ctx    context.Context
	// bad is set when a command would have had a line break in it, and nothing is sent any more.
	bad error
}

// NewClient reads the greeting and says EHLO, or HELO when that is not known. The Client owns
// conn from here on; when ctx ends, what is under way fails.
func NewClient(ctx context.Context, conn net.Conn, o ClientOptions) (*Client, error) {
	if o.Hostname == "" {
		o.Hostname = "localhost"
	}
	setDefault(&o.Timeout, 5*time.Minute)
	setDefault(&o.FinalTimeout, 10*time.Minute)
	c := &Client{o: o, ctx: ctx}
	c.attach(conn)
	c.unhook = context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	_, err := c.readReply(o.Timeout, 220)
	if err == nil {
		err = c.hello()
	}
	if err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("smtp greeting: %w", err)
	}
	return c, nil
}

func (c *Client) attach(conn net.Conn) {
	c.conn = conn
	c.br = bufio.NewReaderSize(conn, maxReplyLine)
	c.bw = bufio.NewWriterSize(conn, 32<<10)
}

// hello learns the extensions.
func (c *Client) hello() error {
	c.ext, c.esmtp = nil, false
	text, err := c.cmd(250, "EHLO "+c.o.Hostname)
	var e *Error
	if errors.As(err, &e) && e.Code/100 == 5 {
		_, err = c.cmd(250, "HELO "+c.o.Hostname) // RFC 5321 3.2
		return err
	}
	if err != nil {
		return err
	}
	c.esmtp = true
	c.ext = make(map[string]string)
	for _, line := range strings.Split(text, "\n")[1:] {
		key, value, _ := strings.Cut(line, " ")
		c.ext[strings.ToUpper(key)] = value
	}
	return nil
}

// Extension returns the parameters of an extension that the server offers.
func (c *Client) Extension(name string) (params string, ok bool) {
	params, ok = c.ext[strings.ToUpper(name)]
	return params, ok
}

// TLS returns the state of the TLS connection, if there is one.
func (c *Client) TLS() (tls.ConnectionState, bool) {
	tc, ok := c.conn.(*tls.Conn)
	if !ok {
		return tls.ConnectionState{}, false
	}
	return tc.ConnectionState(), true
}

// StartTLS changes to TLS and says EHLO again (RFC 3207 4.2).
func (c *Client) StartTLS(cfg *tls.Config) error {
	if _, err := c.cmd(220, "STARTTLS"); err != nil {
		return err
	}
	if c.br.Buffered() > 0 {
		return errors.New("smtp: the server sent something between STARTTLS and the handshake")
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.o.Timeout)
	defer cancel()
	tc := tls.Client(c.conn, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("smtp: TLS handshake: %w", err)
	}
	c.attach(tc)
	return c.hello()
}

// Auth logs in with PLAIN, or LOGIN when only that is offered.
func (c *Client) Auth(user, password string) error {
	mechs := " " + strings.ToUpper(c.ext["AUTH"]) + " "
	enc := base64.StdEncoding.EncodeToString
	switch {
	case strings.Contains(mechs, " PLAIN "):
		_, err := c.cmd(235, "AUTH PLAIN "+enc([]byte("\x00"+user+"\x00"+password)))
		return err
	case strings.Contains(mechs, " LOGIN "):
		if _, err := c.cmd(334, "AUTH LOGIN"); err != nil {
			return err
		}
		if _, err := c.cmd(334, enc([]byte(user))); err != nil {
			return err
		}
		_, err := c.cmd(235, enc([]byte(password)))
		return err
	}
	return errors.New("smtp: the server offers no mechanism that is known here")
}

// Envelope is what MAIL says.
type Envelope struct {
	From     Path
	Size     int64 // of the message; 0 when not known
	EightBit bool
	// UTF8 asks for SMTPUTF8. Paths that need it ask for it by themselves.
	UTF8       bool
	Return     string // "", "FULL" or "HDRS"
	EnvelopeID string
}

// Rcpt is one recipient.
type Rcpt struct {
	To Path
	RcptOptions
}

// Reply is what the server said about a recipient or a message.
type Reply struct {
	Code     int
	Enhanced [3]int // zero when there was none
	Text     string
}

// OK reports a positive reply.
func (r Reply) OK() bool { return r.Code/100 == 2 }

// Err returns the reply as an error, or nil for a positive one.
func (r Reply) Err() error {
	if r.OK() {
		return nil
	}
	return &Error{r.Code, r.Enhanced, r.Text}
}

// Result is the outcome for each recipient, in order: refused at RCPT, or the reply to the
// message.
type Result struct {
	Recipients []Reply
	// Unknown is set when the connection failed between the final dot and its reply: the server
	// may have taken the message or not (RFC 5321 4.5.3.2.6).
	Unknown bool
}

// Send sends one message, whose lines should end in CRLF (a lone CR or LF is sent as CRLF). The
// error is one of the connection, which can then not be used any more; refusals of the server
// are in the Result. With an error too it holds the refusals that came before; nobody is accepted then.
func (c *Client) Send(env Envelope, rcpts []Rcpt, r io.Reader) (*Result, error) {
	res := &Result{Recipients: make([]Reply, len(rcpts))}
	if len(rcpts) == 0 {
		return res, nil
	}
	err := c.send(env, rcpts, r, res)
	if err != nil {
		res.accepted(Reply{}) // a positive reply to RCPT alone means nothing
	}
	return res, err
}

func (c *Client) send(env Envelope, rcpts []Rcpt, r io.Reader, res *Result) error {
	if e := c.impossible(env, rcpts); e != nil {
		res.all(replyOf(e))
		return nil
	}
	accepted, err := c.sendEnvelope(env, rcpts, res)
	if err != nil {
		return err
	}
	if accepted == 0 {
		return c.Reset()
	}
	if _, err := c.cmd(354, "DATA"); err != nil {
		var e *Error
		if errors.As(err, &e) {
			res.accepted(replyOf(e))
			return c.Reset()
		}
		return err
	}
	if err := c.sendText(r); err != nil {
		return fmt.Errorf("smtp: send message: %w", err)
	}
	err = c.flush(blockTimeout)
	if err != nil {
		// The final dot may be among what the server got.
		res.Unknown = true
		return fmt.Errorf("smtp: send message: %w", err)
	}
	reply, err := c.readAny(c.o.FinalTimeout)
	if err != nil {
		res.Unknown = true
		return fmt.Errorf("smtp: reply to the message: %w", err)
	}
	res.accepted(reply)
	return nil
}

func replyOf(e *Error) Reply { return Reply{e.Code, e.Enhanced, e.Message} }

func (res *Result) all(r Reply) {
	for i := range res.Recipients {
		res.Recipients[i] = r
	}
}

// accepted sets the reply of those that RCPT had accepted.
func (res *Result) accepted(r Reply) {
	for i := range res.Recipients {
		if res.Recipients[i].OK() {
			res.Recipients[i] = r
		}
	}
}

// impossible says what the server's extensions exclude, without asking it.
func (c *Client) impossible(env Envelope, rcpts []Rcpt) *Error {
	if c.needsUTF8(env, rcpts) {
		if _, ok := c.ext["SMTPUTF8"]; !ok {
			return &Error{550, [3]int{5, 6, 7}, "the next server does not support SMTPUTF8"}
		}
	}
	limit, err := strconv.ParseInt(c.ext["SIZE"], 10, 64)
	if err == nil && limit > 0 && env.Size > limit {
		return &Error{552, [3]int{5, 3, 4}, "the message is larger than the next server's limit"}
	}
	return nil
}

func (c *Client) needsUTF8(env Envelope, rcpts []Rcpt) bool {
	if env.UTF8 || !env.From.IsASCII() {
		return true
	}
	for _, r := range rcpts {
		if !r.To.IsASCII() {
			return true
		}
	}
	return false
}

func (c *Client) mailCommand(env Envelope, utf8 bool) string {
	s := "MAIL FROM:<" + env.From.String() + ">"
	has := func(name string) bool { _, ok := c.ext[name]; return ok }
	if env.Size > 0 && has("SIZE") {
		s += " SIZE=" + strconv.FormatInt(env.Size, 10)
	}
	if env.EightBit && has("8BITMIME") {
		s += " BODY=8BITMIME"
	}
	if utf8 {
		s += " SMTPUTF8"
	}
	if has("DSN") {
		if env.Return != "" {
			s += " RET=" + env.Return
		}
		if env.EnvelopeID != "" {
			s += " ENVID=" + encodeXtext(env.EnvelopeID)
		}
	}
	return s
}

func (c *Client) rcptCommand(r Rcpt) string {
	s := "RCPT TO:<" + r.To.String() + ">"
	if _, ok := c.ext["DSN"]; ok {
		if len(r.Notify) > 0 {
			s += " NOTIFY=" + strings.Join(r.Notify, ",")
		}
		if kind, address, ok := strings.Cut(r.Original, ";"); ok {
			s += " ORCPT=" + kind + ";" + encodeXtext(address)
		}
	}
	return s
}

// sendEnvelope sends MAIL and RCPT, together when the server has PIPELINING (RFC 2920).
func (c *Client) sendEnvelope(env Envelope, rcpts []Rcpt, res *Result) (accepted int, err error) {
	_, pipelining := c.ext["PIPELINING"]
	batch := 1
	if pipelining {
		batch = rcptBatch
	}
	c.line(c.mailCommand(env, c.needsUTF8(env, rcpts)))
	mail := Reply{}
	if !pipelining {
		if mail, err = c.readAny(c.o.Timeout); err != nil || !mail.OK() {
			res.all(mail)
			return 0, err
		}
	}
	for from := 0; from < len(rcpts); from += batch {
		part := rcpts[from:min(from+batch, len(rcpts))]
		for _, r := range part {
			c.line(c.rcptCommand(r))
		}
		if mail.Code == 0 {
			if mail, err = c.readAny(c.o.Timeout); err != nil {
				return 0, err
			}
		}
		for i := range part {
			reply, err := c.readAny(c.o.Timeout)
			if err != nil {
				return 0, err
			}
			if mail.OK() {
				res.Recipients[from+i] = reply
			}
			if reply.OK() {
				accepted++
			}
		}
		if !mail.OK() {
			res.all(mail)
			return 0, nil
		}
	}
	return accepted, nil
}

// sendText sends the message with dots doubled and the final dot (RFC 5321 4.5.2). When reading r
// fails no end is sent: the connection must be closed, and the server takes nothing.
func (c *Client) sendText(r io.Reader) error {
	buf := make([]byte, 32<<10)
	w := dotWriter{w: c.bw, start: true}
	for {
		n, err := r.Read(buf)
		if derr := c.deadline(blockTimeout); derr != nil {
			return derr
		}
		if werr := w.write(buf[:n]); werr != nil {
			return werr
		}
		if errors.Is(err, io.EOF) {
			return w.end()
		}
		if err != nil {
			_ = c.Close()
			return err
		}
	}
}

// dotWriter makes the text of DATA.
type dotWriter struct {
	w     *bufio.Writer
	start bool // at the start of a line
	cr    bool // the last byte was CR, not yet written
}

func (d *dotWriter) write(p []byte) error {
	for len(p) > 0 {
		if d.cr {
			d.cr = false
			if p[0] == '\n' {
				p = p[1:]
			}
			if err := d.newline(); err != nil {
				return err
			}
			continue
		}
		if d.start && p[0] == '.' {
			if err := d.w.WriteByte('.'); err != nil {
				return err
			}
		}
		i := 0
		for i < len(p) && p[i] != '\r' && p[i] != '\n' {
			i++
		}
		if _, err := d.w.Write(p[:i]); err != nil {
			return err
		}
		d.start = d.start && i == 0
		if p = p[i:]; len(p) == 0 {
			return nil
		}
		d.cr = p[0] == '\r'
		if p = p[1:]; !d.cr {
			if err := d.newline(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *dotWriter) newline() error {
	d.start = true
	_, err := d.w.WriteString("\r\n")
	return err
}

func (d *dotWriter) end() error {
	if d.cr || !d.start {
		if err := d.newline(); err != nil {
			return err
		}
	}
	_, err := d.w.WriteString(".\r\n")
	return err
}

// Reset ends a transaction.
func (c *Client) Reset() error {
	_, err := c.cmd(250, "RSET")
	return err
}

// Quit says QUIT and closes the connection.
func (c *Client) Quit() error {
	_, err := c.cmd(221, "QUIT")
	if cerr := c.Close(); err == nil {
		err = cerr
	}
	return err
}

// Close closes the connection.
func (c *Client) Close() error {
	c.unhook()
	return c.conn.Close()
}

// line queues a command; what goes wrong shows when its reply is read.
func (c *Client) line(s string) {
	if strings.ContainsAny(s, "\r\n") {
		c.bad = errors.New("smtp: a line break in a command")
		return
	}
	_, _ = c.bw.WriteString(s + "\r\n")
}

func (c *Client) cmd(want int, s string) (text string, err error) {
	c.line(s)
	return c.readReply(c.o.Timeout, want)
}

// deadline is set again for each step; the end of ctx outweighs it.
func (c *Client) deadline(d time.Duration) error {
	if err := c.conn.SetDeadline(time.Now().Add(d)); err != nil {
		return err
	}
	return c.ctx.Err()
}

func (c *Client) flush(d time.Duration) error {
	if err := c.deadline(d); err != nil {
		return err
	}
	if c.bad != nil {
		return c.bad
	}
	return c.bw.Flush()
}

// readReply reads a reply; an *Error when its code is not the one wanted.
func (c *Client) readReply(d time.Duration, want int) (string, error) {
	r, err := c.readAny(d)
	if err != nil {
		return "", err
	}
	if r.Code == want {
		return r.Text, nil
	}
	if r.Code < 400 {
		return "", fmt.Errorf("smtp: reply %d where %d was expected", r.Code, want)
	}
	return "", &Error{r.Code, r.Enhanced, r.Text}
}

// readAny sends what is queued and reads one reply (RFC 5321 4.2.1).
func (c *Client) readAny(d time.Duration) (Reply, error) {
	if err := c.flush(d); err != nil {
		return Reply{}, err
	}
	var r Reply
	var lines []string
	for {
		b, err := c.br.ReadSlice('\n')
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return Reply{}, err
		}
		s := strings.TrimRight(string(b), "\r\n")
		code, more, ok := replyCode(s)
		if !ok || r.Code != 0 && code != r.Code || len(lines) == maxReplyLines {
			return Reply{}, fmt.Errorf("smtp: malformed reply %.80q", s)
		}
		r.Code = code
		text := ""
		if len(s) > 4 {
			text = s[4:]
		}
		if enh, rest, ok := enhancedCode(text); ok && enh[0] == code/100 {
			r.Enhanced, text = enh, rest
		}
		lines = append(lines, text)
		if !more {
			r.Text = strings.Join(lines, "\n")
			return r, nil
		}
	}
}

func replyCode(s string) (code int, more, ok bool) {
	if len(s) < 3 || len(s) > 3 && s[3] != ' ' && s[3] != '-' {
		return 0, false, false
	}
	code, err := strconv.Atoi(s[:3])
	if err != nil || code < 200 || code > 599 {
		return 0, false, false
	}
	return code, len(s) > 3 && s[3] == '-', true
}

// enhancedCode splits class.subject.detail from a text (RFC 2034 4).
func enhancedCode(s string) (enh [3]int, rest string, ok bool) {
	word, rest, _ := strings.Cut(s, " ")
	parts := strings.Split(word, ".")
	if len(parts) != 3 {
		return enh, s, false
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 10)
		if err != nil || n > 999 {
			return [3]int{}, s, false
		}
		enh[i] = int(n)
	}
	return enh, rest, true
}
