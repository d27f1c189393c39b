package mail

import (
	"strconv"
	"strings"

	"pillarbox/mail/address"
)

// maxEnvelopeAddresses bounds the addresses of one field in an ENVELOPE.
const maxEnvelopeAddresses = 1000

// AppendEnvelope appends the ENVELOPE of the message (RFC 3501 7.4.2).
func (s *Structure) AppendEnvelope(dst []byte) []byte { return s.Root.Envelope.appendIMAP(dst) }

func (e *Envelope) appendIMAP(dst []byte) []byte {
	sender, replyTo := e.Sender, e.ReplyTo
	// "If the Sender or Reply-To lines are absent ... the server sets the corresponding member
	// of the envelope to be the same value as the from member."
	if sender == "" {
		sender = e.From
	}
	if replyTo == "" {
		replyTo = e.From
	}
	dst = append(dst, '(')
	dst = appendNString(dst, e.Date)
	dst = append(dst, ' ')
	dst = appendNString(dst, e.Subject)
	for _, list := range [...]string{e.From, sender, replyTo, e.To, e.Cc, e.Bcc} {
		dst = append(dst, ' ')
		dst = appendAddresses(dst, list)
	}
	dst = append(dst, ' ')
	dst = appendNString(dst, e.InReplyTo)
	dst = append(dst, ' ')
	dst = appendNString(dst, e.MessageID)
	return append(dst, ')')
}

func appendAddresses(dst []byte, list string) []byte {
	entries := address.ParseList(list, maxEnvelopeAddresses)
	if len(entries) == 0 {
		return append(dst, "NIL"...)
	}
	dst = append(dst, '(')
	for _, a := range entries {
		switch a.Kind {
		case address.GroupStart:
			dst = append(dst, "(NIL NIL "...)
			dst = AppendString(dst, a.Name)
			dst = append(dst, " NIL)"...)
		case address.GroupEnd:
			dst = append(dst, "(NIL NIL NIL NIL)"...)
		default:
			dst = appendMailbox(dst, a)
		}
	}
	return append(dst, ')')
}

// appendMailbox writes one address. A NIL host or mailbox would mean a group, so missing ones
// get the names that Dovecot gives them and clients know.
func appendMailbox(dst []byte, a address.Entry) []byte {
	local, domain := a.Local, a.Domain
	if local == "" {
		local = "MISSING_MAILBOX"
	}
	if domain == "" {
		domain = "MISSING_DOMAIN"
	}
	dst = append(dst, '(')
	dst = appendNString(dst, a.Name)
	dst = append(dst, ' ')
	dst = appendNString(dst, a.Route)
	dst = append(dst, ' ')
	dst = AppendString(dst, local)
	dst = append(dst, ' ')
	dst = AppendString(dst, domain)
	return append(dst, ')')
}

// AppendString appends an IMAP string: quoted if it is printable ASCII of moderate length, else
// a literal (RFC 3501 4.3). NULs, which no literal may hold, are left out.
func AppendString(dst []byte, s string) []byte {
	const maxQuoted = 4096
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "")
	}
	quotable := len(s) <= maxQuoted
	for i := 0; i < len(s) && quotable; i++ {
		quotable = s[i] < 0x80 && s[i] != '\r' && s[i] != '\n'
	}
	if !quotable {
		dst = append(dst, '{')
		dst = strconv.AppendInt(dst, int64(len(s)), 10)
		dst = append(dst, "}\r\n"...)
		return append(dst, s...)
	}
	dst = append(dst, '"')
	for i := 0; i < len(s); i++ {
		if s[i] == '"' || s[i] == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, s[i])
	}
	return append(dst, '"')
}

func appendNString(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, "NIL"...)
	}
	return AppendString(dst, s)
}

// AppendBodyStructure appends BODYSTRUCTURE if extended, else BODY (RFC 3501 7.4.2).
func (s *Structure) AppendBodyStructure(dst []byte, extended bool) []byte {
	return s.Root.appendBody(dst, extended)
}

func (p *Part) appendBody(dst []byte, extended bool) []byte {
	if p.IsMultipart() {
		return p.appendMultipart(dst, extended)
	}
	dst = append(dst, '(')
	switch {
	case p.IsMessage():
		dst = p.appendBasic(dst, p.Type, p.Subtype)
		m := p.Children[0]
		dst = append(dst, ' ')
		dst = m.Envelope.appendIMAP(dst)
		dst = append(dst, ' ')
		dst = m.appendBody(dst, extended)
		dst = append(dst, ' ')
		dst = strconv.AppendInt(dst, p.BodyLines, 10)
	case p.Type == "text":
		dst = p.appendBasic(dst, p.Type, p.Subtype)
		dst = append(dst, ' ')
		dst = strconv.AppendInt(dst, p.BodyLines, 10)
	case p.Type == "multipart", p.Type == "message" && isMessageSubtype(p.Subtype):
		// Not looked into: the syntax has no form for it but that of unknown data.
		dst = p.appendBasic(dst, "application", "octet-stream")
	default:
		dst = p.appendBasic(dst, p.Type, p.Subtype)
	}
	if extended {
		dst = append(dst, ' ')
		dst = appendNString(dst, p.MD5)
		dst = p.appendExtension(dst)
	}
	return append(dst, ')')
}

func isMessageSubtype(subtype string) bool { return subtype == "rfc822" || subtype == "global" }

func (p *Part) appendMultipart(dst []byte, extended bool) []byte {
	dst = append(dst, '(')
	for _, c := range p.Children {
		dst = c.appendBody(dst, extended)
	}
	if len(p.Children) == 0 {
		// The syntax asks for one part at least.
		empty := Part{Type: "text", Subtype: "plain"}
		dst = empty.appendBody(dst, extended)
	}
	dst = append(dst, ' ')
	dst = AppendString(dst, p.Subtype)
	if extended {
		dst = append(dst, ' ')
		dst = appendIMAPParams(dst, p.Params)
		dst = p.appendExtension(dst)
	}
	return append(dst, ')')
}

// appendBasic writes the fields that all single parts have.
func (p *Part) appendBasic(dst []byte, major, minor string) []byte {
	dst = AppendString(dst, major)
	dst = append(dst, ' ')
	dst = AppendString(dst, minor)
	dst = append(dst, ' ')
	if p.Type == "text" && len(p.Params) == 0 {
		dst = append(dst, `("charset" "us-ascii")`...) // RFC 2045 5.2
	} else {
		dst = appendIMAPParams(dst, p.Params)
	}
	dst = append(dst, ' ')
	dst = appendNString(dst, p.ID)
	dst = append(dst, ' ')
	dst = appendNString(dst, p.Description)
	dst = append(dst, ' ')
	encoding := p.Encoding
	if encoding == "" {
		encoding = "7bit" // RFC 2045 6.1
	}
	dst = AppendString(dst, encoding)
	dst = append(dst, ' ')
	return strconv.AppendInt(dst, p.End-p.BodyStart, 10)
}

// appendExtension writes disposition, language and location.
func (p *Part) appendExtension(dst []byte) []byte {
	dst = append(dst, ' ')
	if p.Disposition == "" {
		dst = append(dst, "NIL"...)
	} else {
		dst = append(dst, '(')
		dst = AppendString(dst, p.Disposition)
		dst = append(dst, ' ')
		dst = appendIMAPParams(dst, p.DispParams)
		dst = append(dst, ')')
	}
	dst = append(dst, ' ')
	switch len(p.Language) {
	case 0:
		dst = append(dst, "NIL"...)
	case 1:
		dst = AppendString(dst, p.Language[0])
	default:
		for i, l := range p.Language {
			dst = append(dst, "( "[min(i, 1)])
			dst = AppendString(dst, l)
		}
		dst = append(dst, ')')
	}
	dst = append(dst, ' ')
	return appendNString(dst, p.Location)
}

func appendIMAPParams(dst []byte, params []Param) []byte {
	if len(params) == 0 {
		return append(dst, "NIL"...)
	}
	for i, q := range params {
		dst = append(dst, "( "[min(i, 1)])
		dst = AppendString(dst, q.Name)
		dst = append(dst, ' ')
		dst = AppendString(dst, q.Value)
	}
	return append(dst, ')')
}
