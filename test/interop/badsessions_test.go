//go:build linux

package interop_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const toAlice = "MAIL FROM:<s@out.test>\r\nRCPT TO:<alice@pillarbox.test>\r\n"

// randomBytes sends noise to every port, in clear and in half a handshake.
func randomBytes(t *testing.T, s *site) {
	rng := rand.New(rand.NewPCG(7, 7))
	for _, service := range []int{25, 587, 465, 110, 995, 143, 993, 80, 443} {
		for range 10 {
			w, err := dial(s.base + service)
			if err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 20_000)
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
			_ = w.write(string(b) + "\r\n\r\n")
			_ = w.nc.(*net.TCPConn).CloseWrite()
			w.gone(t)
			w.close()
		}
	}
}

// halfOpen connects and says nothing, ends in the middle of a message, and closes one half.
func halfOpen(t *testing.T, s *site) {
	idle := s.files()
	before := len(s.bodies("alice", "INBOX"))
	var all []*wire
	for _, service := range []int{25, 587, 465, 110, 995, 143, 993, 80, 443} {
		for range 20 {
			w, err := dial(s.base + service)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, w)
		}
	}
	s.serves("while 180 connections say nothing")
	for i := range 20 {
		w, err := s.mx()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, w)
		_ = w.write(toAlice + "DATA\r\nSubject: half\r\n\r\nhalf a line")
		if i%2 == 0 {
			// What closes only its own half still gets what it asked for, or an end.
			_ = w.nc.(*net.TCPConn).CloseWrite()
			if text := w.gone(t); strings.Contains(text, "queued") {
				t.Errorf("half a message is taken: %q", text)
			}
		}
	}
	w := s.open(25)
	_ = w.write("EHLO a\r\nNOOP\r\nNOOP\r\n")
	_ = w.nc.(*net.TCPConn).CloseWrite()
	if text := w.gone(t); strings.Count(text, "250 2.0.0") != 2 {
		t.Errorf("commands before a half close: %q", text)
	}
	for _, text := range []string{
		"a SELECT INBOX\r\nb IDLE\r\n", "a APPEND INBOX {5000+}\r\nSubject: half\r\n\r\nhalf",
		"a APPEND INBOX {14+}\r\nSubject: half\n", // but not the end of the command
	} {
		im := s.login("alice")
		_ = im.write(text)
		_ = im.nc.(*net.TCPConn).CloseWrite()
		im.gone(t)
	}
	chunk, err := s.mx()
	if err != nil {
		t.Fatal(err)
	}
	_ = chunk.write(toAlice + "BDAT 5000 LAST\r\nSubject: half")
	_ = chunk.nc.(*net.TCPConn).CloseWrite()
	chunk.gone(t)
	for _, w := range all {
		if tc, ok := w.nc.(*net.TCPConn); ok {
			_ = tc.SetLinger(0) // a reset, not an end
		}
		w.close()
	}
	s.settles(idle)
	if n := len(s.bodies("alice", "INBOX")); n != before {
		t.Errorf("%d messages of which only a half was sent", n-before)
	}
}

// slowClient writes a byte each 50 ms on every port, and reads nothing of a large reply; others
// are not held up.
func slowClient(t *testing.T, s *site) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for _, c := range []struct {
		service int
		text    string
	}{
		{25, "EHLO slow.test\r\n" + toAlice + "DATA\r\n"},
		{143, "a LOGIN alice pw\r\nb SELECT INBOX\r\nc APPEND INBOX {99999+}\r\n"},
		{110, "USER alice\r\nPASS pw\r\n"},
	} {
		for range 5 {
			w := s.open(c.service)
			_ = w.write(c.text) // the beginning at once, so that the slow part holds what there is
			wg.Go(func() {
				for {
					select {
					case <-stop:
						w.close()
						return
					case <-time.After(50 * time.Millisecond):
						_ = w.write("x")
					}
				}
			})
		}
	}
	deaf := s.login("bob")
	wg.Go(func() { // up to where the server waits for it to read
		_ = deaf.write("a EXAMINE INBOX\r\n" + strings.Repeat("b FETCH 1:* BODY[]\r\n", 20_000))
	})
	time.Sleep(200 * time.Millisecond)
	var took []time.Duration
	for range 20 {
		begun := time.Now()
		w, err := s.mx()
		if err != nil {
			t.Fatal(err)
		}
		for _, user := range []string{"alice", "bob"} {
			l, err := w.deliver(user, []byte("Subject: quick\r\n\r\n"))
			if err != nil || !strings.HasPrefix(l, "250") {
				t.Errorf("%q %v", l, err)
			}
		}
		w.close()
		im := s.login("alice")
		if err := im.ok("SELECT INBOX"); err != nil {
			t.Error(err)
		}
		im.close()
		took = append(took, time.Since(begun))
	}
	close(stop)
	deaf.close()
	wg.Wait()
	slices.Sort(took)
	t.Logf("beside slow clients: %v in the middle, %v at most", took[10], took[19])
	if took[19] > quick {
		t.Errorf("slow clients hold others up for %v", took[19])
	}
}

// endWithSessions ends the server while sessions of all kinds are open.
func endWithSessions(s *site) {
	for _, service := range []int{25, 587, 110, 143} {
		s.open(service)
	}
	for _, service := range []int{465, 995, 993, 443, 80} {
		if _, err := dial(s.base + service); err != nil { // no handshake follows
			s.t.Fatal(err)
		}
	}
	im := s.login("alice")
	_ = im.write("a SELECT INBOX\r\nb IDLE\r\n")
	half := s.login("bob")
	_ = half.write("a APPEND INBOX {5000+}\r\nSubject: half\r\n")
	data, err := s.mx()
	if err != nil {
		s.t.Fatal(err)
	}
	_ = data.write(toAlice + "DATA\r\nSubject: half\r\n")
	r, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/healthz", s.base+80))
	if err != nil || r.StatusCode != http.StatusOK {
		s.t.Fatalf("healthz: %v %v", r, err)
	}
	_ = r.Body.Close() // the connection is kept alive
	time.Sleep(100 * time.Millisecond)
	begun := time.Now()
	s.stop()
	s.t.Logf("the end took %v", time.Since(begun))
}
