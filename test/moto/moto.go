package moto

import (
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"pillarbox/test/program"
)

// What a Server has.
const (
	Region   = "us-east-1"
	Bucket   = "logs"
	PageSize = 7
)

// Server is a running store.
type Server struct {
	URL            string
	Access, Secret string
}

// startTime is how long the program may take to start.
const startTime = time.Minute

// Start starts a store that ends with the test.
func Start(t *testing.T) *Server {
	t.Helper()
	bin, err := exec.LookPath("moto_server")
	if err != nil {
		t.Skip("moto_server is not installed")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "-H", "127.0.0.1", "-p", port)
	cmd.Env = append(os.Environ(), fmt.Sprintf("MOTO_S3_DEFAULT_MAX_KEYS=%d", PageSize))
	p, err := program.Start(program.Lifetime(t), cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Kill() // it was killed: there is no other end
		if t.Failed() {
			t.Logf("moto_server said:\n%.4000s", p.Output())
		}
	})
	s := &Server{URL: "http://127.0.0.1:" + port}
	s.await(t, p)
	s.prepare(t)
	return s
}

// await waits until the store answers.
func (s *Server) await(t *testing.T, p *program.Program) {
	t.Helper()
	for limit := time.Now().Add(startTime); time.Now().Before(limit); {
		select {
		case <-p.Done():
			t.Fatalf("moto_server: %v\n%s", p.Wait(), p.Output())
		case <-time.After(50 * time.Millisecond):
		}
		if res, err := http.Get(s.URL + "/moto-api/data.json"); err == nil {
			_ = res.Body.Close()
			return
		}
	}
	t.Fatalf("moto_server does not answer:\n%s", p.Output())
}

// prepare makes bucket and account while nothing is checked yet.
func (s *Server) prepare(t *testing.T) {
	t.Helper()
	s.ask(t, http.MethodPut, "/"+Bucket, "s3", "")
	s.iam(t, url.Values{"Action": {"CreateUser"}})
	s.iam(t, url.Values{
		"Action": {"PutUserPolicy"}, "PolicyName": {"archive"},
		"PolicyDocument": {`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}`},
	})
	var made struct {
		Key struct{ AccessKeyId, SecretAccessKey string } `xml:"CreateAccessKeyResult>AccessKey"`
	}
	said := s.iam(t, url.Values{"Action": {"CreateAccessKey"}})
	if err := xml.Unmarshal([]byte(said), &made); err != nil || made.Key.SecretAccessKey == "" {
		t.Fatalf("no access key: %v\n%s", err, said)
	}
	s.Access, s.Secret = made.Key.AccessKeyId, made.Key.SecretAccessKey
	s.ask(t, http.MethodPost, "/moto-api/reset-auth", "s3", "0") // from here on all is checked
}

func (s *Server) iam(t *testing.T, form url.Values) string {
	t.Helper()
	form.Set("Version", "2010-05-08")
	form.Set("UserName", "archive")
	return s.ask(t, http.MethodPost, "/", "iam", form.Encode())
}

// ask sends a request that nobody checks; what service it is for stands in its signature.
func (s *Server) ask(t *testing.T, method, path, service, body string) string {
	t.Helper()
	req, err := http.NewRequest(method, s.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=x/20260101/"+Region+"/"+service+
		"/aws4_request, SignedHeaders=host, Signature=x")
	if service == "iam" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil || res.StatusCode/100 != 2 || res.Body.Close() != nil {
		t.Fatalf("%s %s: %s, %v\n%s", method, path, res.Status, err, said)
	}
	return string(said)
}
