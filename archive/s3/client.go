package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Options configures a Client. Bucket and Keys must be set.
type Options struct {
	// Endpoint is the store's URL without the bucket. Default: that of AWS for the region.
	Endpoint string
	// Region is part of the signature. Default: us-east-1.
	Region string
	Bucket string
	Keys   Keys
	// HostStyle puts the bucket into the host name. Default: into the path, but for AWS.
	HostStyle bool
	// Roots are the authorities that may vouch for the store. Default: the system's.
	Roots *x509.CertPool
	// Dial makes connections. Default: a net.Dialer's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Stall is how long a request may make no progress. Default: 30 seconds.
	Stall time.Duration
	// Tries is how often a request is sent at most. Default: 4.
	Tries int
	// Pause is about how long is waited before the second try; each later one waits about twice as
	// long, up to 20 seconds. Default: 300 ms.
	Pause time.Duration
	// Now is the clock. Default: time.Now.
	Now func() time.Time
}

// Client speaks to one bucket. It is safe for concurrent use.
type Client struct {
	o    Options
	base *url.URL // of the bucket, without a slash at the end
	http *http.Client
}

const mostPause = 20 * time.Second

var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// CheckBucket tells whether a bucket may have this name.
func CheckBucket(name string) error {
	if !bucketName.MatchString(name) || strings.Contains(name, "..") {
		return fmt.Errorf("bucket %q: 3 to 63 lower-case letters, digits, dots and hyphens", name)
	}
	return nil
}

// CheckEndpoint tells whether a URL may be that of a store; empty is AWS.
func CheckEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	switch {
	case endpoint == "":
		return nil
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" ||
		u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("endpoint %q: it looks like https://s3.example.org", endpoint)
	}
	return nil
}

// New makes a client. It asks the store nothing yet.
func New(o Options) (*Client, error) {
	if err := errors.Join(CheckBucket(o.Bucket), CheckEndpoint(o.Endpoint)); err != nil {
		return nil, err
	}
	if o.Keys.Access == "" || o.Keys.Secret == "" {
		return nil, errors.New("access key or secret key is missing")
	}
	o.setDefaults()
	base, err := url.Parse(strings.TrimRight(o.Endpoint, "/"))
	if err != nil {
		return nil, err
	}
	if o.HostStyle {
		base.Host = o.Bucket + "." + base.Host
	} else {
		base.Path += "/" + o.Bucket
	}
	return &Client{o: o, base: base, http: o.transport()}, nil
}

func (o *Options) setDefaults() {
	o.Region = or(o.Region, "us-east-1")
	if o.Endpoint == "" {
		domain := ".amazonaws.com"
		if strings.HasPrefix(o.Region, "cn-") {
			domain += ".cn"
		}
		o.Endpoint = "https://s3." + o.Region + domain
		// A certificate for *.s3... covers no bucket with a dot.
		o.HostStyle = !strings.Contains(o.Bucket, ".")
	}
	if o.Stall <= 0 {
		o.Stall = 30 * time.Second
	}
	if o.Tries <= 0 {
		o.Tries = 4
	}
	if o.Pause <= 0 {
		o.Pause = 300 * time.Millisecond
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

func (o *Options) transport() *http.Client {
	dial := o.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: 15 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	}
	return &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: dial,
			TLSClientConfig:     &tls.Config{RootCAs: o.Roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout: 15 * time.Second, ForceAttemptHTTP2: true,
			MaxIdleConnsPerHost: 2, IdleConnTimeout: 90 * time.Second,
			DisableCompression: true, // lengths are those of the objects
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Close lets the connections go that wait for the next request.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// object is how errors name an object, or with an empty key the bucket.
func (c *Client) object(key string) string {
	name := "s3://" + c.o.Bucket
	if key != "" {
		name += "/" + key
	}
	return name
}

// request is one request, which may be sent more than once.
type request struct {
	method, key string
	query       url.Values
	header      http.Header
	body        io.ReaderAt // nil: none
	size        int64
	hash        string // SHA-256 of the body, in hex
	// read takes the answer, whose status is one of success. Its errors are tried again when they
	// are of the network.
	read func(*http.Response) error
	// again is asked before another try; it may change the request. nil: always.
	again func() bool
}

// emptyHash is the SHA-256 of nothing.
const emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// do sends a request until it succeeds, or fails for good.
func (c *Client) do(ctx context.Context, r *request) error {
	pause := c.o.Pause
	for try := 1; ; try++ {
		err := c.once(ctx, r)
		if err == nil || try >= c.o.Tries || ctx.Err() != nil || !passes(err) ||
			r.again != nil && !r.again() {
			return err
		}
		wait := pause/2 + rand.N(pause) // so that many do not come back at once
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-t.C:
		}
		pause = min(2*pause, mostPause)
	}
}

// errStalled: a request made no progress.
var errStalled = errors.New("no progress: look at the network between here and the store")

// passes tells that an error may go away by itself.
func passes(err error) bool {
	var e *Error
	if errors.As(err, &e) {
		return e.passing()
	}
	var cert *tls.CertificateVerificationError
	var local *localError
	return !errors.As(err, &cert) && !errors.As(err, &local) && !errors.Is(err, ErrDamaged)
}

// localError is trouble on this side, which no other try mends.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

// once sends a request.
func (c *Client) once(ctx context.Context, r *request) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := &watch{stall: c.o.Stall}
	w.timer = time.AfterFunc(w.stall, func() { cancel(errStalled) })
	defer w.timer.Stop()
	req, err := c.newRequest(ctx, r, w)
	if err != nil {
		return &localError{err}
	}
	res, err := c.http.Do(req)
	if err != nil {
		return c.explain(ctx, r, err)
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	res.Body = &watched{res.Body, w}
	if res.StatusCode/100 != 2 {
		return c.readError(res, c.object(r.key))
	}
	if err := r.read(res); err != nil {
		return c.explain(ctx, r, err)
	}
	return nil
}

// explain names the object of an error that is not the store's.
func (c *Client) explain(ctx context.Context, r *request, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errStalled) {
		err = cause
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // the URL says nothing that the object does not
	}
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		err = fmt.Errorf("%w: name the authority of the store's certificate", err)
	}
	return fmt.Errorf("%s %s at %s: %w", r.method, c.object(r.key), c.base.Host, err)
}

// newRequest makes the signed request.
func (c *Client) newRequest(ctx context.Context, r *request, w *watch) (*http.Request, error) {
	u := *c.base
	if r.key != "" || c.o.HostStyle {
		u.Path += "/" + r.key
	}
	u.RawPath, u.RawQuery = encode(u.Path, true), encodeQuery(r.query)
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	if r.body != nil {
		// A reader of its own: the one of an earlier try may still be read.
		req.Body = &watched{io.NopCloser(io.NewSectionReader(r.body, 0, r.size)), w}
		if req.ContentLength = r.size; r.size == 0 {
			req.Body = http.NoBody
		}
	}
	for name, v := range r.header {
		req.Header[name] = v
	}
	hash := or(r.hash, emptyHash)
	req.Header.Set(headerHash, hash)
	sign(req, c.o.Keys, scope{c.o.Region, "s3"}, hash, c.o.Now())
	req.Header.Set("User-Agent", "pillarbox")
	return req, nil
}

// watch ends a request that makes no progress.
type watch struct {
	timer *time.Timer
	stall time.Duration
}

// watched tells a watch of each byte.
type watched struct {
	io.ReadCloser
	w *watch
}

func (r *watched) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if n > 0 {
		r.w.timer.Reset(r.w.stall)
	}
	return n, err
}
