package report

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/wal"
	"pillarbox/ese/vfs"
)

// The JSON of Log.
type (
	logFile struct {
		File       string         `json:"file"`
		Generation uint32         `json:"lGeneration"`
		Created    string         `json:"creationTime"`
		Previous   string         `json:"prevGenTime"`
		Bytes      int64          `json:"bytes"`
		PageSize   int            `json:"pageSize"`
		Signature  string         `json:"signature"`
		Parent     string         `json:"parentSignature,omitempty"`
		Fork       string         `json:"forkedAt,omitempty"`
		Records    map[string]int `json:"records"`
		Last       string         `json:"lastLgpos"`
		State      string         `json:"state"` // OK, or what is wrong
	}
	logChain struct {
		Base       string    `json:"baseName"`
		Checkpoint string    `json:"checkpoint"`
		Files      []logFile `json:"files"`
		Missing    []uint32  `json:"missingGenerations,omitempty"`
	}
)

// Log prints a log file, or for a base name (DIR/E00) the chain of its generations. Damage and
// gaps are printed and returned as an error.
func Log(ctx context.Context, w io.Writer, fsys vfs.FS, path string) error {
	dir, name := filepath.Split(path)
	dir = filepath.Clean(dir)
	if strings.EqualFold(filepath.Ext(name), ".log") {
		if len(name) < len("E00.log") {
			return fmt.Errorf("%s: not the name of a log file", path)
		}
	} else if len(name) != 3 {
		return fmt.Errorf("%s: neither a log file nor a base name such as E00", path)
	}
	chain, err := readChain(ctx, fsys, dir, name)
	if chain != nil {
		p := &printer{w: w}
		if !p.data(chain) {
			p.logChain(chain, dir)
		}
		err = errors.Join(err, p.err)
	}
	return err
}

// readChain reads all generations of a base, or the one file that name means.
func readChain(ctx context.Context, fsys vfs.FS, dir, name string) (*logChain, error) {
	base := name[:3]
	gens, err := wal.Generations(fsys, dir, base)
	if err != nil && len(gens) == 0 {
		return nil, err
	}
	if len(gens) == 0 {
		return nil, fmt.Errorf("no log files %s*.log in %s: %w", base, dir, fs.ErrNotExist)
	}
	c := &logChain{Base: base, Checkpoint: "NOT AVAILABLE", Files: []logFile{}}
	if cp, err := wal.ReadCheckpoint(fsys, filepath.Join(dir, base+".chk")); err == nil {
		c.Checkpoint = cp.Pos.String()
	}
	var all error
	for i, g := range gens {
		if name != base && g.Name != name {
			continue
		}
		f := describeLog(g)
		if name == base && i > 0 {
			all = errors.Join(all, c.follows(gens[i-1], g))
		}
		if err := readLog(ctx, fsys, dir, base, g, &f); err != nil {
			if ctx.Err() != nil {
				return c, err
			}
			f.State = err.Error()
			all = errors.Join(all, err)
		}
		c.Files = append(c.Files, f)
	}
	if len(c.Files) == 0 {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, name), fs.ErrNotExist)
	}
	return c, all
}

// follows proves that a generation is the successor of the one before.
func (c *logChain) follows(before, g wal.GenInfo) error {
	for n := before.Gen + 1; n < g.Gen; n++ {
		c.Missing = append(c.Missing, n)
	}
	switch {
	case g.Gen > before.Gen+1:
		return fmt.Errorf("generations %d to %d (0x%x to 0x%x): %w", before.Gen+1, g.Gen-1,
			before.Gen+1, g.Gen-1, logrec.ErrMissingLog)
	case g.Header.Sign != before.Header.Sign:
		return fmt.Errorf("%s: %w", g.Name, logrec.ErrLogSignature)
	case g.Header.PrevCreated != before.Header.Created:
		return fmt.Errorf("%s: %w: the one before it is another than it says", g.Name,
			logrec.ErrLogSequence)
	}
	return nil
}

func describeLog(g wal.GenInfo) logFile {
	f := logFile{
		File: g.Name, Generation: g.Gen, Created: formatTime(g.Header.Created),
		Previous: formatTime(g.Header.PrevCreated), Bytes: g.Header.Bytes,
		PageSize: g.Header.PageSize, Signature: formatSignature(g.Header.Sign),
		Records: map[string]int{}, State: "OK",
	}
	if g.Header.Parent != (logrec.Signature{}) {
		f.Parent, f.Fork = formatSignature(g.Header.Parent), g.Header.Fork.String()
	}
	return f
}

// readLog counts the records of one generation.
func readLog(
	ctx context.Context, fsys vfs.FS, dir, base string, g wal.GenInfo, f *logFile,
) error {
	last := logrec.MakePos(g.Gen, logHeaderBytes)
	f.Last = last.String()
	r, err := wal.NewReader(fsys, dir, base, last, wal.ReaderOptions{})
	for err == nil {
		if err = ctx.Err(); err != nil {
			break
		}
		var rec wal.Record
		if rec, err = r.Next(); err != nil || rec.Pos.Generation() > g.Gen {
			break
		}
		f.Records[recordName(rec.Type)]++
		f.Last = rec.Pos.String()
	}
	var bad *logrec.CorruptError
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case errors.As(err, &bad) && bad.Pos.Generation() > g.Gen:
		return nil // the trouble of the next generation
	case errors.Is(err, logrec.ErrMissingLog):
		return nil // named by the chain
	}
	return err
}

func recordName(t logrec.Type) string {
	names := map[logrec.Type]string{
		logrec.TypeNode: "Node", logrec.TypeMacro: "Macro", logrec.TypeCommit: "Commit",
		logrec.TypeRollback: "Rollback", logrec.TypeStream: "Stream", logrec.TypeCreateDB: "CreateDB",
		logrec.TypeAttach: "AttachDB", logrec.TypeDetach: "DetachDB", logrec.TypeTerm: "Term",
		logrec.TypeLeft: "Left", logrec.TypeDelta: "Delta",
	}
	if n := names[t]; n != "" {
		return n
	}
	return fmt.Sprintf("Type%d", t)
}

func (p *printer) logChain(c *logChain, dir string) {
	p.field("Base name", "%s", c.Base)
	if len(c.Files) == 1 {
		p.logFile(c, &c.Files[0], dir)
		return
	}
	p.field("Checkpoint", "%s", c.Checkpoint)
	p.printf("\n")
	for i, f := range c.Files {
		if i > 0 && f.Generation > c.Files[i-1].Generation+1 {
			p.printf("      Missing log files: generations %d to %d (0x%x to 0x%x)\n",
				c.Files[i-1].Generation+1, f.Generation-1, c.Files[i-1].Generation+1, f.Generation-1)
		}
		state := f.State
		if state != "OK" {
			state = "ERROR: " + state
		}
		p.printf("      Log file: %s - lGeneration %d (0x%x), %s, last %s - %s\n",
			filepath.Join(dir, f.File), f.Generation, f.Generation, f.Created, f.Last, state)
	}
}

func (p *printer) logFile(c *logChain, f *logFile, dir string) {
	p.field("Log file", "%s", filepath.Join(dir, f.File))
	p.field("lGeneration", "%d (0x%x)", f.Generation, f.Generation)
	p.field("Checkpoint", "%s", c.Checkpoint)
	p.field("creation time", "%s", f.Created)
	p.field("prev gen time", "%s", f.Previous)
	p.field("Format LGVersion", "Pillarbox (docs/format-log.md)")
	p.field("Signature", "%s", f.Signature)
	if f.Parent != "" {
		p.field("Parent Signature", "%s", f.Parent)
		p.field("Forked at", "%s", f.Fork)
	}
	p.field("Env LogFilePath", "%s", dir)
	p.field("Env Log Sec size", "%d", logrec.SectorSize)
	p.field("Log size", "%d", f.Bytes)
	p.field("cbDbPage", "%d", f.PageSize)
	p.field("Last Lgpos", "%s", f.Last)
	p.printf("\nNumber of records:\n")
	for t := logrec.TypeNode; t <= logrec.TypeDelta; t++ {
		if n := f.Records[recordName(t)]; n > 0 {
			p.printf("  %-10s %10d\n", recordName(t), n)
		}
	}
	if f.State != "OK" {
		p.printf("\nERROR: %s\n", f.State)
	}
}
