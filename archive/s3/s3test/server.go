package s3test

import (
	"crypto/md5" // what stores give as ETag
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// What a Server knows.
const (
	Access = "AKIDPILLARBOX"
	Secret = "kept/secret+by the test"
	Region = "eu-test-1"
	Bucket = "logs"
)

// Server is a store with one bucket.
type Server struct {
	http *httptest.Server
	// PageSize is how many objects a list tells at once.
	PageSize int

	mu       sync.Mutex
	objects  map[string]object
	fault    func(n int, w http.ResponseWriter, r *http.Request) bool
	requests int
	refused  int
	last     http.Header
}

type object struct {
	body []byte
	meta http.Header
	at   time.Time
	etag string
}

// Start starts a store, over TLS if secure; it ends with the test.
func Start(t testing.TB, secure bool) *Server {
	s := New(secure)
	t.Cleanup(s.Close)
	return s
}

// New starts a store that ends with Close.
func New(secure bool) *Server {
	s := &Server{PageSize: 1000, objects: map[string]object{}}
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	if secure {
		s.http.StartTLS()
	} else {
		s.http.Start()
	}
	return s
}

// Close ends the store.
func (s *Server) Close() { s.http.Close() }

// URL is the endpoint.
func (s *Server) URL() string { return s.http.URL }

// Certificate is that of a store over TLS, in DER.
func (s *Server) Certificate() []byte { return s.http.Certificate().Raw }

// Fail makes fault see each request before it is served: number n since Start. It returns true when
// it has answered. nil ends that.
func (s *Server) Fail(fault func(n int, w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// Drop ends the connection of a request without an answer.
func Drop(w http.ResponseWriter) {
	if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = c.Close()
	}
}

// Refuse answers with an error as a store does.
func Refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, message)
}

// Keys are the names of the objects, in order.
func (s *Server) Keys() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.objects))
}

// Spoil changes a byte in the middle of an object, so that it is not what was put.
func (s *Server) Spoil(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[key]
	o.body = slices.Clone(o.body)
	o.body[len(o.body)/2] ^= 1
	s.objects[key] = o
}

// Remove removes an object.
func (s *Server) Remove(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, key)
}

// Requests is how many came, Refused how many of them were not signed as they should be.
func (s *Server) Requests() (all, refused int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests, s.refused
}

// LastHeader is the header of the last request.
func (s *Server) LastHeader() http.Header {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last.Clone()
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests++
	n, fault := s.requests, s.fault
	s.last = r.Header.Clone()
	s.mu.Unlock()
	if fault != nil && fault(n, w, r) {
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // its client has gone
	}
	if code, message := check(r, body, time.Now()); code != "" {
		s.mu.Lock()
		s.refused++
		s.mu.Unlock()
		status := http.StatusForbidden
		if code == "AuthorizationHeaderMalformed" {
			status = http.StatusBadRequest
		}
		Refuse(w, status, code, message)
		return
	}
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if host, _, ok := strings.Cut(r.Host, "."); ok && host == Bucket { // by host name
		bucket, key = host, strings.TrimPrefix(r.URL.Path, "/")
	}
	if bucket != Bucket {
		Refuse(w, http.StatusNotFound, "NoSuchBucket", "The specified bucket does not exist")
		return
	}
	s.answer(w, r, key, body)
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request, key string, body []byte) {
	switch {
	case r.Method == http.MethodPut && key != "":
		s.put(w, r, key, body)
	case r.Method == http.MethodDelete && key != "":
		s.Remove(key)
		w.WriteHeader(http.StatusNoContent)
	case (r.Method == http.MethodGet || r.Method == http.MethodHead) && key != "":
		s.get(w, r, key)
	case r.Method == http.MethodGet:
		s.list(w, r)
	default:
		Refuse(w, http.StatusMethodNotAllowed, "MethodNotAllowed", r.Method)
	}
}

func (s *Server) put(w http.ResponseWriter, r *http.Request, key string, body []byte) {
	sum := md5.Sum(body)
	if want := r.Header.Get("Content-MD5"); want != "" &&
		want != base64.StdEncoding.EncodeToString(sum[:]) {
		Refuse(w, http.StatusBadRequest, "BadDigest", "The Content-MD5 you specified did not match")
		return
	}
	o := object{
		body: body, at: time.Now(), meta: http.Header{}, etag: `"` + hex.EncodeToString(sum[:]) + `"`,
	}
	for name, v := range r.Header {
		if strings.HasPrefix(name, "X-Amz-Meta-") {
			o.meta[name] = v
		}
	}
	s.mu.Lock()
	s.objects[key] = o
	s.mu.Unlock()
	w.Header().Set("ETag", o.etag)
}

func (s *Server) get(w http.ResponseWriter, r *http.Request, key string) {
	s.mu.Lock()
	o, ok := s.objects[key]
	s.mu.Unlock()
	if !ok {
		Refuse(w, http.StatusNotFound, "NoSuchKey", "The specified key does not exist.")
		return
	}
	maps.Copy(w.Header(), o.meta)
	w.Header().Set("ETag", o.etag)
	http.ServeContent(w, r, "", o.at, strings.NewReader(string(o.body)))
}

// listResult is a page of a list.
type listResult struct {
	XMLName               xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListBucketResult"`
	Name, Prefix          string
	KeyCount              int
	IsTruncated           bool
	NextContinuationToken string `xml:",omitempty"`
	Contents              []listed
}

type listed struct {
	Key          string
	LastModified string
	Size         int
}

func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Get("list-type") != "2" {
		Refuse(w, http.StatusNotImplemented, "NotImplemented", "only version 2")
		return
	}
	after, err := base64.StdEncoding.DecodeString(q.Get("continuation-token"))
	if err != nil {
		Refuse(w, http.StatusBadRequest, "InvalidArgument", "The continuation token is wrong")
		return
	}
	res := listResult{Name: Bucket, Prefix: q.Get("prefix")}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(s.objects)) {
		if !strings.HasPrefix(key, res.Prefix) || key <= string(after) {
			continue
		}
		if len(res.Contents) == s.PageSize {
			res.IsTruncated = true
			last := res.Contents[len(res.Contents)-1].Key
			res.NextContinuationToken = base64.StdEncoding.EncodeToString([]byte(last))
			break
		}
		o := s.objects[key]
		res.Contents = append(res.Contents, listed{key, o.at.UTC().Format(time.RFC3339Nano), len(o.body)})
	}
	res.KeyCount = len(res.Contents)
	w.Header().Set("Content-Type", "application/xml")
	_ = xml.NewEncoder(w).Encode(res)
}

// hashOf is the SHA-256 in hex.
func hashOf(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}
