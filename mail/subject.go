package mail

import "strings"

// BaseSubject extracts the base subject of RFC 5256 2.1 from a raw Subject, for threads and
// sorting: words decoded, "Re:", "Fwd:", "[list]" and "(fwd)" removed.
func BaseSubject(raw string) string {
	s := strings.Join(strings.Fields(DecodeHeader(raw)), " ")
	for {
		before := s
		// Step 2: trailers.
		for len(s) >= 5 && strings.EqualFold(s[len(s)-5:], "(fwd)") {
			s = strings.TrimRight(s[:len(s)-5], " ")
		}
		// Steps 3 to 5: leaders, then blobs unless nothing would be left.
		for {
			if rest, ok := cutLeader(s); ok {
				s = rest
				continue
			}
			if rest, ok := cutBlob(s); ok && rest != "" {
				s = rest
				continue
			}
			break
		}
		// Step 6: [fwd: ...].
		if len(s) > 6 && strings.EqualFold(s[:5], "[fwd:") && s[len(s)-1] == ']' {
			s = strings.TrimSpace(s[5 : len(s)-1])
		}
		if s == before {
			return s
		}
	}
}

// cutLeader removes subj-leader: blobs, a reply or forward prefix, a blob, a colon.
func cutLeader(s string) (string, bool) {
	rest := s
	for {
		r, ok := cutBlob(rest)
		if !ok {
			break
		}
		rest = r
	}
	for _, prefix := range [...]string{"re", "fwd", "fw"} {
		if len(rest) < len(prefix) || !strings.EqualFold(rest[:len(prefix)], prefix) {
			continue
		}
		tail := strings.TrimLeft(rest[len(prefix):], " ")
		if r, ok := cutBlob(tail); ok {
			tail = r
		}
		if strings.HasPrefix(tail, ":") {
			return strings.TrimLeft(tail[1:], " "), true
		}
	}
	return s, false
}

// cutBlob removes "[...]" and the blanks behind it.
func cutBlob(s string) (string, bool) {
	if !strings.HasPrefix(s, "[") {
		return s, false
	}
	end := strings.IndexAny(s[1:], "[]")
	if end < 0 || s[1+end] != ']' {
		return s, false
	}
	return strings.TrimLeft(s[end+2:], " "), true
}
