package s3_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pillarbox/archive/s3"
	"pillarbox/archive/s3/s3test"
)

func options(srv *s3test.Server) s3.Options {
	return s3.Options{
		Endpoint: srv.URL(), Region: s3test.Region, Bucket: s3test.Bucket, Pause: time.Millisecond,
		Keys: s3.Keys{Access: s3test.Access, Secret: s3test.Secret},
	}
}

func client(t *testing.T, o s3.Options) *s3.Client {
	t.Helper()
	c, err := s3.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func put(t *testing.T, c *s3.Client, key string, body []byte, meta map[string]string) {
	t.Helper()
	if err := c.Put(t.Context(), key, bytes.NewReader(body), int64(len(body)), meta); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, c *s3.Client, key string, part s3.Range) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := c.Get(t.Context(), key, part, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func random(n int) []byte {
	b, rng := make([]byte, n), rand.New(rand.NewPCG(1, uint64(n)))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// Objects of all kinds of names and sizes come back as they were put, by path and by host name, and
// every request is signed as the store demands.
func TestObjects(t *testing.T) {
	for _, host := range []bool{false, true} {
		t.Run(fmt.Sprintf("by host %v", host), func(t *testing.T) {
			srv := s3test.Start(t, false)
			o := options(srv)
			if o.HostStyle = host; host {
				at := strings.TrimPrefix(srv.URL(), "http://")
				o.Endpoint = "http://store.test"
				o.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
					var d net.Dialer
					return d.DialContext(ctx, network, at)
				}
			}
			c := client(t, o)
			keys := []string{"a", "a/b c+d", "ü/$&,;=@!'()*", "deep/er/and//deeper", "~tilde"}
			for i, key := range keys {
				body := random(i * 70_000)
				put(t, c, key, body, map[string]string{"bytes": fmt.Sprint(i)})
				if got := get(t, c, key, s3.Range{}); !bytes.Equal(got, body) {
					t.Errorf("%q: %d bytes came back, not what was put", key, len(got))
				}
				h, err := c.Head(t.Context(), key)
				if err != nil || h.Size != int64(len(body)) || h.Meta["bytes"] != fmt.Sprint(i) {
					t.Errorf("%q: %+v, %v", key, h, err)
				}
			}
			slices.Sort(keys)
			if got := list(t, c, ""); !slices.Equal(got, keys) {
				t.Errorf("listed %q", got)
			}
			for range 2 {
				if err := c.Delete(t.Context(), "a"); err != nil {
					t.Error(err)
				}
			}
			if _, err := c.Head(t.Context(), "a"); !errors.Is(err, s3.ErrNotFound) {
				t.Errorf("an object that was deleted: %v", err)
			}
			if _, err := c.Get(t.Context(), "a", s3.Range{}, io.Discard); !errors.Is(err, s3.ErrNotFound) {
				t.Errorf("an object that was deleted: %v", err)
			}
			if _, refused := srv.Requests(); refused != 0 {
				t.Errorf("%d requests were refused", refused)
			}
		})
	}
}

func list(t *testing.T, c *s3.Client, prefix string) (keys []string) {
	t.Helper()
	err := c.List(t.Context(), prefix, func(o s3.Object) error {
		keys = append(keys, o.Key)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestListPages(t *testing.T) {
	srv := s3test.Start(t, false)
	srv.PageSize = 7
	c := client(t, options(srv))
	for i := range 30 {
		put(t, c, fmt.Sprintf("p/%02d", i), nil, nil)
	}
	put(t, c, "q", nil, nil)
	if got := list(t, c, "p/"); len(got) != 30 || !slices.IsSorted(got) {
		t.Errorf("%d listed: %q", len(got), got)
	}
	if got := list(t, c, "nothing"); len(got) != 0 {
		t.Errorf("listed %q", got)
	}
	stop := errors.New("stop")
	if err := c.List(t.Context(), "", func(s3.Object) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
}

func TestRanges(t *testing.T) {
	srv := s3test.Start(t, false)
	c := client(t, options(srv))
	body := random(1000)
	put(t, c, "k", body, nil)
	for _, r := range []s3.Range{{0, 10}, {10, 100}, {990, 10}, {990, 100}, {500, 0}} {
		want := body[r.From:]
		if r.Bytes > 0 {
			want = want[:min(int64(len(want)), r.Bytes)]
		}
		if got := get(t, c, "k", r); !bytes.Equal(got, want) {
			t.Errorf("%+v: %d bytes, want %d", r, len(got), len(want))
		}
	}
}

// What passes by itself is tried again, and the object is there once and whole.
func TestTriesAgain(t *testing.T) {
	srv := s3test.Start(t, false)
	c := client(t, options(srv))
	body := random(300_000)
	var n atomic.Int32
	for name, fault := range map[string]func(w http.ResponseWriter){
		"500":      func(w http.ResponseWriter) { s3test.Refuse(w, 500, "InternalError", "x") },
		"503":      func(w http.ResponseWriter) { s3test.Refuse(w, 503, "SlowDown", "x") },
		"429":      func(w http.ResponseWriter) { w.WriteHeader(429) },
		"time-out": func(w http.ResponseWriter) { s3test.Refuse(w, 400, "RequestTimeout", "x") },
		"dropped":  s3test.Drop,
	} {
		n.Store(0)
		srv.Fail(func(_ int, w http.ResponseWriter, _ *http.Request) bool {
			if n.Add(1)%3 != 0 {
				fault(w)
				return true
			}
			return false
		})
		put(t, c, name, body, nil)
		if got := get(t, c, name, s3.Range{}); !bytes.Equal(got, body) {
			t.Errorf("%s: %d bytes came back", name, len(got))
		}
		if got := list(t, c, name); len(got) != 1 {
			t.Errorf("%s: listed %q", name, got)
		}
		if err := c.Delete(t.Context(), name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	before, _ := srv.Requests()
	srv.Fail(func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		s3test.Refuse(w, 503, "SlowDown", "x")
		return true
	})
	_, err := c.Head(t.Context(), "k")
	if after, _ := srv.Requests(); err == nil || after-before != 4 {
		t.Errorf("%d tries: %v", after-before, err)
	}
}

// A download whose connection breaks goes on where it broke.
func TestGetGoesOn(t *testing.T) {
	srv := s3test.Start(t, false)
	c := client(t, options(srv))
	body := random(2 << 20)
	put(t, c, "k", body, nil)
	breaks := 0
	srv.Fail(func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if breaks++; breaks > 2 {
			return false
		}
		from := 0
		_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
		w.Header().Set("Content-Length", fmt.Sprint(len(body)-from))
		if from > 0 {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(body)-1, len(body)))
			w.WriteHeader(http.StatusPartialContent)
		}
		_, _ = w.Write(body[from : from+700_000])
		_ = http.NewResponseController(w).Flush()
		s3test.Drop(w)
		return true
	})
	if got := get(t, c, "k", s3.Range{}); !bytes.Equal(got, body) {
		t.Errorf("%d of %d bytes came back", len(got), len(body))
	}
	if breaks != 3 {
		t.Errorf("%d requests", breaks)
	}
}

func TestSpoiltObject(t *testing.T) {
	srv := s3test.Start(t, false)
	c := client(t, options(srv))
	put(t, c, "k", random(5000), nil)
	srv.Spoil("k")
	if _, err := c.Get(t.Context(), "k", s3.Range{}, io.Discard); !errors.Is(err, s3.ErrDamaged) {
		t.Errorf("a spoilt object: %v", err)
	}
}

// Errors say what to do, and are not tried again where that is of no use.
func TestErrorsSayWhatToDo(t *testing.T) {
	srv := s3test.Start(t, false)
	for name, c := range map[string]struct {
		change func(*s3.Options)
		want   string
	}{
		"wrong access key": {
			func(o *s3.Options) { o.Keys.Access = "other" }, "the store does not know the access key",
		},
		"wrong secret": {
			func(o *s3.Options) { o.Keys.Secret = "other" }, "the secret key does not belong",
		},
		"wrong region": {
			func(o *s3.Options) { o.Region = "us-east-1" }, "the bucket is in the region eu-test-1: set that",
		},
		"no bucket": {
			func(o *s3.Options) { o.Bucket = "nowhere" }, "make the bucket nowhere first",
		},
		"slow clock": {
			func(o *s3.Options) {
				o.Now = func() time.Time { return time.Now().Add(-time.Hour) }
			}, "the clock of this machine is 1h0m0s slow: set it",
		},
	} {
		o := options(srv)
		c.change(&o)
		before, _ := srv.Requests()
		err := client(t, o).Put(t.Context(), "k", strings.NewReader("x"), 1, nil)
		after, _ := srv.Requests()
		var e *s3.Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) || after-before != 1 {
			t.Errorf("%s: %v, %d requests", name, err, after-before)
		}
		if err != nil && strings.Contains(err.Error(), s3test.Secret) {
			t.Errorf("%s: the secret stands in %v", name, err)
		}
	}
	srv.Fail(func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		s3test.Refuse(w, 403, "AccessDenied", "Access Denied")
		return true
	})
	err := client(t, options(srv)).Delete(t.Context(), "k")
	if err == nil || !strings.Contains(err.Error(), "it needs s3:PutObject") {
		t.Errorf("no permission: %v", err)
	}
	srv.Fail(nil)
	o := options(srv)
	o.Endpoint, o.Tries = "http://127.0.0.1:1", 2
	if _, err := client(t, o).Head(t.Context(), "k"); err == nil ||
		!strings.Contains(err.Error(), "HEAD s3://logs/k at 127.0.0.1:1") {
		t.Errorf("nobody there: %v", err)
	}
}

func TestTLS(t *testing.T) {
	srv := s3test.Start(t, true)
	o := options(srv)
	err := client(t, o).Put(t.Context(), "k", strings.NewReader("x"), 1, nil)
	if err == nil || !strings.Contains(err.Error(), "name the authority") {
		t.Errorf("an unknown authority: %v", err)
	}
	cert, err := x509.ParseCertificate(srv.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	o.Roots = x509.NewCertPool()
	o.Roots.AddCert(cert)
	c := client(t, o)
	put(t, c, "k", []byte("x"), nil)
	if got := get(t, c, "k", s3.Range{}); string(got) != "x" {
		t.Errorf("%q", got)
	}
}

// A store that says nothing ends neither the patience nor the context unnoticed.
func TestStall(t *testing.T) {
	srv := s3test.Start(t, false)
	end := make(chan struct{})
	defer close(end)
	srv.Fail(func(_ int, _ http.ResponseWriter, r *http.Request) bool {
		select {
		case <-end:
		case <-r.Context().Done():
		}
		return true
	})
	o := options(srv)
	o.Stall, o.Tries = 50*time.Millisecond, 2
	if _, err := client(t, o).Head(t.Context(), "k"); err == nil || !strings.Contains(err.Error(), "no progress") {
		t.Errorf("a silent store: %v", err)
	}
	o.Stall = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := client(t, o).Head(ctx, "k"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a context that ends: %v", err)
	}
}

func TestOptions(t *testing.T) {
	keys := s3.Keys{Access: "a", Secret: "b"}
	for name, o := range map[string]s3.Options{
		"no bucket": {Keys: keys}, "bucket": {Keys: keys, Bucket: "Upper"},
		"no keys":  {Bucket: "logs"},
		"endpoint": {Keys: keys, Bucket: "logs", Endpoint: "s3.example.org"},
		"query":    {Keys: keys, Bucket: "logs", Endpoint: "https://s3.example.org/?x"},
	} {
		if _, err := s3.New(o); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// Temporary keys have a token, which is signed too.
func TestSession(t *testing.T) {
	srv := s3test.Start(t, false)
	o := options(srv)
	o.Keys.Session = "token"
	put(t, client(t, o), "k", []byte("x"), nil)
	if got := srv.LastHeader().Get("X-Amz-Security-Token"); got != "token" {
		t.Errorf("token %q", got)
	}
}
