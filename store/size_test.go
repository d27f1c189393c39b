package store

import (
	"strings"
	"testing"

	"pillarbox/ese"
)

// TestLogBytes bounds what a delivered message of 4 KiB costs in the log.
func TestLogBytes(t *testing.T) {
	b := open(t, ese.Options{}, Options{})
	const n = 300
	text := message(1) + strings.Repeat("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n", 62)
	b.mailbox(1)
	total := func() int64 {
		p := b.in.Durable()
		return int64(p.Generation())*(5<<20) + p.Offset()
	}
	before := total()
	for i := range n {
		b.deliver(strings.Replace(text, "<1@", "<"+strings.Repeat("z", i%7)+string(rune('a'+i%26))+"@", 1), "", 1)
	}
	each := (total() - before) / n
	t.Logf("a message of %d bytes logs %d", len(text), each)
	if each > 16<<10 {
		t.Errorf("a message of %d bytes logs %d", len(text), each)
	}
}
