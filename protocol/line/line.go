package line

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// Errors that end a session.
var (
	ErrBareLF  = errors.New("lines must end with CRLF")
	ErrSkipped = errors.New("line far too long")
)

// Lines that Read returns in place of ones that cannot be commands. A real line never has a CR
// in it.
const (
	TooLong     = "\rlong"
	HasControls = "\rcontrol"
)

// Read reads up to CRLF and returns the line without it: at most limit bytes. For a longer line, or
// one with a bare CR or NUL, it returns TooLong or HasControls, once it is read to its end. The end
// of the input inside a line, or before one, is io.ErrUnexpectedEOF.
func Read(br *bufio.Reader, limit, skip int) (string, error) {
	var line []byte
	skipped := 0
	for {
		frag, err := br.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return "", err
		}
		if skipped > 0 || len(line)+len(frag) > limit+2 {
			if skipped += len(frag); skipped > skip {
				return "", ErrSkipped
			}
			// The last two bytes are kept to see how the line ends.
			line = append(line, frag[max(0, len(frag)-2):]...)
			line = append(line[:0], line[max(0, len(line)-2):]...)
		} else {
			line = append(line, frag...)
		}
		if err == nil {
			break
		}
	}
	if !bytes.HasSuffix(line, []byte("\r\n")) {
		return "", ErrBareLF
	}
	line = line[:len(line)-2]
	switch {
	case skipped > 0:
		return TooLong, nil
	case bytes.ContainsAny(line, "\r\x00"):
		return HasControls, nil
	}
	return string(line), nil
}
