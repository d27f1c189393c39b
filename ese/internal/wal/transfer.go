package wal

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/vfs"
)

// CopyGeneration writes a closed generation to w.
func (l *Log) CopyGeneration(gen uint32, w io.Writer) error {
	f, h, err := l.files.open(gen)
	if err != nil {
		return err
	}
	buf := make([]byte, min(syncStep, h.Bytes))
	for off := int64(0); off < h.Bytes && err == nil; off += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), h.Bytes-off)]
		if n, rerr := f.ReadAt(buf, off); n < len(buf) {
			err = fmt.Errorf("read generation %d: %w", gen, rerr)
			break
		}
		_, err = w.Write(buf)
	}
	return errors.Join(err, f.Close())
}

// LastCommit is the time of the last commit in the closed generations from low to high, in ms;
// 0 when they have none.
func (l *Log) LastCommit(low, high uint32) (int64, error) {
	for gen := high; gen >= low; gen-- {
		f, h, err := l.files.open(gen)
		if err != nil {
			return 0, err
		}
		s := Source{Header: h}
		err = errors.Join(s.walk(f), f.Close())
		if err != nil || s.LastCommit != 0 {
			return s.LastCommit, err
		}
	}
	return 0, nil
}

// Each calls fn with the records of the closed generations from gen on. A payload is valid until fn
// returns.
func (l *Log) Each(gen uint32, fn func(Record) error) error {
	for ; gen < l.Generation(); gen++ {
		if err := l.eachOf(gen, fn); err != nil {
			return err
		}
	}
	return nil
}

func (l *Log) eachOf(gen uint32, fn func(Record) error) error {
	f, h, err := l.files.open(gen)
	if err != nil {
		return err
	}
	w := window{file: f, size: h.Bytes, buf: make([]byte, min(syncStep, h.Bytes))}
	chain, off := h.chainStart(), int64(headerSize)
	for err == nil {
		var b []byte
		if b, err = w.frame(off); err != nil {
			break
		}
		pos := logrec.MakePos(gen, off)
		fr, ok := logrec.DecodeFrame(b, pos)
		if !ok || fr.Prev != chain {
			err = &logrec.CorruptError{
				File: l.files.path(l.files.numbered(gen)), Pos: pos, Err: logrec.ErrLogCorrupt,
				Reason: "no valid record in a closed generation",
			}
			break
		}
		if fr.Type == logrec.TypeEnd {
			break
		}
		chain, off = fr.Sum, off+int64(fr.Size)
		if fr.Type != logrec.TypeFlushMark {
			err = fn(Record{
				Type: fr.Type, Pos: pos, End: logrec.MakePos(gen, off), Back: fr.Back,
				Payload: fr.Payload,
			})
		}
	}
	return errors.Join(err, f.Close())
}

// GenerationBytes is the size of a generation's file.
func (l *Log) GenerationBytes(gen uint32) (int64, error) {
	f, h, err := l.files.open(gen)
	if err != nil {
		return 0, err
	}
	return h.Bytes, f.Close()
}

// NumberedName is the name of a closed generation's file.
func NumberedName(base string, gen uint32) string { return files{base: base}.numbered(gen) }

// PreparedName is the name of a generation's file that was prepared.
func PreparedName(base string) string { return files{base: base}.next() }

// NumberOf is the generation whose closed file has the name.
func NumberOf(base, name string) (gen uint32, ok bool) { return files{base: base}.parse(name) }

// Source is a log file somewhere.
type Source struct {
	Path   string
	Header Header
	// Used is how far its valid records reach, in bytes, and Closed that the last is End.
	Used   int64
	Closed bool
	// LastCommit is the time of the newest commit in it, in ms; 0 when it has none.
	LastCommit int64
	// SHA256 is, in hex, what Assemble must find the file to be; empty is not compared.
	SHA256 string
}

// ReadSource reads one log file, wherever it lies.
func ReadSource(fsys vfs.FS, path string) (s Source, err error) {
	f := files{fsys, filepath.Dir(path), ""}
	s.Path = path
	if s.Header, err = f.readHeader(filepath.Base(path)); err == nil {
		err = s.measure(fsys)
	}
	return s, err
}

// ErrWrongHash: a file is not the one that was written.
var ErrWrongHash = errors.New("the file is not what was written: its hash is another")

// Collect finds, in the folders given, the generations from first on of the stream sign, without
// a gap. Of several copies of a generation the one that reaches furthest counts. why says what
// ended the row: the generation that no folder has.
func Collect(fsys vfs.FS, dirs []string, base string, sign logrec.Signature, first uint32) ([]Source, string, error) {
	found, err := findSources(fsys, dirs, base, sign)
	if err != nil {
		return nil, "", err
	}
	var out []Source
	for gen := first; ; gen++ {
		candidates := found[gen]
		if len(candidates) == 0 {
			if len(out) == 0 {
				return nil, "", &logrec.CorruptError{
					File: files{base: base}.numbered(gen), Err: logrec.ErrMissingLog,
					Reason: fmt.Sprintf("generation %d is in none of the folders %q", gen, dirs),
				}
			}
			last := &out[len(out)-1]
			for g := range found {
				if g > gen {
					return nil, "", &logrec.CorruptError{
						File: files{base: base}.numbered(gen), Err: logrec.ErrMissingLog,
						Reason: fmt.Sprintf("generation %d is in none of the folders %q, but later ones are", gen, dirs),
					}
				}
			}
			if last.Closed {
				return out, fmt.Sprintf("the log ends with generation %d: no folder has generation %d", last.Header.Gen, gen), nil
			}
			return out, fmt.Sprintf("the log ends inside of generation %d", last.Header.Gen), nil
		}
		s, err := furthest(fsys, candidates)
		if err != nil {
			return nil, "", err
		}
		if n := len(out); n > 0 {
			prev := &out[n-1]
			if reason, bad := s.Header.follows(&prev.Header); bad != nil {
				return nil, "", &logrec.CorruptError{File: s.Path, Reason: reason, Err: bad}
			}
			if !prev.Closed {
				if s.Used > headerSize {
					return nil, "", &logrec.CorruptError{
						File: prev.Path, Pos: logrec.MakePos(prev.Header.Gen, prev.Used), Err: logrec.ErrLogCorrupt,
						Reason: fmt.Sprintf("the records end here, but generation %d has some", gen),
					}
				}
				return out, fmt.Sprintf("the log ends inside of generation %d", prev.Header.Gen), nil
			}
		}
		out = append(out, s)
	}
}

// findSources reads the headers of all log files of the stream in the folders.
func findSources(fsys vfs.FS, dirs []string, base string, sign logrec.Signature) (map[uint32][]Source, error) {
	found := map[uint32][]Source{}
	for _, dir := range dirs {
		f := files{fsys, dir, base}
		names, err := fsys.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("list log files: %w", err)
		}
		for _, name := range names {
			if _, ok := f.parse(name); !ok && name != f.current() && name != f.next() {
				continue
			}
			h, err := f.readHeader(name)
			if err != nil {
				if name == f.next() {
					continue // being prepared
				}
				return nil, err
			}
			if h.Sign == sign {
				found[h.Gen] = append(found[h.Gen], Source{Path: f.path(name), Header: h})
			}
		}
	}
	return found, nil
}

// furthest picks the copy of a generation with the most records. Copies that were begun at
// different times are of two histories.
func furthest(fsys vfs.FS, candidates []Source) (Source, error) {
	var best Source
	for i := range candidates {
		s := candidates[i]
		if s.Header.Created != candidates[0].Header.Created || s.Header.Key != candidates[0].Header.Key {
			return Source{}, &logrec.CorruptError{
				File: s.Path, Err: logrec.ErrLogSignature,
				Reason: fmt.Sprintf("generation %d of another history than %s: leave one of them out",
					s.Header.Gen, candidates[0].Path),
			}
		}
		if err := s.measure(fsys); err != nil {
			return Source{}, err
		}
		if i == 0 || s.Used > best.Used {
			best = s
		}
	}
	return best, nil
}

// measure finds out how far the records of the file reach.
func (s *Source) measure(fsys vfs.FS) error {
	file, err := fsys.OpenFile(s.Path, os.O_RDONLY, 0)
	if err != nil {
		return fmt.Errorf("open log file: %w", err)
	}
	n, err := file.Size()
	if err == nil && n < s.Header.Bytes {
		err = fmt.Errorf("it has %d bytes instead of %d: %w", n, s.Header.Bytes, io.ErrUnexpectedEOF)
	}
	if err == nil {
		err = s.walk(file)
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("read %s: %w", s.Path, err)
	}
	return nil
}

// walk reads the valid records of the file, and notes where they end and the last commit. It reads no
// further, and holds a part of the file at a time.
func (s *Source) walk(file io.ReaderAt) error {
	s.Used = headerSize
	w := window{file: file, size: s.Header.Bytes, buf: make([]byte, min(syncStep, s.Header.Bytes))}
	for chain := s.Header.chainStart(); ; {
		b, err := w.frame(s.Used)
		if err != nil {
			return err
		}
		f, ok := logrec.DecodeFrame(b, logrec.MakePos(s.Header.Gen, s.Used))
		if !ok || f.Prev != chain {
			return nil
		}
		if f.Type == logrec.TypeCommit {
			var c logrec.CommitRec
			if err := c.Decode(f.Payload, f.Back); err != nil {
				return err
			}
			s.LastCommit = c.TimeMS
		}
		chain = f.Sum
		s.Used += int64(f.Size)
		if f.Type == logrec.TypeEnd {
			s.Closed = true
			return nil
		}
	}
}

// window is the part of a log file that is in memory.
type window struct {
	file io.ReaderAt
	size int64
	buf  []byte
	at   int64 // of buf[0] in the file
	n    int   // valid bytes of buf
}

// frame returns the bytes of the frame at off, as far as its length can be believed, which only its
// checksum tells.
func (w *window) frame(off int64) ([]byte, error) {
	b, err := w.bytes(off, logrec.MaxFrameHeader)
	if n, ok := logrec.FrameLen(b); ok && err == nil {
		return w.bytes(off, n)
	}
	return nil, err
}

// bytes returns n bytes from off on, fewer at the end of the file.
func (w *window) bytes(off int64, n int) ([]byte, error) {
	n = int(min(int64(n), w.size-off))
	if from := off - w.at; from >= 0 && from+int64(n) <= int64(w.n) {
		return w.buf[from : from+int64(n)], nil
	}
	if n > len(w.buf) {
		w.buf = make([]byte, n)
	}
	want := int(min(int64(len(w.buf)), w.size-off))
	got, err := w.file.ReadAt(w.buf[:want], off)
	w.at, w.n = off, got
	if got < want {
		return nil, err
	}
	return w.buf[:n], nil
}

// Assemble copies the sources into dir under their numbers, the last one as the current file,
// so that the folder is a stream that Open continues. A last generation that is closed gets an
// empty successor.
func Assemble(fsys vfs.FS, dir, base string, sources []Source, o Options) error {
	f := files{fsys, dir, base}
	for i := range sources {
		name := f.numbered(sources[i].Header.Gen)
		if i == len(sources)-1 && !sources[i].Closed {
			name = f.current()
		}
		if err := sources[i].copyTo(fsys, f.path(name)); err != nil {
			return err
		}
	}
	last := &sources[len(sources)-1]
	if last.Closed {
		h := Header{
			Gen: last.Header.Gen + 1, Bytes: last.Header.Bytes, PageSize: last.Header.PageSize,
			Sign: last.Header.Sign, Created: logrec.MakeLogTime(o.Now()), PrevCreated: last.Header.Created,
			Key: o.Rand(), Parent: last.Header.Parent, Fork: last.Header.Fork,
		}
		if err := writeEmpty(fsys, f.path(f.current()), &h); err != nil {
			return err
		}
	}
	return fsys.SyncDir(dir)
}

// Cut makes pos the end of the stream in dir: what stands behind it is gone.
func Cut(fsys vfs.FS, dir, base string, pos logrec.LogPos) error {
	f := files{fsys, dir, base}
	gens, err := Generations(fsys, dir, base)
	if err != nil {
		return err
	}
	for i := len(gens) - 1; i >= 0 && gens[i].Gen > pos.Generation(); i-- {
		if err := fsys.Remove(f.path(gens[i].Name)); err != nil {
			return err
		}
		gens = gens[:i]
	}
	if len(gens) == 0 || gens[len(gens)-1].Gen != pos.Generation() {
		return f.missing(pos.Generation())
	}
	last := gens[len(gens)-1]
	if err := blank(fsys, f.path(last.Name), pos.Offset(), last.Header.Bytes); err != nil {
		return err
	}
	if last.Name != f.current() {
		if err := fsys.Rename(f.path(last.Name), f.path(f.current())); err != nil {
			return err
		}
	}
	return fsys.SyncDir(dir)
}

// blank writes zeros from an offset to the end of a file.
func blank(fsys vfs.FS, path string, from, to int64) (err error) {
	file, err := fsys.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	zeros := make([]byte, min(syncStep, to-from))
	for ; from < to; from += int64(len(zeros)) {
		zeros = zeros[:min(int64(len(zeros)), to-from)]
		if _, err := file.WriteAt(zeros, from); err != nil {
			return err
		}
	}
	return file.SyncData()
}

func writeEmpty(fsys vfs.FS, path string, h *Header) error {
	file, err := fsys.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(file.Truncate(h.Bytes), file.Close()); err != nil {
		return err
	}
	if err := blank(fsys, path, headerSize, h.Bytes); err != nil {
		return err
	}
	file, err = fsys.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(h.encode(), 0)
	return errors.Join(err, file.SyncData(), file.Close())
}

// copyTo copies the records of a log file and fills the rest with zeros, durably. A file of another
// hash is refused.
func (s *Source) copyTo(fsys vfs.FS, to string) (err error) {
	if filepath.Clean(to) == filepath.Clean(s.Path) {
		return nil
	}
	in, err := fsys.OpenFile(s.Path, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := fsys.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	sum, wanted := sha256.New(), s.Used
	if s.SHA256 != "" {
		wanted = s.Header.Bytes
	}
	buf := make([]byte, min(syncStep, s.Header.Bytes))
	for off := int64(0); off < s.Header.Bytes; off += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), s.Header.Bytes-off)]
		n := max(0, min(int64(len(buf)), wanted-off))
		if got, err := in.ReadAt(buf[:n], off); int64(got) < n {
			return fmt.Errorf("read %s after %d bytes: %w", s.Path, off+int64(got), err)
		}
		if s.SHA256 != "" {
			sum.Write(buf)
		}
		clear(buf[max(0, min(int64(len(buf)), s.Used-off)):])
		if _, err := out.WriteAt(buf, off); err != nil {
			return fmt.Errorf("write %s: %w", to, err)
		}
	}
	if s.SHA256 != "" && hex.EncodeToString(sum.Sum(nil)) != s.SHA256 {
		return fmt.Errorf("%s: %w", s.Path, ErrWrongHash)
	}
	return out.SyncData()
}

// CurrentSignature is the stream of the log in a folder whose last file is there: the current
// one, or the one that was about to become it. fs.ErrNotExist when it is not.
func CurrentSignature(fsys vfs.FS, dir, base string) (logrec.Signature, error) {
	f := files{fsys, dir, base}
	gens, err := Generations(fsys, dir, base)
	if err != nil {
		return logrec.Signature{}, err
	}
	if len(gens) > 0 {
		last := gens[len(gens)-1]
		if last.Name == f.current() || last.Name == f.next() {
			return last.Header.Sign, nil
		}
	}
	return logrec.Signature{}, fmt.Errorf("%s: %w", f.path(f.current()), fs.ErrNotExist)
}
