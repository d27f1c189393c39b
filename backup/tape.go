package backup

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// Tape writes sets one after the other as one tar stream, so that tar makes a folder of each. A codec
// works on the whole.
type Tape struct {
	tar  *tar.Writer
	code io.WriteCloser
	now  time.Time
	left int
}

// NewTape begins a stream of so many sets.
func NewTape(out io.Writer, sets int, codec Codec) (*Tape, error) {
	code, err := codec.encode(out)
	if err != nil {
		return nil, err
	}
	return &Tape{tar: tar.NewWriter(code), code: code, now: time.Now(), left: sets}, nil
}

// Set begins the next set.
func (t *Tape) Set(b Begin) (*Stream, error) {
	if err := CheckID(b.ID); err != nil {
		return nil, err
	}
	t.left--
	b.Left = t.left
	s := &Stream{tape: t, id: b.ID}
	return s, s.word(beginName, b)
}

// Close ends the stream. One that is not closed, or lacks sets, is cut short.
func (t *Tape) Close() error { return errors.Join(t.tar.Close(), t.code.Close()) }

// ReceiveAll takes a stream of sets apart, into a target for each.
func ReceiveAll(ctx context.Context, in io.Reader, o Receiving) (list []*Manifest, err error) {
	t, done := tar.NewReader(in), o.Done
	for left := 1; left > 0; {
		r := &receiver{ctx: ctx, o: o, tar: t, pace: newPace(o.Rate), done: done}
		m, err := r.set()
		if err != nil {
			return list, err
		}
		list = append(list, m)
		left, done = r.begin.Left, r.done
	}
	return list, nil
}

// magics are how what a codec makes begins.
var (
	magicZstd = []byte{0x28, 0xb5, 0x2f, 0xfd}
	magicAge  = []byte("age-encryption.org/")
)

// OpenTape undoes what a codec did to a whole stream, by its first bytes.
func OpenTape(in io.Reader, k Keys) (io.ReadCloser, error) {
	r := bufio.NewReader(in)
	if begins(r, magicAge) {
		d, err := (&Manifest{Encrypt: encryptAge}).decode(r, k)
		if err != nil {
			return nil, err
		}
		r = bufio.NewReader(d)
	}
	m := &Manifest{}
	if begins(r, magicZstd) {
		m.Compress = compressZstd
	}
	return m.decode(r, Keys{})
}

func begins(r *bufio.Reader, magic []byte) bool {
	head, _ := r.Peek(len(magic)) // an error comes again when it is read
	return bytes.Equal(head, magic)
}

// Checker is a Target that keeps nothing: it proves that a set is what its manifest says.
type Checker struct{ files []File }

var _ Target = (*Checker)(nil)

// checkedFile is a file of a Checker.
type checkedFile struct {
	*counter
	c    *Checker
	name string
}

// Create begins a file.
func (c *Checker) Create(name string, _ int64) (io.WriteCloser, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	return &checkedFile{newCounter(io.Discard), c, name}, nil
}

// Close ends the file.
func (f *checkedFile) Close() error {
	f.c.files = append(f.c.files, File{Name: f.name, Bytes: f.n, SHA256: f.hex()})
	return nil
}

// Commit compares what came with the manifest.
func (c *Checker) Commit(m *Manifest) error {
	for _, want := range m.Files {
		i := slices.IndexFunc(c.files, func(f File) bool { return f.Name == want.Name })
		switch {
		case i < 0:
			return fmt.Errorf("%s: %w: %s did not arrive", m.ID, ErrDamaged, want.Name)
		case c.files[i].Bytes != want.Bytes || c.files[i].SHA256 != want.SHA256:
			return fmt.Errorf("%s: %w: %s is not what was sent", m.ID, ErrDamaged, want.Name)
		}
	}
	return m.agrees()
}

// Abort does nothing.
func (c *Checker) Abort() error { return nil }
