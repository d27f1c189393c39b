package transport

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"

	"pillarbox/protocol/smtp"
)

const (
	maxReceived  = 50       // RFC 5321 6.3
	copyBuffer   = 32 << 10 // also how much of a header line is looked at at once
	maxFieldName = 100
	maxFrom      = 4 << 10 // of the From of a submission
)

// headerPass copies a message and looks at its header on the way. Without edit it changes no
// byte; with it, it does what a submission server does (RFC 6409 8): Bcc goes, a Date and a
// Message-ID that are missing come. It holds one buffer, whatever the message.
type headerPass struct {
	edit      bool
	date      string // to add
	messageID string // to add

	received           int
	hasDate, hasID     bool
	froms              int    // From fields seen
	from               []byte // what they hold, up to a little more than maxFrom
	inFrom             bool
	begun, drop, ended bool
}

// copy copies br to w to the end. Errors of br come as they are.
func (h *headerPass) copy(w io.Writer, br *bufio.Reader) error {
	first := true // at the start of a line
	for !h.ended {
		piece, err := br.ReadSlice('\n')
		if len(piece) > 0 {
			if werr := h.piece(w, piece, first); werr != nil {
				return werr
			}
			first = piece[len(piece)-1] == '\n'
		}
		switch {
		case err == io.EOF: // not errors.Is: a lost connection may wrap it
			return h.end(w)
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return err
		}
	}
	for {
		_, err := br.Peek(1)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		piece, err := br.Peek(br.Buffered())
		if err == nil {
			_, err = w.Write(piece)
		}
		if err == nil {
			_, err = br.Discard(len(piece))
		}
		if err != nil {
			return err
		}
	}
}

// piece takes a line of the header, or a part of a very long one.
func (h *headerPass) piece(w io.Writer, piece []byte, first bool) error {
	if first {
		if err := h.line(w, piece); err != nil {
			return err
		}
	}
	h.begun = true
	if h.inFrom && !h.ended && len(h.from) <= maxFrom {
		h.from = append(h.from, piece[:min(len(piece), maxFrom+1)]...)
	}
	if h.drop {
		return nil
	}
	_, err := w.Write(piece)
	return err
}

// line looks at the beginning of a line.
func (h *headerPass) line(w io.Writer, piece []byte) error {
	if len(bytes.TrimRight(piece, "\r\n")) == 0 {
		h.drop = false
		return h.end(w)
	}
	if piece[0] == ' ' || piece[0] == '\t' {
		return nil // the field goes on, and is dropped or not like its first line
	}
	h.drop, h.inFrom = false, false
	name, ok := fieldName(piece)
	if !ok {
		if !h.begun && h.edit {
			// No header at all: what is added becomes one, and all that came its body.
			if err := h.end(w); err != nil {
				return err
			}
			_, err := io.WriteString(w, "\r\n")
			return err
		}
		return nil
	}
	switch strings.ToLower(name) {
	case "received":
		h.received++
	case "date":
		h.hasDate = true
	case "message-id":
		h.hasID = true
	case "bcc":
		h.drop = h.edit
	case "from":
		h.froms++
		h.inFrom = h.edit
	}
	return nil
}

// fromField is the value of From, empty when there is none. Two of them are refused (RFC 5322
// 3.6), since programs differ in which one they show, and so is one too long to judge.
func (h *headerPass) fromField() (string, error) {
	switch {
	case h.froms > 1:
		return "", &smtp.Error{
			Code: 550, Enhanced: [3]int{5, 6, 0}, Message: "the message has more than one From",
		}
	case len(h.from) > maxFrom:
		return "", &smtp.Error{
			Code: 550, Enhanced: [3]int{5, 6, 0}, Message: "the From of the message is too long",
		}
	}
	_, value, _ := bytes.Cut(h.from, []byte(":"))
	return string(bytes.ReplaceAll(value, []byte("\r\n"), nil)), nil
}

// end adds what is missing at the end of the header.
func (h *headerPass) end(w io.Writer) error {
	if h.ended {
		return nil
	}
	h.ended = true
	if !h.edit {
		return nil
	}
	var add string
	if !h.hasDate {
		add = "Date: " + h.date + "\r\n"
	}
	if !h.hasID {
		add += "Message-ID: " + h.messageID + "\r\n"
	}
	_, err := io.WriteString(w, add)
	return err
}

// fieldName is what stands before the colon (RFC 5322 2.2; blanks before it as in 4.5).
func fieldName(line []byte) (string, bool) {
	i := bytes.IndexByte(line[:min(len(line), maxFieldName)], ':')
	if i <= 0 {
		return "", false
	}
	name := bytes.TrimRight(line[:i], " \t")
	for _, c := range name {
		if c <= ' ' || c >= 0x7f {
			return "", false
		}
	}
	return string(name), len(name) > 0
}
