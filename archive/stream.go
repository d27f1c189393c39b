package archive

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// base begins the names of log files.
const base = "E00"

// Current is the name of the current generation.
const Current = base + ".log"

// Name is the name of a closed generation.
func Name(gen uint32) string { return fmt.Sprintf("%s%08X.log", base, gen) }

// Generations are the numbers of the closed log files among names, ascending.
func Generations(names []string) (gens []uint32) {
	for _, name := range names {
		digits := strings.TrimSuffix(strings.TrimPrefix(name, base), ".log")
		n, err := strconv.ParseUint(digits, 16, 32)
		if err == nil && name == Name(uint32(n)) {
			gens = append(gens, uint32(n))
		}
	}
	slices.Sort(gens)
	return gens
}

// FolderOf is the folder of a log stream, by its signature.
func FolderOf(signature string) string { return signature[:min(len(signature), 24)] }

// Stream is the log of one stream in a Store.
type Stream struct {
	Store  Store
	folder string
}

// NewStream is the log of the stream with the signature.
func NewStream(s Store, signature string) *Stream { return NewStreamIn(s, "", signature) }

// NewStreamIn is the log of a stream below a folder of the Store.
func NewStreamIn(s Store, folder, signature string) *Stream {
	return &Stream{s, path.Join(folder, FolderOf(signature))}
}

// Generations are the closed ones that are there, ascending.
func (s *Stream) Generations(ctx context.Context) ([]uint32, error) {
	names, err := s.Store.List(ctx, s.folder)
	if err != nil {
		return nil, fmt.Errorf("list the archive: %w", err)
	}
	return Generations(names), nil
}

// Put adds a closed generation.
func (s *Stream) Put(ctx context.Context, gen uint32, b []byte) error {
	if err := s.Store.Put(ctx, s.folder, Name(gen), b, int64(len(b))); err != nil {
		return fmt.Errorf("archive log generation %d: %w", gen, err)
	}
	return nil
}

// PutCurrent replaces the current generation: b has its first used bytes, which are durable.
func (s *Stream) PutCurrent(ctx context.Context, b []byte, used int64) error {
	size := int64(len(b))
	if err := s.Store.Put(ctx, s.folder, Current, b[:min(used, size)], size); err != nil {
		return fmt.Errorf("archive the current log: %w", err)
	}
	return nil
}

// RemoveBelow removes the closed generations below gen, the oldest first, and returns how many.
func (s *Stream) RemoveBelow(ctx context.Context, gen uint32) (n int, err error) {
	gens, err := s.Generations(ctx)
	for _, g := range gens {
		if g >= gen || err != nil {
			break
		}
		if err = s.Store.Remove(ctx, s.folder, Name(g)); err == nil {
			n++
		}
	}
	return n, err
}

// Read is the content of one of the stream's files. ErrGone when it is not there.
func (s *Stream) Read(ctx context.Context, name string) ([]byte, error) {
	b, err := s.Store.Read(ctx, s.folder, name)
	if err != nil {
		return nil, fmt.Errorf("read %s of the archive: %w", name, err)
	}
	return b, nil
}

// Fetching says what Fetch is to bring.
type Fetching struct {
	// From and To are the first and the last generation; To is 0 for all.
	From, To uint32
	// Progress is told after each file.
	Progress func(done, total int)
}

// names are those of the files to bring. The current generation leads on from the newest closed one
// only.
func (o *Fetching) names(list []string) (names []string) {
	newest := uint32(0)
	for _, gen := range Generations(list) {
		if gen >= o.From && (o.To == 0 || gen <= o.To) {
			names = append(names, Name(gen))
		}
		newest = gen
	}
	if slices.Contains(list, Current) && (o.To == 0 || newest <= o.To) {
		names = append(names, Current)
	}
	return names
}

// Fetch brings generations, and the current one, into a folder that is there. It returns how many
// files it brought.
func (s *Stream) Fetch(ctx context.Context, dir string, o Fetching) (n int, err error) {
	list, err := s.Store.List(ctx, s.folder)
	if err != nil {
		return 0, fmt.Errorf("list the archive: %w", err)
	}
	names := o.names(list)
	for i, name := range names {
		err := s.Store.Fetch(ctx, s.folder, name, filepath.Join(dir, name))
		if errors.Is(err, ErrGone) {
			continue // pruned meanwhile: what is missing is told where it is needed
		}
		if err != nil {
			return n, fmt.Errorf("fetch from the archive: %w", err)
		}
		n++
		if o.Progress != nil {
			o.Progress(i+1, len(names))
		}
	}
	return n, nil
}
