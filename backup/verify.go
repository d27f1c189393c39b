package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"pillarbox/ese"
)

// Verifying configures Verify.
type Verifying struct {
	// Keys open what is encrypted; without them only the stored bytes are hashed.
	Keys Keys
	// Progress is told each set as it begins.
	Progress func(*Set)
}

// Finding is trouble with a set or with the row of sets.
type Finding struct {
	Set string
	Err error
}

// Verify hashes every file of every set and looks for gaps between them. What an interrupted
// backup left is no trouble: no set leads on from it.
func (s *Shelf) Verify(ctx context.Context, o Verifying) (findings []Finding, err error) {
	for _, b := range s.Broken {
		if errors.Is(b.Err, ErrUnfinished) {
			continue
		}
		findings = append(findings, Finding{filepath.Base(b.Dir), b.Err})
	}
	for _, x := range s.Sets {
		if o.Progress != nil {
			o.Progress(x)
		}
		for _, err := range x.verify(ctx, o.Keys) {
			findings = append(findings, Finding{x.ID, err})
		}
		if err := ctx.Err(); err != nil {
			return findings, err
		}
	}
	return append(findings, s.gaps()...), nil
}

// Sums are, by path, the SHA-256 of the engine's files as they lie in a set that is neither compressed
// nor encrypted, for who reads them anyway. What the manifest says of them twice is compared.
func (x *Set) Sums() (map[string]string, error) {
	if err := x.agrees(); err != nil {
		return nil, fmt.Errorf("%s: %w", x.ID, err)
	}
	sums := make(map[string]string, len(x.Engine.Files))
	for _, f := range x.Engine.Files {
		sums[filepath.Join(x.Dir, filepath.FromSlash(f.Name))] = f.SHA256
	}
	return sums, nil
}

// CheckFiles proves each file of the set and tells of it; the first error is returned.
func (x *Set) CheckFiles(ctx context.Context, k Keys, tell func(f *File, err error)) error {
	k, err := k.forSet(&x.Manifest)
	err = errors.Join(x.agrees(), err)
	if err != nil {
		return fmt.Errorf("%s: %w", x.ID, err)
	}
	for i := range x.Files {
		if err := ctx.Err(); err != nil {
			return err
		}
		ferr := x.verifyFile(ctx, &x.Files[i], k)
		tell(&x.Files[i], ferr)
		if err == nil {
			err = ferr
		}
	}
	return err
}

// verify hashes the files of a set.
func (x *Set) verify(ctx context.Context, k Keys) (errs []error) {
	if err := x.agrees(); err != nil {
		errs = append(errs, err)
	}
	k, err := k.forSet(&x.Manifest)
	if err != nil {
		return append(errs, err)
	}
	for i := range x.Files {
		if ctx.Err() != nil {
			return errs
		}
		if err := x.verifyFile(ctx, &x.Files[i], k); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

func (x *Set) verifyFile(ctx context.Context, f *File, k Keys) error {
	name, bytes, sum := f.stored()
	in, err := os.Open(filepath.Join(x.Dir, filepath.FromSlash(name)))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	c := newCounter(io.Discard)
	_, err = io.CopyBuffer(onlyWriter{c}, ctxReader{ctx, in}, make([]byte, copyBytes))
	if err = errors.Join(err, in.Close()); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDamaged, name, err)
	}
	if c.n != bytes || c.hex() != sum {
		return fmt.Errorf("%w: %s is not what was written: its hash is another", ErrDamaged, name)
	}
	if f.Stored == "" || (x.Encrypt != "" && k.empty()) {
		return nil
	}
	return x.copyOut(ctx, f, k, io.Discard, nil)
}

// copyOut writes the contents of a file to out and proves its hash.
func (x *Set) copyOut(
	ctx context.Context, f *File, k Keys, out io.Writer, progress func(int),
) (err error) {
	name, _, _ := f.stored()
	r, err := x.open(ctx, f, k)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	c := newCounter(out)
	_, err = io.CopyBuffer(onlyWriter{&teller{c, progress}}, r, make([]byte, copyBytes))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if c.n != f.Bytes || c.hex() != f.SHA256 {
		return fmt.Errorf("%w: %s is not what was written: its hash is another", ErrDamaged, name)
	}
	return nil
}

// open reads the contents of a file. Their hash is not proved.
func (x *Set) open(ctx context.Context, f *File, k Keys) (io.ReadCloser, error) {
	name, _, _ := f.stored()
	in, err := os.Open(filepath.Join(x.Dir, filepath.FromSlash(name)))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	c := &contents{name: name, files: []io.Closer{in}}
	r := io.Reader(in)
	if f.Stored != "" {
		d, err := x.decode(in, k)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", name, err), in.Close())
		}
		r, c.files = d, append(c.files, d)
	}
	// One byte more than there should be shows a file that is too long, and bounds it.
	c.r = io.LimitReader(ctxReader{ctx, r}, f.Bytes+1)
	return c, nil
}

// Open reads the contents of one of the engine's files as they were written, whose hash the caller
// compares.
func (x *Set) Open(ctx context.Context, name string, k Keys) (io.ReadCloser, error) {
	k, err := k.forSet(&x.Manifest)
	if err != nil {
		return nil, err
	}
	for i := range x.Files {
		if f := &x.Files[i]; f.Name == name {
			return x.open(ctx, f, k)
		}
	}
	return nil, fmt.Errorf("%s: %w: it has no file %s", x.ID, ErrDamaged, name)
}

// contents reads a file of a set, decoded.
type contents struct {
	name  string
	r     io.Reader
	files []io.Closer
}

func (c *contents) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: %s: %w", ErrDamaged, c.name, err)
	}
	return n, err
}

// Close closes what was opened, the decoder first.
func (c *contents) Close() (err error) {
	for _, f := range slices.Backward(c.files) {
		err = errors.Join(err, f.Close())
	}
	return err
}

type teller struct {
	w    io.Writer
	tell func(int)
}

func (t *teller) Write(p []byte) (int, error) {
	n, err := t.w.Write(p)
	if t.tell != nil {
		t.tell(n)
	}
	return n, err
}

// ctxReader ends with its context.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (r ctxReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// errNoLog: a set of an earlier version, made when nothing had been logged since the one before.
var errNoLog = errors.New("it holds no log file: it can be restored only together with the log of its " +
	"machine or the archive: make a full backup now")

// gaps finds sets of log that no row reaches, and sets that need the log of others.
func (s *Shelf) gaps() (findings []Finding) {
	reached := map[*Set]bool{}
	high := map[string]uint32{} // by stream
	for _, g := range s.Groups() {
		for _, b := range s.Bases(g) {
			r := s.Row(b)
			reached[b] = true
			if b.Engine.Low > b.Engine.High {
				findings = append(findings, Finding{b.ID, errNoLog})
			}
			high[b.Engine.LogSignature] = max(high[b.Engine.LogSignature], r.High)
		}
	}
	for _, x := range s.Sets {
		h, known := high[x.Engine.LogSignature]
		if reached[x] || (known && x.Engine.Low <= h+1) {
			continue
		}
		err := fmt.Errorf("no full or copy backup of its log stream is here: it is of no use alone")
		if known {
			err = fmt.Errorf("its log begins with generation %d, but no set has generation %d",
				x.Engine.Low, h+1)
		}
		findings = append(findings, Finding{x.ID, err})
	}
	return findings
}

// Unpack writes files of the set into a folder, durably and proven: those whose names begin
// with the prefix, which is taken off.
func (x *Set) Unpack(
	ctx context.Context, to, prefix string, k Keys, progress func(int),
) error {
	return x.unpack(ctx, to, prefix, k, progress, func(string) bool { return false })
}

// UnpackLog unpacks the engine's files but for the databases, which Open reads.
func (x *Set) UnpackLog(ctx context.Context, to string, k Keys) error {
	return x.unpack(ctx, to, "", k, nil, func(name string) bool {
		return slices.ContainsFunc(x.Engine.Databases, func(d ese.BackupDatabase) bool {
			return d.File == name || d.Stream == name
		})
	})
}

// unpack leaves out what leave names.
func (x *Set) unpack(
	ctx context.Context, to, prefix string, k Keys, progress func(int), leave func(name string) bool,
) error {
	k, err := k.forSet(&x.Manifest)
	if err != nil {
		return err
	}
	for i := range x.Files {
		f := &x.Files[i]
		name, ok := strings.CutPrefix(f.Name, prefix)
		if !ok || (prefix == "" && strings.HasPrefix(f.Name, ServerFolder+"/")) || leave(f.Name) {
			continue
		}
		at := filepath.Join(to, filepath.FromSlash(name))
		if err := x.unpackFile(ctx, at, f, k, progress); err != nil {
			return fmt.Errorf("%s: %w", x.ID, err)
		}
	}
	return nil
}

func (x *Set) unpackFile(
	ctx context.Context, at string, f *File, k Keys, progress func(int),
) error {
	if err := os.MkdirAll(filepath.Dir(at), folderMode); err != nil {
		return err
	}
	out, err := os.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	err = x.copyOut(ctx, f, k, out, progress)
	return errors.Join(err, out.Sync(), out.Close(), syncDir(filepath.Dir(at)))
}

// Plain tells that the engine can read the set's folder as it is.
func (x *Set) Plain() bool { return x.Compress == "" && x.Encrypt == "" }
