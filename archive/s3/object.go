package s3

import (
	"context"
	"crypto/md5" // the stores' own check of what arrived
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Object is one in the bucket.
type Object struct {
	Key      string
	Size     int64
	Modified time.Time
	// Meta are the names and values that it was put with; List does not tell them.
	Meta map[string]string
	etag string
	hash string
}

const (
	metaPrefix = "X-Amz-Meta-"
	// metaHash is where Put leaves the SHA-256 of an object.
	metaHash = "sha256"
	// mostObject is what stores take in one request.
	mostObject = 5 << 30
	// mostPage and mostPages bound a list.
	mostPage, mostPages = 8 << 20, 100_000
)

// Put writes an object of size bytes. body is read twice or more often, and may still be for a
// moment after an error.
func (c *Client) Put(
	ctx context.Context, key string, body io.ReaderAt, size int64, meta map[string]string,
) error {
	if size > mostObject {
		return fmt.Errorf("put %s: %d bytes are more than stores take at once", c.object(key), size)
	}
	sha, sum := sha256.New(), md5.New()
	n, err := io.Copy(io.MultiWriter(sha, sum), io.NewSectionReader(body, 0, size))
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("read what to put: %w", err)
	}
	r := &request{
		method: http.MethodPut, key: key, body: body, size: size, hash: hex.EncodeToString(sha.Sum(nil)),
		header: http.Header{}, read: drain,
	}
	r.header.Set("Content-Md5", base64.StdEncoding.EncodeToString(sum.Sum(nil)))
	r.header.Set("Content-Type", "application/octet-stream")
	for name, v := range meta {
		r.header.Set(metaPrefix+name, v)
	}
	r.header.Set(metaPrefix+metaHash, r.hash)
	return c.do(ctx, r)
}

// drain reads the rest of an answer, so that the connection can be used again.
func drain(res *http.Response) error {
	_, err := io.Copy(io.Discard, io.LimitReader(res.Body, mostError))
	return err
}

// Head tells what an object is. ErrNotFound when there is none.
func (c *Client) Head(ctx context.Context, key string) (o *Object, err error) {
	err = c.do(ctx, &request{method: http.MethodHead, key: key, read: func(res *http.Response) error {
		o = objectOf(key, res)
		return nil
	}})
	return o, err
}

// objectOf is the object that the headers of an answer tell of.
func objectOf(key string, res *http.Response) *Object {
	o := &Object{Key: key, Size: res.ContentLength, Meta: map[string]string{}, etag: res.Header.Get("Etag")}
	o.Modified, _ = http.ParseTime(res.Header.Get("Last-Modified"))
	for name, v := range res.Header {
		if rest, ok := strings.CutPrefix(name, metaPrefix); ok && len(v) > 0 {
			o.Meta[strings.ToLower(rest)] = v[0]
		}
	}
	o.hash = o.Meta[metaHash]
	return o
}

// Range is a part of an object. The zero value is all of it.
type Range struct{ From, Bytes int64 }

// header is the Range header for what is left after done bytes; empty for all.
func (r Range) header(done int64) string {
	from := r.From + done
	switch {
	case r.Bytes > 0:
		return fmt.Sprintf("bytes=%d-%d", from, r.From+r.Bytes-1)
	case from > 0:
		return fmt.Sprintf("bytes=%d-", from)
	}
	return ""
}

// Get writes an object, or a part of it, to w. The whole object is proved by the hash that it was put
// with. ErrNotFound when there is none.
func (c *Client) Get(ctx context.Context, key string, part Range, w io.Writer) (*Object, error) {
	g := &getting{part: part, w: w, sum: sha256.New()}
	g.req = &request{
		method: http.MethodGet, key: key, header: http.Header{}, read: g.read, again: g.again,
	}
	g.again()
	if err := c.do(ctx, g.req); err != nil {
		return nil, err
	}
	if part == (Range{}) && g.o.hash != "" && g.o.hash != hex.EncodeToString(g.sum.Sum(nil)) {
		return nil, fmt.Errorf("get %s: %w: its hash is another", c.object(key), ErrDamaged)
	}
	return g.o, nil
}

// getting is a Get that may take several requests.
type getting struct {
	part Range
	w    io.Writer
	sum  hash.Hash
	req  *request
	o    *Object
	done int64
}

// again asks for what is still missing, of the object that was begun with.
func (g *getting) again() bool {
	if h := g.part.header(g.done); h != "" {
		g.req.header.Set("Range", h)
	}
	if g.o != nil && g.o.etag != "" {
		g.req.header.Set("If-Match", g.o.etag)
	}
	return true
}

func (g *getting) read(res *http.Response) error {
	wantsPart := g.part.header(g.done) != ""
	if wantsPart != (res.StatusCode == http.StatusPartialContent) {
		return &localError{fmt.Errorf("%w: a part was asked for, and status %d came", ErrDamaged,
			res.StatusCode)}
	}
	if g.o == nil {
		g.o = objectOf(g.req.key, res)
	}
	n, err := io.Copy(writerOf{g}, res.Body)
	if err == nil && res.ContentLength >= 0 && n != res.ContentLength {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// writerOf writes what arrives; trouble with that is not the network's.
type writerOf struct{ g *getting }

func (w writerOf) Write(p []byte) (int, error) {
	n, err := w.g.w.Write(p)
	w.g.sum.Write(p[:n])
	w.g.done += int64(n)
	if err != nil {
		err = &localError{err}
	}
	return n, err
}

// Delete removes an object. One that is not there is no error.
func (c *Client) Delete(ctx context.Context, key string) error {
	err := c.do(ctx, &request{method: http.MethodDelete, key: key, read: drain})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// List calls fn for each object whose key begins with a prefix, in the order of the keys.
func (c *Client) List(ctx context.Context, prefix string, fn func(Object) error) error {
	token := ""
	for range mostPages {
		p, err := c.page(ctx, prefix, token)
		if err != nil {
			return err
		}
		for _, x := range p.Contents {
			if !strings.HasPrefix(x.Key, prefix) {
				return fmt.Errorf("list %s: the store tells of %q", c.object(prefix), readable(x.Key))
			}
			if err := fn(Object{Key: x.Key, Size: x.Size, Modified: x.LastModified}); err != nil {
				return err
			}
		}
		if !p.IsTruncated {
			return nil
		}
		if p.NextContinuationToken == "" || p.NextContinuationToken == token {
			break
		}
		token = p.NextContinuationToken
	}
	return fmt.Errorf("list %s: the list of the store has no end", c.object(prefix))
}

// listPage is one page of a list.
type listPage struct {
	IsTruncated           bool
	NextContinuationToken string
	Contents              []struct {
		Key          string
		Size         int64
		LastModified time.Time
	}
}

func (c *Client) page(ctx context.Context, prefix, token string) (p *listPage, err error) {
	q := url.Values{"list-type": {"2"}, "prefix": {prefix}}
	if token != "" {
		q.Set("continuation-token", token)
	}
	err = c.do(ctx, &request{method: http.MethodGet, query: q, read: func(res *http.Response) error {
		p = &listPage{}
		return xml.NewDecoder(io.LimitReader(res.Body, mostPage)).Decode(p)
	}})
	return p, err
}
