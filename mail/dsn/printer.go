package dsn

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"unicode/utf8"
)

// maxLine keeps our own lines below the 78 of RFC 5322 2.1.1 where blanks allow it, hardLine
// below the 998 of its hard limit where they do not.
const (
	maxLine  = 76
	hardLine = 900
)

// printer writes lines and remembers the first error.
type printer struct {
	w        *bufio.Writer
	boundary string
	n        int64
	err      error
}

func (p *printer) keep(err error) {
	if p.err == nil {
		p.err = err
	}
}

func (p *printer) write(b []byte) {
	if p.err != nil {
		return
	}
	n, err := p.w.Write(b)
	p.n += int64(n)
	p.keep(err)
}

func (p *printer) line(s string) { p.write([]byte(s + "\r\n")) }

func (p *printer) encoding(eightBit bool) {
	if eightBit {
		p.field("Content-Transfer-Encoding", "8bit")
	}
}

func (p *printer) field(name, value string) { p.fold(name+": "+clean(value), "\t") }

func (p *printer) wrapped(text string) { p.fold(clean(text), "    ") }

// fold writes a line in pieces; those behind the first begin with indent.
func (p *printer) fold(s, indent string) {
	lead := ""
	for len(s) > maxLine {
		cut := strings.LastIndexByte(s[:maxLine], ' ')
		if colon := strings.Index(s, ": ") + 1; cut <= 0 || cut == colon {
			// No blank to fold at, but the one behind the field name, which may not stand alone.
			next := strings.IndexByte(s[maxLine:], ' ')
			if cut = maxLine + next; next < 0 || cut > hardLine {
				cut = min(hardLine, len(s))
				for cut < len(s) && cut > 0 && !utf8.RuneStart(s[cut]) {
					cut--
				}
			}
		}
		p.line(lead + s[:cut])
		s = strings.TrimLeft(s[cut:], " ")
		lead = indent
	}
	if s != "" {
		p.line(lead + s)
	}
}

func (p *printer) copy(r io.Reader) {
	if p.err != nil {
		return
	}
	n, err := io.Copy(p.w, r)
	p.n += n
	p.keep(err)
}

// copyHeader copies up to the blank line that ends a header.
func (p *printer) copyHeader(r io.Reader) {
	br := bufio.NewReaderSize(r, 4096)
	for first := true; p.err == nil; {
		piece, err := br.ReadSlice('\n')
		if first && len(bytes.Trim(piece, "\r\n")) == 0 {
			if !errors.Is(err, io.EOF) {
				p.keep(err)
			}
			return
		}
		p.write(piece)
		first = bytes.HasSuffix(piece, []byte("\n"))
		if errors.Is(err, io.EOF) {
			return
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			p.keep(err)
		}
	}
}
