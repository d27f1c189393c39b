package backup

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"pillarbox/ese"
)

// Stream is a Target that writes a set to a Tape: begin.json, the files, manifest.json, all in a folder
// named by the set.
type Stream struct {
	tape  *Tape
	only  bool // Commit ends the tape too
	id    string
	files []File
}

var (
	_ Target    = (*Stream)(nil)
	_ ese.Noter = (*Stream)(nil)
)

// NewStream begins a set on out that is alone there.
func NewStream(out io.Writer, b Begin) (*Stream, error) {
	t, err := NewTape(out, 1, Codec{})
	if err != nil {
		return nil, err
	}
	s, err := t.Set(b)
	if err == nil {
		s.only = true
	}
	return s, err
}

func (s *Stream) header(name string, size int64) error {
	return s.tape.tar.WriteHeader(&tar.Header{
		Name: s.id + "/" + name, Size: size, Mode: fileMode, ModTime: s.tape.now, Format: tar.FormatPAX,
	})
}

// word writes a small entry of JSON.
func (s *Stream) word(name string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if err := s.header(name, int64(len(text))); err != nil {
		return err
	}
	_, err = s.tape.tar.Write(text)
	return err
}

// streamFile is a file of a Stream.
type streamFile struct {
	counter
	s    *Stream
	name string
	size int64
}

// Create begins a file of exactly so many bytes.
func (s *Stream) Create(name string, size int64) (io.WriteCloser, error) {
	f, err := s.begin(name, size)
	if err == nil {
		f.sum = sha256.New()
	}
	return f, err
}

func (s *Stream) begin(name string, size int64) (*streamFile, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if err := s.header(name, size); err != nil {
		return nil, err
	}
	return &streamFile{counter{w: s.tape.tar}, s, name, size}, nil
}

// Close ends the file.
func (f *streamFile) Close() error {
	if f.n != f.size {
		return fmt.Errorf("%s has %d bytes, not %d", f.name, f.n, f.size)
	}
	f.s.files = append(f.s.files, File{Name: f.name, Bytes: f.n, SHA256: f.hex()})
	return nil
}

// FromEngine takes the files of the engine, which hashes them itself: Commit believes its manifest, and
// whoever receives the stream compares.
func (s *Stream) FromEngine() ese.BackupSink { return engineSink{s} }

type engineSink struct{ *Stream }

func (s engineSink) Create(name string, size int64) (io.WriteCloser, error) {
	return s.begin(name, size)
}

// KeepMissing takes files that did not go through the stream as being there from an earlier try: the
// other end compares its own.
func (s *Stream) KeepMissing(files []ese.BackupFile) {
	for _, f := range files {
		if !slices.ContainsFunc(s.files, func(x File) bool { return x.Name == f.Name }) {
			s.files = append(s.files, File{Name: f.Name, Bytes: f.Bytes, SHA256: f.SHA256})
		}
	}
}

// Note tells the other end what the engine has finished, to resume from it.
func (s *Stream) Note(info *ese.BackupInfo) error { return s.word(noteName, info) }

// Commit writes the manifest.
func (s *Stream) Commit(m *Manifest) error {
	m.Files = s.files
	for i := range m.Files {
		m.Files[i].hashedBy(&m.Engine)
	}
	if err := m.agrees(); err != nil {
		return err
	}
	if err := s.word(manifestName, m); err != nil || !s.only {
		return err
	}
	return s.tape.Close()
}

// Abort leaves a stream that is no set.
func (s *Stream) Abort() error { return nil }

// Fail says in the stream why it ends.
func (s *Stream) Fail(cause error) error {
	return s.word(failureName, Failure{cause.Error(), errors.Is(cause, ese.ErrCannotResume)})
}

// Failure is why a stream ended early.
type Failure struct {
	Reason string `json:"error"`
	// Anew tells that an interrupted backup cannot be resumed: a new one has to begin.
	Anew bool `json:"anew,omitempty"`
}

func (f Failure) Error() string { return f.Reason }

// Receiving configures Receive.
type Receiving struct {
	// Open makes the target when the stream has said what it is.
	Open func(Begin) (Target, error)
	// Rate bounds the bytes per second; 0 is no bound.
	Rate int64
	// Progress is told the bytes received and about how many there will be, often.
	Progress func(done, total int64)
	// Done is how many bytes are there from an earlier try.
	Done int64
}

// ErrCutShort: a stream ended before its manifest.
var ErrCutShort = errors.New("the backup was cut short")

// Receive takes the first set of a stream apart into a target.
func Receive(ctx context.Context, in io.Reader, o Receiving) (*Manifest, error) {
	r := &receiver{ctx: ctx, o: o, tar: tar.NewReader(in), pace: newPace(o.Rate), done: o.Done}
	return r.set()
}

// set takes one set apart.
func (r *receiver) set() (*Manifest, error) {
	m, err := r.run()
	if err != nil && r.target != nil {
		err = errors.Join(err, r.target.Abort())
	}
	return m, err
}

type receiver struct {
	ctx    context.Context
	o      Receiving
	tar    *tar.Reader
	pace   *pace
	begin  Begin
	target Target
	done   int64
}

func (r *receiver) run() (*Manifest, error) {
	for {
		h, err := r.tar.Next()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCutShort, err)
		}
		name, err := r.name(h.Name)
		if err != nil {
			return nil, err
		}
		switch {
		case name == beginName:
			err = r.open()
		case name == failureName:
			var f Failure
			if err = r.word(&f); err == nil {
				err = f
			}
		case r.target == nil:
			err = fmt.Errorf("%w: it has no beginning", ErrDamaged)
		case name == noteName:
			err = r.note()
		case name == manifestName:
			return r.commit()
		default:
			err = r.file(name, h.Size)
		}
		if err != nil {
			return nil, err
		}
	}
}

// name takes the set's folder off.
func (r *receiver) name(full string) (string, error) {
	id, name, ok := bytes.Cut([]byte(full), []byte("/"))
	if !ok || (r.target != nil && string(id) != r.begin.ID) {
		return "", fmt.Errorf("%w: file name %q", ErrDamaged, full)
	}
	return string(name), nil
}

func (r *receiver) word(v any) error {
	return json.NewDecoder(io.LimitReader(r.tar, mostManifest)).Decode(v)
}

func (r *receiver) open() error {
	if err := r.word(&r.begin); err != nil {
		return err
	}
	if err := CheckID(r.begin.ID); err != nil {
		return err
	}
	target, err := r.o.Open(r.begin)
	if err == nil {
		r.target = target
	}
	return err
}

// note keeps what is needed to resume where the target can.
func (r *receiver) note() error {
	var info ese.BackupInfo
	if err := r.word(&info); err != nil {
		return err
	}
	if w, ok := r.target.(*Writer); ok { // another stream cannot be resumed
		return w.Note(&info)
	}
	return nil
}

func (r *receiver) file(name string, size int64) error {
	w, err := r.target.Create(name, size)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(onlyWriter{w}, onlyReader{r}, make([]byte, 256<<10))
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("%w: %w", ErrCutShort, err)
	}
	if cerr := w.Close(); err == nil {
		err = cerr // of a file that was cut short it says nothing new
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// onlyWriter and onlyReader keep io.Copy to its buffer.
type (
	onlyWriter struct{ io.Writer }
	onlyReader struct{ io.Reader }
)

// Read reads of the current file, in time.
func (r *receiver) Read(p []byte) (int, error) {
	n, err := r.tar.Read(p)
	r.done += int64(n)
	if r.o.Progress != nil {
		r.o.Progress(r.done, max(r.begin.Total, r.done))
	}
	if werr := r.pace.wait(r.ctx, n); werr != nil {
		return n, werr
	}
	return n, err
}

func (r *receiver) commit() (*Manifest, error) {
	m, err := parseManifest(r.tar)
	if err != nil {
		return nil, err
	}
	if m.ID != r.begin.ID {
		return nil, fmt.Errorf("%w: manifest of %s in %s", ErrDamaged, m.ID, r.begin.ID)
	}
	if err := r.target.Commit(m); err != nil {
		return nil, err
	}
	return m, nil
}

// pace holds bytes back to a rate.
type pace struct {
	rate  int64
	start time.Time
	done  int64
}

func newPace(rate int64) *pace { return &pace{rate: rate, start: time.Now()} }

// wait waits until n more bytes are due.
func (p *pace) wait(ctx context.Context, n int) error {
	if p.rate <= 0 {
		return ctx.Err()
	}
	p.done += int64(n)
	due := time.Duration(float64(p.done) / float64(p.rate) * float64(time.Second))
	ahead := due - time.Since(p.start)
	if ahead <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(ahead)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// AddFile writes a small file.
func AddFile(t Target, name string, text []byte) error {
	w, err := t.Create(name, int64(len(text)))
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return errors.Join(err, w.Close())
}
