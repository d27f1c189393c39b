package mail

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
)

const (
	// maxHeaderLine bounds what is kept of one header line or folded field.
	maxHeaderLine = 32 << 10
	// maxBodyLine is enough for a boundary (at most 70 bytes in RFC 2046 5.1.1; some write
	// more).
	maxBodyLine = 1 << 10
	// envelopeBudget is the share of the blob that the fields of the root may take.
	envelopeBudget = 40 << 10
	// nestedBudget is the same for a message inside.
	nestedBudget = 8 << 10
	// blobReserve is kept for the last, stripped part.
	blobReserve = 1 << 10
)

// Index reads a message to its end and maps it. The only errors are those of r.
func Index(r io.Reader) (*Structure, error) {
	x := NewIndexer()
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		_, _ = x.Write(buf[:n])
		if err == io.EOF {
			return x.Finish(), nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// Indexer maps a message that is written to it in pieces of any size. Its memory is bounded,
// whatever the message.
type Indexer struct {
	s     Structure
	stack []openPart // from the root to the current part
	parts int
	blob  int // bytes the encoded form will take at most

	inHeader bool
	frozen   bool // a limit was reached: boundaries are not looked for

	pos, lines int64 // consumed so far
	lineStart  int64
	lastBreak  int64  // length of the last line end
	line       []byte // beginning of the current line
	lineCR     bool   // the last byte was CR
	field      []byte // beginning of the current folded field
	budget     int    // for the fields of the current envelope
}

// openPart is a part whose end is not yet known.
type openPart struct {
	part      *Part
	boundary  string // of a multipart
	ended     bool   // the closing boundary was seen
	bodyLines int64  // lines counted at BodyStart
	headLines int64  // lines counted at HeaderStart
}

// NewIndexer begins a message.
func NewIndexer() *Indexer {
	x := &Indexer{blob: 32}
	x.s.Root = &Part{Envelope: new(Envelope)}
	x.push(x.s.Root)
	return x
}

// Write takes the next bytes. It never fails.
func (x *Indexer) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			x.piece(p)
			return n, nil
		}
		x.piece(p[:i])
		bare := !x.lineCR
		x.pos++
		x.lines++
		x.s.BareLineEnd = x.s.BareLineEnd || bare
		x.lineCR = false
		x.endLine(bare)
		p = p[i+1:]
	}
	return n, nil
}

// piece takes bytes of one line, without its LF.
func (x *Indexer) piece(p []byte) {
	if len(p) == 0 {
		return
	}
	if x.lineCR {
		x.s.BareLineEnd = true // the CR before was not followed by LF
	}
	limit := maxBodyLine
	if x.inHeader {
		limit = maxHeaderLine
	}
	if keep := limit - len(x.line); keep > 0 && (x.inHeader || x.couldBeBoundary(p)) {
		x.line = append(x.line, p[:min(keep, len(p))]...)
	}
	x.inspect(p)
	x.lineCR = p[len(p)-1] == '\r'
	x.pos += int64(len(p))
}

// couldBeBoundary spares copying body lines that do not begin with a hyphen.
func (x *Indexer) couldBeBoundary(p []byte) bool {
	if x.frozen {
		return false
	}
	if len(x.line) > 0 {
		return x.line[0] == '-'
	}
	return x.pos == x.lineStart && p[0] == '-'
}

// inspect looks for what transport must know of: 8-bit bytes, NUL, lone CR.
func (x *Indexer) inspect(p []byte) {
	flag := &x.s.Body8Bit
	if x.inHeader {
		flag = &x.s.Header8Bit
	}
	if !*flag {
		*flag = has8Bit(p)
	}
	if !x.s.HasNUL && bytes.IndexByte(p, 0) >= 0 {
		x.s.HasNUL = true
	}
	if i := bytes.IndexByte(p, '\r'); i >= 0 && i < len(p)-1 {
		x.s.BareLineEnd = true
	}
}

// has8Bit looks at eight bytes at once: all bytes of all mail pass here.
func has8Bit(p []byte) bool {
	const high = 0x8080808080808080
	for len(p) >= 8 {
		if binary.LittleEndian.Uint64(p)&high != 0 {
			return true
		}
		p = p[8:]
	}
	for _, c := range p {
		if c >= 0x80 {
			return true
		}
	}
	return false
}

// endLine handles a whole line; pos is behind its LF.
func (x *Indexer) endLine(bare bool) {
	lineBreak := int64(2)
	if bare {
		lineBreak = 1
	}
	x.handleLine(lineBreak, 1)
	x.lastBreak = lineBreak
}

// handleLine judges a line that ends with lineBreak bytes and lf line feeds (0 at the end of a
// message that lacks the last one).
func (x *Indexer) handleLine(lineBreak, lf int64) {
	line := bytes.TrimSuffix(x.line, []byte("\r"))
	start := x.lineStart
	x.lineStart = x.pos
	defer func() { x.line = x.line[:0] }()
	if len(line) >= 2 && line[0] == '-' && line[1] == '-' && !x.frozen {
		if level, closing := x.match(line); level >= 0 {
			x.delimiter(level, closing, start, x.lines-lf)
			return
		}
	}
	switch {
	case !x.inHeader:
	case x.pos-start == lineBreak:
		x.finishHeader(x.pos, x.lines)
		x.descend()
	default:
		x.headerLine(line)
	}
}

// headerLine gathers a field over its continuation lines.
func (x *Indexer) headerLine(line []byte) {
	if len(line) > 0 && (line[0] == ' ' || line[0] == '\t') {
		if len(x.field) > 0 && len(x.field) < maxHeaderLine {
			x.field = append(x.field, '\n')
			x.field = append(x.field, line[:min(len(line), maxHeaderLine-len(x.field)+1)]...)
		}
		return
	}
	x.flushField()
	x.field = append(x.field[:0], line...)
}

func (x *Indexer) flushField() {
	name, value, ok := bytes.Cut(x.field, []byte(":"))
	defer func() { x.field = x.field[:0] }()
	name = bytes.TrimRight(name, " \t")
	if !ok || len(name) == 0 || len(name) > maxToken {
		return
	}
	lower := strings.ToLower(string(name))
	p := x.top().part
	if strings.HasPrefix(lower, "content-") {
		p.setContentField(lower, unfold(value))
		return
	}
	if p.Envelope == nil {
		return
	}
	if slot, _ := p.Envelope.fieldSlot(lower); slot != nil {
		before := p.Envelope.size()
		p.Envelope.set(lower, unfold(value), x.budget)
		x.budget -= p.Envelope.size() - before
	}
}

func (x *Indexer) top() *openPart { return &x.stack[len(x.stack)-1] }

// match finds the innermost open multipart that a line delimits.
func (x *Indexer) match(line []byte) (level int, closing bool) {
	rest := line[2:]
	for i := len(x.stack) - 1; i >= 0; i-- {
		o := &x.stack[i]
		if o.boundary == "" || o.ended || !bytes.HasPrefix(rest, []byte(o.boundary)) {
			continue
		}
		tail := rest[len(o.boundary):]
		// Blanks behind the boundary are transport padding (RFC 2046 5.1.1).
		if len(bytes.Trim(tail, " \t")) == 0 {
			return i, false
		}
		if bytes.HasPrefix(tail, []byte("--")) {
			return i, true
		}
	}
	return -1, false
}

// delimiter ends the parts above the multipart at level and begins the next one. start and
// lines are the place where the delimiter line begins.
func (x *Indexer) delimiter(level int, closing bool, start, lines int64) {
	if x.inHeader {
		x.finishHeader(start, lines) // no blank line: the part is all header
	}
	x.closeTo(level+1, start, lines, x.lastBreak)
	m := x.top()
	if closing {
		m.ended = true
		return
	}
	child := &Part{HeaderStart: x.pos}
	m.part.Children = append(m.part.Children, child)
	x.push(child)
}

// closeTo ends the parts above depth. The line break in front of start belongs to the
// delimiter there, if the part has a body at all (RFC 2046 5.1.1).
func (x *Indexer) closeTo(depth int, start, lines, lineBreak int64) {
	end, endLines := start-lineBreak, lines
	if lineBreak > 0 {
		endLines--
	}
	for len(x.stack) > depth {
		o := x.top()
		if end < o.part.BodyStart {
			end, endLines = start, lines
		}
		o.part.End = end
		o.part.BodyLines = endLines - o.bodyLines
		x.stack = x.stack[:len(x.stack)-1]
	}
}

// push begins a part with its header. At a limit it becomes the last one: opaque, to the end.
func (x *Indexer) push(p *Part) {
	x.stack = append(x.stack, openPart{part: p, headLines: x.lines})
	x.inHeader = true
	x.parts++
	if p.Envelope != nil {
		x.budget = min(nestedBudget, MaxBlob-x.blob-blobReserve)
		if x.parts == 1 {
			x.budget = envelopeBudget
		}
	}
	if x.parts >= maxParts || x.blob > MaxBlob-2*blobReserve {
		x.frozen, x.s.Truncated = true, true
	}
}

// finishHeader ends the header of the current part; its body begins at bodyStart.
func (x *Indexer) finishHeader(bodyStart, lines int64) {
	x.flushField()
	x.inHeader = false
	o := x.top()
	p := o.part
	p.BodyStart = bodyStart
	p.HeaderLines = lines - o.headLines
	o.bodyLines = lines
	if p.Type == "" {
		p.Type, p.Subtype = "text", "plain"
		// RFC 2046 5.1.5
		if len(x.stack) > 1 && x.stack[len(x.stack)-2].part.isDigest() && p.Envelope == nil {
			p.Type, p.Subtype = "message", "rfc822"
		}
	}
	if p.Type == "multipart" {
		o.boundary = strings.TrimRight(p.Param("boundary"), " \t")
		if o.boundary == "" {
			// Nothing can be found in it: it is text (RFC 2045 5.2).
			p.Type, p.Subtype, p.Params = "text", "plain", nil
		}
	}
	if x.blob+p.cost() > MaxBlob-blobReserve {
		p.strip()
		x.s.Truncated = true
		if p.Envelope != nil && x.blob+p.cost() > MaxBlob-blobReserve {
			*p.Envelope = Envelope{}
		}
	}
	x.blob += p.cost()
}

// descend looks into the body that begins here, unless a limit forbids it.
func (x *Indexer) descend() {
	o := x.top()
	p := o.part
	message := p.Type == "message" && isMessageSubtype(p.Subtype)
	if p.Type != "multipart" && !message {
		return
	}
	if x.frozen || len(x.stack) >= maxDepth {
		p.Opaque, x.s.Truncated, o.boundary = true, true, ""
		return
	}
	if message {
		child := &Part{HeaderStart: x.pos, Envelope: new(Envelope)}
		p.Children = []*Part{child}
		x.push(child)
	}
}

// Finish ends the message and returns its map. The Indexer must not be used after it.
func (x *Indexer) Finish() *Structure {
	if x.lineCR {
		x.s.BareLineEnd = true
	}
	if x.pos > x.lineStart {
		x.handleLine(0, 0)
	}
	for x.inHeader {
		x.finishHeader(x.pos, x.lines)
		x.descend()
	}
	x.closeTo(0, x.pos, x.lines, 0)
	x.s.Size = x.pos
	return &x.s
}

func (p *Part) isDigest() bool { return p.Type == "multipart" && p.Subtype == "digest" }

// cost bounds the bytes that p takes in the blob, for messages below 32 GiB.
func (p *Part) cost() int {
	n := 40 + len(p.Type) + len(p.Subtype) + len(p.Encoding) + len(p.ID) + len(p.Description) +
		len(p.MD5) + len(p.Location) + len(p.Disposition)
	for _, q := range p.Params {
		n += len(q.Name) + len(q.Value) + 3
	}
	for _, q := range p.DispParams {
		n += len(q.Name) + len(q.Value) + 3
	}
	for _, l := range p.Language {
		n += len(l) + 1
	}
	if p.Envelope != nil {
		n += p.Envelope.size()
	}
	return n
}

// strip drops what can be read again from the part's header.
func (p *Part) strip() {
	p.Params, p.DispParams, p.Language = nil, nil, nil
	p.ID, p.Description, p.MD5, p.Location = "", "", "", ""
}
