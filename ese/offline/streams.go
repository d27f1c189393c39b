package offline

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"pillarbox/ese/inspect"
	"pillarbox/ese/internal/dbheader"
	"pillarbox/ese/internal/record"
	"pillarbox/ese/internal/stream"
	"pillarbox/ese/vfs"
)

// A region of the stream file is 1,024 pages with one bitmap (docs/format-stm.md).
const (
	regionPages = 1024
	regionMap   = regionPages / 8
)

// streamRow is a row of MSysStreams.
type streamRow struct{ stream, offset, page, pages, bytes int64 }

func readStreamRow(t *inspect.Table, row inspect.Row) (streamRow, error) {
	var s streamRow
	for name, to := range map[string]*int64{
		"Stream": &s.stream, "Offset": &s.offset, "Page": &s.page, "Pages": &s.pages, "Bytes": &s.bytes,
	} {
		b, err := column(t, row, name)
		if err != nil {
			return s, err
		}
		var v [8]byte
		copy(v[:], b)
		*to = int64(binary.LittleEndian.Uint64(v[:]))
	}
	return s, nil
}

// column is the value of a column by name; nil for NULL.
func column(t *inspect.Table, row inspect.Row, name string) ([]byte, error) {
	for i := range t.Columns {
		if t.Columns[i].Name != name {
			continue
		}
		values, err := row.Values(&t.Columns[i], 1<<16)
		if err != nil || len(values) == 0 {
			return nil, err
		}
		return values[0].Data, nil
	}
	return nil, nil
}

// eachStreamRow calls fn for the rows of MSysStreams that can be read.
func (r *rebuild) eachStreamRow(fn func(streamRow) error) error {
	t := r.db.Table(streamTable)
	if t == nil {
		return nil
	}
	return r.forestRows(t).each(func(n node) error {
		row, err := t.ParseRow(n.key, n.data, n.page)
		if err != nil {
			return nil // lost, and named
		}
		s, err := readStreamRow(t, row)
		if err != nil || s.page < 0 || s.bytes < 0 || s.pages < 0 || s.page+s.pages > 1<<32-1 {
			return nil
		}
		return fn(s)
	})
}

// streamSpace makes the bitmaps of used pages again where rows are lost: a region without a row
// counts as free, and what lies there would be overwritten. Bits of rows that are left stay.
func (r *rebuild) streamSpace(t *inspect.Table, found *foundRows) rowSource {
	return func(fn func(node) error) error {
		maps := make(map[int64][]byte)
		err := found.each(func(n node) error {
			row, err := t.ParseRow(n.key, n.data, n.page)
			if err != nil {
				return fn(n) // names it as lost
			}
			no, err := column(t, row, "Region")
			m, merr := column(t, row, "Map")
			if err == nil && merr == nil && len(no) == 4 && len(m) == regionMap {
				maps[int64(int32(le32(no)))] = slices.Clone(m)
			}
			return nil
		})
		if err != nil {
			return err
		}
		err = r.eachStreamRow(func(s streamRow) error {
			for p := s.page; p < s.page+s.pages; p++ {
				m := maps[p/regionPages]
				if m == nil {
					m = make([]byte, regionMap)
					maps[p/regionPages] = m
				}
				m[p%regionPages/8] |= 1 << (p % 8)
			}
			return nil
		})
		if err != nil {
			return err
		}
		return r.emitRegions(t, maps, fn)
	}
}

func (r *rebuild) emitRegions(t *inspect.Table, maps map[int64][]byte, fn func(node) error) error {
	keys, err := t.Keys(t.Primary())
	if err != nil {
		return err
	}
	var order []int64
	for no := range maps {
		order = append(order, no)
	}
	slices.Sort(order)
	for _, no := range order {
		var fields []record.Field
		for i := range t.Columns {
			switch c := &t.Columns[i]; c.Name {
			case "Region":
				b := binary.LittleEndian.AppendUint32(nil, uint32(no))
				fields = append(fields, record.Field{ID: c.ID, Data: b})
			case "Map":
				fields = append(fields, record.Field{ID: c.ID, Data: maps[no]})
			}
		}
		data, err := t.EncodeRow(fields)
		if err != nil {
			return err
		}
		row, err := t.ParseRow(nil, data, 0)
		if err != nil {
			return err
		}
		key, err := keys(row)
		if err != nil {
			return err
		}
		if err := fn(node{key: key[0], data: data}); err != nil {
			return err
		}
	}
	return nil
}

// checkStreams reads every run of the stream file and names those that are bad. It returns the
// signature of the file, and how long it must be.
func (r *rebuild) checkStreams(ctx context.Context, f vfs.File, name string) (end int64, err error) {
	file := stream.NewFile(name, 1, f, nil, 0)
	var buf []byte
	err = r.eachStreamRow(func(s streamRow) error {
		no := stream.PageNo(s.page)
		end = max(end, (no + stream.PageNo(s.pages)).Offset())
		for left := s.bytes; left > 0; no += stream.RunPages {
			if err := ctx.Err(); err != nil {
				return err
			}
			n := int(min(left, stream.MaxPayload))
			left -= int64(n)
			b, err := file.ReadRun(buf, uint64(s.stream), no, n)
			if err != nil {
				r.loss.Streams = append(r.loss.Streams, Stream{s.stream, uint32(no), err.Error()})
				continue
			}
			buf = b
		}
		return nil
	})
	return end, err
}

// streamFile proves the stream file beside a database. One that is missing, or whose header is
// lost, gets a header; what it should hold is named as lost.
func (r *rebuild) streamFile(ctx context.Context, fsys vfs.FS, path string, h *dbheader.Header,
	mend bool,
) (err error) {
	flag := os.O_RDONLY
	if mend {
		flag = os.O_RDWR
	}
	f, err := fsys.OpenFile(path, flag, 0)
	if errors.Is(err, fs.ErrNotExist) && mend {
		f, err = fsys.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	end, err := r.checkStreams(ctx, f, filepath.Base(path))
	if err != nil {
		return err
	}
	file := stream.NewFile(filepath.Base(path), 1, f, nil, 0)
	sh, err := file.ReadHeader()
	if err == nil && (!mend || h.StreamSignature.IsZero()) {
		h.StreamSignature = sh.Signature
	}
	if !mend || err == nil && sh.Signature == h.StreamSignature {
		if err != nil {
			return err
		}
	} else if err := writeStreamHeader(f, h); err != nil {
		return err
	}
	size, err := f.Size()
	if err == nil && mend && size < end {
		err = errors.Join(f.Truncate(end), f.SyncData())
	}
	return err
}

func writeStreamHeader(f vfs.File, h *dbheader.Header) error {
	if h.StreamSignature.IsZero() {
		h.StreamSignature = h.Signature
	}
	sh := *h
	sh.Signature, sh.PageSize, sh.FileType = h.StreamSignature, stream.PageSize, dbheader.FileTypeStream
	return dbheader.WriteOne(f, sh)
}
