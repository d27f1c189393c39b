package mail

import (
	"strings"
	"testing"
)

// BenchmarkIndex is the cost that delivery adds for each byte of a message.
func BenchmarkIndex(b *testing.B) {
	line := strings.Repeat("A", 76) + "\r\n"
	msg := crlf("Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\n") +
		strings.Repeat(line, 50_000) + "--b--\r\n"
	b.SetBytes(int64(len(msg)))
	for b.Loop() {
		if _, err := Index(strings.NewReader(msg)); err != nil {
			b.Fatal(err)
		}
	}
}
