package report

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/wal"
	"pillarbox/ese/vfs"
)

// logHeaderBytes is where the records of a log file begin.
const logHeaderBytes = logrec.SectorSize

// logs reads a stream of log files with all checksums and the chain between them; only, unless
// empty, names the one file that is meant.
func (p *printer) logs(ctx context.Context, fsys vfs.FS, prefix, only string) error {
	dir, base := filepath.Dir(prefix), filepath.Base(prefix)
	p.printf("Base name: %s\n\n", base)
	gens, err := wal.Generations(fsys, dir, base)
	if err != nil {
		return err
	}
	if len(gens) == 0 {
		return fmt.Errorf("no log files %s*.log in %s", base, dir)
	}
	first, last := gens[0], gens[len(gens)-1]
	if only != "" {
		i := 0
		for i < len(gens) && gens[i].Name != only {
			i++
		}
		if i == len(gens) {
			return fmt.Errorf("%s is no log file of %s", only, base)
		}
		first, last = gens[i], gens[i]
	}
	return p.walk(ctx, fsys, dir, base, first, last)
}

func (p *printer) walk(
	ctx context.Context, fsys vfs.FS, dir, base string, first, last wal.GenInfo,
) error {
	current := first
	ok := func(g wal.GenInfo) { p.printf("      Log file: %s - OK\n", filepath.Join(dir, g.Name)) }
	r, err := wal.NewReader(fsys, dir, base, logrec.MakePos(first.Gen, logHeaderBytes),
		wal.ReaderOptions{OnGeneration: func(g wal.GenInfo) {
			if g.Gen > current.Gen {
				ok(current)
				current = g
			}
		}})
	for err == nil && current.Gen <= last.Gen {
		if err = ctx.Err(); err == nil {
			_, err = r.Next()
		}
	}
	switch {
	case errors.Is(err, io.EOF):
		ok(current)
	case err != nil && current.Gen <= last.Gen:
		p.printf("      Log file: %s - ERROR: %v\n", filepath.Join(dir, current.Name), err)
		return err
	}
	p.printf("\nNo damaged log files were found.\n")
	return nil
}
