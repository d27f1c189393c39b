package mail

import "strings"

// Limits of a Structure.
const (
	// MaxBlob bounds the encoded form, in bytes.
	MaxBlob  = 64 << 10
	maxParts = 10_000
	maxDepth = 100
)

// Param is one parameter of Content-Type or Content-Disposition, raw: RFC 2231 and RFC 2047
// encodings are kept as they came.
type Param struct {
	Name, Value string
}

// Structure maps one message.
type Structure struct {
	// Root is the message itself.
	Root *Part
	// Size is the length of the message.
	Size int64
	// Header8Bit tells that some header holds bytes over 127: sending needs SMTPUTF8.
	Header8Bit bool
	// Body8Bit tells that some body does: sending needs 8BITMIME.
	Body8Bit bool
	// HasNUL tells that a zero byte is in the message.
	HasNUL bool
	// BareLineEnd tells that a CR or LF stands alone somewhere.
	BareLineEnd bool
	// Truncated tells that a limit cut the tree short.
	Truncated bool
}

// Part is one entity: the message, a part of a multipart, or the message in a message/rfc822.
type Part struct {
	// HeaderStart, BodyStart and End are offsets in the message.
	HeaderStart, BodyStart, End int64
	// HeaderLines and BodyLines count line feeds.
	HeaderLines, BodyLines int64

	// Type and Subtype are in lower case; "text", "plain" when the field is absent.
	Type, Subtype string
	Params        []Param
	// Encoding is the Content-Transfer-Encoding in lower case, "" when absent.
	Encoding        string
	ID, Description string
	MD5, Location   string
	// Disposition is in lower case, "" when absent.
	Disposition string
	DispParams  []Param
	Language    []string

	// Opaque tells that a multipart or message was not looked into because of a limit.
	Opaque bool
	// Envelope is set for the root and for the message in a message/rfc822.
	Envelope *Envelope
	// Children are the parts of a multipart, or the one message of a message/rfc822.
	Children []*Part
}

// Envelope holds the promoted fields of a message, unfolded, otherwise raw, "" when absent.
type Envelope struct {
	Date, Subject                      string
	From, Sender, ReplyTo, To, Cc, Bcc string
	MessageID, InReplyTo               string
	// References holds the last 20 ids, separated by blanks.
	References string
}

// IsMultipart tells whether p is a multipart that was looked into.
func (p *Part) IsMultipart() bool { return p.Type == "multipart" && !p.Opaque }

// IsMessage tells whether p encapsulates a message (RFC 2046 5.2.1, RFC 6532 3.7).
func (p *Part) IsMessage() bool {
	return p.Type == "message" && len(p.Children) == 1 && !p.Opaque
}

// Param returns the value of a Content-Type parameter, "" when absent.
func (p *Part) Param(name string) string { return paramValue(p.Params, name) }

func paramValue(params []Param, name string) string {
	for _, q := range params {
		if strings.EqualFold(q.Name, name) {
			return q.Value
		}
	}
	return ""
}

// SectionKind is what is asked of a part.
type SectionKind uint8

// Kinds of sections (RFC 3501 6.4.5).
const (
	SectionAll SectionKind = iota
	SectionHeader
	SectionText
	SectionMIME
)

// Section finds the bytes of BODY[path.kind]. It returns false for what does not exist, such as
// the third part of two.
func (s *Structure) Section(path []int, kind SectionKind) (offset, length int64, ok bool) {
	root := s.Root
	if len(path) == 0 {
		switch kind {
		case SectionAll:
			return 0, s.Size, true
		case SectionHeader:
			return 0, root.BodyStart, true
		case SectionText:
			return root.BodyStart, s.Size - root.BodyStart, true
		}
		return 0, 0, false
	}
	p := s.Find(path)
	if p == nil {
		return emptyMultipart(s, path, kind)
	}
	switch kind {
	case SectionAll:
		return p.BodyStart, p.End - p.BodyStart, true
	case SectionMIME:
		return p.HeaderStart, p.BodyStart - p.HeaderStart, true
	}
	// HEADER and TEXT are only for parts that hold a message (RFC 3501 6.4.5).
	if !p.IsMessage() {
		return 0, 0, false
	}
	m := p.Children[0]
	if kind == SectionHeader {
		return m.HeaderStart, m.BodyStart - m.HeaderStart, true
	}
	return m.BodyStart, m.End - m.BodyStart, true
}

// emptyMultipart answers for the empty text part that BODYSTRUCTURE shows in a multipart
// without parts.
func emptyMultipart(s *Structure, path []int, kind SectionKind) (int64, int64, bool) {
	last := len(path) - 1
	if path[last] != 1 || kind != SectionAll && kind != SectionMIME {
		return 0, 0, false
	}
	p := s.Root
	if last > 0 {
		if p = s.Find(path[:last]); p == nil {
			return 0, 0, false
		}
		if p.IsMessage() {
			p = p.Children[0]
		}
	}
	return p.End, 0, p.IsMultipart() && len(p.Children) == 0
}

// Find returns the part with an IMAP part number, nil when there is none. A message that is no
// multipart has itself as part 1.
func (s *Structure) Find(path []int) *Part {
	p, whole := s.Root, true
	for _, n := range path {
		if !whole && p.IsMessage() {
			p, whole = p.Children[0], true
		}
		switch {
		case p.IsMultipart() && n >= 1 && n <= len(p.Children):
			p, whole = p.Children[n-1], false
		case whole && !p.IsMultipart() && n == 1:
			whole = false
		default:
			return nil
		}
	}
	return p
}

// Walk calls fn for each part in pre-order with its IMAP part number ("" for the root of a
// multipart message) until fn returns false. Messages inside message/rfc822 are visited too.
func (s *Structure) Walk(fn func(p *Part) bool) { walk(s.Root, fn) }

func walk(p *Part, fn func(p *Part) bool) bool {
	if !fn(p) {
		return false
	}
	for _, c := range p.Children {
		if !walk(c, fn) {
			return false
		}
	}
	return true
}
