package ese

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/wal"
	"pillarbox/ese/vfs"
)

// LogFolder is the log of a storage group that is closed, for who copies it. While it is open nobody
// opens the group.
type LogFolder struct {
	fs   vfs.FS
	dir  string
	lock io.Closer
	gens []wal.GenInfo
	sign string
	end  LogPos
}

// OpenLogFolder opens the log that the options name. ErrLocked when the group is open.
func OpenLogFolder(o Options) (l *LogFolder, err error) {
	o, err = o.withDefaults()
	if err != nil {
		return nil, err
	}
	l = &LogFolder{fs: o.FS, dir: o.LogDir}
	l.lock, err = o.FS.Lock(filepath.Join(o.Dir, o.Base+".lock"))
	if errors.Is(err, vfs.ErrLocked) {
		err = ErrLocked
	}
	if err != nil {
		return nil, fmt.Errorf("open log folder: %w", err)
	}
	if err := l.read(o.Base); err != nil {
		return nil, errors.Join(fmt.Errorf("open log folder: %w", err), l.lock.Close())
	}
	return l, nil
}

// read finds the end of the log.
func (l *LogFolder) read(base string) (err error) {
	if l.gens, err = wal.Generations(l.fs, l.dir, base); err != nil {
		return err
	}
	if len(l.gens) == 0 {
		return fmt.Errorf("%s: %w", l.dir, fs.ErrNotExist)
	}
	last := l.gens[len(l.gens)-1]
	for _, g := range l.gens {
		if g.Name == base+".log" {
			last = g // what comes behind it may only be prepared
		}
	}
	l.sign = signatureText(last.Header.Sign)
	rd, err := wal.NewReader(l.fs, l.dir, base, logrec.MakePos(last.Gen, logrec.SectorSize), wal.ReaderOptions{})
	for err == nil {
		_, err = rd.Next()
	}
	if !errors.Is(err, io.EOF) {
		return err
	}
	l.end = rd.End().Pos
	return nil
}

// Close lets the group be opened again.
func (l *LogFolder) Close() error { return l.lock.Close() }

// LogSignature is the log stream, as backups name it.
func (l *LogFolder) LogSignature() string { return l.sign }

// Durable is the end of the log.
func (l *LogFolder) Durable() LogPos { return l.end }

// CopyLog writes a generation to w. fs.ErrNotExist when it is gone.
func (l *LogFolder) CopyLog(gen uint32, w io.Writer) error {
	for i := range l.gens {
		if l.gens[i].Gen == gen {
			return l.copy(l.gens[i].Name, w)
		}
	}
	return fmt.Errorf("log generation %d: %w", gen, fs.ErrNotExist)
}

func (l *LogFolder) copy(name string, w io.Writer) (err error) {
	f, err := l.fs.OpenFile(filepath.Join(l.dir, name), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	n, err := f.Size()
	if err != nil {
		return err
	}
	_, err = io.Copy(w, io.NewSectionReader(f, 0, n))
	return err
}
