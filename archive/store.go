package archive

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"pillarbox/archive/s3"
)

// Store keeps files in folders of one level.
type Store interface {
	// List is the names of the files in a folder, in order; none when it is not there.
	List(ctx context.Context, folder string) ([]string, error)
	// Put writes a file: b, and zeros up to size.
	Put(ctx context.Context, folder, name string, b []byte, size int64) error
	// Fetch copies a file to a path where there is none. ErrGone when it is not there.
	Fetch(ctx context.Context, folder, name, to string) error
	// Read is the content of a file of bounded length. ErrGone when it is not there.
	Read(ctx context.Context, folder, name string) ([]byte, error)
	// Remove removes a file. One that is not there is no error.
	Remove(ctx context.Context, folder, name string) error
	// Close lets go of what the store holds.
	Close()
	// String is the place as the config names it.
	String() string
}

// ErrGone: the archive has no such file.
var ErrGone = errors.New("the archive has no such file")

const bucketScheme = "s3://"

// IsBucket tells that a place is in an S3-compatible store.
func IsBucket(place string) bool { return strings.HasPrefix(place, bucketScheme) }

// ParseBucket takes s3://BUCKET/PREFIX apart.
func ParseBucket(place string) (bucket, prefix string, err error) {
	bucket, prefix, _ = strings.Cut(strings.TrimPrefix(place, bucketScheme), "/")
	if err := s3.CheckBucket(bucket); err != nil {
		return "", "", fmt.Errorf("%s: it looks like s3://BUCKET/PREFIX: %w", place, err)
	}
	prefix = strings.Trim(prefix, "/")
	if len(prefix) > 500 || strings.ContainsFunc(prefix, func(r rune) bool { return r < ' ' }) {
		return "", "", fmt.Errorf("%s: the part after the bucket is not one that stores take", place)
	}
	return bucket, prefix, nil
}

// Open opens the archive at a place: a folder, or s3://BUCKET/PREFIX with what o says. It asks
// nothing yet.
func Open(place string, o s3.Options) (Store, error) {
	if !IsBucket(place) {
		return Folder(place), nil
	}
	bucket, prefix, err := ParseBucket(place)
	if err != nil {
		return nil, err
	}
	o.Bucket = bucket
	c, err := s3.New(o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", place, err)
	}
	return &Bucket{place: place, prefix: prefix, client: c}, nil
}
