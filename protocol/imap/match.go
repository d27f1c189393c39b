package imap

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"pillarbox/mail"
)

// SearchByFetch searches without an index: it walks over the candidates and asks Match.
func SearchByFetch(ctx context.Context, m Mailbox, k *Criteria, fn func(UID, ModSeq) error) error {
	set := k.Range()
	if len(set) == 0 {
		return nil
	}
	return m.Fetch(ctx, set, k.Want(), func(msg *Message) error {
		ok, err := k.Match(ctx, msg)
		if err != nil || !ok {
			return err
		}
		return fn(msg.UID, msg.ModSeq)
	})
}

// Match tells whether a message fits. The message must hold what Want says.
func (k *Criteria) Match(ctx context.Context, m *Message) (bool, error) {
	e := &evaluation{ctx: ctx, source: source{message: m}}
	defer e.close()
	return e.match(k)
}

// evaluation is one message under one search.
type evaluation struct {
	ctx context.Context
	source
}

func (e *evaluation) match(k *Criteria) (bool, error) {
	m := e.message
	switch k.Op {
	case OpAll:
		return true, nil
	case OpUIDs:
		return k.UIDs.Contains(m.UID), nil
	case OpFlag:
		return slices.ContainsFunc(m.Flags, func(f Flag) bool {
			return strings.EqualFold(string(f), string(k.Flag))
		}), nil
	case OpModSeq:
		return m.ModSeq >= k.ModSeq, nil
	case OpLarger:
		return m.Size > k.Size, nil
	case OpSmaller:
		return m.Size < k.Size, nil
	case OpBefore, OpOn, OpSince:
		return compareDay(m.InternalDate, k.Date, k.Op-OpBefore), nil
	case OpSentBefore, OpSentOn, OpSentSince:
		return e.matchSent(k)
	case OpAnd, OpOr:
		for _, c := range k.Children {
			ok, err := e.match(c)
			if err != nil || ok == (k.Op == OpOr) {
				return ok, err
			}
		}
		return k.Op == OpAnd, nil
	case OpNot:
		ok, err := e.match(k.Children[0])
		return !ok, err
	}
	return e.matchContent(k)
}

// compareDay compares days, whatever the zone of t is (RFC 3501 6.4.4). how is 0 for before, 1
// for on, 2 for since.
func compareDay(t, day time.Time, how Op) bool {
	y, m, d := t.Date()
	t = time.Date(y, m, d, 0, 0, 0, 0, time.UTC)
	switch how {
	case 0:
		return t.Before(day)
	case 1:
		return t.Equal(day)
	}
	return !t.Before(day)
}

func (e *evaluation) matchSent(k *Criteria) (bool, error) {
	if err := e.decode(e.ctx); err != nil {
		return false, err
	}
	t, ok := mail.ParseDate(e.structure.Root.Envelope.Date)
	return ok && compareDay(t, k.Date, k.Op-OpSentBefore), nil
}

// maxSearchField bounds what is looked at of one header field.
const maxSearchField = 64 << 10

func (e *evaluation) matchContent(k *Criteria) (bool, error) {
	if err := e.decode(e.ctx); err != nil {
		return false, err
	}
	needle := fold(k.Text)
	if k.Op == OpHeader {
		if found, known := e.promoted(k.Name, needle); known {
			return found, nil
		}
	}
	if err := e.open(e.ctx); err != nil {
		return false, err
	}
	if k.Op == OpHeader {
		return e.headerContains(e.structure.Root, func(name, value string) bool {
			return strings.EqualFold(name, k.Name) && contains(mail.DecodeHeader(value), needle)
		})
	}
	if needle == "" {
		return true, nil
	}
	return e.partsContain(needle, k.Op == OpText)
}

// promoted answers from the envelope where that holds the whole field, so that the message need
// not be opened. A long value may be cut, and a structure at its limits may lack fields.
func (e *evaluation) promoted(name, needle string) (found, known bool) {
	const surelyWhole = 900
	env := e.structure.Root.Envelope
	var value string
	switch strings.ToLower(name) {
	case "from":
		value = env.From
	case "sender":
		value = env.Sender
	case "reply-to":
		value = env.ReplyTo
	case "to":
		value = env.To
	case "cc":
		value = env.Cc
	case "bcc":
		value = env.Bcc
	case "subject":
		value = env.Subject
	case "message-id":
		value = env.MessageID
	case "in-reply-to":
		value = env.InReplyTo
	default:
		return false, false
	}
	switch {
	case e.structure.Truncated, len(value) > surelyWhole, value == "" && needle == "":
		return false, false
	}
	return value != "" && contains(mail.DecodeHeader(value), needle), true
}

func (e *evaluation) headerContains(
	p *mail.Part, test func(name, value string) bool,
) (found bool, err error) {
	header := io.NewSectionReader(e.body, p.HeaderStart, p.BodyStart-p.HeaderStart)
	err = mail.ScanHeader(header, maxSearchField, func(name, value string) bool {
		found = test(name, value)
		return !found
	})
	return found, err
}

// partsContain looks through the text parts, and with headers through the headers of the
// message and of those in it.
func (e *evaluation) partsContain(needle string, headers bool) (found bool, err error) {
	e.structure.Walk(func(p *mail.Part) bool {
		if headers && p.Envelope != nil {
			found, err = e.headerContains(p, func(name, value string) bool {
				return contains(name+": "+mail.DecodeHeader(value), needle)
			})
		}
		if !found && err == nil && p.Type == "text" {
			raw := &errorKeeper{r: io.NewSectionReader(e.body, p.BodyStart, p.End-p.BodyStart)}
			found = streamContains(p.BodyReader(raw), needle)
			err = raw.err
		}
		if err == nil {
			err = e.ctx.Err()
		}
		return !found && err == nil
	})
	return found, err
}

// errorKeeper tells errors of the store from those of broken encodings, which are no errors.
type errorKeeper struct {
	r   io.Reader
	err error
}

func (k *errorKeeper) Read(p []byte) (int, error) {
	n, err := k.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		k.err = err
	}
	return n, err
}

func fold(s string) string { return strings.ToLower(s) }

func contains(s, foldedNeedle string) bool { return strings.Contains(fold(s), foldedNeedle) }

// streamContains looks for the needle in windows that overlap by its length. What cannot be
// decoded ends the text.
func streamContains(r io.Reader, needle string) bool {
	buf := make([]byte, 16<<10)
	window := ""
	held := 0 // bytes of a cut UTF-8 sequence at the start of buf
	for {
		n, err := r.Read(buf[held:])
		n += held
		whole := n
		if err == nil {
			whole = wholeRunes(buf[:n])
		}
		window += fold(string(buf[:whole]))
		if strings.Contains(window, needle) {
			return true
		}
		if err != nil {
			return false
		}
		held = copy(buf, buf[whole:n])
		if keep := len(needle) - 1; len(window) > keep {
			window = window[len(window)-keep:]
		}
	}
}

// wholeRunes returns the length of b without a sequence that is cut at its end.
func wholeRunes(b []byte) int {
	for i := len(b) - 1; i >= 0 && i >= len(b)-utf8.UTFMax; i-- {
		if utf8.RuneStart(b[i]) {
			if utf8.FullRune(b[i:]) {
				return len(b)
			}
			return i
		}
	}
	return len(b)
}
