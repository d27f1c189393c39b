package wal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/vfs"
)

// files knows the names of a stream's files in its folder.
type files struct {
	fs   vfs.FS
	dir  string
	base string
}

func (f files) path(name string) string { return filepath.Join(f.dir, name) }
func (f files) current() string         { return f.base + ".log" }
func (f files) next() string            { return f.base + "tmp.log" }

func (f files) numbered(gen uint32) string { return fmt.Sprintf("%s%08X.log", f.base, gen) }
func (f files) spare(i int) string         { return fmt.Sprintf("%sfree%05d.jrs", f.base, i) }
func (f files) reserve(i int) string       { return fmt.Sprintf("%sres%05d.jrs", f.base, i) }

// parse returns the generation in the name of a closed log file.
func (f files) parse(name string) (gen uint32, ok bool) {
	digits, ok := strings.CutPrefix(name, f.base)
	if !ok {
		return 0, false
	}
	digits, ok = strings.CutSuffix(digits, ".log")
	if !ok || len(digits) != 8 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 16, 32)
	return uint32(n), err == nil && n > 0
}

// GenInfo is one log file of a stream.
type GenInfo struct {
	Gen    uint32
	Name   string // in the folder; not always what it should be after a crash
	Header Header
}

// Generations lists the log files of a stream by their headers, in order. Between two renames a
// file may still have its former name. An error is a *logrec.CorruptError for a bad header.
func Generations(fsys vfs.FS, dir, base string) ([]GenInfo, error) {
	f := files{fsys, dir, base}
	names, err := fsys.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list log files: %w", err)
	}
	var out []GenInfo
	var tmp *GenInfo
	for _, name := range names {
		gen, closed := f.parse(name)
		if !closed && name != f.current() && name != f.next() {
			continue
		}
		h, err := f.readHeader(name)
		if name == f.next() {
			// Unfinished preparation: only a valid header makes it a generation.
			if err == nil {
				tmp = &GenInfo{h.Gen, name, h}
			} else if !errors.Is(err, logrec.ErrLogCorrupt) {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		if closed && h.Gen != gen {
			return nil, &logrec.CorruptError{
				File: f.path(name), Err: logrec.ErrLogCorrupt,
				Reason: fmt.Sprintf("header says generation %d", h.Gen),
			}
		}
		out = append(out, GenInfo{h.Gen, name, h})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Gen < out[j].Gen })
	for i := 1; i < len(out); i++ {
		if out[i].Gen == out[i-1].Gen {
			return nil, &logrec.CorruptError{
				File: f.path(out[i].Name), Err: logrec.ErrLogSequence,
				Reason: fmt.Sprintf("%s is the same generation", out[i-1].Name),
			}
		}
	}
	// An E00tmp.log that does not follow is a file about to be recycled, or a first generation
	// whose creation was not finished.
	if n := len(out); tmp != nil && n > 0 && tmp.Gen == out[n-1].Gen+1 {
		out = append(out, *tmp)
	}
	return out, nil
}

// LastClosedOrCurrent is the highest generation that is not only prepared, by its name.
func LastClosedOrCurrent(gens []GenInfo, base string) uint32 {
	last := gens[len(gens)-1]
	if last.Name == (files{base: base}).next() && len(gens) > 1 {
		last = gens[len(gens)-2]
	}
	return last.Gen
}

// readHeader reads and checks a file's header and size.
func (f files) readHeader(name string) (Header, error) {
	file, err := f.fs.OpenFile(f.path(name), os.O_RDONLY, 0)
	if err != nil {
		return Header{}, fmt.Errorf("open log file: %w", err)
	}
	defer func() { _ = file.Close() }()
	b := make([]byte, headerSize)
	n, err := file.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return Header{}, fmt.Errorf("read header of %s: %w", f.path(name), err)
	}
	h, err := decodeHeader(f.path(name), b[:n])
	if err != nil {
		return Header{}, err
	}
	size, err := file.Size()
	if err != nil {
		return Header{}, fmt.Errorf("size of %s: %w", f.path(name), err)
	}
	if size != h.Bytes {
		return Header{}, &logrec.CorruptError{
			File: f.path(name), Err: logrec.ErrLogCorrupt,
			Reason: fmt.Sprintf("has %d bytes, its header says %d", size, h.Bytes),
		}
	}
	return h, nil
}

// open opens the file that holds generation gen, whatever its name is at the moment. A rename
// may come between the look at one name and the next, so it looks more than once.
func (f files) open(gen uint32) (vfs.File, Header, error) {
	var last error
	for range 3 {
		for _, name := range []string{f.numbered(gen), f.current(), f.next()} {
			file, err := f.fs.OpenFile(f.path(name), os.O_RDONLY, 0)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, Header{}, fmt.Errorf("open log file: %w", err)
			}
			b := make([]byte, headerSize)
			n, err := file.ReadAt(b, 0)
			if err != nil && !errors.Is(err, io.EOF) {
				_ = file.Close()
				return nil, Header{}, fmt.Errorf("read header of %s: %w", f.path(name), err)
			}
			h, err := decodeHeader(f.path(name), b[:n])
			if err == nil && h.Gen == gen {
				return file, h, nil
			}
			_ = file.Close()
			if name != f.next() && err != nil {
				last = err
			}
		}
	}
	if last != nil {
		return nil, Header{}, last
	}
	return nil, Header{}, f.missing(gen)
}

func (f files) missing(gen uint32) error {
	return &logrec.CorruptError{
		File: f.path(f.numbered(gen)), Err: logrec.ErrMissingLog,
		Reason: fmt.Sprintf("generation %d is not there", gen),
	}
}
