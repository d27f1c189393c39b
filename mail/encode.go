package mail

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrBlob tells that bytes are no encoded Structure.
var ErrBlob = errors.New("structure blob is damaged")

const blobVersion = 1

// Bits that tell which optional fields of a part follow.
const (
	partParams = 1 << iota
	partEncoding
	partID
	partDescription
	partMD5
	partLocation
	partDisposition
	partLanguage
	partOpaque
	partEnvelope
	partChildren
)

// AppendBinary appends the blob: version, flags, uvarint size, then the parts in pre-order:
//
//	uvarint bits | gap | header length | body length | header lines | body lines
//	string type | string subtype | the optional fields in the order of their bits
//
// Numbers are uvarints, strings have their length in front. The gap counts from the end of the
// sibling before, or from the beginning of the parent's body.
func (s *Structure) AppendBinary(dst []byte) []byte {
	var flags byte
	for bit, set := range s.flagBits() {
		if *set {
			flags |= 1 << bit
		}
	}
	dst = append(dst, blobVersion, flags)
	dst = binary.AppendUvarint(dst, uint64(s.Size))
	return s.Root.appendBinary(dst, 0)
}

// flagBits lists the flags in the order of their bits, from bit 0.
func (s *Structure) flagBits() [5]*bool {
	return [...]*bool{&s.Header8Bit, &s.Body8Bit, &s.HasNUL, &s.BareLineEnd, &s.Truncated}
}

func (p *Part) appendBinary(dst []byte, from int64) []byte {
	bits := p.bits()
	for _, n := range [...]int64{
		int64(bits), p.HeaderStart - from, p.BodyStart - p.HeaderStart,
		p.End - p.BodyStart, p.HeaderLines, p.BodyLines,
	} {
		dst = binary.AppendUvarint(dst, uint64(n))
	}
	dst = appendBlobString(dst, p.Type)
	dst = appendBlobString(dst, p.Subtype)
	if bits&partParams != 0 {
		dst = appendParams(dst, p.Params)
	}
	for i, f := range p.optional() {
		if bits&(partEncoding<<i) != 0 {
			dst = appendBlobString(dst, *f)
		}
	}
	if bits&partDisposition != 0 {
		dst = appendParams(dst, p.DispParams)
	}
	if bits&partLanguage != 0 {
		dst = binary.AppendUvarint(dst, uint64(len(p.Language)))
		for _, l := range p.Language {
			dst = appendBlobString(dst, l)
		}
	}
	if bits&partEnvelope != 0 {
		for _, f := range p.Envelope.fields() {
			dst = appendBlobString(dst, *f)
		}
	}
	if bits&partChildren == 0 {
		return dst
	}
	dst = binary.AppendUvarint(dst, uint64(len(p.Children)))
	at := p.BodyStart
	for _, c := range p.Children {
		dst = c.appendBinary(dst, at)
		at = c.End
	}
	return dst
}

// optional lists the string fields in the order of their bits, from partEncoding on.
func (p *Part) optional() [6]*string {
	return [...]*string{
		&p.Encoding, &p.ID, &p.Description, &p.MD5, &p.Location, &p.Disposition,
	}
}

func (p *Part) bits() int {
	bits := 0
	for i, f := range p.optional() {
		if *f != "" {
			bits |= partEncoding << i
		}
	}
	if len(p.Params) > 0 {
		bits |= partParams
	}
	if len(p.Language) > 0 {
		bits |= partLanguage
	}
	if p.Opaque {
		bits |= partOpaque
	}
	if p.Envelope != nil {
		bits |= partEnvelope
	}
	if len(p.Children) > 0 {
		bits |= partChildren
	}
	return bits
}

func appendBlobString(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

func appendParams(dst []byte, params []Param) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(params)))
	for _, q := range params {
		dst = appendBlobString(dst, q.Name)
		dst = appendBlobString(dst, q.Value)
	}
	return dst
}

// Decode reads a blob that AppendBinary wrote. It checks all that later code relies on.
func Decode(blob []byte) (*Structure, error) {
	if len(blob) < 2 {
		return nil, fmt.Errorf("%w: too short", ErrBlob)
	}
	if blob[0] != blobVersion {
		return nil, fmt.Errorf("%w: version %d", ErrBlob, blob[0])
	}
	var s Structure
	for bit, set := range s.flagBits() {
		*set = blob[1]&(1<<bit) != 0
	}
	// One conversion; the strings of the tree are parts of it.
	d := blobReader{rest: string(blob[2:])}
	s.Size = d.number()
	s.Root = d.part(0, s.Size, 0)
	switch {
	case d.bad != "":
		return nil, fmt.Errorf("%w: %s", ErrBlob, d.bad)
	case d.rest != "":
		return nil, fmt.Errorf("%w: bytes behind the end", ErrBlob)
	case s.Root.Envelope == nil || s.Root.HeaderStart != 0 || s.Root.End != s.Size:
		return nil, fmt.Errorf("%w: root", ErrBlob)
	}
	return &s, nil
}

// blobReader reads until the first damage, which it remembers; then all reads give zero.
type blobReader struct {
	rest  string
	bad   string
	parts int
}

func (d *blobReader) fail(what string) {
	if d.bad == "" {
		d.bad = what
	}
	d.rest = ""
}

func (d *blobReader) number() int64 {
	var v uint64
	for i := 0; i < len(d.rest) && i < 9; i++ {
		c := d.rest[i]
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			d.rest = d.rest[i+1:]
			return int64(v)
		}
	}
	d.fail("number")
	return 0
}

func (d *blobReader) text() string {
	n := d.number()
	if n > int64(len(d.rest)) {
		d.fail("string")
		return ""
	}
	s := d.rest[:n]
	d.rest = d.rest[n:]
	return s
}

// count reads a number of elements of at least size bytes each.
func (d *blobReader) count(size int) int {
	n := d.number()
	if n > int64(len(d.rest)/size) {
		d.fail("count")
		return 0
	}
	return int(n)
}

func (d *blobReader) params() []Param {
	n := d.count(2)
	if n == 0 {
		return nil
	}
	params := make([]Param, n)
	for i := range params {
		params[i] = Param{Name: d.text(), Value: d.text()}
	}
	return params
}

// part reads a part that lies between from and limit.
func (d *blobReader) part(from, limit int64, depth int) *Part {
	p := new(Part)
	d.parts++
	if depth > maxDepth || d.parts > maxParts {
		d.fail("limit")
		return p
	}
	bits := int(d.number())
	p.HeaderStart = d.offset(from, limit)
	p.BodyStart = d.offset(p.HeaderStart, limit)
	p.End = d.offset(p.BodyStart, limit)
	p.HeaderLines, p.BodyLines = d.number(), d.number()
	if p.HeaderLines > p.BodyStart-p.HeaderStart || p.BodyLines > p.End-p.BodyStart {
		d.fail("lines")
	}
	p.Type, p.Subtype = d.text(), d.text()
	d.optional(p, bits)
	if bits&partChildren != 0 {
		n := d.count(8)
		at := p.BodyStart
		for i := 0; i < n && d.bad == ""; i++ {
			c := d.part(at, p.End, depth+1)
			p.Children = append(p.Children, c)
			at = c.End
		}
	}
	if p.Type == "message" && len(p.Children) > 0 &&
		(len(p.Children) > 1 || p.Children[0].Envelope == nil) {
		d.fail("message")
	}
	return p
}

// offset reads a distance from a place and checks that it does not pass the limit.
func (d *blobReader) offset(from, limit int64) int64 {
	n := d.number()
	if n > limit-from {
		d.fail("offset")
		return from
	}
	return from + n
}

func (d *blobReader) optional(p *Part, bits int) {
	if bits&partParams != 0 {
		p.Params = d.params()
	}
	for i, f := range p.optional() {
		if bits&(partEncoding<<i) != 0 {
			*f = d.text()
		}
	}
	if bits&partDisposition != 0 {
		p.DispParams = d.params()
	}
	if bits&partLanguage != 0 {
		for n := d.count(1); n > 0; n-- {
			p.Language = append(p.Language, d.text())
		}
	}
	p.Opaque = bits&partOpaque != 0
	if bits&partEnvelope != 0 {
		p.Envelope = new(Envelope)
		for _, f := range p.Envelope.fields() {
			*f = d.text()
		}
	}
}
