package mail

import (
	"bufio"
	"encoding/base64"
	"errors"
	"io"
)

// BodyReader decodes the body of p, given its raw bytes, in bounded memory: the transfer
// encoding first, then for text the charset, to UTF-8. Broken encodings give what can be read.
func (p *Part) BodyReader(raw io.Reader) io.Reader {
	r := TransferReader(p.Encoding, raw)
	if p.Type == "text" {
		r = charsetReader(p.Param("charset"), r)
	}
	return r
}

// TransferReader undoes a Content-Transfer-Encoding (RFC 2045 6); unknown ones pass unchanged.
func TransferReader(encoding string, raw io.Reader) io.Reader {
	switch encoding {
	case "base64":
		return base64.NewDecoder(base64.RawStdEncoding, &base64Filter{r: bufio.NewReader(raw)})
	case "quoted-printable":
		return &qpReader{r: bufio.NewReader(raw)}
	}
	return raw
}

// base64Filter drops what does not belong to base64, and ends at the padding of a complete
// group (RFC 2045 6.8). A lone last character is dropped too, since it holds no whole byte.
type base64Filter struct {
	r     *bufio.Reader
	count int
	held  int // a character that would begin a group, plus one
	err   error
}

func (f *base64Filter) Read(p []byte) (int, error) {
	n := 0
	for n < len(p)-1 && f.err == nil {
		c, err := f.r.ReadByte()
		if err != nil {
			f.err = err
			break
		}
		if c == '=' && f.count%4 >= 2 {
			f.err = io.EOF
			break
		}
		if !isBase64(c) {
			continue
		}
		if f.count++; f.count%4 == 1 {
			f.held = int(c) + 1
			continue
		}
		if f.held > 0 {
			p[n] = byte(f.held - 1)
			f.held = 0
			n++
		}
		p[n] = c
		n++
	}
	if n > 0 {
		return n, nil
	}
	if f.err == nil && len(p) < 2 {
		return 0, io.ErrShortBuffer
	}
	return 0, f.err
}

func isBase64(c byte) bool {
	return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' ||
		c == '+' || c == '/'
}

// qpReader undoes quoted-printable (RFC 2045 6.7), keeping what is no valid escape.
type qpReader struct {
	r *bufio.Reader
}

func (q *qpReader) Read(p []byte) (int, error) {
	for n := range p {
		c, err := q.next()
		if err != nil {
			if n > 0 && errors.Is(err, io.EOF) {
				return n, nil
			}
			return n, err
		}
		p[n] = c
	}
	return len(p), nil
}

// next returns the next decoded byte, skipping soft line breaks.
func (q *qpReader) next() (byte, error) {
	for {
		c, err := q.r.ReadByte()
		if err != nil || c != '=' {
			return c, err
		}
		ahead, _ := q.r.Peek(2)
		switch {
		case len(ahead) == 2 && isHex(ahead[0]) && isHex(ahead[1]):
			c = unhex(ahead[0])<<4 | unhex(ahead[1])
			_, err = q.r.Discard(2)
			return c, err
		case len(ahead) == 2 && ahead[0] == '\r' && ahead[1] == '\n':
			_, err = q.r.Discard(2)
		case len(ahead) > 0 && ahead[0] == '\n':
			_, err = q.r.Discard(1)
		case len(ahead) == 0:
			return 0, io.EOF
		default:
			return c, nil
		}
		if err != nil {
			return 0, err
		}
	}
}
