package report

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"pillarbox/ese/inspect"
	"pillarbox/ese/internal/stream"
	"pillarbox/ese/vfs"
)

// streamTable says which pages of the stream file belong to a stream (docs/format-stm.md).
const streamTable = "MSysStreams"

// streamFile proves the runs that belong to streams. Which do, only the database beside the
// file knows: free pages hold the remains of earlier runs.
func (p *printer) streamFile(ctx context.Context, fsys vfs.FS, path string, f vfs.File) error {
	dbPath := strings.TrimSuffix(path, ".stm") + ".edb"
	dbFile, err := fsys.OpenFile(dbPath, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: the database that knows its streams is not there: %s", path, dbPath)
	}
	if err != nil {
		return err
	}
	defer func() { _ = dbFile.Close() }()
	db, err := inspect.Open(dbFile)
	if err != nil {
		return fmt.Errorf("%s: %w (while the server runs, or after a crash, its newest pages are "+
			"only in the log: end the server in order and check again)", dbPath, err)
	}
	t := db.Table(streamTable)
	if t == nil {
		return fmt.Errorf("%s: no table %s", dbPath, streamTable)
	}
	s := &streamTally{p: p, file: stream.NewFile(path, 1, f, nil, 0)}
	start := time.Now()
	err = t.Rows(func(r inspect.Row) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		e, err := readExtent(t, r)
		if err != nil {
			return err
		}
		return s.extent(e)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	p.printf("%d runs seen\n%d bad runs\n%d MB read\n%d seconds taken\n", s.runs, s.bad,
		s.bytes>>20, int(time.Since(start).Seconds()))
	if s.bad > 0 {
		return ErrDamaged
	}
	return nil
}

// extent is a row of runs, all full but the last.
type extent struct{ stream, page, bytes int64 }

func readExtent(t *inspect.Table, r inspect.Row) (extent, error) {
	var e extent
	for i := range t.Columns {
		c := &t.Columns[i]
		var to *int64
		switch c.Name {
		case "Stream":
			to = &e.stream
		case "Page":
			to = &e.page
		case "Bytes":
			to = &e.bytes
		default:
			continue
		}
		values, err := r.Values(c, 8)
		if err != nil {
			return e, err
		}
		if len(values) > 0 {
			var b [8]byte
			copy(b[:], values[0].Data)
			*to = int64(binary.LittleEndian.Uint64(b[:]))
		}
	}
	return e, nil
}

type streamTally struct {
	p         *printer
	file      *stream.File
	buf       []byte
	runs, bad int
	bytes     int64
}

func (s *streamTally) extent(e extent) error {
	no := stream.PageNo(e.page)
	for left := e.bytes; left > 0; no += stream.RunPages {
		n := int(min(left, stream.MaxPayload))
		b, err := s.file.ReadRun(s.buf, uint64(e.stream), no, n)
		s.runs++
		s.bytes += int64(n)
		left -= int64(n)
		var bad *stream.BadRunError
		switch {
		case errors.As(err, &bad):
			s.bad++
			s.p.printf("%v\n", err)
		case err != nil:
			return err
		default:
			s.buf = b
		}
	}
	return nil
}
