package mail

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// maxFieldName bounds a field name; a longer one is no field.
const maxFieldName = 256

// ScanHeader reads header fields up to the blank line or the end of r and calls fn with the
// name as written and the unfolded value, of which at most maxValue bytes are kept. It stops
// when fn returns false.
func ScanHeader(r io.Reader, maxValue int, fn func(name, value string) bool) error {
	var field []byte
	emit := func() bool {
		name, value, ok := bytes.Cut(field, []byte(":"))
		name = bytes.TrimRight(name, " \t")
		if !ok || len(name) == 0 || len(name) > maxFieldName {
			return true
		}
		return fn(string(name), clip(unfold(value), maxValue))
	}
	limit := maxFieldName + maxValue + 16
	stopped := false
	err := scanLines(r, func(piece []byte, first bool) bool {
		if first && !isFolded(piece) {
			if !emit() {
				stopped = true
				return false
			}
			field = field[:0]
		}
		if keep := limit - len(field); keep > 0 {
			field = append(field, piece[:min(keep, len(piece))]...)
		}
		return true
	})
	if err == nil && !stopped {
		emit()
	}
	return err
}

// FilterHeader copies the fields that match accepts, folding and line ends untouched, from r to
// w and returns how many bytes they are. The blank line at the end is not copied. Two passes,
// the first to io.Discard, give a literal's length without holding the header in memory.
func FilterHeader(w io.Writer, r io.Reader, match func(name string) bool) (int64, error) {
	var (
		total    int64
		take     bool
		writeErr error
	)
	err := scanLines(r, func(piece []byte, first bool) bool {
		if first && !isFolded(piece) {
			name, _, ok := bytes.Cut(piece, []byte(":"))
			name = bytes.TrimRight(name, " \t")
			take = ok && len(name) > 0 && len(name) <= maxFieldName && match(string(name))
		}
		if !take {
			return true
		}
		var n int
		n, writeErr = w.Write(piece)
		total += int64(n)
		return writeErr == nil
	})
	return total, errors.Join(writeErr, err)
}

func isFolded(piece []byte) bool { return piece[0] == ' ' || piece[0] == '\t' }

// scanLines gives the lines of a header in pieces; first tells that a line begins. It ends
// before the blank line.
func scanLines(r io.Reader, fn func(piece []byte, first bool) bool) error {
	br := bufio.NewReaderSize(r, 4096)
	first := true
	for {
		piece, err := br.ReadSlice('\n')
		if len(piece) > 0 {
			if first && len(piece) <= 2 && len(bytes.Trim(piece, "\r\n")) == 0 && err == nil {
				return nil
			}
			if !fn(piece, first) {
				return nil
			}
			first = piece[len(piece)-1] == '\n'
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return err
		}
	}
}
