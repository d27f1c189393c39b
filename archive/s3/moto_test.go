package s3_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"pillarbox/archive/s3"
	"pillarbox/test/moto"
)

// A store of another maker, which checks signatures with code of another maker, takes what we send and
// gives it back.
func TestAnotherStore(t *testing.T) {
	srv := moto.Start(t)
	o := s3.Options{
		Endpoint: srv.URL, Region: moto.Region, Bucket: moto.Bucket, Pause: time.Millisecond,
		Keys: s3.Keys{Access: srv.Access, Secret: srv.Secret},
	}
	c := client(t, o)
	// Only a space in a key, and no slash in a prefix: encoded as AWS wants it (and as its own clients
	// send it: tried with boto3) this store takes the signature for a wrong one.
	keys := []string{"a", "a/b c-d", "deep/er/still", "~tilde"}
	for i := range 20 {
		keys = append(keys, fmt.Sprintf("many/%02d", i))
	}
	slices.Sort(keys)
	for i, key := range keys {
		put(t, c, key, random(i*10_000), map[string]string{"bytes": fmt.Sprint(i)})
	}
	for i, key := range keys {
		body := random(i * 10_000)
		if got := get(t, c, key, s3.Range{}); !bytes.Equal(got, body) {
			t.Errorf("%q: %d bytes came back, not what was put", key, len(got))
		}
		h, err := c.Head(t.Context(), key)
		if err != nil || h.Size != int64(len(body)) || h.Meta["bytes"] != fmt.Sprint(i) {
			t.Errorf("%q: %+v, %v", key, h, err)
		}
	}
	if got := list(t, c, ""); !slices.Equal(got, keys) {
		t.Errorf("listed %q", got)
	}
	if got := list(t, c, "many"); len(got) != 20 {
		t.Errorf("listed %q", got)
	}
	last := len(keys) - 1
	if got := get(t, c, keys[last], s3.Range{From: 100, Bytes: 50}); !bytes.Equal(got, random(last * 10_000)[100:150]) {
		t.Errorf("a part: %d bytes, not those", len(got))
	}
	for range 2 {
		if err := c.Delete(t.Context(), "a"); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Get(t.Context(), "a", s3.Range{}, io.Discard); !errors.Is(err, s3.ErrNotFound) {
		t.Errorf("an object that was deleted: %v", err)
	}
	for want, change := range map[string]func(*s3.Options){
		"the secret key does not belong":         func(o *s3.Options) { o.Keys.Secret = "other" },
		"the store does not know the access key": func(o *s3.Options) { o.Keys.Access = "AKIAOTHER" },
		"make the bucket nowhere first":          func(o *s3.Options) { o.Bucket = "nowhere" },
	} {
		other := o
		change(&other)
		err := client(t, other).Put(t.Context(), "k", strings.NewReader("x"), 1, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
