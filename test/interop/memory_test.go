//go:build linux

package interop_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"hash"
	"io"
	"strings"
	"sync"
	"testing"
	"time"
)

var memory = flag.Bool("memory", false, "run the tests of large messages and many connections")

// pattern is a message of a size that is made as it is read, so that the test holds none.
type pattern struct {
	left int
	buf  []byte
}

func newPattern(seed, size int) *pattern {
	line := fmt.Sprintf("%08d%s\r\n", seed, strings.Repeat("x", 70))
	return &pattern{size, []byte("Subject: large\r\n\r\n" + strings.Repeat(line, 800))}
}

// Read gives the header and then lines again and again; what is left of the last line is cut.
func (p *pattern) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.buf[:min(len(p.buf), p.left)])
	p.left -= n
	p.buf = append(p.buf[n:], p.buf[len(p.buf)-min(n, 80*400)/80*80:]...)
	return n, nil
}

// TestMemory moves a message of 200 MiB and fifty of 50 MiB at a time in and out, with the
// default cache, in less than 256 MiB; a thousand idle connections cost less than 100 MB.
func TestMemory(t *testing.T) {
	if !*memory || testing.Short() {
		t.Skip("only with -memory")
	}
	s := newSite(t, 11000)
	s.stop()
	s.configure("max_message_bytes = 52428800", "max_message_bytes = 314572800")
	s.mustStart()
	if err := s.large(1, 200<<20, 1); err != nil {
		t.Fatal(err)
	}
	t.Logf("200 MiB: memory at most %d MiB", s.proc("VmHWM")>>10)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if err := s.sendLarge(1000+i, 50<<20); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	t.Logf("50 of 50 MiB in: memory at most %d MiB", s.proc("VmHWM")>>10)
	var mu sync.Mutex
	count := map[string]int{}
	for i := range 50 {
		wg.Go(func() {
			sum, err := s.readLarge(i + 2)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			count[string(sum)]++
			mu.Unlock()
		})
	}
	wg.Wait()
	for i := range 50 {
		h := sha256.New()
		_, _ = io.Copy(h, whole(newPattern(1000+i, 50<<20))) // neither side gives errors
		if count[string(h.Sum(nil))] != 1 {
			t.Errorf("message %d does not come back once", i)
		}
	}
	s.bounded()
	s.stop()
	// A server that did nothing before, so that no memory it can use again hides the cost.
	idle := newSite(t, 13000)
	idleConnections(t, idle)
	idle.stop()
}

// large sends a message and reads it back.
func (s *site) large(seed, size, number int) error {
	if err := s.sendLarge(seed, size); err != nil {
		return err
	}
	got, err := s.readLarge(number)
	if err != nil {
		return err
	}
	h := sha256.New()
	if _, err := io.Copy(h, whole(newPattern(seed, size))); err != nil {
		return err
	}
	if !bytes.Equal(got, h.Sum(nil)) {
		return errors.New("the message comes back as another one")
	}
	return nil
}

// whole ends the last line.
func whole(r io.Reader) io.Reader { return io.MultiReader(r, strings.NewReader("\r\n")) }

func (s *site) sendLarge(seed, size int) error {
	w, err := s.mx()
	if err != nil {
		return err
	}
	defer w.close()
	_ = w.nc.SetDeadline(time.Now().Add(10 * time.Minute))
	for _, c := range [][2]string{
		{"250", "MAIL FROM:<s@out.test>\r\n"},
		{"250", "RCPT TO:<alice@pillarbox.test>\r\n"},
		{"354", "DATA\r\n"},
	} {
		if err := w.say(c[0], c[1]); err != nil {
			return err
		}
	}
	bw := bufio.NewWriterSize(w.nc, 1<<15)
	if _, err := io.Copy(bw, whole(newPattern(seed, size))); err != nil {
		return err
	}
	if err := bw.Flush(); err != nil {
		return err
	}
	return w.say("250", ".\r\n")
}

// readLarge reads a message by IMAP and hashes what is behind the trace block.
func (s *site) readLarge(number int) ([]byte, error) {
	w, err := dial(s.base + 143)
	if err != nil {
		return nil, err
	}
	defer w.close()
	_ = w.nc.SetDeadline(time.Now().Add(10 * time.Minute))
	if _, err := w.line(); err != nil {
		return nil, err
	}
	if err := errors.Join(w.ok("LOGIN alice pw"), w.ok("EXAMINE INBOX")); err != nil {
		return nil, err
	}
	if err := w.write(fmt.Sprintf("t FETCH %d BODY.PEEK[]\r\n", number)); err != nil {
		return nil, err
	}
	l, err := w.line()
	m := literalMark.FindStringSubmatch(l)
	if err != nil || m == nil {
		return nil, fmt.Errorf("FETCH: %q %w", l, err)
	}
	var size int64
	_, _ = fmt.Sscan(m[1], &size)
	return hashBehindTrace(sha256.New(), bufio.NewReader(io.LimitReader(w.r, size)), size)
}

func hashBehindTrace(h hash.Hash, r *bufio.Reader, size int64) ([]byte, error) {
	for {
		b, err := r.Peek(8)
		if err != nil {
			return nil, err
		}
		if string(b) == "Subject:" {
			break
		}
		l, err := r.ReadString('\n')
		if err != nil {
			return nil, err
		}
		size -= int64(len(l))
	}
	n, err := io.Copy(h, r)
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	return h.Sum(nil), err
}

// idleConnections opens a thousand IMAP sessions that wait in IDLE.
func idleConnections(t *testing.T, s *site) {
	s.login("bob").close()
	before := s.proc("VmRSS")
	for range 1000 {
		w := s.login("bob")
		if err := w.ok("SELECT INBOX"); err != nil {
			t.Fatal(err)
		}
		if err := w.say("+", "i IDLE\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	cost := s.proc("VmRSS") - before
	t.Logf("with 1,000 connections in IDLE the server holds %d MiB, %d KiB more than before",
		s.proc("VmRSS")>>10, cost)
	if cost > 100_000_000/1024 {
		t.Errorf("1,000 connections cost %d KiB", cost)
	}
}
