package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/mail"
	"strings"
	"time"

	"pillarbox/store"
)

// query picks messages: every part must be true of them.
type query struct {
	header        map[string]string // lower case, by header field
	since, before time.Time         // of the internal date
}

const queryHelp = `query: %w: it looks like subject:"annual report" from:anna to:bob cc:eve ` +
	`id:x@y since:2026-11-01 before:2026-11-20`

// parseQuery reads parts like subject:report since:2026-11-01; a value with spaces stands in
// quotes.
func parseQuery(s string) (q query, err error) {
	q.header = map[string]string{}
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		key, rest, ok := strings.Cut(s, ":")
		var value string
		if quoted, isQuoted := strings.CutPrefix(rest, `"`); isQuoted {
			var closed bool
			value, s, closed = strings.Cut(quoted, `"`)
			ok = ok && closed
		} else {
			value, s, _ = strings.Cut(rest, " ")
		}
		if !ok || value == "" {
			return q, fmt.Errorf(queryHelp, errors.New("a part without a value"))
		}
		if err := q.add(strings.ToLower(key), value); err != nil {
			return q, fmt.Errorf(queryHelp, err)
		}
	}
	return q, nil
}

// add adds one part.
func (q *query) add(key, value string) (err error) {
	fields := map[string]string{
		"subject": "Subject", "from": "From", "to": "To", "cc": "Cc", "id": "Message-Id",
	}
	switch {
	case fields[key] != "":
		q.header[fields[key]] = strings.ToLower(value)
	case key == "since":
		q.since, err = time.ParseInLocation(time.DateOnly, value, time.Local)
	case key == "before":
		q.before, err = time.ParseInLocation(time.DateOnly, value, time.Local)
	default:
		err = fmt.Errorf("unknown part %q", key)
	}
	return err
}

// mostHeader bounds what is read of a header.
const mostHeader = 1 << 20

// match tells whether the message is one of those.
func (q *query) match(m *store.Message, body io.Reader) (bool, error) {
	if !q.since.IsZero() && m.Received.Before(q.since) ||
		!q.before.IsZero() && !m.Received.Before(q.before) {
		return false, nil
	}
	if len(q.header) == 0 {
		return true, nil
	}
	text, err := io.ReadAll(io.LimitReader(body, mostHeader))
	if err != nil {
		return false, err
	}
	parsed, err := mail.ReadMessage(bytes.NewReader(text))
	if err != nil {
		return false, nil // no header, no match
	}
	var words mime.WordDecoder
	for field, want := range q.header {
		have := parsed.Header.Get(field)
		if plain, err := words.DecodeHeader(have); err == nil {
			have = plain
		}
		if !strings.Contains(strings.ToLower(have), want) {
			return false, nil
		}
	}
	return true, nil
}
