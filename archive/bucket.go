package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"pillarbox/archive/s3"
)

// Bucket is an archive below a prefix of a bucket.
type Bucket struct {
	place, prefix string
	client        *s3.Client
}

var _ Store = (*Bucket)(nil)

const (
	// metaBytes is the length of a file with the zeros that were not sent.
	metaBytes = "bytes"
	// mostBytes bounds that length: no log file is longer.
	mostBytes = 256 << 20
)

// String is s3://BUCKET/PREFIX.
func (b *Bucket) String() string { return b.place }

// Close lets the connections go.
func (b *Bucket) Close() { b.client.Close() }

func (b *Bucket) key(folder, name string) string { return path.Join(b.prefix, folder, name) }

// List lists a folder.
func (b *Bucket) List(ctx context.Context, folder string) (names []string, err error) {
	prefix := b.key(folder, "")
	err = b.client.List(ctx, prefix, func(o s3.Object) error {
		if name, ok := strings.CutPrefix(o.Key, prefix+"/"); ok && !strings.Contains(name, "/") {
			names = append(names, name)
		}
		return nil
	})
	return names, err
}

// Put writes a file; the zeros at its end are not sent.
func (b *Bucket) Put(ctx context.Context, folder, name string, p []byte, size int64) error {
	return b.client.Put(ctx, b.key(folder, name), bytes.NewReader(p), int64(len(p)),
		map[string]string{metaBytes: strconv.FormatInt(size, 10)})
}

// Fetch copies a file and gives it its length.
func (b *Bucket) Fetch(ctx context.Context, folder, name, to string) error {
	err := intoFile(to, func(out *os.File) error {
		o, err := b.client.Get(ctx, b.key(folder, name), s3.Range{}, out)
		if err != nil {
			return err
		}
		return out.Truncate(lengthOf(o))
	})
	if errors.Is(err, s3.ErrNotFound) {
		err = fmt.Errorf("%w: %w", ErrGone, err)
	}
	return err
}

// Read reads a file.
func (b *Bucket) Read(ctx context.Context, folder, name string) ([]byte, error) {
	var w limited
	o, err := b.client.Get(ctx, b.key(folder, name), s3.Range{}, &w)
	if errors.Is(err, s3.ErrNotFound) {
		err = fmt.Errorf("%w: %w", ErrGone, err)
	}
	if err != nil {
		return nil, err
	}
	text := w.Bytes()
	return append(text, make([]byte, max(0, lengthOf(o)-int64(len(text))))...), nil
}

// lengthOf is the length of a file with the zeros that were not sent.
func lengthOf(o *s3.Object) int64 {
	size, err := strconv.ParseInt(o.Meta[metaBytes], 10, 64)
	if err != nil || size < o.Size || size > mostBytes {
		return o.Size // somebody copied it here without its metadata
	}
	return size
}

// limited is a buffer that takes no more than a log file has.
type limited struct{ bytes.Buffer }

var errTooLong = errors.New("the file is longer than any log file")

func (w *limited) Write(p []byte) (int, error) {
	if w.Len()+len(p) > mostBytes {
		return 0, errTooLong
	}
	return w.Buffer.Write(p)
}

// Remove removes a file.
func (b *Bucket) Remove(ctx context.Context, folder, name string) error {
	return b.client.Delete(ctx, b.key(folder, name))
}
