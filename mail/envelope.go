package mail

import "strings"

// Caps of promoted fields.
const (
	maxIDs     = 20
	maxIDBytes = 998 // a line of RFC 5322 2.1.1
	maxField   = 16 << 10
)

// fieldSlot returns where a promoted field is kept, nil for others, and its cap in bytes.
func (e *Envelope) fieldSlot(name string) (slot *string, limit int) {
	switch name {
	case "date":
		return &e.Date, 128
	case "subject":
		return &e.Subject, 4096
	case "from":
		return &e.From, 2048
	case "sender":
		return &e.Sender, 1024
	case "reply-to":
		return &e.ReplyTo, 2048
	case "to":
		return &e.To, maxField
	case "cc":
		return &e.Cc, maxField
	case "bcc":
		return &e.Bcc, 4096
	case "message-id":
		return &e.MessageID, maxIDBytes
	case "in-reply-to":
		return &e.InReplyTo, maxIDBytes
	case "references":
		return &e.References, maxField
	}
	return nil, 0
}

// set stores a promoted field. Address fields that come twice are joined, since people who
// stand in the second To were written to as well; of other fields the first counts.
func (e *Envelope) set(name, value string, budget int) {
	slot, limit := e.fieldSlot(name)
	if slot == nil || value == "" {
		return
	}
	limit = min(limit, max(budget, 0))
	switch name {
	case "from", "sender", "reply-to", "to", "cc", "bcc":
		if *slot != "" {
			// All or nothing, so that a million fields do not copy a full list each.
			if len(*slot)+len(value)+2 > limit {
				return
			}
			value = *slot + ", " + value
		}
		*slot = clipList(value, limit)
	case "references":
		if *slot == "" {
			*slot = lastIDs(value, limit/4)
		}
	default:
		if *slot == "" {
			*slot = clip(value, limit)
		}
	}
}

// clipList cuts an address list behind an element, so that no half address is shown.
func clipList(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	s = clip(s, limit)
	if i := strings.LastIndexByte(s, ','); i > 0 {
		return s[:i]
	}
	return s
}

// lastIDs keeps the last ids of References: the nearest parents stand at the end (RFC 5322
// 3.6.4).
func lastIDs(s string, limit int) string {
	ids := MessageIDs(s)
	if len(ids) > maxIDs {
		ids = ids[len(ids)-maxIDs:]
	}
	total := 0
	for i := len(ids) - 1; i >= 0; i-- {
		total += len(ids[i]) + 1
		if total > limit {
			ids = ids[i+1:]
			break
		}
	}
	return strings.Join(ids, " ")
}

// MessageIDs returns the msg-ids "<...>" of a field, at most 1,000. A field with none gives
// its words, since some mailers write ids without brackets.
func MessageIDs(s string) []string {
	const most = 1000
	var ids []string
	for rest := s; len(ids) < most; {
		start := strings.IndexByte(rest, '<')
		if start < 0 {
			break
		}
		end := strings.IndexByte(rest[start:], '>')
		if end < 0 {
			break
		}
		id := strings.Join(strings.Fields(rest[start:start+end+1]), "")
		if len(id) > 2 && len(id) <= maxIDBytes {
			ids = append(ids, id)
		}
		rest = rest[start+end+1:]
	}
	if ids != nil || strings.ContainsAny(s, "<>") {
		return ids
	}
	for _, w := range strings.Fields(s) {
		if len(ids) < most && strings.Contains(w, "@") && len(w) <= maxIDBytes {
			ids = append(ids, "<"+w+">")
		}
	}
	return ids
}

// size is what the envelope costs in the blob.
func (e *Envelope) size() int {
	n := 0
	for _, f := range e.fields() {
		n += len(*f) + 3
	}
	return n
}

// fields lists the fields in the order of the blob. New ones are added at the end with a new
// version of the blob.
func (e *Envelope) fields() [11]*string {
	return [...]*string{
		&e.Date, &e.Subject, &e.From, &e.Sender, &e.ReplyTo, &e.To, &e.Cc, &e.Bcc,
		&e.MessageID, &e.InReplyTo, &e.References,
	}
}
