package offline

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"pillarbox/ese/inspect"
	"pillarbox/ese/internal/dbheader"
	"pillarbox/ese/internal/logrec"
	"pillarbox/ese/internal/record"
	"pillarbox/ese/internal/stream"
	"pillarbox/ese/vfs"
)

// packer writes the stream file anew without gaps: extents one behind the other, in the order of
// the streams. An extent that would cross the end of a region is cut between two of its runs.
type packer struct {
	r    *rebuild
	fsys vfs.FS
	path string // of the stream file
	old  *stream.File
	in   vfs.File
	out  vfs.File
	next int64 // page
	maps map[int64][]byte
	buf  []byte
}

// extentPiece is a part of an extent with its place in the new file.
type extentPiece struct {
	offset, from, to, pages, bytes int64
}

// cut lays an extent behind what was laid before.
func (p *packer) cut(s streamRow) (pieces []extentPiece) {
	for s.pages > 0 {
		room := regionPages - p.next%regionPages
		n := s.pages
		if n > room {
			n = room / stream.RunPages * stream.RunPages
		}
		if n == 0 {
			p.next += room // a run has no room here
			continue
		}
		bytes := s.bytes
		if n < s.pages {
			bytes = n / stream.RunPages * stream.MaxPayload
		}
		pieces = append(pieces, extentPiece{s.offset, s.page, p.next, n, bytes})
		p.next += n
		s.offset, s.page, s.pages, s.bytes = s.offset+bytes, s.page+n, s.pages-n, s.bytes-bytes
	}
	return pieces
}

// plan works out the new places: the maps of used pages, and how long the file will be.
func (p *packer) plan() error {
	p.next, p.maps = 0, make(map[int64][]byte)
	err := p.r.eachStreamRow(func(s streamRow) error {
		for _, x := range p.cut(s) {
			for no := x.to; no < x.to+x.pages; no++ {
				m := p.maps[no/regionPages]
				if m == nil {
					m = make([]byte, regionMap)
					p.maps[no/regionPages] = m
				}
				m[no%regionPages/8] |= 1 << (no % 8)
			}
		}
		return nil
	})
	return err
}

// worthwhile tells that the old file reaches beyond the new one.
func (p *packer) worthwhile() (bool, error) {
	end := int64(0)
	err := p.r.eachStreamRow(func(s streamRow) error {
		end = max(end, s.page+s.pages)
		return nil
	})
	return end > p.next, err
}

// newPacker plans a new stream file; nil where the old one has no gaps.
func (r *rebuild) newPacker(fsys vfs.FS, path string) (p *packer, err error) {
	p = &packer{r: r, fsys: fsys, path: path}
	if err := p.plan(); err != nil {
		return nil, err
	}
	if yes, err := p.worthwhile(); err != nil || !yes {
		return nil, err
	}
	end := stream.PageNo(p.next).Offset()
	p.next = 0
	if p.in, err = fsys.OpenFile(path, os.O_RDONLY, 0); err != nil {
		return nil, err
	}
	p.old = stream.NewFile(filepath.Base(path), 1, p.in, nil, 0)
	if p.out, err = fsys.OpenFile(p.temp(), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
		return nil, errors.Join(err, p.in.Close())
	}
	// Room for all of it is made sure of first.
	if err := p.out.Allocate(end); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", p.temp(), err), p.abort())
	}
	return p, nil
}

func (p *packer) temp() string { return p.path + dbheader.NewStreamSuffix }

func (p *packer) close() error { return errors.Join(p.in.Close(), p.out.Close()) }

func (p *packer) abort() error { return errors.Join(p.close(), p.fsys.Remove(p.temp())) }

// rows are those of MSysStreams with the new places; what they name is copied on the way.
func (p *packer) rows(t *inspect.Table, found *foundRows) rowSource {
	return func(fn func(node) error) error {
		keys, err := t.Keys(t.Primary())
		if err != nil {
			return err
		}
		return found.each(func(n node) error {
			row, err := t.ParseRow(n.key, n.data, n.page)
			if err != nil {
				return fn(n) // names it, and so ends the defragmentation
			}
			s, err := readStreamRow(t, row)
			if err != nil {
				return err
			}
			for _, x := range p.cut(s) {
				if err := p.copy(s.stream, x); err != nil {
					return err
				}
				data, err := t.EncodeRow(x.fields(t, s.stream))
				if err != nil {
					return err
				}
				made, err := t.ParseRow(nil, data, 0)
				if err != nil {
					return err
				}
				key, err := keys(made)
				if err != nil {
					return err
				}
				if err := fn(node{key: key[0], data: data}); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// fields are the columns of the row of a piece.
func (x *extentPiece) fields(t *inspect.Table, id int64) (fields []record.Field) {
	values := map[string]int64{
		"Stream": id, "Offset": x.offset, "Page": x.to, "Pages": x.pages, "Bytes": x.bytes,
	}
	for i := range t.Columns {
		c := &t.Columns[i]
		b := binary.LittleEndian.AppendUint64(nil, uint64(values[c.Name]))
		fields = append(fields, record.Field{ID: c.ID, Data: b[:c.Type.FixedSize()]})
	}
	return fields
}

// copy proves the runs of a piece and writes them at their new place, as they are.
func (p *packer) copy(id int64, x extentPiece) error {
	if err := p.r.ctx.Err(); err != nil {
		return err
	}
	no, to := stream.PageNo(x.from), stream.PageNo(x.to)
	for left := x.bytes; left > 0; {
		n := int(min(left, stream.MaxPayload))
		if _, err := p.old.ReadRun(p.buf, uint64(id), no, n); err != nil {
			return fmt.Errorf("%w: %w", ErrNeedsRepair, err)
		}
		pages := stream.Pages(n)
		if len(p.buf) < pages*stream.PageSize {
			p.buf = make([]byte, stream.RunPages*stream.PageSize)
		}
		raw := p.buf[:stream.HeaderSize+n]
		if _, err := p.in.ReadAt(raw, no.Offset()); err != nil {
			return err
		}
		if _, err := p.out.WriteAt(raw, to.Offset()); err != nil {
			return err
		}
		left -= int64(n)
		no, to = no+stream.PageNo(pages), to+stream.PageNo(pages)
	}
	return nil
}

// finish gives the new file its header and makes it durable. h gets its signature.
func (p *packer) finish(h *dbheader.Header, sign logrec.Signature) error {
	h.StreamSignature = sign
	if err := writeStreamHeader(p.out, h); err != nil {
		return err
	}
	if err := p.out.SyncData(); err != nil {
		return err
	}
	return p.fsys.SyncDir(filepath.Dir(p.path))
}
