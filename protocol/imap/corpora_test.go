package imap

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCorpora appends real mail and fetches it back byte for byte.
func TestCorpora(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join("..", "..", "..", "shared", "corpora", "*.tar.gz"))
	if len(files) == 0 {
		t.Skip("../shared/corpora is absent")
	}
	s := startServer(t, newMem(), Options{})
	c := s.dial(t)
	_ = c.conn.SetDeadline(time.Now().Add(8 * time.Minute))
	c.login()
	c.do("s", "SELECT INBOX")
	kept, refused := 0, 0
	for _, file := range files {
		for _, msg := range readTar(t, file) {
			if len(msg) == 0 {
				continue
			}
			c.send("a APPEND INBOX {" + number(int64(len(msg))) + "+}\r\n" + string(msg) + "\r\n")
			if r := c.until("a "); !strings.Contains(r, "a OK [APPENDUID") {
				if bytes.IndexByte(msg, 0) < 0 {
					t.Fatalf("refused without reason: %s", r)
				}
				refused++
				continue
			}
			kept++
			c.send("f FETCH * (BODY.PEEK[] ENVELOPE BODYSTRUCTURE)\r\n")
			if head := c.line(); !strings.HasSuffix(head, "(BODY[] {"+number(int64(len(msg)))+"}") {
				t.Fatal(head)
			}
			got := make([]byte, len(msg))
			if _, err := io.ReadFull(c.r, got); err != nil || !bytes.Equal(got, msg) {
				t.Fatalf("message differs, %v", err)
			}
			c.until("f OK")
		}
	}
	t.Logf("%d messages kept, %d with NUL refused", kept, refused)
	if kept < 3400 || refused > 100 {
		t.Errorf("%d messages kept, %d refused", kept, refused)
	}
	if r := c.do("q", "SEARCH RETURN (COUNT) SUBJECT re TEXT the"); !strings.Contains(r, "q OK") {
		t.Error(r)
	}
}

func readTar(t *testing.T, file string) [][]byte {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var msgs [][]byte
	for tr := tar.NewReader(z); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return msgs
		}
		if err != nil {
			t.Fatal(err)
		}
		if data, err := io.ReadAll(tr); err != nil {
			t.Fatal(err)
		} else if h.Typeflag == tar.TypeReg {
			msgs = append(msgs, data)
		}
	}
}
